// System V semaphores: what each call takes, the errno of what it does not, atomic operations, waiting, undo.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <time.h>

union arg {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};
static key_t key;
static int set;

static int op1(int number, int operation, int flags)
{
    struct sembuf op = {number, operation, flags};
    return semop(set, &op, 1);
}

static void values(const char *what)
{
    unsigned short all[3];
    if (semctl(set, 0, GETALL, (union arg){.array = all})) {
        printf("%s: errno %d\n", what, errno);
        return;
    }
    printf("%s: %d %d %d\n", what, all[0], all[1], all[2]);
}

static void getting(void)
{
    puts("-- semget");
    SHOW(semget(key, 3, 0600));
    SHOW(semget(key, 0, IPC_CREAT | 0600));
    SHOW(semget(key, -1, IPC_CREAT | 0600));
    SHOW(semget(key, 32001, IPC_CREAT | 0600));
    set = semget(key, 3, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(set >= 0);
    SHOW(semget(key, 3, IPC_CREAT | IPC_EXCL | 0640));
    CHECK(semget(key, 0, 0) == set && semget(key, 3, 0) == set);
    SHOW(semget(key, 4, 0));
    values("new");
    struct semid_ds ds;
    SHOW(semctl(set, 0, IPC_STAT, (union arg){.buf = &ds}));
    printf("%lu semaphores, mode %o, used %s\n", (unsigned long)ds.sem_nsems, ds.sem_perm.mode, ds.sem_otime ? "yes" : "no");
}

static void errors(void)
{
    puts("-- errors");
    struct sembuf op = {0, 1, 0};
    SHOW(semop(set, &op, 0));
    SHOW(semop(-1, &op, 1));
    SHOW(semop(set + 32768, &op, 1));
    SHOW(semop(set, &op, 501));
    SHOW(semop(set, (void *)8, 1));
    SHOW(op1(3, 1, 0));
    SHOW(op1(0, -1, IPC_NOWAIT));
    SHOW(semctl(set, 3, GETVAL));
    SHOW(semctl(set, -1, GETVAL));
    SHOW(semctl(set, 0, SETVAL, (union arg){.val = -1}));
    SHOW(semctl(set, 0, SETVAL, (union arg){.val = 32768}));
    SHOW(semctl(set, 3, SETVAL, (union arg){.val = 1}));
    SHOW(semctl(set, 0, 99));
    SHOW(semctl(-1, 0, GETVAL));
    SHOW(semctl(set, 0, GETALL, (union arg){.array = (void *)8}));
    unsigned short too_large[3] = {1, 40000, 1};
    SHOW(semctl(set, 0, SETALL, (union arg){.array = too_large}));
    struct timespec bad = {0, 1000000000};
    SHOW(semtimedop(set, &op, 1, &bad));
    values("nothing has changed");
}

static void operating(void)
{
    puts("-- semop");
    SHOW(op1(0, 5, 0));
    SHOW(op1(0, 32763, 0));
    CHECK(semctl(set, 0, GETPID) == getpid());
    SHOW(semctl(set, 1, GETPID));
    struct sembuf some[] = {{0, -3, 0}, {1, 2, 0}, {0, -3, IPC_NOWAIT}};
    SHOW(semop(set, some, 3));
    values("all or nothing");
    struct sembuf twice[] = {{0, -2, 0}, {0, -2, 0}, {1, 1, 0}, {1, 0, IPC_NOWAIT}};
    SHOW(semop(set, twice, 4));
    SHOW(semop(set, twice, 3));
    values("in a row");
    SHOW(op1(2, 0, 0));
    unsigned short all[3] = {7, 8, 9};
    SHOW(semctl(set, 0, SETALL, (union arg){.array = all}));
    SHOW(semctl(set, 1, SETVAL, (union arg){.val = 0}));
    values("set");
    SHOW(semctl(set, 2, GETVAL));
    struct timespec soon = {0, 10000000};
    struct sembuf wait = {1, -1, 0};
    SHOW(semtimedop(set, &wait, 1, &soon));
}

static void counts(const char *what, int number)
{
    printf("%s: %d wait for more, %d for zero\n", what, semctl(set, number, GETNCNT), semctl(set, number, GETZCNT));
}

static void waiting(void)
{
    puts("-- waiting");
    unsigned short all[3] = {0, 0, 1};
    semctl(set, 0, SETALL, (union arg){.array = all});
    fflush(stdout);
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        if (!(pids[i] = fork())) {
            struct sembuf needs[3][2] = {{{0, -2, 0}, {1, 1, 0}}, {{0, -1, 0}, {1, 1, 0}}, {{2, 0, 0}, {1, 1, 0}}};
            int result = semop(set, needs[i], 2);
            _exit(result ? errno : 0);
        }
    for (int i = 0; i < 2000 && semctl(set, 0, GETNCNT) + semctl(set, 2, GETZCNT) < 3; i++)
        usleep(1000);
    counts("semaphore 0", 0);
    counts("semaphore 2", 2);
    SHOW(op1(0, 1, 0));
    values("one was enough for the second");
    SHOW(op1(2, -1, 0));
    values("zero");
    SHOW(op1(0, 1, 0));
    values("not enough for the first");
    SHOW(op1(0, 1, 0));
    values("enough");
    for (int i = 0; i < 3; i++) {
        int status;
        waitpid(pids[i], &status, 0);
        printf("%d ", WEXITSTATUS(status));
    }
    puts("");
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void undoing(void)
{
    puts("-- undo");
    unsigned short all[3] = {5, 0, 0};
    semctl(set, 0, SETALL, (union arg){.array = all});
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        op1(0, -3, SEM_UNDO);
        op1(1, 4, SEM_UNDO);
        op1(1, -1, 0);
        op1(2, 2, 0);
        values("  the child");
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    values("taken back, but not below zero");
    CHECK(semctl(set, 0, GETPID) == pid);
    fflush(stdout);
    if (!(pid = fork())) {
        op1(0, -3, SEM_UNDO);
        semctl(set, 0, SETVAL, (union arg){.val = 1});
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    values("SETVAL forgets");
    SHOW(op1(0, 32767 - semctl(set, 0, GETVAL), SEM_UNDO));
    SHOW(op1(0, -32767, SEM_UNDO));
    SHOW(op1(0, 32767, SEM_UNDO));
    values("limits");
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0);
    SHOW(op1(1, -100, 0));
    fflush(stdout);
    if (!(pid = fork())) {
        int result = op1(1, -100, SEM_UNDO);
        printf("  removed: %d errno %d\n", result, errno);
        fflush(stdout);
        _exit(0);
    }
    for (int i = 0; i < 2000 && !semctl(set, 1, GETNCNT); i++)
        usleep(1000);
    SHOW(semctl(set, 0, IPC_RMID));
    waitpid(pid, NULL, 0);
    SHOW(semctl(set, 0, IPC_RMID));
    SHOW(op1(0, 1, 0));
}

int main(void)
{
    key = ftok("/proc/self/exe", 's') ^ getpid() << 8;
    getting();
    errors();
    operating();
    waiting();
    undoing();
    return 0;
}
