// The vsyscall page: calls that work, misaligned jumps, bad pointers, reads, and its line in /proc/self/maps.
// guest: arch=x86-64
#include "guest.h"
#include <sys/time.h>
#include <time.h>

#define VSYSCALL 0xffffffffff600000ul
typedef long (*call)(void *, void *);

static sigjmp_buf back;

static void handler(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    printf("signal %d code %d addr %lx", number, info->si_code, (unsigned long)info->si_addr);
    printf(" trap %lld error %llx\n", uc->uc_mcontext.gregs[REG_TRAPNO], uc->uc_mcontext.gregs[REG_ERR]);
    siglongjmp(back, 1);
}

#define TRY(expr) \
    do { \
        printf("%s: ", #expr); \
        fflush(stdout); \
        if (sigsetjmp(back, 1) == 0) \
            printf("%ld\n", (long)(expr)); \
    } while (0)

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    call get_time_of_day = (call)VSYSCALL, get_time = (call)(VSYSCALL + 1024), getcpu = (call)(VSYSCALL + 2048);
    struct timeval now = {0}, zone = {1, 1};
    unsigned cpu = 77, node = 77;
    time_t seconds = 0;
    sigaction(SIGSEGV, &action, NULL);

    TRY(get_time_of_day(&now, NULL));
    TRY(get_time_of_day(&now, &zone));
    TRY(get_time_of_day(NULL, NULL));
    CHECK(labs(now.tv_sec - time(NULL)) < 3);
    TRY(get_time(&seconds, NULL) - seconds);
    CHECK(labs(seconds - time(NULL)) < 3);
    TRY(getcpu(&cpu, &node));
    CHECK(cpu < 64 && node < 64);
    TRY(getcpu(NULL, NULL));

    TRY(get_time_of_day((void *)16, NULL));
    TRY(get_time_of_day((void *)-4096, NULL));
    TRY(get_time((void *)0xffff888000000000, NULL));
    TRY(((call)(VSYSCALL + 3072))(NULL, NULL));
    TRY(((call)(VSYSCALL + 1))(NULL, NULL));
    TRY(*(volatile char *)VSYSCALL);
    TRY(*(volatile char *)VSYSCALL = 1);

    char line[200];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof(line), maps))
        if (strstr(line, "[vsyscall]"))
            fputs(line, stdout);
    return 0;
}
