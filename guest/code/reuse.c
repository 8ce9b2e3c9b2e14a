// Code pages come and go at the same address: unmapped, remapped, replaced by file pages, discarded.
#include "guest.h"

typedef int (*function)(void);

static void emit(void *at, int value)
{
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    memcpy(code + 1, &value, 4);
    memcpy(at, code, sizeof(code));
}

int main(void)
{
    int rwx = PROT_READ | PROT_WRITE | PROT_EXEC, anon = MAP_PRIVATE | MAP_ANONYMOUS;
    char *place = map_pages(4, PROT_NONE);
    long sum = 0;
    for (int i = 0; i < 100; i++) {
        char *p = mmap(place, PAGE, rwx, anon | MAP_FIXED, -1, 0);
        emit(p, i);
        sum += ((function)p)();
        munmap(p, PAGE);
    }
    printf("unmapped and mapped: %ld\n", sum);
    char *p = mmap(place, PAGE, rwx, anon | MAP_FIXED, -1, 0);
    for (int i = sum = 0; i < 100; i++) {
        emit(p, i * 2);
        sum += ((function)p)();
        madvise(p, PAGE, MADV_DONTNEED);
    }
    printf("discarded: %ld\n", sum);
    int fd = make_file("code.bin", PAGE);
    for (int i = sum = 0; i < 20; i++) {
        char code[16];
        emit(code, i * 3);
        if (pwrite(fd, code, sizeof(code), 0) != sizeof(code))
            return 1;
        p = mmap(place, PAGE, PROT_READ | PROT_EXEC, MAP_FIXED | (i & 1 ? MAP_SHARED : MAP_PRIVATE), fd, 0);
        sum += ((function)p)();
        emit(code, 7);
        if (pwrite(fd, code, sizeof(code), 0) != sizeof(code)) /* seen through the mapping at once */
            return 1;
        sum += ((function)p)();
    }
    printf("from a file: %ld\n", sum);
    p = mmap(place, PAGE, rwx, anon | MAP_FIXED, -1, 0);
    emit(p, 11);
    sum = ((function)p)();
    char *q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place + 2 * PAGE);
    sum = sum * 100 + ((function)q)();
    p = mmap(place, PAGE, rwx, anon | MAP_FIXED, -1, 0);
    emit(p, 22);
    sum = sum * 100 + ((function)p)();
    sum = sum * 100 + ((function)q)();
    printf("moved: %ld\n", sum);
    unlink("code.bin");
    return 0;
}
