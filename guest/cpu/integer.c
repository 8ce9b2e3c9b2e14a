// Integer arithmetic with its flags: multiplications, divisions, shifts, rotations, bit and string instructions.
#include "guest.h"

static uint32_t flags_of_add(uint32_t a, uint32_t b)
{
    unsigned long flags;
    __asm__ volatile("add %2, %1; pushf; pop %0" : "=r"(flags), "+r"(a) : "r"(b) : "cc");
    return flags & 0x8d5;
}

static uint32_t flags_of_sub(uint32_t a, uint32_t b)
{
    unsigned long flags;
    __asm__ volatile("sub %2, %1; pushf; pop %0" : "=r"(flags), "+r"(a) : "r"(b) : "cc");
    return flags & 0x8d5;
}

int main(void)
{
    static const uint32_t values[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x12345678, 0xdeadbeef};
    uint32_t hash = 0;
    for (size_t i = 0; i < COUNT(values); i++)
        for (size_t j = 0; j < COUNT(values); j++) {
            volatile uint32_t a = values[i], b = values[j];
            volatile uint64_t wide = (uint64_t)a * b;
            volatile int64_t sw = (int64_t)(int32_t)a * (int32_t)b;
            uint32_t row[] = {flags_of_add(a, b), flags_of_sub(a, b), a * b, wide >> 32, sw >> 32, b ? a / b : 7, b ? a % b : 7,
                              a << (b & 31), a >> (b & 31), (uint32_t)((int32_t)a >> (b & 31)),
                              (a << (b & 31)) | (a >> (-b & 31)), a & ~b, a ^ b};
            hash = hash * 31 + checksum(row, sizeof(row));
            if (i == 6 || j == 4)
                printf("%08x %08x: %03x %03x %08x %08x\n", a, b, row[0], row[1], row[2], row[4]);
        }
    printf("%08x\n", hash);
    volatile uint64_t big = 0x123456789abcdef0ull, small = 0x1234567;
    printf("%llx %llx %llx\n", (long long)(big / small), (long long)(big % small), (long long)((int64_t)-big / (int64_t)small));
    printf("%d %d %d %x\n", __builtin_clz(0x1234), __builtin_ctz(0x1230), __builtin_popcount(0xdeadbeef), __builtin_bswap32(0x11223344));

    unsigned char source[64], target[64] = {0};
    for (int i = 0; i < 64; i++)
        source[i] = i * 7;
    void *s = source + 3, *d = target + 5;
    unsigned long n = 40;
    __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
    printf("%08x %lu %ld\n", checksum(target, 64), n, (long)((unsigned char *)d - target));
    s = source + 63, d = source + 60, n = 10;
    __asm__ volatile("std; rep movsl; cld" : "+S"(s), "+D"(d), "+c"(n) : : "memory", "cc");
    d = target, n = 64;
    __asm__ volatile("repne scasb" : "+D"(d), "+c"(n) : "a"(source[20]) : "cc", "memory");
    printf("%ld %lu\n", (long)((unsigned char *)d - target), n);
    unsigned char below;
    uint32_t word = 0x80;
    __asm__ volatile("btsl $9, %1; setc %0; btrl $7, %1; adcb $0, %0" : "=q"(below), "+r"(word) : : "cc");
    printf("%d %x\n", below, word);
    uint32_t low = 5;
    uint64_t compare = 5;
    __asm__ volatile("lock; xaddl %0, %1" : "+r"(low), "+m"(word));
    CHECK(__sync_bool_compare_and_swap(&compare, 5, 1ull << 40));
    printf("%x %x %llx\n", low, word, (long long)compare);
    return 0;
}
