// guest: machines=4level
/* Children whose parent ends first: subreapers, signals at the parent's death, sessions and groups. */
#include "guest.h"
#include <sys/prctl.h>
#include <sys/wait.h>

static volatile int got;

static void on_signal(int sig)
{
    got = sig;
}

int main(void)
{
    int ends[2], status, flag = -1;
    char byte;
    setvbuf(stdout, NULL, _IOLBF, 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &flag) == 0 && flag == 1);
    if (pipe(ends))
        return 99;
    pid_t top = getpid(), pid = fork();
    if (pid == 0) {
        pid_t parent = getpid(), grand = fork();
        if (grand == 0) {
            close(ends[1]);
            while (getppid() == parent)
                usleep(1000);
            _exit(getppid() == top ? 8 : 1);
        }
        _exit(7);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 7 << 8);
    CHECK(wait(&status) > 0 && status == 8 << 8);
    CHECK(wait(&status) == -1 && errno == ECHILD);

    pid = fork();
    if (pid == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            signal(SIGUSR1, on_signal);
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            int asked = 0;
            prctl(PR_GET_PDEATHSIG, &asked);
            CHECK(asked == SIGUSR1);
            fflush(stdout);
            if (write(ends[1], "r", 1) != 1)
                _exit(1);
            while (!got)
                usleep(1000);
            _exit(got == SIGUSR1 && getppid() == top ? 6 : 5);
        }
        if (read(ends[0], &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(wait(&status) > 0 && status == 6 << 8);

    printf("-- groups and sessions\n");
    CHECK(getpgid(0) == getpgrp() && getsid(0) == getsid(getpid()));
    SHOW(getpgid(1 << 30));
    SHOW(setpgid(1 << 30, 0));
    SHOW(setpgid(0, -1));
    SHOW(setpgid(getppid(), 0) == -1 && (errno == ESRCH || errno == EPERM));
    pid = fork();
    if (pid == 0) {
        CHECK(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid());
        SHOW(setsid());
        SHOW(setpgid(0, 0));
        pid_t inner = fork();
        if (inner == 0)
            for (;;)
                pause();
        CHECK(getpgid(inner) == getpid());
        CHECK(setpgid(inner, inner) == 0 && getpgid(inner) == inner);
        CHECK(setpgid(inner, getpid()) == 0 && getpgid(inner) == getpid());
        SHOW(setpgid(inner, top));
        signal(SIGTERM, SIG_IGN);
        CHECK(kill(0, SIGTERM) == 0 && waitpid(inner, &status, 0) == inner && status == SIGTERM);
        fflush(stdout);
        if (write(ends[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    CHECK(read(ends[0], &byte, 1) == 1 && getsid(pid) == pid);
    SHOW(setpgid(pid, pid));
    SHOW(setpgid(0, pid));
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && status == SIGKILL);
    pid = fork();
    if (pid == 0) {
        char *args[] = {"sh", "-c", "read line; exit 3", NULL};
        dup2(ends[0], 0);
        execv("/bin/sh", args);
    }
    while (usleep(1000), kill(pid, 0) == 0) {
        char comm[40] = "", path[60];
        sprintf(path, "/proc/%d/comm", pid);
        int fd = open(path, O_RDONLY);
        if (read(fd, comm, 2) == 2 && !strncmp(comm, "sh", 2))
            break;
        close(fd);
    }
    SHOW(setpgid(pid, pid));
    CHECK(write(ends[1], "\n", 1) == 1 && waitpid(pid, &status, 0) == pid && status == 3 << 8);
    return 0;
}
