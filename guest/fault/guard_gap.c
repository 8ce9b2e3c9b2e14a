// A stack-like mapping (MAP_GROWSDOWN) grows, but never to within 256 pages of a neighbour.
#include "guest.h"

int main(void)
{
    char *area = map_pages(1024, PROT_NONE);
    munmap(area, 1024 * PAGE);
    char *stack = mmap(area + 1000 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    char *neighbour = mmap(area + 600 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    catch_faults(0);
    SHOW_FAULT(stack, poke(stack - 1, 1));
    SHOW_FAULT(stack, poke(stack - 100 * PAGE, 1));
    SHOW_FAULT(stack, poke(neighbour + PAGE + 257 * PAGE, 1));
    SHOW_FAULT(neighbour, poke(neighbour + PAGE + 256 * PAGE, 1));
    SHOW_FAULT(neighbour, poke(neighbour + PAGE + 255 * PAGE, 1));
    SHOW_FAULT(neighbour, poke(neighbour + PAGE, 1));
    printf("%d lines\n", map_lines(area + 610 * PAGE, area + 1004 * PAGE));
    return 0;
}
