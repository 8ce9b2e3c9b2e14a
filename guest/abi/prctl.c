// prctl: what every option answers when it is given nothing, and the options that set something.
// guest: variants=static machines=4level
#include "guest.h"
#include <sys/prctl.h>

int main(void)
{
    // Left out: seccomp, PR_SET_MM, speculation and whatever asks for the kernel's configuration.
    static const int options[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 25,
                                  26, 27, 28, 29, 30, 33, 34, 36, 37, 38, 39, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 54,
                                  55, 56, 60, 61, 63, 64, 69, 71, 12345};
    char name[17] = "";
    int value = -1;
    for (size_t i = 0; i < COUNT(options); i++) {
        errno = 0;
        long result = prctl(options[i], 0, 0, 0, 0);
        printf("prctl(%d) = %ld errno %d\n", options[i], result, errno);
    }
    SHOW(prctl(PR_SET_NAME, "a name that is far too long"));
    SHOW(prctl(PR_GET_NAME, name));
    puts(name);
    SHOW(prctl(PR_SET_NAME, 16));
    SHOW(prctl(PR_SET_PDEATHSIG, 10));
    SHOW(prctl(PR_GET_PDEATHSIG, &value));
    printf("%d\n", value);
    SHOW(prctl(PR_SET_PDEATHSIG, 65));
    SHOW(prctl(PR_SET_DUMPABLE, 2));
    SHOW(prctl(PR_SET_DUMPABLE, 0));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_SET_TIMERSLACK, 7));
    SHOW(prctl(PR_GET_TIMERSLACK));
    SHOW(prctl(PR_SET_TIMERSLACK, 0));
    SHOW(prctl(PR_GET_TIMERSLACK));
    SHOW(prctl(PR_SET_KEEPCAPS, 2));
    SHOW(prctl(PR_SET_KEEPCAPS, 1));
    SHOW(prctl(PR_GET_KEEPCAPS));
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 1));
    SHOW(prctl(PR_GET_CHILD_SUBREAPER, &value));
    printf("%d\n", value);
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 1));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(prctl(PR_CAPBSET_READ, 41));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 41, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, 9, 0, 0, 0));
    return 0;
}
