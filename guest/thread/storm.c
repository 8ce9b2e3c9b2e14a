// Threads that count under a mutex while signals rain on them: every interleaving comes to the same sum.
// guest: cflags=-pthread
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

enum { THREADS = 3, ROUNDS = 400, SIGNALS = 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;
static atomic_int handled, ready;

static void on_signal(int sig)
{
    (void)sig;
    atomic_fetch_add(&handled, 1);
}

static void *count(void *step)
{
    atomic_fetch_add(&ready, 1);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        total += (long)step;
        pthread_mutex_unlock(&lock);
        if (i % 16 == 0)
            sched_yield();
    }
    return step;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, count, (void *)(i + 1)))
            return 1;
    while (atomic_load(&ready) < THREADS)
        sched_yield();
    for (int i = 0; i < SIGNALS; i++) {
        pthread_kill(pthread_self(), SIGUSR1);
        for (int j = 0; j < THREADS; j++)
            pthread_kill(threads[j], SIGUSR1); // its thread may be done: it has not been joined yet
        sched_yield();
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%ld, %s\n", total, atomic_load(&handled) >= SIGNALS ? "signals came" : "signals are missing");
    return 0;
}
