// A handler changes the program through its context: it repairs a fault and goes on.
#include "guest.h"

#ifdef __x86_64__
#define IP REG_RIP
#define AX REG_RAX
#else
#define IP REG_EIP
#define AX REG_EAX
#endif

static char *protected;
static int repairs;

static void repair(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    mprotect((void *)((unsigned long)info->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE);
    repairs++;
}

static void skip(int signo, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    printf("signal %d, at the instruction %d\n", signo, info->si_addr == (void *)uc->uc_mcontext.gregs[IP]);
    uc->uc_mcontext.gregs[IP] += 2;
    uc->uc_mcontext.gregs[AX] = 42;
}

static void block_usr1(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)info;
    sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGUSR1);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    protected = map_pages(16, PROT_NONE);
    long sum = 0;
    for (int i = 0; i < 16; i++) {
        protected[i * PAGE] = i;
        sum += protected[i * PAGE];
    }
    memset(protected + 3 * PAGE, 1, 5 * PAGE);
    printf("%d repairs, sum %ld\n", repairs, sum);

    action.sa_sigaction = skip;
    sigaction(SIGILL, &action, NULL);
    long result = 1;
    __asm__ volatile("ud2" : "+a"(result));
    printf("%ld\n", result);

    action.sa_sigaction = block_usr1;
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1));
    return 0;
}
