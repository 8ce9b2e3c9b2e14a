// madvise(2): DONTNEED gives zeroes (or the file) again; unknown advice and bad ranges are refused.
#include "guest.h"

int main(void)
{
    char *p = map_pages(8, PROT_READ | PROT_WRITE);
    memset(p, 'd', 8 * PAGE);
    SHOW(madvise(p + 2 * PAGE, 3 * PAGE, MADV_DONTNEED));
    for (int i = 0; i < 8; i++)
        printf("%d ", p[i * PAGE + 100]);
    putchar('\n');
    int fd = make_file("advice.txt", 2 * PAGE);
    char *q = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *s = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    poke(q + PAGE, 'X');
    poke(s, 'Y');
    SHOW(madvise(q, 2 * PAGE, MADV_DONTNEED));
    SHOW(madvise(s, 2 * PAGE, MADV_DONTNEED));
    printf("%c %c %c\n", q[0], q[PAGE], s[0]);
    for (int advice = MADV_NORMAL; advice <= MADV_WILLNEED; advice++)
        SHOW(madvise(p, 8 * PAGE, advice));
    SHOW(madvise(p, 8 * PAGE, 12345));
    SHOW(madvise(p + 1, PAGE, MADV_DONTNEED));
    SHOW(madvise(p, 0, MADV_DONTNEED));
    SHOW(madvise(p, PAGE - 1, MADV_DONTNEED));
    munmap(p + 4 * PAGE, PAGE);
    memset(p + 5 * PAGE, 'e', PAGE);
    SHOW(madvise(p + 3 * PAGE, 3 * PAGE, MADV_DONTNEED)); /* ENOMEM, yet the rest is done */
    printf("%d\n", p[5 * PAGE]);
    SHOW(madvise(p, PAGE, MADV_DONTFORK));
    SHOW(madvise(p, PAGE, MADV_DOFORK));
    SHOW(madvise(p, PAGE, MADV_DONTDUMP));
    unlink("advice.txt");
    return 0;
}
