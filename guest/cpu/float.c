// Floating point of all kinds, by the bit: float, double, long double, conversions, rounding, libm.
// guest: libs=-lm
#include "guest.h"
#include <fenv.h>
#include <math.h>

static void bits(const char *what, double value)
{
    union { double d; uint64_t u; } u = {value};
    printf("%s %016llx\n", what, (unsigned long long)u.u);
}

int main(void)
{
    volatile double a = 1.0 / 3, b = 2.5e10, c = -7.25;
    volatile float f = 0.1f;
    volatile long double l = 1.0L / 3;
    bits("sum", a + b);
    bits("product", a * b * c);
    bits("quotient", c / a);
    bits("root", sqrt(b));
    bits("float", f * f + f);
    bits("long", (double)(l * l * 81));
    printf("%.20Lg\n", l);
    printf("%d %d %lld %u\n", (int)c, (int)b % 1, (long long)(b * 1e5), (unsigned)(b / 10));
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    for (size_t i = 0; i < COUNT(modes); i++) {
        fesetround(modes[i]);
        volatile double third = a / b, r = nearbyint(c * 2);
        bits("third", third);
        bits("rounded", r);
        printf("%ld %ld\n", lrint(2.5), lrint(-3.5));
    }
    fesetround(FE_TONEAREST);
    /* x87 instructions that compute: their last bit may differ between machines, so fewer digits */
    printf("%.10f %.10f %.10f %.10f\n", sin(1.0), exp(2.0), log(10.0), pow(2.0, 0.5));
    printf("%.10f %.10f %.10f\n", atan2(1.0, 2.0), tanh(0.5), fmod(17.5, 4.25));
    printf("%a %g %e\n", 0.1, 1e100, 12345.678);
    printf("%.17g %.17g\n", strtod("0.1", NULL), strtod("123456789012345678", NULL));
    bits("denormal", 4.9e-324);
    volatile double denormal = 2.2250738585072014e-308;
    bits("half of the smallest normal", denormal / 2);
    return 0;
}
