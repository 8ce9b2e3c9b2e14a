// A library loaded at run time: found, relocated, called, closed.
// guest: variants=dynamic libc=glibc cflags=-fno-builtin libs=-ldl
#include "guest.h"
#include <dlfcn.h>

int main(void)
{
    CHECK(dlopen("no-such-library.so", RTLD_NOW) == NULL);
    void *libm = dlopen("libm.so.6", RTLD_NOW);
    CHECK(libm != NULL);
    double (*cosine)(double) = (double (*)(double))dlsym(libm, "cos");
    CHECK(cosine != NULL);
    printf("%.6f\n", cosine(1.0));
    CHECK(dlsym(libm, "no_such_symbol") == NULL);
    printf("%d\n", dlclose(libm));
    return 0;
}
