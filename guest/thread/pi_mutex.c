// Mutexes with priority inheritance: errors, handing over, condition variables, owners that die.
// guest: machines=4level
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>

static pthread_mutex_t first, second;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static int counter, turn, woken;

static void make(pthread_mutex_t *mutex, int type, int robust)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setrobust(&attributes, robust);
    SHOW(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
    SHOW(pthread_mutex_init(mutex, &attributes));
}

static void *count(void *unused)
{
    for (int i = 0; i < 300; i++) {
        pthread_mutex_lock(&first);
        int seen = counter;
        if (i % 50 == 0)
            sched_yield();
        counter = seen + 1;
        pthread_mutex_unlock(&first);
    }
    return unused;
}

static void *wait_for_turn(void *number)
{
    pthread_mutex_lock(&first);
    while (turn == 0)
        pthread_cond_wait(&ready, &first);
    woken++;
    pthread_mutex_unlock(&first);
    return number;
}

static void *die_with_it(void *unused)
{
    pthread_mutex_lock(&second);
    pthread_barrier_wait(&barrier);
    usleep(20000);
    return unused;
}

int main(void)
{
    pthread_t threads[4];
    struct timespec past = {1, 0};

    make(&first, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED);
    SHOW(pthread_mutex_lock(&first));
    SHOW(pthread_mutex_lock(&first));
    SHOW(pthread_mutex_trylock(&first));
    SHOW(pthread_mutex_unlock(&first));
    SHOW(pthread_mutex_unlock(&first));

    make(&first, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, count, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    SHOW(counter);

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, wait_for_turn, NULL);
    usleep(20000);
    pthread_mutex_lock(&first);
    turn = 1;
    pthread_cond_broadcast(&ready);
    SHOW(woken);
    pthread_mutex_unlock(&first);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    SHOW(woken);

    make(&second, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&threads[0], NULL, die_with_it, NULL);
    pthread_barrier_wait(&barrier);
    SHOW(pthread_mutex_trylock(&second));
    SHOW(pthread_mutex_timedlock(&second, &past));
    SHOW(pthread_mutex_lock(&second));
    SHOW(pthread_mutex_consistent(&second));
    SHOW(pthread_mutex_unlock(&second));
    SHOW(pthread_mutex_lock(&second));
    SHOW(pthread_mutex_unlock(&second));
    pthread_join(threads[0], NULL);

    return 0;
}
