// guest: cflags=-pthread
/* futex(2) by hand: wait, wake, bitsets, requeue, wake_op, timeouts, shared and private, errors. */
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

static uint32_t one, two;
static int woken;

static long futex(void *address, int op, uint32_t val, const void *timeout, void *second, uint32_t val3)
{
    return syscall(SYS_futex, address, op, val, timeout, second, val3);
}

static void *sleeper(void *bits)
{
    uint32_t mask = (uint32_t)(uintptr_t)bits;
    long result = mask ? futex(&one, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, mask)
                       : futex(&one, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
    __atomic_add_fetch(&woken, result == 0 ? 1 : 100, __ATOMIC_SEQ_CST);
    return NULL;
}

static int tasks_sleeping(void)
{
    int sleeping = 0;
    char path[80], text[300];
    for (int tid = getpid() + 1; tid < getpid() + 400 && sleeping < 20; tid++) {
        sprintf(path, "/proc/self/task/%d/stat", tid);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        ssize_t n = read(fd, text, sizeof(text) - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        char *end = strrchr(text, ')');
        sleeping += end && end[2] == 'S';
    }
    return sleeping;
}

static void start(pthread_t *threads, int count, uint32_t bits)
{
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, sleeper, (void *)(uintptr_t)(bits << (bits ? i : 0)));
    usleep(60000);
}

static void finish(pthread_t *threads, int count)
{
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("woken %d\n", woken);
    woken = 0;
}

int main(void)
{
    pthread_t threads[6];
    struct timespec none = {0, 0}, some = {0, 20000000}, bad = {0, 1000000000}, negative = {-1, 0}, now;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("-- errors\n");
    SHOW(futex(&one, FUTEX_WAIT, 1, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_WAIT, 0, &none, NULL, 0));
    SHOW(futex(&one, FUTEX_WAIT, 0, &some, NULL, 0));
    SHOW(futex(&one, FUTEX_WAIT, 0, &bad, NULL, 0));
    SHOW(futex(&one, FUTEX_WAIT, 0, &negative, NULL, 0));
    SHOW(futex(&one, FUTEX_WAIT, 0, (void *)8, NULL, 0));
    SHOW(futex((char *)&one + 1, FUTEX_WAIT, 0, NULL, NULL, 0));
    SHOW(futex((void *)8, FUTEX_WAIT, 0, NULL, NULL, 0));
    SHOW(futex((void *)8, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    SHOW(futex((void *)8, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(&one, 99, 0, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_CMP_REQUEUE, 1, (void *)1, &two, 5));
    SHOW(futex(&one, FUTEX_REQUEUE, 1, (void *)1, (char *)&two + 2, 0));
    SHOW(futex(&one, FUTEX_REQUEUE, -1, (void *)1, &two, 0));
    clock_gettime(CLOCK_MONOTONIC, &now);
    SHOW(futex(&one, FUTEX_WAIT_BITSET, 0, &now, NULL, ~0u));
    SHOW(futex(&one, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &now, NULL, ~0u));
    SHOW(futex(&one, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));

    printf("-- wake\n");
    start(threads, 5, 0);
    SHOW(futex(&one, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 2, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    finish(threads, 5);

    printf("-- bitsets\n");
    start(threads, 5, 1);
    SHOW(futex(&one, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0x12));
    SHOW(futex(&one, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0x60));
    SHOW(futex(&one, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, ~0u));
    SHOW(futex(&one, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0));
    finish(threads, 5);

    printf("-- requeue\n");
    start(threads, 6, 0);
    SHOW(futex(&one, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)3, &two, 0));
    SHOW(futex(&two, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    SHOW(futex(&one, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 0, (void *)1, &two, 0));
    SHOW(futex(&one, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0));
    SHOW(futex(&two, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0));
    finish(threads, 6);

    printf("-- wake_op\n");
    static const struct {
        int op, oparg, cmp, cmparg;
    } ops[] = {{FUTEX_OP_SET, 5, FUTEX_OP_CMP_EQ, 12}, {FUTEX_OP_ADD, 7, FUTEX_OP_CMP_LT, 13}, {FUTEX_OP_OR, 3, FUTEX_OP_CMP_GE, 13},
               {FUTEX_OP_ANDN, 4, FUTEX_OP_CMP_NE, 12}, {FUTEX_OP_XOR, 15, FUTEX_OP_CMP_LE, 11},
               {FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 9, FUTEX_OP_CMP_GT, 11}, {FUTEX_OP_ADD, 0xfff, FUTEX_OP_CMP_EQ, 12}};
    for (size_t i = 0; i < COUNT(ops); i++) {
        start(threads, 2, 0);
        two = 12;
        long n = futex(&two, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, (void *)1, &one, 0);
        n = futex(&two, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, (void *)1, &two,
                  FUTEX_OP(ops[i].op, ops[i].oparg, ops[i].cmp, ops[i].cmparg));
        printf("op %zu: %ld, two %d\n", i, n, (int)two);
        futex(&one, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
        finish(threads, 2);
        one = 0;
    }
    SHOW(futex(&one, FUTEX_WAKE_OP, 1, (void *)1, &two, FUTEX_OP(7, 1, 0, 0)));
    SHOW(futex(&one, FUTEX_WAKE_OP, 1, (void *)1, &two, FUTEX_OP(0, 1, 9, 0)));
    SHOW(futex(&one, FUTEX_WAKE_OP, 1, (void *)1, (void *)8, 0));

    printf("-- between processes\n");
    int fd = make_file("shared", 2 * PAGE), status;
    uint32_t *mine = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint32_t *again = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
    mine[1024] = mine[1025] = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        mine[1025] = 1;
        while (mine[1024] == 0)
            futex(&again[0], FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(mine[1024]);
    }
    while (!mine[1025])
        usleep(1000);
    usleep(60000);
    SHOW(futex(&mine[1024], FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0));
    mine[1024] = 9;
    SHOW(futex(&mine[1024], FUTEX_WAKE, 1, NULL, NULL, 0));
    CHECK(waitpid(pid, &status, 0) == pid && status == 9 << 8);
    return 0;
}
