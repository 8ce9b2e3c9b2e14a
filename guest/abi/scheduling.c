// Limits, priorities and scheduling policies: what they answer, and in which order they complain.
// guest: variants=static machines=4level
#include "guest.h"
#include <sched.h>

struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

int main(void)
{
    void *bad = (void *)16;
    struct rlimit limit = {5, 4};
    struct sched_param param = {0};
    struct attr attr = {.size = 40};
    char mask[128];
    int nobody = 0x3fffffff;
    SHOW(syscall(SYS_getpriority, PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 5));
    SHOW(syscall(SYS_getpriority, PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 100));
    SHOW(syscall(SYS_getpriority, PRIO_PROCESS, 0));
    SHOW(syscall(SYS_getpriority, 7, 0));
    SHOW(syscall(SYS_getpriority, PRIO_PROCESS, nobody));
    SHOW(setpriority(PRIO_USER, nobody, 5));
    for (int policy = 0; policy < 10; policy++)
        if (policy != 4 && policy != 7)
            printf("%d: %ld %ld\n", policy, syscall(SYS_sched_get_priority_min, policy),
                   syscall(SYS_sched_get_priority_max, policy));
    SHOW(syscall(SYS_sched_getscheduler, 0));
    SHOW(syscall(SYS_sched_getscheduler, -1));
    SHOW(syscall(SYS_sched_getscheduler, nobody));
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param));
    SHOW(syscall(SYS_sched_getscheduler, 0));
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH | 0x40000000, &param));
    SHOW(syscall(SYS_sched_getscheduler, 0));
    SHOW(syscall(SYS_sched_setscheduler, 0, 4, &param));
    SHOW(syscall(SYS_sched_setscheduler, 0, 0, NULL));
    SHOW(syscall(SYS_sched_setscheduler, 0, 0, bad));
    SHOW(syscall(SYS_sched_setscheduler, 0, -1, &param));
    param.sched_priority = 1;
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param));
    SHOW(syscall(SYS_sched_getparam, 0, bad));
    SHOW(syscall(SYS_sched_getparam, 0, NULL));
    SHOW(syscall(SYS_sched_setattr, 0, &attr, 0));
    printf("%u\n", attr.size);
    SHOW(syscall(SYS_sched_getattr, 0, &attr, 40, 0));
    SHOW(syscall(SYS_sched_getattr, 0, &attr, 48, 0));
    printf("%u %u %d\n", attr.size, attr.policy, attr.nice);
    SHOW(syscall(SYS_sched_getattr, 0, &attr, 48, 1));
    SHOW(syscall(SYS_sched_getaffinity, 0, 7, mask));
    SHOW(syscall(SYS_sched_getaffinity, nobody, sizeof(mask), mask));
    CHECK(syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask) > 0);
    CHECK(mask[0] & 1);
    memset(mask, 0, sizeof(mask));
    SHOW(syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask));
    mask[0] = 1;
    SHOW(syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask));
    SHOW(syscall(SYS_sched_yield));
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    SHOW(setrlimit(16, &limit));
    SHOW(syscall(SYS_prlimit64, nobody, 0, NULL, NULL));
    SHOW(syscall(SYS_prlimit64, 0, 99, NULL, NULL));
    SHOW(syscall(SYS_prlimit64, 0, 0, NULL, bad));
    SHOW(syscall(SYS_getrusage, 5, bad));
    SHOW(syscall(SYS_getrusage, RUSAGE_SELF, bad));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 0x4004));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 4));
    SHOW(syscall(SYS_ioprio_get, 4, 0));
    SHOW(syscall(SYS_getpgid, nobody));
    SHOW(syscall(SYS_getsid, nobody));
    SHOW(setpgid(0, -1));
    SHOW(setpgid(nobody, 0));
    return 0;
}
