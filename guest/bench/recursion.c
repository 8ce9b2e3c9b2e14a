// Calls, returns and branches: Fibonacci, Ackermann, Hanoi.
// guest: cflags=-O1
#include <stdio.h>

static __attribute__((noinline)) int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static __attribute__((noinline)) int ack(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1)); }
static __attribute__((noinline)) int hanoi(int n, int a, int b, int c) { return n ? hanoi(n - 1, a, c, b) + 1 + hanoi(n - 1, c, b, a) : 0; }

int main(void)
{
    printf("%d %d %d\n", fib(33), ack(2, 1500), hanoi(22, 0, 1, 2));
    return 0;
}
