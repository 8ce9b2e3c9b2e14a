// A program that rewrites its own instructions: in a loop, in the next instruction, across a page edge.
#include "guest.h"

typedef int (*function)(void);

static void emit(unsigned char *at, int value)
{
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov eax, value; ret */
    memcpy(code + 1, &value, 4);
    memcpy(at, code, sizeof(code));
}

int main(void)
{
    unsigned char *p = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    long sum = 0;
    for (int i = 0; i < 2000; i++) {
        emit(p, i);
        sum += ((function)p)();
    }
    printf("%ld\n", sum);
    /* over the edge of a page: the constant lies in the second one */
    unsigned char *edge = p + PAGE - 3;
    sum = 0;
    for (int i = 0; i < 500; i++) {
        emit(edge, i * 3);
        sum += ((function)edge)();
        edge[3] ^= 1;
        sum += ((function)edge)();
    }
    printf("%ld\n", sum);
    /* the code changes the instruction right behind the one that runs:
       mov byte [rip/abs next+1], 7 ; mov eax, 1 ; ret */
#ifdef __x86_64__
    unsigned char ahead[] = {0xc6, 0x05, 1, 0, 0, 0, 7, 0xb8, 1, 0, 0, 0, 0xc3};
    memcpy(p, ahead, sizeof(ahead));
#else
    unsigned char ahead[] = {0xc6, 0x05, 0, 0, 0, 0, 7, 0xb8, 1, 0, 0, 0, 0xc3};
    memcpy(p, ahead, sizeof(ahead));
    unsigned char *target = p + 8;
    memcpy(p + 2, &target, 4);
#endif
    printf("%d\n", ((function)p)());
    p[8] = 1;
    printf("%d\n", ((function)p)());
    return 0;
}
