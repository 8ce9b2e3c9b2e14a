// /dev/null, zero, full, urandom, and what cannot be done with them.
#include "guest.h"

int main(void)
{
    char buffer[64];
    memset(buffer, 'x', sizeof(buffer));
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), full = open("/dev/full", O_RDWR),
        random = open("/dev/urandom", O_RDONLY);
    SHOW(read(null, buffer, 64));
    SHOW(write(null, buffer, 64));
    SHOW(read(zero, buffer, 32));
    printf("%d %c\n", buffer[31], buffer[32]);
    SHOW(write(zero, buffer, 64));
    SHOW(read(full, buffer, 8));
    SHOW(write(full, buffer, 8));
    SHOW(read(random, buffer, 64));
    SHOW(lseek(null, 100, SEEK_SET));
    SHOW(ftruncate(null, 0));
    SHOW(isatty(null));
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    CHECK(p != MAP_FAILED);
    poke(p + PAGE, 1);
    printf("%d %d\n", p[0], p[PAGE]);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, null, 0) == MAP_FAILED && errno == ENODEV);
    SHOW(open("/dev/absent", O_RDONLY));
    SHOW(access("/dev/null", R_OK | W_OK));
    return 0;
}
