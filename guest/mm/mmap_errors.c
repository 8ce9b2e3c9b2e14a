// The errors of mmap(2), munmap(2) and mprotect(2), in the order Linux finds them.
#include "guest.h"

#define MAP(...) ((errno = 0, mmap(__VA_ARGS__)) == MAP_FAILED ? -errno : 0)
#define SHOW_MAP(...) printf("mmap(%s) = %d\n", #__VA_ARGS__, MAP(__VA_ARGS__))

int main(void)
{
    int anon = MAP_PRIVATE | MAP_ANONYMOUS;
    int fd = make_file("errors.txt", PAGE);
    SHOW_MAP(NULL, 0, PROT_READ, anon, -1, 0);
    SHOW_MAP(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0);
    SHOW_MAP(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0);
    SHOW_MAP(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    SHOW_MAP(NULL, PAGE, PROT_READ, anon, 12345, 0);
    SHOW_MAP((void *)1, PAGE, PROT_READ, anon | MAP_FIXED, -1, 0);
    SHOW_MAP((void *)PAGE, PAGE, PROT_READ, anon, -1, 0);
    SHOW_MAP(NULL, ~0ul, PROT_READ, anon, -1, 0);
    SHOW_MAP(NULL, ~0ul - PAGE + 1, PROT_READ, anon, -1, 0);
    SHOW_MAP((void *)-PAGE, PAGE, PROT_READ, anon | MAP_FIXED, -1, 0);
    SHOW_MAP((void *)-PAGE, PAGE, PROT_READ, anon, -1, 0);
    SHOW_MAP(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1);
    CHECK((long)mmap(NULL, PAGE, PROT_READ, anon, -1, 7 * PAGE) != -1);

    char *p = map_pages(4, PROT_READ | PROT_WRITE);
    SHOW(munmap(p + 1, PAGE));
    SHOW(munmap(p, 0));
    SHOW(munmap(p, ~0ul));
    SHOW(munmap((void *)-PAGE, PAGE));
    SHOW(munmap(p, 1));
    SHOW(munmap(p, PAGE));
    SHOW(mprotect(p + 1, PAGE, PROT_READ));
    SHOW(mprotect(p + PAGE, 0, PROT_READ));
    SHOW(mprotect(p + PAGE, PAGE, 0x1000));
    SHOW(mprotect(p + PAGE, PAGE, PROT_GROWSDOWN | PROT_READ));
    SHOW(mprotect(p + PAGE, PAGE, PROT_GROWSUP | PROT_GROWSDOWN));
    SHOW(mprotect(p, PAGE, PROT_READ));
    SHOW(mprotect(p + PAGE, 1, PROT_READ));
    SHOW(mprotect(p + PAGE, 3 * PAGE, PROT_READ));
    unlink("errors.txt");
    return 0;
}
