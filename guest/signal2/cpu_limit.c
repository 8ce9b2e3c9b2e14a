// RLIMIT_CPU: SIGXCPU at the soft limit and every second after it, SIGKILL at the hard one.
#include "guest.h"
#include <sys/wait.h>

static volatile int hits;
static void count(int signo) { hits++; }

int main(void)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        setrlimit(RLIMIT_CPU, &(struct rlimit){1, 3});
        signal(SIGXCPU, count);
        pid = fork(); /* the limit is inherited, the time is not */
        for (volatile unsigned x = 0; hits < 1; x++)
            ;
        struct rlimit now;
        getrlimit(RLIMIT_CPU, &now);
        if (pid) {
            waitpid(pid, &status, 0);
            printf("limits %ld %ld\n", (long)now.rlim_cur, (long)now.rlim_max);
            fflush(stdout);
            raise(SIGKILL);
        }
        _exit(0);
    }
    waitpid(pid, &status, 0);
    SHOW(WTERMSIG(status));
    pid = fork();
    if (!pid) {
        setrlimit(RLIMIT_CPU, &(struct rlimit){1, 1});
        signal(SIGXCPU, SIG_IGN);
        for (;;)
            ;
    }
    waitpid(pid, &status, 0);
    SHOW(WTERMSIG(status));
    return 0;
}
