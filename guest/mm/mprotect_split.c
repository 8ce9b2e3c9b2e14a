// mprotect(2) splits a mapping and merges it again; /proc/self/maps shows it.
#include "guest.h"

int main(void)
{
    catch_faults(0);
    char *p = map_pages(18, PROT_NONE) + PAGE;
    char *end = p + 16 * PAGE;
    mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE);
    printf("%d\n", map_lines(p, end));
    SHOW(mprotect(p + 4 * PAGE, 4 * PAGE, PROT_READ));
    printf("%d\n", map_lines(p, end));
    SHOW(mprotect(p + 5 * PAGE, PAGE, PROT_NONE));
    printf("%d\n", map_lines(p, end));
    SHOW(mprotect(p + 2 * PAGE, 3 * PAGE, PROT_READ));
    printf("%d\n", map_lines(p, end));
    SHOW_FAULT(p, poke(p + 2 * PAGE, 1));
    SHOW_FAULT(p, poke(p + PAGE, 1));
    SHOW_FAULT(p, peek(p + 5 * PAGE));
    SHOW(mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE));
    printf("%d\n", map_lines(p, end));
    SHOW_FAULT(p, poke(p + 5 * PAGE, 1));
    /* a range with a hole: what lies before the hole is changed */
    munmap(p + 8 * PAGE, PAGE);
    SHOW(mprotect(p + 6 * PAGE, 4 * PAGE, PROT_READ));
    SHOW_FAULT(p, poke(p + 7 * PAGE, 1));
    SHOW_FAULT(p, poke(p + 9 * PAGE, 1));
    printf("%d\n", map_lines(p, end));
    /* filled again with the same protection it is one mapping */
    mprotect(p, 8 * PAGE, PROT_READ | PROT_WRITE);
    mmap(p + 8 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    poke(p + 8 * PAGE, 3);
    printf("%d %d\n", map_lines(p, end), p[8 * PAGE]);
    /* contents survive having no protection at all */
    memset(p, 'k', PAGE);
    mprotect(p, PAGE, PROT_NONE);
    SHOW_FAULT(p, peek(p));
    mprotect(p, PAGE, PROT_READ);
    printf("%c\n", p[PAGE - 1]);
    /* write-only and execute-only are readable on x86 */
    mprotect(p, PAGE, PROT_WRITE);
    printf("%c\n", peek(p));
    return 0;
}
