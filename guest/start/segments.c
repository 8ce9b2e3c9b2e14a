// .data is private and writable, .bss is zero to its last byte, .rodata and .text cannot be written.
// guest: needs=nx
// guest: variants=static,static-pie,dynamic
#include "guest.h"

static char data[3 * PAGE] = {1, 2, 3};
static char bss[5 * PAGE + 123];
static const char rodata[] = "constant";
static char small_bss[13];

int main(void)
{
    size_t sum = 0;
    for (size_t i = 0; i < sizeof(bss); i++)
        sum += bss[i];
    for (size_t i = 0; i < sizeof(small_bss); i++)
        sum += small_bss[i];
    printf("bss %zu data %d %d %d %d\n", sum, data[0], data[1], data[2], data[3]);
    memset(data, 7, sizeof(data));
    memset(bss, 9, sizeof(bss));
    printf("data %#x bss %#x\n", checksum(data, sizeof(data)), checksum(bss, sizeof(bss)));
    catch_faults(0);
    SHOW_FAULT(rodata, poke((void *)rodata, 0));
    SHOW_FAULT(main, poke((void *)main, 0));
    SHOW_FAULT(data, ((void (*)(void))data)());
    return 0;
}
