// Start-up and nothing else: what is subtracted from the others.
// guest: variants=static,dynamic cflags=-O2
#include <stdio.h>

int main(void)
{
    puts("hello");
    return 0;
}
