// _exit(2) flushes nothing.
#include "guest.h"

int main(void)
{
    printf("this stays in the buffer of a pipe");
    if (write(1, "written\n", 8) != 8)
        return 1;
    _exit(7);
}
