// Memory runs out three times: the largest process dies each time, asleep or not, and the others go on.
//
// Natively it would take the machine's own memory, so there is no oracle: its output says itself what is right.
// guest: ram=16M oracle=none
#include "guest.h"
#include <sys/wait.h>

static pid_t hold(size_t mib, int adj, bool sleeps)
{
    int ready[2];
    pipe(ready);
    pid_t pid = fork();
    if (pid) {
        char byte;
        close(ready[1]);
        read(ready[0], &byte, 1);
        close(ready[0]);
        return pid;
    }
    close(ready[0]);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    dprintf(fd, "%d", adj);
    close(fd);
    char *memory = map_pages(mib * 256, PROT_READ | PROT_WRITE);
    memset(memory, 1, mib * 256 * PAGE);
    write(ready[1], "", 1);
    close(ready[1]);
    while (sleeps)
        pause();
    for (;;) {
        char *more = map_pages(64, PROT_READ | PROT_WRITE);
        memset(more, 2, 64 * PAGE);
    }
}

static void died(const char *what, pid_t pid, int options)
{
    int status = 0;
    pid_t got = waitpid(pid, &status, options);
    if (got != pid)
        printf("%s lives\n", what);
    else if (WIFSIGNALED(status))
        printf("%s was killed by signal %d\n", what, WTERMSIG(status));
    else
        printf("%s ended with %d\n", what, WEXITSTATUS(status));
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    pid_t small = hold(1, 0, true);
    pid_t sleeper = hold(4, 0, true);
    pid_t hog = hold(1, 0, false);
    died("the process that took all", hog, 0);
    died("the sleeper", sleeper, WNOHANG);

    /* Now the one that takes all says that it should not be the one, and one that sleeps says that it might. */
    pid_t offered = hold(3, 900, true);
    pid_t favoured = hold(1, -800, false);
    died("the sleeper that offered itself", offered, 0);
    kill(favoured, SIGKILL);
    waitpid(favoured, NULL, 0);
    died("the small one", small, WNOHANG);

    kill(sleeper, SIGTERM);
    died("the sleeper, by us", sleeper, 0);
    kill(small, SIGTERM);
    died("the small one, by us", small, 0);
    char *memory = map_pages(1280, PROT_READ | PROT_WRITE);
    memset(memory, 3, 1280 * PAGE);
    size_t sum = 0;
    for (size_t page = 0; page < 1280; page++)
        sum += memory[page * PAGE];
    printf("memory is back: %zu\n", sum);
    return 0;
}
