// cpuid(1) may say what it likes about the machine, but not contradict itself.
#include "guest.h"
#include <cpuid.h>

int main(void)
{
    unsigned a, b, c, d, a2, b2, c2, d2;
    CHECK(__get_cpuid(0, &a, &b, &c, &d) && a >= 1);
    char vendor[13] = "";
    memcpy(vendor, &b, 4), memcpy(vendor + 4, &d, 4), memcpy(vendor + 8, &c, 4);
    CHECK(strlen(vendor) == 12);
    __get_cpuid(1, &a, &b, &c, &d);
    CHECK((d & 1) && (d & 0x10) && (d & bit_CMOV) && (d & bit_SSE) && (d & bit_SSE2) && (d & bit_CMPXCHG8B));
    CHECK((c & bit_SSE3) && (c & bit_SSSE3) && (c & bit_SSE4_1) && (c & bit_SSE4_2) && (c & bit_POPCNT));
    CHECK(!(c & bit_AVX) || (c & bit_OSXSAVE));
    for (int i = 0; i < 10; i++) {
        __get_cpuid(1, &a2, &b2, &c2, &d2);
        if (a2 != a || d2 != d)
            puts("changed");
    }
    CHECK(__get_cpuid(0x80000000, &a, &b, &c, &d) && a >= 0x80000004);
    __get_cpuid(0x80000001, &a, &b, &c, &d);
#ifdef __x86_64__
    CHECK((d & bit_LM) && (c & bit_LAHF_LM));
#endif
    return 0;
}
