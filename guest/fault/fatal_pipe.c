// Death by SIGPIPE, a pipe that nobody reads.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    puts("before");
    fflush(stdout);
    int p[2]; if (pipe(p) || close(p[0]) || write(p[1], "x", 1)) return 1;
    puts("never");
    return 0;
}
