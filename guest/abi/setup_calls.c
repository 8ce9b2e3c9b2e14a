// Calls by which a thread sets itself up, and those that answer for the machine: numbers and errors, raw.
// guest: variants=static machines=4level
#include "guest.h"

#define CALL(...) SHOW(syscall(__VA_ARGS__))

int main(void)
{
    static char area[64] __attribute__((aligned(64)));
    void *bad = (void *)16, *good = map_pages(2, PROT_READ | PROT_WRITE);
    CALL(SYS_set_robust_list, good, 23);
    CALL(SYS_set_robust_list, good, 3 * sizeof(long));
    CALL(SYS_get_robust_list, 0, bad, good);
    CALL(SYS_get_robust_list, 0x7fffffff, good, good);
    CALL(SYS_rseq, area, 31, 0, 1);
    CALL(SYS_rseq, area + 8, 32, 0, 1);
    CALL(SYS_rseq, area, 32, 2, 1);
    CALL(SYS_rseq, area, 32, 1, 1);
    CALL(SYS_membarrier, 0, 1, 0);
    CALL(SYS_membarrier, 8, 0, 0);
    CALL(SYS_membarrier, 16, 0, 0);
    CALL(SYS_membarrier, 8, 0, 0);
    CALL(SYS_membarrier, 512, 0, 0);
    CALL(SYS_membarrier, 3, 0, 0);
    CALL(SYS_getcpu, NULL, NULL, NULL);
    CALL(SYS_getcpu, bad, NULL, NULL);
    CALL(SYS_arch_prctl, 77, good);
    CALL(SYS_arch_prctl, 0x1011, 0);
    CALL(SYS_arch_prctl, 0x3001, good);
    CALL(SYS_modify_ldt, 0, good, 100);
    CALL(SYS_modify_ldt, 2, good, 100);
    CALL(SYS_getrandom, good, 10, 8);
    CALL(SYS_getrandom, good, 10, 6);
    CALL(SYS_getrandom, bad, 10, 0);
    CALL(SYS_getrandom, bad, 0, 0);
    CALL(SYS_getrandom, (char *)good + 2 * PAGE - 5, 10, 0);
    CALL(SYS_personality, 0xffffffff);
    CALL(SYS_sysinfo, bad);
    CALL(SYS_uname, bad);
    CALL(SYS_times, bad);
    CALL(SYS_syslog, 99, 0, 0);
    CALL(SYS_iopl, 0);
    CALL(SYS_ioperm, 0, 1, 0);
    CALL(SYS_uselib, 0);
    CALL(SYS__sysctl, 0);
    CALL(9999, 0);
    CALL(-1, 0);
    CALL(SYS_pkey_alloc, 0, 8);
    CALL(SYS_pkey_mprotect, good, PAGE, PROT_READ, -1);
    CALL(SYS_remap_file_pages, good, PAGE, 0, 0, 0);
    return 0;
}
