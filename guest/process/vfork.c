// guest: machines=4level
/* vfork: the parent waits, memory is one; the child ends by exec, exit or a signal; unshare's little part. */
#include "guest.h"
#include <sched.h>
#include <sys/wait.h>

static volatile int order;

int main(int argc, char **argv)
{
    int status;
    char *args[] = {"/bin/sh", "-c", "exit 9", NULL}, *none[] = {NULL}, *lost[] = {"nowhere", NULL};
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid_t pid = vfork();
    if (pid == 0) {
        order = 1;
        _exit(3);
    }
    CHECK(order == 1 && waitpid(pid, &status, 0) == pid && status == 3 << 8);
    pid = vfork();
    if (pid == 0) {
        order = 2;
        execve("/bin/sh", args, none);
        _exit(99);
    }
    CHECK(order == 2 && waitpid(pid, &status, 0) == pid && status == 9 << 8);
    pid = vfork();
    if (pid == 0) {
        execve("nowhere", lost, none);
        order = errno;
        _exit(4);
    }
    CHECK(order == ENOENT && waitpid(pid, &status, 0) == pid && status == 4 << 8);
    pid = vfork();
    if (pid == 0) {
        order = 5;
        kill(getpid(), SIGKILL);
    }
    CHECK(order == 5 && waitpid(pid, &status, 0) == pid && status == SIGKILL);
    /* A signal for the waiting parent arrives after the child is done. */
    signal(SIGUSR1, SIG_IGN);
    pid = vfork();
    if (pid == 0) {
        kill(getppid(), SIGUSR1);
        order = 6;
        _exit(0);
    }
    CHECK(order == 6 && waitpid(pid, &status, 0) == pid);
    CHECK(unshare(0) == 0 && unshare(CLONE_FILES) == 0 && unshare(CLONE_FS) == 0);
    SHOW(unshare(0x1));
    return 0;
}
