// guest: cflags=-pthread
/* How threads and their process end: the leader first, exit_group from a thread, fatal signals, exec from a thread. */
#include "guest.h"
#include <pthread.h>
#include <sys/wait.h>

static char self[PATH_MAX];
static pid_t leader;

static void *leave_later(void *unused)
{
    usleep(20000);
    printf("the last one\n");
    fflush(stdout);
    syscall(SYS_exit, 5);
    return unused;
}

static void *leave_all(void *unused)
{
    exit(6);
    return unused;
}

static void *crash(void *unused)
{
    kill(getpid(), SIGKILL);
    return unused;
}

static void *forever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void *spin(void *unused)
{
    for (;;)
        ;
    return unused;
}

static void *become(void *unused)
{
    char pid[20], *args[] = {"exits", pid, NULL};
    sprintf(pid, "%d", leader);
    execv(self, args);
    return unused;
}

static void start(void *(*what)(void *))
{
    pthread_t thread;
    pthread_create(&thread, NULL, what, NULL);
}

static void thread_dies_alone(void)
{
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, leave_later, NULL);
    printf("joined: %d\n", pthread_join(thread, &result));
    exit(1);
}

static void leader_first(void)
{
    start(leave_later);
    syscall(SYS_exit, 3);
}

static void leader_pthread_exit(void)
{
    start(leave_all);
    pthread_exit(NULL);
}

static void all_at_once(void)
{
    for (int i = 0; i < 5; i++)
        start(i & 1 ? forever : spin);
    start(leave_all);
    forever(NULL);
}

static void killed(void)
{
    start(spin);
    start(crash);
    forever(NULL);
}

static void exec_from_thread(void)
{
    leader = getpid();
    start(forever);
    start(spin);
    start(become);
    forever(NULL);
}

static void exec_from_leader(void)
{
    leader = getpid();
    start(forever);
    start(spin);
    become(NULL);
}

static void fork_in_thread(void)
{
    pid_t pid;
    int status;
    start(forever);
    if ((pid = fork()) == 0) {
        CHECK(gettid() == getpid());
        fflush(stdout);
        _exit(2);
    }
    waitpid(pid, &status, 0);
    _exit(WEXITSTATUS(status) + 1);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {{"a thread", thread_dies_alone}, {"the leader first", leader_first}, {"pthread_exit", leader_pthread_exit},
                 {"exit from a thread", all_at_once}, {"SIGKILL from a thread", killed},
                 {"exec from a thread", exec_from_thread}, {"exec from the leader", exec_from_leader},
                 {"fork", fork_in_thread}};
    if (argc > 1) {
        CHECK(getpid() == atoi(argv[1]) && gettid() == getpid());
        int tasks = 0;
        char path[60];
        for (int tid = getpid(); tid < getpid() + 10; tid++) {
            sprintf(path, "/proc/self/task/%d", tid);
            tasks += access(path, F_OK) == 0;
        }
        SHOW(tasks);
        fflush(stdout);
        syscall(SYS_exit, 8);
    }
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return 99;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int status;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0)
            cases[i].run();
        siginfo_t info;
        waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
        CHECK(waitpid(pid, &status, 0) == pid);
        printf("%s: status %#x code %d %d\n", cases[i].name, status, info.si_code, info.si_status);
    }
    return 0;
}
