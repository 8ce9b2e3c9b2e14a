// A private file mapping shows the file until it is written; the file never changes.
#include "guest.h"

int main(void)
{
    int fd = make_file("private.txt", 6 * PAGE + 100);
    char *p = mmap(NULL, 7 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    for (int i = 0; i < 7; i++)
        putchar(peek(p + i * PAGE));
    putchar('\n');
    poke(p + PAGE, 'X');      /* after a read: copies the page cache's page */
    p[5 * PAGE + 1] = 'Y';
    char c;
    SHOW(pread(fd, &c, 1, PAGE));
    printf("mapping %c%c file %c\n", p[PAGE], p[PAGE + 1], c);
    SHOW(pwrite(fd, "Z", 1, 2 * PAGE));    /* not yet copied: the mapping sees it */
    SHOW(pwrite(fd, "Q", 1, PAGE + 1));    /* already copied: it does not */
    printf("%c %c\n", p[2 * PAGE], p[PAGE + 1]);
    printf("rest of the last page: %d\n", p[6 * PAGE + 100] | p[7 * PAGE - 1]);
    p[6 * PAGE + 200] = 1;                 /* beyond the end but within the page: nobody's */
    close(fd);
    printf("%c still mapped after close\n", p[3 * PAGE]);
    char *write_first = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd = open("private.txt", O_RDONLY), 0);
    poke(write_first, 'W');
    printf("%c%c\n", write_first[0], write_first[1]);
    SHOW(pread(fd, &c, 1, 0));
    printf("%c\n", c);
    struct stat st;
    fstat(fd, &st);
    printf("size %ld\n", (long)st.st_size);
    unlink("private.txt");
    return 0;
}
