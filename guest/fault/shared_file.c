// A shared file mapping, read(2) and write(2) all see the same bytes at once.
#include "guest.h"

int main(void)
{
    int fd = make_file("shared.txt", 3 * PAGE);
    char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
    char *r = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    char buffer[4] = "";
    poke(p + PAGE, '1');
    printf("%c %c\n", q[0], r[0]);
    SHOW(pread(fd, buffer, 3, PAGE));
    printf("%s\n", buffer);
    SHOW(pwrite(fd, "23", 2, PAGE + 1));
    printf("%.3s %.3s %.3s\n", p + PAGE, q, r);
    SHOW(msync(p, 3 * PAGE, MS_SYNC));
    SHOW(msync(p + 1, PAGE, MS_SYNC));
    SHOW(msync(p, PAGE, MS_SYNC | MS_ASYNC));
    SHOW(msync(p, PAGE, MS_INVALIDATE));
    SHOW(munmap(p, 3 * PAGE));
    SHOW(msync(p, PAGE, MS_ASYNC));
    SHOW(pread(fd, buffer, 3, PAGE));
    printf("%s\n", buffer);
    /* write access to the file is needed to map it shared and writable */
    int read_only = open("shared.txt", O_RDONLY), write_only = open("shared.txt", O_WRONLY);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, read_only, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, write_only, 0) == MAP_FAILED && errno == EACCES);
    char *ro = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, read_only, 0);
    SHOW(mprotect(ro, PAGE, PROT_READ | PROT_WRITE));
    char *pr = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, read_only, 0);
    SHOW(mprotect(pr, PAGE, PROT_READ | PROT_WRITE));
    unlink("shared.txt");
    return 0;
}
