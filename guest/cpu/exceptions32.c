// The exceptions that only 32-bit code can cause: bound, into.
// guest: arch=i386
#include "guest.h"

static NOINLINE void do_into(void)
{
    __asm__ volatile("mov $0x7fffffff, %%eax; add $1, %%eax; into" ::: "eax", "cc");
}

static NOINLINE void do_bound(int index)
{
    static const int limits[2] = {0, 9};
    __asm__ volatile("bound %0, %1" : : "r"(index), "m"(limits));
}

int main(void)
{
    catch_faults(0);
    FAULT(do_into());
    printf("into: signal %d code %d trap %ld\n", caught.signo, caught.code, caught.trapno);
    printf("bound 5: %d\n", FAULT(do_bound(5)));
    FAULT(do_bound(10));
    printf("bound 10: signal %d code %d trap %ld\n", caught.signo, caught.code, caught.trapno);
    FAULT(do_bound(-1));
    printf("bound -1: signal %d code %d trap %ld\n", caught.signo, caught.code, caught.trapno);
    return 0;
}
