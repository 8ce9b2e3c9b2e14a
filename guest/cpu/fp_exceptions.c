// Unmasked floating-point exceptions: SIGFPE with the code that says which.
// guest: cflags=-msse2 limit="the engine raises no SSE exceptions, and of the x87 ones only division by zero"
#include "guest.h"

static volatile double zero, one = 1.0, huge = 1e308, tiny = 1e-308;
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

static NOINLINE void sse_multiply(double a, double b)
{
    __asm__ volatile("mulsd %1, %0" : "+x"(a) : "x"(b));
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
    tell("sse divide by zero", FAULT({ sse_control(0x200); sse_divide(one, zero); }));
    tell("sse invalid", FAULT({ sse_control(0x80); sse_divide(zero, zero); }));
    tell("sse overflow", FAULT({ sse_control(0x400); sse_multiply(huge, huge); }));
    tell("sse underflow", FAULT({ sse_control(0x800); sse_multiply(tiny, tiny); }));
    tell("sse inexact", FAULT({ sse_control(0x1000); sse_divide(one, 3.0); }));
    tell("x87 masked", FAULT(x87_divide(one, zero, 0)));
    tell("x87 divide by zero", FAULT(x87_divide(one, zero, 4)));
    tell("x87 invalid", FAULT(x87_divide(zero, zero, 1)));
    tell("x87 inexact", FAULT(x87_divide(one, 3.0, 0x20)));
    return 0;
}
