/* Something for each walk back and forth: threads and signals, processes that share pages, more memory than there is. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile unsigned total, alarms;

static void on_alarm(int sig)
{
    (void)sig;
    alarms++;
}

static void *add(void *argument)
{
    for (unsigned i = 0; i < 60; i++) {
        pthread_mutex_lock(&lock);
        total += (unsigned)(long)argument * i;
        pthread_mutex_unlock(&lock);
        if (i % 16 == 0)
            usleep(50);
    }
    return 0;
}

static void threads(void)
{
    pthread_t ids[3];
    struct itimerval every = {{0, 40}, {0, 40}}, never = {{0, 0}, {0, 0}};
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &every, 0);
    for (long i = 0; i < 3; i++)
        pthread_create(&ids[i], 0, add, (void *)(i + 1));
    for (int i = 0; i < 3; i++)
        pthread_join(ids[i], 0);
    setitimer(ITIMER_REAL, &never, 0);
    printf("%u\n", total);
}

static void processes(void)
{
    char *shared = malloc(20 * 4096);
    int ends[2], status;
    memset(shared, 1, 20 * 4096);
    pipe(ends);
    for (int i = 0; i < 4; i++)
        if (!fork()) {
            for (int page = i; page < 20; page += 3)
                shared[page * 4096 + i] = (char)i;
            write(ends[1], shared + i, 1);
            _exit(i);
        }
    for (int i = 0; i < 4; i++) {
        char byte;
        read(ends[0], &byte, 1);
        shared[i * 4096]++;
        wait(&status);
        total += (unsigned)status + (unsigned)byte;
    }
    printf("%u\n", total);
}

static void memory(void)
{
    enum { PAGES = 2500 };
    char *pages = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 2; round++)
        for (int page = 0; page < PAGES; page++)
            pages[page * 4096 + round] += (char)(page + pages[page * 4096]);
    for (int page = 0; page < PAGES; page++)
        total += (unsigned)pages[page * 4096 + 1];
    printf("%u\n", total);
}

int main(int argc, char **argv)
{
    puts("begin");
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "threads"))
        threads();
    if (argc > 1 && !strcmp(argv[1], "processes"))
        processes();
    if (argc > 1 && !strcmp(argv[1], "memory"))
        memory();
    return 0;
}
