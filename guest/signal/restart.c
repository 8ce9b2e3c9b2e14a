// SA_RESTART: a read that waits goes on after the handler; without it, EINTR.
#include "guest.h"
#include <sys/time.h>

static int pipes[2];

static void feed(int signo)
{
    (void)signo;
    if (write(pipes[1], "x", 1) != 1)
        _exit(9);
}

static void nothing(int signo) { (void)signo; }

static void soon(void)
{
    struct itimerval timer = {.it_value = {.tv_usec = 10000}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

int main(void)
{
    char c;
    struct sigaction action = {.sa_handler = feed, .sa_flags = SA_RESTART};
    if (pipe(pipes))
        return 1;
    sigaction(SIGALRM, &action, NULL);
    soon();
    SHOW(read(pipes[0], &c, 1));
    action.sa_flags = 0;
    action.sa_handler = nothing;
    sigaction(SIGALRM, &action, NULL);
    soon();
    SHOW(read(pipes[0], &c, 1));
    return 0;
}
