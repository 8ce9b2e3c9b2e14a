// A program that does not ask for an executable stack does not get one, nor an executable heap.
// guest: needs=nx
#include "guest.h"

int main(void)
{
    unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
    unsigned char *heap = malloc(64);
    memcpy(heap, code, sizeof(code));
    catch_faults(0);
    SHOW_FAULT(code, ((int (*)(void))(unsigned long)code)());
    SHOW_FAULT(heap, ((int (*)(void))(unsigned long)heap)());
    return 0;
}
