// Every clock there is: which can be read, how fine it is, which can be slept on, and what a wrong time is called.
// guest: libc=glibc
// guest: variants=static machines=4level
#include "guest.h"
#include <sys/time.h>
#include <time.h>

int main(void)
{
    struct timespec now, fine, little = {0, 1}, wrong[] = {{0, -1}, {0, 1000000000}, {-1, 0}};
    for (int clock = -9; clock < 13; clock++) {
        long read = clock_gettime(clock, &now) ? errno : 0;
        memset(&fine, 0, sizeof(fine));
        long resolution = clock_getres(clock, &fine) ? errno : 0;
        errno = 0;
        if (clock >= 0 && clock != 2 && clock != 3)
            syscall(SYS_clock_nanosleep, clock, 0, &little, NULL);
        printf("clock %d: read %ld, resolution %ld %ld, sleep %d\n", clock, read, resolution, (long)fine.tv_nsec, errno);
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {
        SHOW(syscall(SYS_nanosleep, &wrong[i], NULL));
        SHOW(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &wrong[i], NULL));
    }
    SHOW(syscall(SYS_nanosleep, 16, NULL));
    SHOW(syscall(SYS_nanosleep, &little, NULL));
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &little, NULL));
    SHOW(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 16));
    SHOW(syscall(SYS_clock_getres, CLOCK_MONOTONIC, NULL));
    SHOW(syscall(SYS_clock_settime, CLOCK_MONOTONIC, 16));
    SHOW(syscall(SYS_clock_settime, CLOCK_REALTIME, 16));
    SHOW(syscall(SYS_clock_settime, CLOCK_REALTIME, &wrong[1]));
    SHOW(syscall(SYS_gettimeofday, 16, NULL));
    SHOW(syscall(SYS_gettimeofday, NULL, NULL));
    SHOW(syscall(SYS_time, 16));
    SHOW(syscall(SYS_restart_syscall));
    return 0;
}
