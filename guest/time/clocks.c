// Clocks run forwards, sleeping takes as long as it says, and CPU time is less than real time.
#include "guest.h"
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

static int64_t now(clockid_t clock)
{
    struct timespec ts;
    if (clock_gettime(clock, &ts) || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
        return -1;
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

int main(void)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                                       CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    struct timespec ts;
    for (size_t i = 0; i < COUNT(clocks); i++) {
        int64_t previous = now(clocks[i]);
        bool monotone = previous >= 0;
        for (int j = 0; j < 50; j++) {
            int64_t next = now(clocks[i]);
            monotone &= next >= previous;
            previous = next;
        }
        printf("clock %d runs %d, has a resolution %d\n", clocks[i], monotone, clock_getres(clocks[i], &ts));
    }
    SHOW(clock_gettime(99, &ts));
    SHOW(clock_gettime(CLOCK_MONOTONIC, &ts));
    int64_t start = now(CLOCK_MONOTONIC), real = now(CLOCK_REALTIME), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    struct timespec request = {0, 30000000};
    SHOW(nanosleep(&request, NULL));
    int64_t slept = now(CLOCK_MONOTONIC) - start;
    CHECK(slept >= 30000000 && slept < 2000000000);
    CHECK(now(CLOCK_REALTIME) - real >= 29000000);
    CHECK(now(CLOCK_PROCESS_CPUTIME_ID) - cpu < slept);
    request.tv_nsec = 1000000000;
    SHOW(nanosleep(&request, NULL));
    request.tv_nsec = 0, request.tv_sec = -1;
    SHOW(nanosleep(&request, NULL));
    clock_gettime(CLOCK_MONOTONIC, &request);
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &request, NULL));
    struct timeval tv;
    SHOW(gettimeofday(&tv, NULL));
    CHECK(llabs(tv.tv_sec - time(NULL)) <= 1);
    CHECK(tv.tv_sec > 1577836800); /* after 2020 */
    struct tms tms;
    CHECK(times(&tms) != -1 && tms.tms_utime >= 0);
    CHECK(clock() >= 0);
    struct tm tm;
    time_t epoch = 86400 * 365;
    char text[64];
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", gmtime_r(&epoch, &tm));
    puts(text);
    struct timespec zero = {0};
    SHOW(clock_settime(CLOCK_MONOTONIC, &zero));
    return 0;
}
