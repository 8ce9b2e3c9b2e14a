// Shared anonymous memory and memfd: several views of the same pages.
#include "guest.h"

int main(void)
{
    catch_faults(0);
    char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("%d\n", peek(p + PAGE));
    poke(p + PAGE, 5);
    madvise(p, 3 * PAGE, MADV_DONTNEED);
    printf("%d\n", peek(p + PAGE)); /* shared memory keeps it */

    int fd = syscall(SYS_memfd_create, "views", 1);
    SHOW_OK(fd);
    SHOW(ftruncate(fd, 2 * PAGE));
    char *a = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *b = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *c = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    poke(a, '1');
    printf("%c %c\n", b[0], c[0]);
    poke(c + 1, '2');
    poke(b, '3');
    printf("%c %c\n", a[0], c[0]);
    char d = 0;
    SHOW(pread(fd, &d, 1, 0));
    printf("%c\n", d);
    SHOW_FAULT(a, peek(a + PAGE));
    SHOW(ftruncate(fd, PAGE));
    SHOW_FAULT(a, poke(a + PAGE, 1));
    struct stat st;
    SHOW(fstat(fd, &st));
    printf("%ld %d\n", (long)st.st_size, S_ISREG(st.st_mode));
    SHOW(fcntl(fd, F_GETFD));
    return 0;
}
