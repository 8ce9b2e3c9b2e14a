// FS and GS bases: arch_prctl(2), loads through them, selectors of user mode.
// guest: arch=x86-64
#include "guest.h"
#include <asm/prctl.h>

int main(void)
{
    static uint64_t area[4] = {11, 22, 33, 44};
    uint64_t base = 0, value;
    unsigned short cs, ss;
    __asm__("mov %%cs, %0; mov %%ss, %1" : "=r"(cs), "=r"(ss));
    printf("cs %#x ss %#x\n", cs, ss);
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_FS, &base));
    __asm__("mov %%fs:0, %0" : "=r"(value));
    CHECK(base == value); /* the TCB begins with a pointer to itself */
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, area));
    __asm__("mov %%gs:16, %0" : "=r"(value));
    printf("%lu\n", value);
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
    CHECK(base == (uint64_t)area);
    SHOW(raise(0));
    __asm__("mov %%gs:24, %0" : "=r"(value));
    printf("%lu\n", value);
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff888000000000ul));
    SHOW(syscall(SYS_arch_prctl, 0x9999, 0));
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_GS, 8));
    return 0;
}
