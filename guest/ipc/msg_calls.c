// System V message queues: what each call takes, the errno of what it does not, order, types, waiting, removal.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/wait.h>

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif

struct text {
    long type;
    char data[9000];
};
static struct text message;
static key_t key;
static int queue;

static long send(int id, long type, const char *text, int flags)
{
    message.type = type;
    strcpy(message.data, text);
    return msgsnd(id, &message, strlen(text), flags);
}

static void receive(const char *what, int id, size_t size, long type, int flags)
{
    memset(&message, 0, sizeof message);
    ssize_t n = msgrcv(id, &message, size, type, flags);
    if (n < 0)
        printf("%s: errno %d\n", what, errno);
    else
        printf("%s: %zd bytes of type %ld: %.*s\n", what, n, message.type, (int)n, message.data);
}

static void status(const char *what)
{
    struct msqid_ds ds;
    if (msgctl(queue, IPC_STAT, &ds)) {
        printf("%s: errno %d\n", what, errno);
        return;
    }
    printf("%s: %lu messages, %lu bytes of %lu, mode %o, sent %s, received %s, by %s and %s\n", what,
           (unsigned long)ds.msg_qnum, (unsigned long)ds.__msg_cbytes, (unsigned long)ds.msg_qbytes, ds.msg_perm.mode,
           ds.msg_stime ? "yes" : "no", ds.msg_rtime ? "yes" : "no",
           ds.msg_lspid == getpid() ? "us" : ds.msg_lspid ? "another" : "nobody",
           ds.msg_lrpid == getpid() ? "us" : ds.msg_lrpid ? "another" : "nobody");
}

static void getting(void)
{
    puts("-- msgget");
    SHOW(msgget(key, 0600));
    queue = msgget(key, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(queue >= 0);
    SHOW(msgget(key, IPC_CREAT | IPC_EXCL | 0640));
    CHECK(msgget(key, 0) == queue);
    status("new");
    SHOW(msgctl(-1, IPC_STAT, NULL));
    if (sizeof(long) == 8) // on i386 the library looks there itself
        printf("nowhere: %d %d\n", msgctl(queue, IPC_STAT, (void *)8), errno);
    SHOW(msgctl(queue, 99, NULL));
    SHOW(msgctl(queue + 32768, IPC_RMID, NULL));
}

static void errors(void)
{
    puts("-- errors");
    SHOW(send(queue, 0, "x", 0));
    SHOW(send(queue, -1, "x", 0));
    SHOW(send(-1, 1, "x", 0));
    SHOW(send(queue + 32768, 1, "x", 0));
    SHOW(msgsnd(queue, &message, 8193, 0));
    SHOW(msgsnd(queue, &message, -1, 0));
    SHOW(msgsnd(queue, (void *)8, 1, 0));
    receive("no such", queue + 32768, 1, 0, IPC_NOWAIT);
    receive("size -1", queue, -1, 0, IPC_NOWAIT);
    receive("empty", queue, 100, 0, IPC_NOWAIT);
    receive("copy without nowait", queue, 100, 0, MSG_COPY);
    receive("copy and except", queue, 100, 0, MSG_COPY | MSG_EXCEPT | IPC_NOWAIT);
}

static void order(void)
{
    puts("-- order");
    SHOW(send(queue, 5, "five", 0));
    SHOW(send(queue, 3, "three", 0));
    SHOW(send(queue, 4, "four", 0));
    SHOW(send(queue, 3, "three again", 0));
    SHOW(send(queue, 9, "", 0));
    status("five of them");
    receive("too small", queue, 3, 0, 0);
    receive("type 7", queue, 100, 7, IPC_NOWAIT);
    receive("type 4", queue, 100, 4, 0);
    receive("at most 4", queue, 100, -4, 0);
    receive("at most 2", queue, 100, -2, IPC_NOWAIT);
    receive("all but 5", queue, 100, 5, MSG_EXCEPT);
    receive("cut", queue, 2, 0, MSG_NOERROR);
    receive("empty one", queue, 100, 0, 0);
    status("none left");
}

static void full(void)
{
    puts("-- full");
    static char big[8193];
    memset(big, 'x', 8192);
    SHOW(send(queue, 1, big, 0));
    SHOW(send(queue, 1, big, 0));
    SHOW(send(queue, 1, "one more", IPC_NOWAIT));
    SHOW(send(queue, 1, "", 0));
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        _exit(send(queue, 2, "waited", 0) ? errno : 0);
    }
    usleep(20000);
    ssize_t n = msgrcv(queue, &message, 9000, 0, 0);
    int status_of_child;
    waitpid(pid, &status_of_child, 0);
    printf("%zd bytes, the sender goes on: %d\n", n, WEXITSTATUS(status_of_child));
    receive("what had waited", queue, 9000, 2, 0);
    struct msqid_ds ds;
    msgctl(queue, IPC_STAT, &ds);
    ds.msg_qbytes = 100;
    ds.msg_perm.mode = 0600;
    SHOW(msgctl(queue, IPC_SET, &ds));
    status("smaller");
    while (msgrcv(queue, &message, 9000, 0, IPC_NOWAIT) >= 0) {
    }
    memset(big, 0, sizeof big);
    memset(big, 'y', 101);
    SHOW(send(queue, 1, big, IPC_NOWAIT));
    big[100] = 0;
    SHOW(send(queue, 1, big, IPC_NOWAIT));
    receive("it fits", queue, 200, 0, IPC_NOWAIT);
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void waiting(void)
{
    puts("-- waiting");
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        receive("  type 2", queue, 100, 2, 0);
        receive("  too long", queue, 2, 0, 0);
        receive("  any", queue, 100, 0, 0);
        receive("  removed", queue, 100, 0, 0);
        fflush(stdout);
        _exit(0);
    }
    usleep(20000);
    SHOW(send(queue, 1, "one", 0));
    SHOW(send(queue, 2, "two", 0));
    usleep(20000);
    usleep(20000);
    status("somebody waits");
    signal(SIGALRM, SIG_DFL);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0);
    receive("a signal", queue, 100, 77, 0);
    SHOW(send(queue, 4, "last", 0));
    usleep(20000);
    SHOW(msgctl(queue, IPC_RMID, NULL));
    waitpid(pid, NULL, 0);
    SHOW(msgctl(queue, IPC_RMID, NULL));
    SHOW(send(queue, 1, "x", 0));
    SHOW(msgget(key, 0));
}

int main(void)
{
    key = ftok("/proc/self/exe", 'm') ^ getpid() << 8;
    getting();
    errors();
    order();
    full();
    waiting();
    return 0;
}
