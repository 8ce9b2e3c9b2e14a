// The trap flag: one SIGTRAP after each instruction, until it is cleared.
#include "guest.h"

#ifdef __x86_64__
#define IP REG_RIP
#define FLAGS REG_EFL
#else
#define IP REG_EIP
#define FLAGS REG_EFL
#endif

static volatile int steps, codes;
static unsigned long first, last;

static void handler(int signo, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)signo;
    if (!steps++)
        first = uc->uc_mcontext.gregs[IP];
    last = uc->uc_mcontext.gregs[IP];
    codes |= 1 << info->si_code;
}

extern char step_start[], step_end[];

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    long counter = 5;
    __asm__ volatile(
#ifdef __x86_64__
        "sub $256, %%rsp; pushfq; orl $0x100, (%%rsp); popfq\n"
#else
        "pushfl; orl $0x100, (%%esp); popfl\n"
#endif
        "step_start: 1: dec %0; jnz 1b\n"
        "nop\n"
#ifdef __x86_64__
        "pushfq; andl $~0x100, (%%rsp); popfq; step_end: add $256, %%rsp\n"
#else
        "pushfl; andl $~0x100, (%%esp); popfl; step_end:\n"
#endif
        : "+r"(counter) : : "cc", "memory");
    printf("%d steps, codes %#x\n", steps, codes);
    printf("first %+ld last %+ld\n", (long)(first - (unsigned long)step_start), (long)(last - (unsigned long)step_end));
    return 0;
}
