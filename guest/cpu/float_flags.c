// The exception flags that floating point leaves behind.
// guest: libs=-lm limit="the engine keeps no flags for SSE, and for x87 only some"
#include "guest.h"
#include <fenv.h>
#include <math.h>

int main(void)
{
    volatile double a = 1.0 / 3;
    feclearexcept(FE_ALL_EXCEPT);
    volatile double zero = 0, inf = a / zero;
    printf("%d %d\n", fetestexcept(FE_DIVBYZERO) != 0, isinf(inf) != 0);
    volatile double nan = zero * inf;
    printf("%d %d %d\n", isnan(nan) != 0, nan == nan, fetestexcept(FE_INVALID) != 0);
    return 0;
}
