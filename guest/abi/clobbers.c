// A system call changes rax, rcx and r11, and nothing else; on i386 only eax.
#include "guest.h"

int main(void)
{
#ifdef __x86_64__
    register long r10 __asm__("r10") = 10, r8 __asm__("r8") = 8, r9 __asm__("r9") = 9, r12 __asm__("r12") = 12,
                  r13 __asm__("r13") = 13, r14 __asm__("r14") = 14, r15 __asm__("r15") = 15;
    long rdi = 1, rsi = 2, rdx = 3, rbx = 4, rax = SYS_getppid;
    unsigned long rcx, r11, ip, flags;
    __asm__ volatile("lea 1f(%%rip), %[ip]; xor %%ecx, %%ecx; stc; pushfq; pop %[flags]; syscall; 1:"
                     : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+b"(rbx), "+r"(r10), "+r"(r8), "+r"(r9), "+r"(r12), "+r"(r13),
                       "=c"(rcx), [ip] "=&r"(ip), [flags] "=&r"(flags)
                     : : "r11", "memory", "cc");
    __asm__ volatile("mov %%r11, %0" : "=r"(r11));
    printf("%ld %ld %ld %ld %ld %ld %ld %ld %ld\n", rdi, rsi, rdx, rbx, r10, r8, r9, r12, r13);
    CHECK(rcx == ip);
    (void)r11, (void)r14, (void)r15;
#else
    long eax = SYS_getppid, ebx = 1, ecx = 2, edx = 3, esi = 4, edi = 5;
    __asm__ volatile("int $0x80" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx), "+S"(esi), "+D"(edi));
    printf("%ld %ld %ld %ld %ld\n", ebx, ecx, edx, esi, edi);
    CHECK(eax > 0);
#endif
    return 0;
}
