// A division by zero in x87, masked and not; SSE masked.
// guest: cflags=-msse2
#include "guest.h"

static volatile double zero, one = 1.0;
static volatile double result;

static void sse_control(unsigned mask)
{
    unsigned mxcsr = 0x1f80 & ~mask;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

static NOINLINE void sse_divide(double a, double b)
{
    __asm__ volatile("divsd %1, %0" : "+x"(a) : "x"(b));
    result = a;
}

static NOINLINE void x87_divide(double a, double b, unsigned short mask)
{
    unsigned short control = 0x37f & ~mask, back = 0x37f;
    __asm__ volatile("fninit; fldcw %3; fldl %1; fdivl %2; fwait; fstpl %0; fldcw %4"
                     : "=m"(result) : "m"(a), "m"(b), "m"(control), "m"(back) : "st");
}

static void tell(const char *what, int signo)
{
    printf("%s: ", what);
    if (signo)
        printf("signal %d code %d trap %ld\n", signo, caught.code, caught.trapno);
    else
        printf("none\n");
    sse_control(0);
    __asm__ volatile("fninit");
}

int main(void)
{
    catch_faults(0);
    tell("sse masked", FAULT(sse_divide(one, zero)));
    tell("x87 masked", FAULT(x87_divide(one, zero, 0)));
    tell("x87 divide by zero", FAULT(x87_divide(one, zero, 4)));
    return 0;
}
