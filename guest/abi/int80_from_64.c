// int 0x80 from 64-bit code is the i386 table, with 32-bit arguments.
// guest: arch=x86-64
#include "guest.h"

static long int80(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

int main(void)
{
    static const char text[] = "by int 0x80\n";
    CHECK(int80(20, 0, 0, 0) == getpid());
    fflush(stdout);
    printf("%ld\n", int80(4, 1, (long)text, 12));
    printf("%ld\n", int80(4, 1, 1, 12));
    printf("%ld\n", int80(6, 0x100000063, 0, 0)); /* close(99): the upper half is cut off */
    printf("%ld\n", int80(0x10014, 0, 0, 0));
    long high = int80(192, 0, PAGE, PROT_READ); /* mmap2 would land below 4 GiB, were its flags right */
    printf("%ld\n", high);
    return 0;
}
