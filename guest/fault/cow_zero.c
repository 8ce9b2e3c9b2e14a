// Writes after reads: the zero page and file pages are left alone, pages of our own are re-used.
#include "guest.h"

int main(void)
{
    unsigned char *a = map_pages(8, PROT_READ | PROT_WRITE), *b = map_pages(8, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 8; i++)
        peek(a + i * PAGE), peek(b + i * PAGE);
    for (int i = 0; i < 8; i++)
        poke(a + i * PAGE + i, i + 1);
    int sum_a = 0, sum_b = 0;
    for (size_t i = 0; i < 8 * PAGE; i++)
        sum_a += a[i], sum_b += b[i];
    printf("%d %d\n", sum_a, sum_b);
    mprotect(a, 8 * PAGE, PROT_READ);
    mprotect(a, 8 * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 8; i++)
        poke(a + i * PAGE, 100);
    for (int i = 0; i < 8; i++)
        printf("%d:%d ", a[i * PAGE], a[i * PAGE + i]);
    putchar('\n');
    return 0;
}
