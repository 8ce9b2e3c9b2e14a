// Code written through one view of a memfd and run through another.
#include "guest.h"

typedef int (*function)(void);

int main(void)
{
    int fd = syscall(SYS_memfd_create, "jit", 0);
    if (fd < 0 || ftruncate(fd, 2 * PAGE))
        return 1;
    unsigned char *w = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *x = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov eax, 0; ret */
    long sum = 0;
    memcpy(w, code, sizeof(code));
    memcpy(w + PAGE + 40, code, sizeof(code));
    for (int i = 0; i < 1000; i++) {
        memcpy(w + 1, &i, 4);
        sum += ((function)x)();
        w[PAGE + 41] = i;
        sum += ((function)(x + PAGE + 40))();
    }
    printf("%ld\n", sum);
    /* and the kernel writes it: pwrite(2), then read(2) into the writable view */
    int value = 4242;
    SHOW(pwrite(fd, &value, 4, 1));
    printf("%d\n", ((function)x)());
    value = 31337;
    int other = make_file("number.bin", 0);
    SHOW(pwrite(other, &value, 4, 0));
    SHOW(pread(other, w + 1, 4, 0));
    printf("%d\n", ((function)x)());
    unlink("number.bin");
    return 0;
}
