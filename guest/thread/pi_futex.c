// The operations of futex(2) with priority inheritance, by hand: what is in the word, and who is refused.
// guest: machines=4level
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>

#define LOCK_PI2 13
static uint32_t word, cond, other;
static volatile uint32_t owner;

static long futex(void *address, int op, uint32_t val, void *timeout, void *second, uint32_t val3)
{
    return syscall(SYS_futex, address, op, val, timeout, second, val3);
}

static void show_word(const char *when)
{
    uint32_t tid = word & FUTEX_TID_MASK;
    const char *whose = tid == 0 ? "nobody" : tid == (uint32_t)getpid() ? "main" : tid == owner ? "thread" : "?";
    printf("%s: %s%s%s\n", when, whose, word & FUTEX_WAITERS ? " +waiters" : "", word & FUTEX_OWNER_DIED ? " +died" : "");
}

static void *lock_and_keep(void *unused)
{
    owner = gettid();
    futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    usleep(30000);
    return unused;
}

static void *lock_late(void *unused)
{
    owner = gettid();
    long result = futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    usleep(20000); // main prints first
    SHOW(result);
    show_word("in the thread");
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    return unused;
}

static void *wait_requeue(void *timeout)
{
    owner = gettid();
    long result = futex(&cond, FUTEX_WAIT_REQUEUE_PI, 5, timeout, &word, 0);
    usleep(20000);
    SHOW(result);
    if ((word & FUTEX_TID_MASK) == owner)
        SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    return timeout;
}

static void *close_circle(void *unused)
{
    owner = gettid();
    futex(&other, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    futex(&other, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    return unused;
}

int main(void)
{
    pthread_t thread;
    struct timespec past = {1, 0};
    void *bad = (void *)16;

    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    show_word("locked");
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    show_word("unlocked");
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    SHOW(futex(&word, LOCK_PI2, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(bad, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex((char *)&word + 1, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, bad, NULL, 0));
    SHOW(futex(&word, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));
    word = 0x3ffffff0; // no thread has this number
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    word = FUTEX_OWNER_DIED;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    show_word("of a dead owner");
    word = getpid();

    pthread_create(&thread, NULL, lock_late, NULL);
    usleep(30000);
    show_word("somebody waits");
    SHOW(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    pthread_join(thread, NULL);
    show_word("after both");

    pthread_create(&thread, NULL, lock_and_keep, NULL);
    usleep(10000);
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    show_word("tried");
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, &past, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    show_word("the owner died");
    pthread_join(thread, NULL);

    cond = 5;
    word = 0;
    SHOW(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 4, NULL, &word, 0));
    SHOW(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 5, NULL, &cond, 0));
    SHOW(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 5, &past, &word, 0));
    SHOW(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, NULL, &word, 4));
    SHOW(futex(&cond, FUTEX_CMP_REQUEUE_PI, 2, NULL, &word, 5));
    SHOW(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, NULL, &word, 5));
    pthread_create(&thread, NULL, wait_requeue, NULL);
    usleep(20000);
    SHOW(futex(&cond, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(&cond, FUTEX_REQUEUE, 1, (void *)1, &word, 0));
    SHOW(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &other, 5));
    SHOW(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)0, &word, 5));
    pthread_join(thread, NULL);
    show_word("requeued to a free lock");
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    pthread_create(&thread, NULL, wait_requeue, NULL);
    usleep(20000);
    SHOW(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, (void *)5, &word, 5));
    show_word("requeued to a lock that is taken");
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    pthread_join(thread, NULL);
    show_word("the end");

    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    pthread_create(&thread, NULL, close_circle, NULL);
    usleep(20000);
    SHOW(futex(&other, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    pthread_join(thread, NULL);
    CHECK(word == 0 && other == 0);
    return 0;
}
