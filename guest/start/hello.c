// The smallest libc program, linked in every way there is.
// guest: variants=static,dynamic,static-pie
#include <stdio.h>

int main(void)
{
    puts("hello, world");
    return 0;
}
