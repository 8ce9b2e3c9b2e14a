// mremap(2) of a file mapping keeps to the file's pages and to private copies.
#include "guest.h"

int main(void)
{
    catch_faults(0);
    int fd = make_file("remap.txt", 8 * PAGE);
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * PAGE);
    poke(p + PAGE, 'X');
    p = mremap(p, 2 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
    for (int i = 0; i < 5; i++)
        putchar(p[i * PAGE]);
    putchar('\n');
    p = mremap(p, 5 * PAGE, 10 * PAGE, MREMAP_MAYMOVE);
    printf("%c\n", p[5 * PAGE]);
    SHOW_FAULT(p, peek(p + 6 * PAGE));
    /* the second half only */
    char *q = mremap(p + 4 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED);
    printf("%c%c\n", q[0], q[PAGE]);
    unlink("remap.txt");
    return 0;
}
