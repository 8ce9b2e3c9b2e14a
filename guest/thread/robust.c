// guest: cflags=-pthread machines=4level
/* Robust mutexes: whoever dies with one leaves word of it, a thread or a process; and the raw list. */
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/wait.h>

struct node {
    struct robust_list list;
    uint32_t word;
};

static pthread_mutex_t *lock;
static struct robust_list_head head;
static struct node nodes[4];

static void *die_holding(void *unused)
{
    pthread_mutex_lock(lock);
    return unused;
}

static void *die_with_list(void *how)
{
    head.list.next = &nodes[0].list;
    head.futex_offset = offsetof(struct node, word);
    for (int i = 0; i < 4; i++) {
        nodes[i].list.next = i < 3 ? &nodes[i + 1].list : &head.list;
        nodes[i].word = gettid();
    }
    nodes[1].word = 1; /* another's */
    nodes[2].word |= FUTEX_WAITERS;
    head.list_op_pending = NULL;
    if (how)
        nodes[0].list.next = (struct robust_list *)8; /* a list that leads nowhere */
    SHOW(syscall(SYS_set_robust_list, &head, sizeof(head)));
    syscall(SYS_exit, 0);
    return NULL;
}

static void show_words(void)
{
    for (int i = 0; i < 4; i++)
        printf("%d:%s%s%s ", i, nodes[i].word & FUTEX_OWNER_DIED ? " died" : "", nodes[i].word & FUTEX_WAITERS ? " waiters" : "",
               nodes[i].word & FUTEX_TID_MASK ? " owned" : "");
    printf("\n");
}

static void use(const char *when)
{
    int result = pthread_mutex_lock(lock);
    printf("%s: lock %d", when, result);
    if (result == EOWNERDEAD)
        printf(", consistent %d", pthread_mutex_consistent(lock));
    printf(", unlock %d\n", pthread_mutex_unlock(lock));
}

int main(void)
{
    pthread_mutexattr_t attr;
    pthread_t thread;
    int status;
    void *address;
    size_t size;
    setvbuf(stdout, NULL, _IOLBF, 0);
    lock = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(lock, &attr);
    use("new");
    pthread_create(&thread, NULL, die_holding, NULL);
    pthread_join(thread, NULL);
    use("after a thread");
    for (int how = 0; how < 3; how++) {
        pid_t pid = fork();
        if (pid == 0) {
            char *args[] = {"true", NULL};
            pthread_mutex_lock(lock);
            if (how == 1)
                raise(SIGKILL);
            if (how == 2)
                execv("/bin/true", args);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        use(how == 0 ? "after an exit" : how == 1 ? "after SIGKILL" : "after exec");
    }
    /* One waits already when the owner dies. */
    pid_t pid = fork();
    if (pid == 0) {
        pthread_mutex_lock(lock);
        usleep(100000);
        raise(SIGKILL);
    }
    usleep(30000);
    use("waiting for the dying");
    waitpid(pid, &status, 0);
    pthread_create(&thread, NULL, die_holding, NULL);
    pthread_join(thread, NULL);
    pthread_mutex_lock(lock);
    SHOW(pthread_mutex_unlock(lock));
    SHOW(pthread_mutex_lock(lock));

    printf("-- the raw list\n");
    for (long how = 0; how < 2; how++) {
        pthread_create(&thread, NULL, die_with_list, (void *)how);
        usleep(60000);
        show_words();
    }
    SHOW(syscall(SYS_set_robust_list, &head, sizeof(head) - 1));
    SHOW(syscall(SYS_get_robust_list, 0, &address, &size));
    CHECK(size == sizeof(head) && address);
    SHOW(syscall(SYS_get_robust_list, 1 << 30, &address, &size));
    SHOW(syscall(SYS_get_robust_list, 0, (void *)8, &size));
    return 0;
}
