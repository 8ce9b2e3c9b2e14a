// brk(2): grows, shrinks, is zero again when it comes back, and answers with the old end when it cannot.
#include "guest.h"

int main(void)
{
    catch_faults(0);
    char *start = (char *)syscall(SYS_brk, 0);
    start = (char *)(((unsigned long)start + PAGE - 1) & ~(PAGE - 1));
    CHECK((char *)syscall(SYS_brk, start) == start);
    CHECK((char *)syscall(SYS_brk, start + 10 * PAGE + 5) == start + 10 * PAGE + 5);
    memset(start, 'b', 10 * PAGE + 5);
    SHOW_FAULT(start, peek(start + 11 * PAGE - 1));
    SHOW_FAULT(start, peek(start + 11 * PAGE));
    CHECK((char *)syscall(SYS_brk, start + 2 * PAGE) == start + 2 * PAGE);
    SHOW_FAULT(start, peek(start + 2 * PAGE));
    printf("%c\n", start[2 * PAGE - 1]);
    CHECK((char *)syscall(SYS_brk, start + 4 * PAGE) == start + 4 * PAGE);
    printf("%d\n", start[3 * PAGE]);
    CHECK((char *)syscall(SYS_brk, 1) == start + 4 * PAGE);
    CHECK((char *)syscall(SYS_brk, -1l) == start + 4 * PAGE);
    /* something in the way */
    char *wall = mmap(start + 20 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(wall == start + 20 * PAGE);
    CHECK((char *)syscall(SYS_brk, start + 30 * PAGE) == start + 4 * PAGE);
    CHECK((char *)syscall(SYS_brk, start + 10 * PAGE) == start + 10 * PAGE);
    struct rlimit limit = {1 << 20, RLIM_INFINITY};
    SHOW(setrlimit(RLIMIT_DATA, &limit));
    munmap(wall, PAGE);
    CHECK((char *)syscall(SYS_brk, start + (8 << 20)) == start + 10 * PAGE);
    return 0;
}
