// guest: cflags=-pthread
/* Signals and threads: whose mask, whose queue, who takes what is for the process, sigwait, tgkill, tkill. */
#include "guest.h"
#include <pthread.h>
#include <sys/wait.h>

static pthread_barrier_t ready;
static volatile int main_tid, worker_tid, handled_by[65], value_of;

static void handler(int sig, siginfo_t *info, void *context)
{
    handled_by[sig] = gettid();
    value_of = info->si_value.sival_int;
}

static const char *who(int tid)
{
    return tid == main_tid ? "main" : tid == worker_tid ? "worker" : tid ? "?" : "nobody";
}

static void *worker(void *unused)
{
    sigset_t set, pending;
    siginfo_t info;
    int sig;
    worker_tid = gettid();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGUSR2) && sigismember(&pending, SIGRTMIN) && !sigismember(&pending, SIGUSR1));
    CHECK(sigwait(&set, &sig) == 0);
    SHOW(sig);
    for (int i = 0; i < 3; i++) {
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN);
        printf("value %d code %d\n", info.si_value.sival_int, info.si_code);
    }
    struct timespec none = {0, 0}, some = {0, 10000000};
    SHOW(sigtimedwait(&set, &info, &none));
    SHOW(sigtimedwait(&set, &info, &some));
    pthread_barrier_wait(&ready);
    while (!handled_by[SIGHUP])
        sigsuspend(&(sigset_t){0});
    pthread_barrier_wait(&ready);
    return unused;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    pthread_t thread;
    sigset_t set, all, old;
    setvbuf(stdout, NULL, _IOLBF, 0);
    main_tid = gettid();
    for (int i = 0; i < 5; i++)
        sigaction((int[]){SIGUSR1, SIGUSR2, SIGRTMIN, SIGHUP, SIGTERM}[i], &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&thread, NULL, worker, NULL);
    pthread_barrier_wait(&ready);
    printf("-- to a thread\n");
    SHOW(syscall(SYS_tgkill, getpid(), main_tid, SIGUSR1));
    printf("handled by %s\n", who(handled_by[SIGUSR1]));
    SHOW(syscall(SYS_tkill, main_tid, SIGTERM));
    printf("handled by %s\n", who(handled_by[SIGTERM]));
    SHOW(pthread_kill(thread, 0));
    SHOW(pthread_kill(thread, SIGUSR2));
    union sigval value = {.sival_int = 5};
    SHOW(pthread_sigqueue(thread, SIGRTMIN, value));
    value.sival_int = 6;
    SHOW(pthread_sigqueue(thread, SIGRTMIN, value));
    printf("-- to the process, all block it\n");
    value.sival_int = 7;
    SHOW(sigqueue(getpid(), SIGRTMIN, value));
    sigpending(&all);
    CHECK(!sigismember(&all, SIGUSR2) && sigismember(&all, SIGRTMIN));
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    printf("-- to the process, the worker takes it\n");
    SHOW(kill(getpid(), SIGHUP));
    pthread_barrier_wait(&ready);
    printf("handled by %s\n", who(handled_by[SIGHUP]));
    pthread_join(thread, NULL);
    printf("-- errors\n");
    SHOW(syscall(SYS_tgkill, getpid() + 1000000, main_tid, 0));
    SHOW(syscall(SYS_tgkill, 0, main_tid, 0));
    SHOW(syscall(SYS_tgkill, getpid(), 0, 0));
    SHOW(syscall(SYS_tkill, -1, 0));
    SHOW(syscall(SYS_tgkill, getpid(), main_tid, 65));
    SHOW(kill(getpid(), 65));
    pthread_sigmask(SIG_BLOCK, NULL, &old);
    CHECK(sigismember(&old, SIGHUP) && !sigismember(&old, SIGUSR1));
    SHOW(pthread_sigmask(77, &set, NULL));
    return 0;
}
