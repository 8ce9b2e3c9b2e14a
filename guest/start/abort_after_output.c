// abort(3): SIGABRT, even with the signal blocked; stdio is not flushed.
// guest: stderr=ignore
#include "guest.h"

int main(void)
{
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("lost in the buffer");
    if (write(1, "before\n", 7) != 7)
        return 1;
    abort();
}
