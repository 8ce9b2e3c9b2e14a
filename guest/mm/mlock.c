// mlock(2) brings pages in and keeps a count; locked memory refuses MADV_DONTNEED.
#include "guest.h"

static long locked_kb(void)
{
    char line[256];
    long kb = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof(line), status))
        sscanf(line, "VmLck: %ld", &kb);
    fclose(status);
    return kb;
}

int main(void)
{
    unsigned char vec[4];
    char *p = map_pages(4, PROT_READ | PROT_WRITE);
    printf("%ld\n", locked_kb());
    SHOW(mlock(p, 3 * PAGE));
    printf("%ld\n", locked_kb());
    SHOW(mincore(p, 4 * PAGE, vec));
    printf("%d%d%d%d\n", vec[0] & 1, vec[1] & 1, vec[2] & 1, vec[3] & 1);
    SHOW(madvise(p, PAGE, MADV_DONTNEED));
    SHOW(mlock(p + 1, 1));
    printf("%ld\n", locked_kb());
    SHOW(munlock(p + PAGE, PAGE));
    printf("%ld\n", locked_kb());
    SHOW(munlock(p, 4 * PAGE));
    printf("%ld\n", locked_kb());
    SHOW(madvise(p, PAGE, MADV_DONTNEED));
    munmap(p + 2 * PAGE, PAGE);
    SHOW(mlock(p, 4 * PAGE));
    SHOW(munlock(p, 4 * PAGE));
    SHOW(mlockall(0));
    SHOW(mlockall(64));
    SHOW(munlockall());
    return 0;
}
