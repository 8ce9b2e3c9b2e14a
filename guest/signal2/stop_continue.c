// Stop and continue: what wait4 and waitid tell, what SIGCHLD says, which signals do it.
#include "guest.h"
#include <sys/wait.h>

static volatile int chld;
static volatile int chld_code, chld_status;

static void on_chld(int signo, siginfo_t *info, void *context)
{
    chld++;
    chld_code = info->si_code;
    chld_status = info->si_status;
}

static void listen_to_children(int flags)
{
    struct sigaction action = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | SA_RESTART | flags};
    sigaction(SIGCHLD, &action, NULL);
}

static void told(void)
{
    for (int i = 0; i < 1000 && !chld; i++)
        usleep(1000);
    printf("SIGCHLD %d code %d status %d\n", chld, chld_code, chld_status);
    chld = 0;
}

static void say(const char *what, int status)
{
    if (WIFSTOPPED(status))
        printf("%s: stopped by %d\n", what, WSTOPSIG(status));
    else if (WIFCONTINUED(status))
        printf("%s: continued\n", what);
    else if (WIFSIGNALED(status))
        printf("%s: killed by %d\n", what, WTERMSIG(status));
    else
        printf("%s: exited with %d\n", what, WEXITSTATUS(status));
}

static pid_t sleeper(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        setpgid(0, 0);
        signal(SIGCHLD, SIG_DFL);
        for (;;)
            pause();
    }
    setpgid(pid, pid);
    return pid;
}

static void each_signal(void)
{
    static const int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    int status;
    pid_t pid = sleeper();
    for (size_t i = 0; i < COUNT(signals); i++) {
        kill(pid, signals[i]);
        SHOW(waitpid(pid, &status, WUNTRACED) == pid);
        say("wait", status);
        told();
        SHOW(waitpid(pid, &status, WUNTRACED | WNOHANG));
        kill(pid, SIGCONT);
        SHOW(waitpid(pid, &status, WCONTINUED) == pid);
        say("wait", status);
        told();
        SHOW(waitpid(pid, &status, WCONTINUED | WUNTRACED | WNOHANG));
    }
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
    say("wait", status);
    told();
}

static void with_waitid(void)
{
    siginfo_t info;
    pid_t pid = sleeper();
    memset(&info, 0x55, sizeof(info));
    SHOW(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG));
    printf("nothing: %d %d\n", info.si_signo, info.si_pid);
    kill(pid, SIGSTOP);
    for (int i = 0; i < 2; i++) {
        SHOW(waitid(P_PID, pid, &info, WSTOPPED | (i ? 0 : WNOWAIT)));
        printf("signo %d code %d status %d mine %d\n", info.si_signo, info.si_code, info.si_status, info.si_pid == pid);
    }
    SHOW(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG));
    SHOW(info.si_signo);
    SHOW(waitid(P_PGID, pid, &info, WEXITED | WNOHANG));
    kill(pid, SIGCONT);
    for (int i = 0; i < 2; i++) {
        SHOW(waitid(P_PGID, pid, &info, WCONTINUED | (i ? 0 : WNOWAIT)));
        printf("signo %d code %d status %d mine %d\n", info.si_signo, info.si_code, info.si_status, info.si_pid == pid);
    }
    kill(pid, SIGKILL);
    SHOW(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT));
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    printf("signo %d code %d status %d\n", info.si_signo, info.si_code, info.si_status);
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    SHOW(info.si_signo);
    SHOW(waitid(P_PID, 0, &info, WEXITED));
    SHOW(waitid(P_ALL, 0, &info, WNOHANG));
    SHOW(waitid(9, 0, &info, WEXITED));
    SHOW(waitid(P_ALL, 0, &info, WEXITED | 0x100));
    SHOW(waitpid(-1, NULL, 0x100));
    SHOW(waitpid(INT_MIN, NULL, 0));
}

static void while_stopped(void)
{
    int status;
    pid_t pid = sleeper();
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    /* A stopped process notices nothing but SIGCONT and SIGKILL. */
    kill(pid, SIGTERM);
    usleep(5000);
    SHOW(waitpid(pid, &status, WNOHANG));
    kill(pid, SIGCONT);
    SHOW(waitpid(pid, &status, 0) == pid);
    say("TERM then CONT", status);
    pid = sleeper();
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGKILL);
    SHOW(waitpid(pid, &status, 0) == pid);
    say("KILL", status);
    /* SIGCONT takes back a stop that is pending, and the other way round. */
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    sigaddset(&set, SIGCONT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGTSTP);
    raise(SIGCONT);
    sigpending(&pending);
    printf("TSTP %d CONT %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
    raise(SIGTSTP);
    sigpending(&pending);
    printf("TSTP %d CONT %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
    signal(SIGTSTP, SIG_IGN);
    sigpending(&pending);
    printf("TSTP %d CONT %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGTSTP, SIG_DFL);
}

static void quiet(void)
{
    int status;
    chld = 0;
    listen_to_children(SA_NOCLDSTOP);
    pid_t pid = sleeper();
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGCONT);
    waitpid(pid, &status, WCONTINUED);
    usleep(5000);
    SHOW(chld);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    told();
}

int main(void)
{
    setpgid(0, 0);
    listen_to_children(0);
    each_signal();
    with_waitid();
    chld = 0;
    while_stopped();
    quiet();
    return 0;
}
