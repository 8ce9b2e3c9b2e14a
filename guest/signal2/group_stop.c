// guest: libs=-lpthread
// A stop is for all threads, and any thread may get the signal; SIGKILL ends stopped ones.
#include "guest.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

static volatile long *work;
static volatile int *phase;

static void *worker(void *arg)
{
    long number = (long)arg;
    for (;;) {
        work[number]++;
        if (number >= 2)
            usleep(1000);
    }
    return NULL;
}

static int moving(void)
{
    long before[4];
    int count = 0;
    for (int i = 0; i < 4; i++)
        before[i] = work[i];
    usleep(60000);
    for (int i = 0; i < 4; i++)
        count += work[i] != before[i];
    return count;
}

static void say(int status)
{
    if (WIFSTOPPED(status))
        printf("stopped by %d\n", WSTOPSIG(status));
    else if (WIFCONTINUED(status))
        printf("continued\n");
    else if (WIFSIGNALED(status))
        printf("killed by %d\n", WTERMSIG(status));
}

int main(void)
{
    int status;
    work = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    setpgid(0, 0);
    pid_t pid = fork();
    if (!pid) {
        pthread_t thread;
        setpgid(0, 0);
        for (long i = 1; i < 4; i++)
            pthread_create(&thread, NULL, worker, (void *)i);
        worker((void *)0);
    }
    usleep(20000);
    SHOW(moving());
    for (int i = 0; i < 3; i++) {
        kill(pid, i == 1 ? SIGTSTP : SIGSTOP);
        SHOW(waitpid(pid, &status, WUNTRACED) == pid);
        say(status);
        SHOW(moving());
        kill(pid, SIGCONT);
        SHOW(waitpid(pid, &status, WCONTINUED) == pid);
        say(status);
        SHOW(moving());
    }
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGKILL);
    SHOW(waitpid(pid, &status, 0) == pid);
    say(status);
    SHOW(moving());
    return 0;
}
