// A push at an address that is not canonical: #SS, which is SIGBUS.
// guest: arch=x86-64 limit="the engine has #GP where it should be #SS"
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
    SHOW_FAULT(NULL, push_at((char *)0x0123456789abcdeful));
    return 0;
}
