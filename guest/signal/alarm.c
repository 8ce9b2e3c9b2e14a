// Timers that send signals: alarm(2), setitimer(2); sleep that is cut short.
#include "guest.h"
#include <sys/time.h>
#include <time.h>

static volatile int count;

static void handler(int signo) { (void)signo; count++; }

int main(void)
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGALRM, &action, NULL);
    SHOW(alarm(100));
    CHECK(alarm(0) >= 99);
    struct itimerval timer = {.it_value = {.tv_usec = 20000}}, old;
    SHOW(setitimer(ITIMER_REAL, &timer, NULL));
    SHOW(pause());
    printf("%d\n", count);
    timer.it_interval.tv_usec = 5000;
    setitimer(ITIMER_REAL, &timer, NULL);
    while (count < 5)
        pause();
    timer.it_value.tv_usec = timer.it_interval.tv_usec = 0;
    SHOW(setitimer(ITIMER_REAL, &timer, &old));
    CHECK(old.it_interval.tv_usec == 5000);
    timer.it_value.tv_usec = 20000;
    setitimer(ITIMER_REAL, &timer, NULL);
    struct timespec request = {5, 0}, remain = {0};
    SHOW(nanosleep(&request, &remain));
    CHECK(remain.tv_sec == 4);
    /* a busy program is interrupted too */
    count = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    while (count == 0)
        ;
    printf("%d\n", count);
    return 0;
}
