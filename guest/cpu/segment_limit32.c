// The limit of a segment.
// guest: arch=i386 limit="the engine checks no segment limits"
#include "guest.h"
#include <asm/ldt.h>

static NOINLINE int load_fs(unsigned offset)
{
    int value;
    __asm__ volatile("mov %%fs:(%1), %0" : "=r"(value) : "r"(offset));
    return value;
}

int main(void)
{
    static int area[4] = {11, 22, 33, 44};
    struct user_desc desc = {.entry_number = -1, .base_addr = (unsigned)area, .limit = 15, .seg_32bit = 1, .useable = 1};
    SHOW(syscall(SYS_set_thread_area, &desc));
    __asm__ volatile("mov %0, %%fs" : : "r"(desc.entry_number * 8 + 3));
    catch_faults(0);
    FAULT(load_fs(16));
    printf("beyond the limit: signal %d code %d trap %ld\n", caught.signo, caught.code, caught.trapno);
    FAULT(load_fs(13));
    printf("over the limit: signal %d\n", caught.signo);
    return 0;
}
