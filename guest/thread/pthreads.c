// guest: cflags=-pthread
/* What pthreads offers, in full: it all comes down to clone, futex and signals. */
#include "guest.h"
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static pthread_key_t key;
static sem_t sem;
static int counter, initialised, destroyed, serial, turn, readers, spun;
static __thread int local = 3;

static void initialise(void)
{
    initialised++;
}

static void destroy(void *value)
{
    __atomic_add_fetch(&destroyed, (int)(long)value, __ATOMIC_SEQ_CST);
}

static void *worker(void *number)
{
    long me = (long)number;
    pthread_once(&once, initialise);
    pthread_setspecific(key, number);
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
        pthread_spin_lock(&spin);
        spun++;
        pthread_spin_unlock(&spin);
        local += i % 2;
    }
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&lock);
    while (turn != me)
        pthread_cond_wait(&changed, &lock);
    printf("turn of %ld, local %d\n", me, local);
    turn++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_rwlock_rdlock(&rw);
    __atomic_add_fetch(&readers, 1, __ATOMIC_SEQ_CST);
    pthread_rwlock_unlock(&rw);
    sem_wait(&sem);
    return (void *)(me * me);
}

static void cleaned(void *what)
{
    printf("cleaned up %s\n", (const char *)what);
}

static void *forever(void *how)
{
    int old;
    pthread_cleanup_push(cleaned, "forever");
    if (how)
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    sem_post(&sem);
    for (;;)
        if (!how)
            sleep(1000);
    pthread_cleanup_pop(1);
    return NULL;
}

static void *exiting(void *unused)
{
    pthread_cleanup_push(cleaned, "exiting");
    pthread_exit((void *)77);
    pthread_cleanup_pop(0);
    return unused;
}

static void *detached(void *unused)
{
    sem_post(&sem);
    return unused;
}

int main(void)
{
    enum { N = 8 };
    pthread_t threads[N], one;
    pthread_attr_t attr;
    struct timespec soon;
    void *result;
    long sum = 0;
    size_t size;
    setvbuf(stdout, NULL, _IOLBF, 0);
    pthread_barrier_init(&barrier, NULL, N);
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    pthread_key_create(&key, destroy);
    sem_init(&sem, 0, 0);
    pthread_rwlock_wrlock(&rw);
    for (long i = 0; i < N; i++)
        pthread_create(&threads[i], NULL, worker, (void *)i);
    pthread_mutex_lock(&lock);
    while (turn != N)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    SHOW(readers);
    pthread_rwlock_unlock(&rw);
    for (int i = 0; i < N; i++)
        sem_post(&sem);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    SHOW(sum);
    SHOW(counter);
    SHOW(spun);
    SHOW(initialised);
    SHOW(destroyed);
    SHOW(serial);
    SHOW(readers);
    SHOW(local);

    for (long how = 0; how < 2; how++) {
        pthread_create(&one, NULL, forever, (void *)how);
        sem_wait(&sem);
        int cancelled = pthread_cancel(one);
        SHOW(pthread_join(one, &result));
        CHECK(cancelled == 0 && result == PTHREAD_CANCELED);
    }
    pthread_create(&one, NULL, exiting, NULL);
    pthread_join(one, &result);
    SHOW((long)result);
    SHOW(pthread_join(pthread_self(), NULL));

    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20000000;
    soon.tv_sec += soon.tv_nsec / 1000000000;
    soon.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    SHOW(pthread_cond_timedwait(&changed, &lock, &soon));
    SHOW(pthread_mutex_trylock(&lock));
    SHOW(pthread_mutex_timedlock(&lock, &soon));
    pthread_mutex_unlock(&lock);
    SHOW(sem_timedwait(&sem, &soon));
    SHOW(sem_trywait(&sem));

    pthread_mutexattr_t kinds;
    pthread_mutex_t checked, nested;
    pthread_mutexattr_init(&kinds);
    pthread_mutexattr_settype(&kinds, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checked, &kinds);
    pthread_mutexattr_settype(&kinds, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&nested, &kinds);
    SHOW(pthread_mutex_unlock(&checked));
    SHOW(pthread_mutex_lock(&checked));
    SHOW(pthread_mutex_lock(&checked));
    SHOW(pthread_mutex_lock(&nested));
    SHOW(pthread_mutex_lock(&nested));
    SHOW(pthread_mutex_unlock(&nested));
    SHOW(pthread_mutex_unlock(&nested));

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    SHOW(pthread_attr_setstacksize(&attr, 1 << 20));
    SHOW(pthread_attr_getstacksize(&attr, &size));
    SHOW(pthread_create(&one, &attr, detached, NULL));
    sem_wait(&sem);
    for (int i = 0; i < 200; i++) { /* one after the other: stacks are used again */
        pthread_create(&one, NULL, detached, NULL);
        pthread_join(one, NULL);
        sem_wait(&sem);
    }
    printf("done\n");
    return 0;
}
