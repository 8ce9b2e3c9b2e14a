// A bad pointer in a system call is EFAULT, not a signal; a transfer that fails half-way says how far it came.
// guest: libc=glibc
#include "guest.h"
#include <sys/uio.h>
#include <time.h>

/* glibc's own functions fill a buffer of theirs first on i386, and fault themselves. */
#ifdef __i386__
#define RAW_STAT SYS_stat64
#define RAW_FSTAT SYS_fstat64
#ifndef SYS_clock_gettime /* musl hides the call with 32 bits of time */
#define SYS_clock_gettime 265
#endif
#else
#define RAW_STAT SYS_stat
#define RAW_FSTAT SYS_fstat
#endif

int main(void)
{
    char *p = map_pages(3, PROT_READ | PROT_WRITE);
    char *bad = p + PAGE, *ro = p + 2 * PAGE;
    munmap(bad, PAGE);
    memset(ro, 'r', PAGE);
    mprotect(ro, PAGE, PROT_READ);
    int pipes[2];
    if (pipe(pipes))
        return 1;
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    SHOW(write(pipes[1], bad, 10));
    SHOW(write(pipes[1], NULL, 1));
    SHOW(write(pipes[1], NULL, 0));
    SHOW(write(pipes[1], bad - 5, 10));
    SHOW(read(pipes[0], bad, 5));
    int fd = make_file("efault.txt", PAGE);
    lseek(fd, 0, SEEK_SET);
    SHOW(read(fd, bad, 10));
    SHOW(read(fd, ro, 10));
    SHOW(read(fd, bad - 6, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(write(fd, bad - 6, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(open(bad, O_RDONLY));
    SHOW(open(NULL, O_RDONLY));
    SHOW(access(ro, F_OK));
    memset(p + PAGE - 4, 'x', 4);
    SHOW(open(p + PAGE - 4, O_RDONLY)); /* runs off the page before its NUL */
    SHOW(syscall(RAW_FSTAT, fd, bad));
    SHOW(syscall(RAW_FSTAT, fd, ro));
    SHOW(syscall(RAW_STAT, "efault.txt", bad - 8));
    SHOW(pipe((void *)bad));
    SHOW(pipe((void *)ro));
    SHOW(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad));
    SHOW(syscall(SYS_nanosleep, bad, NULL));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, bad, NULL, 8));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, NULL, bad, 8));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, NULL, 8));
    SHOW(sigaltstack((void *)bad, NULL));
    SHOW(getcwd(bad, 4096) != NULL);
    SHOW(syscall(SYS_uname, bad));
    SHOW(syscall(SYS_getrandom, bad, 8, 0));
    SHOW(readlink("/proc/self/exe", bad, 10));
    SHOW(syscall(SYS_getrlimit, RLIMIT_NOFILE, bad));
    SHOW(mincore(p, PAGE, (void *)bad));
    struct iovec parts[3] = {{"good", 4}, {bad, 3}, {"never", 5}};
    SHOW(writev(pipes[1], parts, 3));
    SHOW(writev(pipes[1], (void *)bad, 2));
    SHOW(writev(pipes[1], parts, -1));
    char text[64] = "";
    SHOW(read(pipes[0], text, sizeof(text)));
    unlink("efault.txt");
    return 0;
}
