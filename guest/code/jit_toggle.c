// A JIT that never has a page writable and executable at once.
// guest: needs=nx
#include "guest.h"

typedef int (*function)(int);

static void emit(unsigned char *at, int value)
{
#ifdef __x86_64__
    unsigned char code[] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3}; /* lea eax, [rdi + value]; ret */
    memcpy(code + 2, &value, 4);
#else
    unsigned char code[] = {0x8b, 0x44, 0x24, 4, 0x05, 0, 0, 0, 0, 0xc3}; /* mov eax, [esp + 4]; add eax, value; ret */
    memcpy(code + 5, &value, 4);
#endif
    memcpy(at, code, sizeof(code));
}

int main(void)
{
    unsigned char *p = map_pages(4, PROT_READ | PROT_WRITE);
    long sum = 0;
    catch_faults(0);
    for (int i = 0; i < 300; i++) {
        unsigned char *at = p + i % 4 * PAGE + i % 7 * 16;
        emit(at, i);
        mprotect(p, 4 * PAGE, PROT_READ | PROT_EXEC);
        sum += ((function)at)(1000);
        mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
    }
    printf("%ld\n", sum);
    SHOW_FAULT(p, ((function)p)(1));
    mprotect(p, PAGE, PROT_READ | PROT_EXEC);
    SHOW_FAULT(p, ((function)p)(1));
    SHOW_FAULT(p, poke(p, 1));
    return 0;
}
