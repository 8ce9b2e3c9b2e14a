// set_thread_area(2), get_thread_area(2), modify_ldt(2): segments with a base and a limit.
// guest: arch=i386
#include "guest.h"
#include <asm/ldt.h>

static NOINLINE int load_gs(unsigned offset)
{
    int value;
    __asm__ volatile("mov %%fs:(%1), %0" : "=r"(value) : "r"(offset));
    return value;
}

int main(void)
{
    static int area[4] = {11, 22, 33, 44};
    unsigned short cs, ss, gs;
    __asm__("mov %%cs, %0; mov %%ss, %1; mov %%gs, %2" : "=r"(cs), "=r"(ss), "=r"(gs));
    CHECK((cs & 3) == 3 && (ss & 3) == 3 && (gs & 3) == 3);
    struct user_desc desc = {.entry_number = -1, .base_addr = (unsigned)area, .limit = 15, .seg_32bit = 1, .useable = 1};
    SHOW(syscall(SYS_set_thread_area, &desc));
    CHECK((int)desc.entry_number > gs >> 3);
    __asm__ volatile("mov %0, %%fs" : : "r"(desc.entry_number * 8 + 3));
    printf("%d %d\n", load_gs(0), load_gs(12));
    struct user_desc back = {.entry_number = desc.entry_number};
    SHOW(syscall(SYS_get_thread_area, &back));
    CHECK(back.base_addr == (unsigned)area && back.limit == 15);
    back.entry_number = 3;
    SHOW(syscall(SYS_set_thread_area, &back));
    struct user_desc full = {.entry_number = -1, .base_addr = 0, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1};
    SHOW(syscall(SYS_set_thread_area, &full));
    full.entry_number = -1;
    SHOW(syscall(SYS_set_thread_area, &full));
    raise(0);
    printf("%d\n", load_gs(4));
    return 0;
}
