// Who and where we are: ids, uname, limits, affinity; nothing that differs between machines is printed.
#include "guest.h"
#include <sched.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void)
{
    struct utsname name;
    SHOW(uname(&name));
    CHECK(name.release[0] && name.version[0] && name.nodename[0]);
    printf("%s %s\n", name.sysname, name.machine[0] == 'x' || name.machine[0] == 'i' ? "x86" : name.machine);
    int major = 0, minor = 0;
    CHECK(sscanf(name.release, "%d.%d", &major, &minor) == 2 && major >= 5);
    CHECK(getpid() > 0 && getppid() >= 0 && gettid() == getpid());
    uid_t r, e, s;
    gid_t rg, eg, sg;
    SHOW(getresuid(&r, &e, &s));
    SHOW(getresgid(&rg, &eg, &sg));
    CHECK(r == getuid() && e == geteuid() && rg == getgid() && eg == getegid());
    CHECK(getpgrp() == getpgid(0));
    CHECK(getsid(0) > 0);
    SHOW_OK(getgroups(0, NULL));
    struct rlimit limit;
    SHOW(getrlimit(RLIMIT_NOFILE, &limit));
    CHECK(limit.rlim_cur >= 256);
    struct rlimit lower = {200, limit.rlim_max};
    SHOW(setrlimit(RLIMIT_NOFILE, &lower));
    SHOW(dup2(1, 199));
    SHOW(dup2(1, 200));
    lower.rlim_cur = 4;
    setrlimit(RLIMIT_NOFILE, &lower);
    int last = 0, fd;
    while ((fd = dup(1)) >= 0)
        last = fd;
    CHECK(errno == EMFILE && last < 4);
    SHOW(getrlimit(RLIMIT_STACK, &limit));
    struct rlimit wrong = {10, 5};
    SHOW(setrlimit(RLIMIT_CORE, &wrong));
    struct sysinfo info;
    SHOW(sysinfo(&info));
    CHECK(info.mem_unit > 0 && info.totalram > 0 && info.freeram <= info.totalram && info.procs > 0);
    cpu_set_t cpus;
    CHECK(sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) >= 1);
    CHECK(sched_yield() == 0);
    CHECK(sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_CLK_TCK) == 100);
    unsigned char bytes[300] = {0};
    SHOW(getentropy(bytes, 256));
    SHOW(syscall(SYS_getrandom, bytes, 300, 0));
    SHOW(syscall(SYS_getrandom, bytes, 0, 0));
    int zeroes = 0;
    for (int i = 0; i < 300; i++)
        zeroes += bytes[i] == 0;
    CHECK(zeroes < 30);
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof(cwd)) != NULL && cwd[0] == '/');
    SHOW(syscall(SYS_getcwd, cwd, 1));
    CHECK(umask(027) != 0 || 1);
    SHOW(umask(022));
    return 0;
}
