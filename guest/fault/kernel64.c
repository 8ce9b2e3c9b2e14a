// The kernel's half is there and is not ours; addresses that are not canonical are no addresses at all.
// guest: arch=x86-64
#include "guest.h"

static NOINLINE void push_at(char *stack)
{
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" : : "r"(stack) : "rbx", "memory");
}

int main(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
    sigaltstack(&stack, NULL);
    catch_faults(SA_ONSTACK);
    char *kernel = (char *)0xffff888000000000ul;
    char *text = (char *)0xffffffff81000000ul;
    char *hole = (char *)0x0000800000000000ul;
    char *below = (char *)0x00007ffffffff000ul;
    char *strange = (char *)0x0123456789abcdeful;
    SHOW_FAULT(kernel, peek(kernel));
    SHOW_FAULT(kernel, poke(kernel + 4096, 1));
    SHOW_FAULT(text, peek(text));
    SHOW_FAULT(below, peek(below));
    SHOW_FAULT(NULL, peek(hole));
    SHOW_FAULT(NULL, peek(strange));
    SHOW_FAULT(NULL, poke(strange, 1));
    SHOW_FAULT(kernel, ((void (*)(void))kernel)());
    SHOW_FAULT(kernel, push_at(kernel));
    return 0;
}
