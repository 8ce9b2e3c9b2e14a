// A program that asks for an executable stack gets one.
// guest: cflags=-Wl,-z,execstack libc=glibc
#include "guest.h"

int main(void)
{
    volatile unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
    int (*function)(void) = (int (*)(void))(unsigned long)code;
    printf("%d\n", function());
    return 0;
}
