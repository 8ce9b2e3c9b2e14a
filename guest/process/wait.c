/* wait4 and waitid: which child, which change, what they tell, and their errors. */
#include "guest.h"
#include <sys/wait.h>

static pid_t child(int how)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    if (how < 0)
        raise(-how);
    if (how >= 1000)
        for (;;)
            pause();
    _exit(how);
}

static void show_info(const char *what, int result, siginfo_t *info, pid_t pid)
{
    printf("%s: %d signo %d code %d status %d %s\n", what, result, info->si_signo, info->si_code, info->si_status,
           info->si_pid == pid ? "it" : info->si_pid ? "other" : "nobody");
}

#define INFO(call, pid) (memset(&info, 0, sizeof(info)), show_info(#call, call, &info, pid))

int main(void)
{
    int status;
    siginfo_t info;
    struct rusage usage;
    setvbuf(stdout, NULL, _IONBF, 0);
    SHOW(wait(&status));
    SHOW(waitpid(-1, &status, 0x100));
    SHOW(waitpid(getpid(), &status, 0));
    SHOW(waitid(P_ALL, 0, &info, 0));
    SHOW(waitid(9, 0, &info, WEXITED));
    SHOW(waitid(P_PID, 0, &info, WEXITED));
    SHOW(waitid(P_ALL, 0, &info, WEXITED));

    pid_t pid = child(7);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    pid = child(-SIGKILL);
    CHECK(wait4(pid, &status, 0, &usage) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(usage.ru_maxrss > 0);
    pid = child(256 + 3);
    CHECK(waitpid(0, &status, 0) == pid && WEXITSTATUS(status) == 3);
    pid = child(1000);
    SHOW(waitpid(pid, &status, WNOHANG));
    SHOW(waitid(P_PID, pid, NULL, WEXITED | WNOHANG));
    INFO(waitid(P_PID, pid, &info, WEXITED | WNOHANG), pid);
    kill(pid, SIGSTOP);
    INFO(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT), pid);
    INFO(waitid(P_PID, pid, &info, WSTOPPED), pid);
    INFO(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG), pid);
    kill(pid, SIGCONT);
    INFO(waitid(P_PID, pid, &info, WCONTINUED | WNOWAIT), pid);
    CHECK(waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    kill(pid, SIGSTOP);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    printf("status %#x\n", status);
    kill(pid, SIGKILL);
    INFO(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), pid);
    INFO(waitid(P_ALL, 0, &info, WEXITED), pid);
    SHOW(kill(pid, 0));
    pid = child(-SIGTERM);
    CHECK(waitpid(pid, &status, 0) == pid && WTERMSIG(status) == SIGTERM);
    pid = child(9);
    INFO(waitid(P_PID, pid, &info, WEXITED), pid);

    /* By process group. */
    pid_t mine = child(1), other = child(1000);
    CHECK(setpgid(other, other) == 0);
    CHECK(waitpid(0, &status, 0) == mine);
    SHOW(waitpid(0, &status, WNOHANG));
    SHOW(waitpid(-other, &status, WNOHANG));
    kill(-other, SIGTERM);
    INFO(waitid(P_PGID, other, &info, WEXITED), other);
    SHOW(waitpid(-other, &status, 0));

    /* The order in which children are found; the sum of their times never shrinks. */
    pid_t pids[5];
    for (int i = 0; i < 5; i++)
        pids[i] = child(i);
    for (int i = 4; i >= 0; i--)
        CHECK(waitpid(pids[i], &status, 0) == pids[i] && WEXITSTATUS(status) == i);
    for (int i = 0; i < 5; i++)
        pids[i] = child(i);
    for (int i = 0; i < 5; i++)
        waitid(P_PID, pids[i], &info, WEXITED | WNOWAIT);
    for (int i = 0; i < 5; i++)
        CHECK(wait(NULL) == pids[i]);
    CHECK(getrusage(RUSAGE_CHILDREN, &usage) == 0 && usage.ru_minflt > 0);

    /* Not interested: SIGCHLD ignored, or SA_NOCLDWAIT. */
    signal(SIGCHLD, SIG_IGN);
    child(4);
    SHOW(wait(&status));
    signal(SIGCHLD, SIG_DFL);
    SHOW(waitpid(1 << 30, &status, 0));
    SHOW(waitpid(INT_MIN, &status, 0));
    pid = child(5);
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    SHOW(syscall(SYS_wait4, pid, (int *)1, 0, NULL));
    SHOW(wait(&status));
    return 0;
}
