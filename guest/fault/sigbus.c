// A file that shrinks under its mapping: SIGBUS beyond its last page, zeroes on the rest of that page.
#include "guest.h"

int main(void)
{
    int fd = make_file("shrinks.txt", 4 * PAGE);
    char *p = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *q = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    catch_faults(0);
    SHOW_FAULT(p, peek(p + 3 * PAGE));
    SHOW_FAULT(p, peek(p + 4 * PAGE));
    SHOW_FAULT(p, poke(p + 5 * PAGE + 5, 1));
    SHOW_FAULT(q, poke(q + 4 * PAGE, 1));
    poke(q + 2 * PAGE, 'P');
    SHOW(ftruncate(fd, PAGE + 10));
    SHOW_FAULT(p, peek(p + PAGE));
    printf("%c %d\n", p[PAGE + 9], p[PAGE + 10]);
    SHOW_FAULT(p, peek(p + 2 * PAGE));
    SHOW_FAULT(q, peek(q + 2 * PAGE)); /* private copies go with the file, too */
    SHOW(ftruncate(fd, 3 * PAGE));
    SHOW_FAULT(p, peek(p + 2 * PAGE));
    printf("%d\n", p[2 * PAGE]);
    SHOW_FAULT(p, poke(p + 2 * PAGE, 'n'));
    char c = 0;
    SHOW(pread(fd, &c, 1, 2 * PAGE));
    printf("%c\n", c);
    /* the kernel meets the same wall: EFAULT */
    SHOW(write(fd, p + 5 * PAGE, 1));
    unlink("shrinks.txt");
    return 0;
}
