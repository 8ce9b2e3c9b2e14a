// Alignment: AC makes a misaligned access SIGBUS, movaps on an odd address SIGSEGV.
// guest: cflags=-msse2 limit="the engine checks no alignment"
#include "guest.h"

static char buffer[64] __attribute__((aligned(64)));

static NOINLINE int misaligned_with_ac(void)
{
    int value;
#ifdef __x86_64__
    __asm__ volatile("sub $256, %%rsp; pushfq; orl $0x40000, (%%rsp); popfq; mov %1, %0;"
                     "pushfq; andl $~0x40000, (%%rsp); popfq; add $256, %%rsp"
                     : "=r"(value) : "m"(*(int *)(buffer + 1)) : "cc", "memory");
#else
    __asm__ volatile("pushfl; orl $0x40000, (%%esp); popfl; mov %1, %0;"
                     "pushfl; andl $~0x40000, (%%esp); popfl"
                     : "=r"(value) : "m"(*(int *)(buffer + 1)) : "cc", "memory");
#endif
    return value;
}

static NOINLINE void movaps(void *p) { __asm__ volatile("movaps (%0), %%xmm0" : : "r"(p) : "xmm0", "memory"); }

static void clear_ac_and_catch(int signo, siginfo_t *info, void *context)
{
    /* Linux leaves AC on in a handler, and libc is not careful about alignment. */
#ifdef __x86_64__
    __asm__ volatile("sub $256, %%rsp; pushfq; andl $~0x40000, (%%rsp); popfq; add $256, %%rsp" ::: "cc", "memory");
#else
    __asm__ volatile("pushfl; andl $~0x40000, (%%esp); popfl" ::: "cc", "memory");
#endif
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x40000;
    printf("signal %d code %d trap %d\n", signo, info->si_code, (int)((ucontext_t *)context)->uc_mcontext.gregs[REG_TRAPNO]);
}

int main(void)
{
    catch_faults(0);
    struct sigaction action = {.sa_sigaction = clear_ac_and_catch, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    printf("%d\n", misaligned_with_ac());
    printf("%d\n", FAULT(movaps(buffer + 16)));
    FAULT(movaps(buffer + 8));
    printf("movaps: signal %d code %d trap %ld error %ld\n", caught.signo, caught.code, caught.trapno, caught.error);
    return 0;
}
