// SIGSEGV says where and why: MAPERR where nothing is mapped, ACCERR where the protection forbids it.
#include "guest.h"

int main(void)
{
    char *p = map_pages(4, PROT_READ | PROT_WRITE);
    char *none = map_pages(1, PROT_NONE);
    poke(p, 1);
    mprotect(p, PAGE, PROT_READ);
    munmap(p + 2 * PAGE, PAGE);
    catch_faults(0);
    SHOW_FAULT(NULL, peek(NULL));
    SHOW_FAULT(NULL, poke((void *)8, 1));
    SHOW_FAULT(NULL, peek((void *)0x1000));
    SHOW_FAULT(p, peek(p));
    SHOW_FAULT(p, poke(p + 5, 1));
    SHOW_FAULT(p, poke(p + PAGE, 1));
    SHOW_FAULT(p, peek(p + 2 * PAGE + 100));
    SHOW_FAULT(p, poke(p + 3 * PAGE - 1, 1));
    SHOW_FAULT(p, peek(p + 3 * PAGE));
    SHOW_FAULT(none, peek(none + 9));
    SHOW_FAULT(none, poke(none + 10, 1));
    /* A page that was never touched and may only be read. */
    mprotect(p + 3 * PAGE, PAGE, PROT_READ);
    SHOW_FAULT(p, poke(p + 3 * PAGE + 1, 1));
    mprotect(none, PAGE, PROT_READ | PROT_WRITE);
    SHOW_FAULT(none, poke(none, 7));
    printf("%d\n", peek(none));
    return 0;
}
