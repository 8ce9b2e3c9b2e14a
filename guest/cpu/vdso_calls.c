// System calls by every gate there is: int 0x80, and sysenter behind AT_SYSINFO.
// guest: arch=i386
#include "guest.h"
#include <sys/auxv.h>

#ifndef AT_SYSINFO
#define AT_SYSINFO 32
#endif

static long by_int80(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static unsigned long vsyscall;

static long by_sysinfo(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("call *%1" : "=a"(result) : "m"(vsyscall), "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

int main(void)
{
    vsyscall = getauxval(AT_SYSINFO);
    CHECK(vsyscall != 0);
    CHECK(by_int80(SYS_getpid, 0, 0, 0) == getpid());
    CHECK(by_sysinfo(SYS_getpid, 0, 0, 0) == getpid());
    fflush(stdout);
    printf("%ld\n", by_sysinfo(SYS_write, 1, (long)"through the vdso\n", 17));
    printf("%ld\n", by_sysinfo(SYS_close, 999, 0, 0));
    printf("%ld\n", by_int80(99999, 0, 0, 0));
    for (int i = 0; i < 1000; i++)
        by_sysinfo(SYS_getppid, 0, 0, 0);
    return 0;
}
