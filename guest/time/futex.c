// Futexes of one thread: errors, timeouts, and the operations that find nobody waiting.
// guest: variants=static machines=4level
#include "guest.h"
#include <linux/futex.h>
#include <time.h>

static uint32_t words[2] = {5, 6};

static long futex(void *address, int op, uint32_t val, void *timeout, void *second, uint32_t val3)
{
    return syscall(SYS_futex, address, op, val, timeout, second, val3);
}

int main(void)
{
    struct timespec little = {0, 1000}, wrong = {0, 1000000000};
    void *none = map_pages(1, PROT_NONE), *bad = (void *)16;
    SHOW(futex(words, FUTEX_WAIT, 4, NULL, NULL, 0));
    SHOW(futex(words, FUTEX_WAIT, 5, &little, NULL, 0));
    SHOW(futex(words, FUTEX_WAIT_PRIVATE, 5, &little, NULL, 0));
    SHOW(futex(words, FUTEX_WAIT, 5, &wrong, NULL, 0));
    SHOW(futex(words, FUTEX_WAIT, 5, bad, NULL, 0));
    SHOW(futex(words, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 5, &little, NULL, 0));
    SHOW(futex(words, FUTEX_WAIT_BITSET, 5, &little, NULL, 0));
    SHOW(futex(words, FUTEX_WAIT_BITSET, 5, &little, NULL, 1));
    SHOW(futex(words, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &little, NULL, 1));
    SHOW(futex((char *)words + 1, FUTEX_WAIT, 5, NULL, NULL, 0));
    SHOW(futex(none, FUTEX_WAIT_PRIVATE, 5, NULL, NULL, 0));
    SHOW(futex(none, FUTEX_WAIT, 5, NULL, NULL, 0));
    SHOW(futex(bad, FUTEX_WAIT, 5, NULL, NULL, 0));
    SHOW(futex(words, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(bad, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(bad, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    SHOW(futex((void *)-4096, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    SHOW(futex(words, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    SHOW(futex(words, FUTEX_REQUEUE, 1, (void *)1, words + 1, 0));
    SHOW(futex(words, FUTEX_REQUEUE, -1, (void *)1, words + 1, 0));
    SHOW(futex(words, FUTEX_CMP_REQUEUE, 1, (void *)1, words + 1, 9));
    SHOW(futex(words, FUTEX_CMP_REQUEUE, 1, (void *)1, words + 1, 5));
    SHOW(futex(words, FUTEX_WAKE_OP, 1, (void *)1, words + 1, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 6)));
    printf("%u %u\n", words[0], words[1]);
    SHOW(futex(words, FUTEX_WAKE_OP, 1, (void *)1, words + 1, FUTEX_OP(FUTEX_OP_OR | 8, 4, FUTEX_OP_CMP_GT, 0)));
    printf("%u %u\n", words[0], words[1]);
    SHOW(futex(words, FUTEX_WAKE_OP, 1, (void *)1, words + 1, 7u << 28));
    SHOW(futex(words, FUTEX_FD, 1, NULL, NULL, 0));
    SHOW(futex(words, 77, 1, NULL, NULL, 0));
    SHOW(syscall(449, words, 0, 0, NULL, 0));
    SHOW(syscall(449, NULL, 1, 0, NULL, 0));
    SHOW(syscall(449, words, 1, 1, NULL, 0));
    return 0;
}
