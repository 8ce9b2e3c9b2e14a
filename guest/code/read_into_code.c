// read(2) straight into a page that has already been executed.
#include "guest.h"

typedef int (*function)(void);

int main(void)
{
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    unsigned char *p = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    int pipes[2];
    long sum = 0;
    if (pipe(pipes))
        return 1;
    for (int i = 0; i < 200; i++) {
        memcpy(code + 1, &i, 4);
        if (write(pipes[1], code, sizeof(code)) != sizeof(code) || read(pipes[0], p, sizeof(code)) != sizeof(code))
            return 2;
        sum += ((function)p)();
    }
    printf("%ld\n", sum);
    return 0;
}
