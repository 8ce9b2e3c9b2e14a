// Jumps through tables, calls through pointers, deep recursion, setjmp out of it.
#include "guest.h"

static jmp_buf out;

static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static int ack(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1)); }

static void dive(int n)
{
    volatile char frame[64];
    frame[0] = n;
    if (n == 0)
        longjmp(out, 77);
    dive(n - 1);
    frame[1] = n;
}

static int machine(const char *program)
{
    static const void *const table[] = {&&add, &&dbl, &&neg, &&end};
    int value = 1;
    goto *table[*program++ - '0'];
add:
    value += 3;
    goto *table[*program++ - '0'];
dbl:
    value *= 2;
    goto *table[*program++ - '0'];
neg:
    value = -value;
    goto *table[*program++ - '0'];
end:
    return value;
}

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

int main(void)
{
    printf("%d %d\n", fib(22), ack(2, 300));
    int value = setjmp(out);
    if (value == 0)
        dive(20000);
    printf("%d\n", value);
    printf("%d\n", machine("0112010201013"));
    static int numbers[20000];
    uint32_t state = 7;
    for (size_t i = 0; i < COUNT(numbers); i++)
        numbers[i] = next_random(&state);
    qsort(numbers, COUNT(numbers), sizeof(int), compare);
    bool sorted = true;
    for (size_t i = 1; i < COUNT(numbers); i++)
        sorted &= numbers[i - 1] <= numbers[i];
    printf("%d %#x\n", sorted, checksum(numbers, sizeof(numbers)));
    return 0;
}
