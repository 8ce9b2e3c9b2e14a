// Children nobody waits for: SIGCHLD ignored, SA_NOCLDWAIT; other exit signals; what usage is added up.
#include "guest.h"
#include <sched.h>
#include <sys/times.h>
#include <sys/wait.h>

static volatile int chld, usr1;
static void on_chld(int signo) { chld++; }
static void on_usr1(int signo) { usr1++; }

static pid_t child(int status)
{
    fflush(stdout);
    pid_t pid = fork();
    if (!pid)
        _exit(status);
    return pid;
}

static volatile unsigned sink;
static char memory[300 * PAGE];

static void burn(long ms)
{
    struct rusage usage;
    do {
        for (int i = 0; i < 10000; i++)
            sink++;
        getrusage(RUSAGE_SELF, &usage);
    } while (usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000 + usage.ru_stime.tv_sec * 1000 +
                 usage.ru_stime.tv_usec / 1000 < ms);
}

static long ms(struct timeval time) { return time.tv_sec * 1000 + time.tv_usec / 1000; }

static void usage(void)
{
    struct rusage one, children;
    struct tms before, after;
    int status;
    times(&before);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        if (!fork()) {
            memset(memory, 1, sizeof(memory));
            burn(40);
            _exit(0);
        }
        wait(NULL);
        burn(30);
        _exit(0);
    }
    SHOW(wait4(pid, &status, 0, &one) == pid);
    long total = ms(one.ru_utime) + ms(one.ru_stime);
    CHECK(total >= 65 && total < 1000);
    CHECK(one.ru_minflt >= 300);
    CHECK(one.ru_maxrss >= 1200);
    getrusage(RUSAGE_CHILDREN, &children);
    CHECK(ms(children.ru_utime) + ms(children.ru_stime) >= total);
    CHECK(children.ru_minflt >= one.ru_minflt && children.ru_maxrss >= one.ru_maxrss);
    times(&after);
    CHECK(after.tms_cutime + after.tms_cstime - before.tms_cutime - before.tms_cstime >= 4);
}

int main(void)
{
    int status;
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigaction(SIGCHLD, &action, NULL);
    child(1);
    SHOW(wait(&status));
    pid_t pid = child(2);
    while (kill(pid, 0) == 0)
        usleep(1000);
    SHOW(kill(pid, 0));
    SHOW(waitpid(pid, &status, WNOHANG));

    action.sa_handler = on_chld;
    action.sa_flags = SA_NOCLDWAIT | SA_RESTART;
    sigaction(SIGCHLD, &action, NULL);
    child(3);
    SHOW(wait(&status));
    SHOW(chld);

    /* Waiting for it while it is ignored: until all are gone. */
    action.sa_handler = SIG_IGN;
    sigaction(SIGCHLD, &action, NULL);
    for (int i = 0; i < 3; i++) {
        fflush(stdout);
        if (!fork()) {
            usleep(5000 * (i + 1));
            _exit(i);
        }
    }
    SHOW(wait(&status));

    /* A child that is a zombie already stays one. */
    signal(SIGCHLD, SIG_DFL);
    pid = child(4);
    siginfo_t info;
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    signal(SIGCHLD, SIG_IGN);
    SHOW(wait(&status) == pid);
    SHOW(WEXITSTATUS(status));
    signal(SIGCHLD, SIG_DFL);

    /* Another exit signal, or none: a "clone child". */
    signal(SIGUSR1, on_usr1);
    fflush(stdout);
    pid = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
    if (!pid)
        _exit(5);
    while (!usr1)
        usleep(1000);
    SHOW(waitpid(pid, &status, 0));
    SHOW(waitpid(pid, &status, __WCLONE) == pid);
    SHOW(WEXITSTATUS(status));
    pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (!pid)
        _exit(6);
    SHOW(waitpid(-1, &status, WNOHANG));
    SHOW(waitpid(pid, &status, __WALL) == pid);
    SHOW(WEXITSTATUS(status));
    usage();
    return 0;
}
