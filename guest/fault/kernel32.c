// The top of a 32-bit address space.
// guest: arch=i386 machines=4level
#include "guest.h"

int main(void)
{
    catch_faults(0);
    char *top = (char *)0xfffff000ul;
    SHOW_FAULT(top, peek(top + 0xfff));
    SHOW_FAULT(top, poke(top, 1));
    SHOW_FAULT(top, ((void (*)(void))top)());
    return 0;
}
