// Calls of every kind, for the unwinder: recursion, callbacks from libc, signals, threads, through the PLT.
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile int total;
static jmp_buf back;

static int by_value(const void *left, const void *right)
{
    total++;
    return *(const int *)left - *(const int *)right;
}

__attribute__((noinline)) static int fibonacci(int n)
{
    if (n < 2)
        return n;
    return fibonacci(n - 1) + fibonacci(n - 2);
}

// A stack pointer that moves by what the arguments say.
__attribute__((noinline)) static int variable(int size)
{
    char *room = alloca(size);
    memset(room, size, size);
    return room[size / 2] + fibonacci(2);
}

// A stack pointer that is aligned to more than the ABI asks for.
__attribute__((noinline)) static int aligned(int n)
{
    _Alignas(64) volatile int wide[16] = {n};
    return wide[n & 15] + fibonacci(1);
}

// Seven arguments and all callee-saved registers.
__attribute__((noinline)) static int many(int a, int b, int c, int d, int e, int f, int g)
{
    int sum = a * b + c * d + e * f + g;
    for (int i = 0; i < 2; i++)
        sum += fibonacci(i) * (a + b + c + d + e + f + g);
    return sum;
}

static void on_signal(int signo)
{
    total += signo;
    total += fibonacci(1);
}

__attribute__((noinline)) static void interrupted(void)
{
    raise(SIGUSR1);
    total++;
}

__attribute__((noinline, noreturn)) static void jump(int value)
{
    longjmp(back, value);
}

static void *work(void *argument)
{
    total += fibonacci((int)(long)argument);
    return argument;
}

__attribute__((noinline, noreturn)) static void leave(int status)
{
    total = status;
    _exit(status);
}

__attribute__((noipa)) void halfway(void)
{
}

int main(int argc, char **argv)
{
    (void)argv;
    int numbers[] = {3, 1, 2};
    pthread_t thread;

    total = fibonacci(3) + variable(40 * argc) + aligned(3) + many(1, 2, 3, 4, 5, 6, 7);
    qsort(numbers, 3, sizeof *numbers, by_value);
    signal(SIGUSR1, on_signal);
    interrupted();
    printf("total %d %s\n", total, argc > 1 ? argv[1] : "-");
    fflush(stdout);
    halfway();
    if (!setjmp(back))
        jump(1);
    pthread_create(&thread, 0, work, (void *)3);
    pthread_join(thread, 0);
    leave(numbers[0] & 0);
}
