// The kernel's copies fault pages in and break copy-on-write just as the program would.
#include "guest.h"

int main(void)
{
    int fd = make_file("copy.txt", 4 * PAGE);
    char *untouched = map_pages(4, PROT_READ | PROT_WRITE);
    char *private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    SHOW(pread(fd, untouched + 100, 2 * PAGE, PAGE));
    printf("%c %c %d\n", untouched[100], untouched[100 + PAGE], untouched[99]);
    SHOW(pread(fd, private, 10, 3 * PAGE)); /* writes into the private copy */
    char c;
    SHOW(pread(fd, &c, 1, 0));
    printf("%c in the mapping, %c in the file\n", private[0], c);
    SHOW(pwrite(fd, untouched + 3 * PAGE, 3, 0)); /* reads zeroes from a page never touched */
    SHOW(pread(fd, &c, 1, 0));
    printf("%d\n", c);
    /* a file written from a mapping of itself */
    char *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SHOW(pwrite(fd, shared + PAGE, PAGE, 2 * PAGE));
    printf("%c%c\n", shared[2 * PAGE], shared[3 * PAGE - 1]);
    SHOW(pread(fd, shared + 3 * PAGE, PAGE, PAGE));
    printf("%c\n", shared[3 * PAGE]);
    unlink("copy.txt");
    return 0;
}
