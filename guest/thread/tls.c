// guest: cflags=-pthread variants=static,dynamic
/* Thread-local storage: initial values, alignment, many threads, fork and signal handlers; the calls beneath. */
#include "guest.h"
#include <pthread.h>
#include <sys/wait.h>
#ifdef __x86_64__
#include <asm/prctl.h>
#else
#include <asm/ldt.h>
#endif

static __thread int zero, value = 42;
static __thread char text[100] = "initial";
static __thread int aligned __attribute__((aligned(256))) = 7;
static __thread int in_handler;

static void handler(int sig)
{
    in_handler = sig;
}

static void *thread(void *number)
{
    int me = (int)(long)number;
    long ok = zero == 0 && value == 42 && !strcmp(text, "initial") && aligned == 7 && (uintptr_t)&aligned % 256 == 0;
    zero = value = me;
    sprintf(text, "thread %d", me);
    for (int i = 0; i < 3; i++) {
        usleep(1000);
        ok = ok && zero == me && value == me && atoi(text + 7) == me;
    }
    pthread_kill(pthread_self(), SIGUSR1);
    ok = ok && in_handler == SIGUSR1;
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit(value == me && in_handler == SIGUSR1 ? 3 : 4);
    waitpid(pid, &status, 0);
    return (void *)(ok && WEXITSTATUS(status) == 3);
}

int main(void)
{
    pthread_t threads[10];
    void *result;
    int good = 0;
    signal(SIGUSR1, handler);
    for (long i = 0; i < 10; i++)
        pthread_create(&threads[i], NULL, thread, (void *)(i + 100));
    for (int i = 0; i < 10; i++) {
        pthread_join(threads[i], &result);
        good += result != NULL;
    }
    SHOW(good);
    CHECK(value == 42 && in_handler == 0);
#ifdef __x86_64__
    unsigned long fs = 0, gs = 1;
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
    CHECK(fs && gs == 0);
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, &fs));
    unsigned long there;
    asm volatile("mov %%gs:0, %0" : "=r"(there));
    CHECK(there == fs);
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, 1ul << 47));
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_FS, -1ul));
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_FS, 8));
    SHOW(syscall(SYS_arch_prctl, 0x9999, 0));
#else
    struct user_desc desc = {.entry_number = -1, .base_addr = (unsigned long)text, .limit = 0xfffff, .seg_32bit = 1,
                             .limit_in_pages = 1, .useable = 1};
    SHOW(syscall(SYS_set_thread_area, &desc));
    strcpy(text, "through fs");
    unsigned short selector = desc.entry_number * 8 + 3;
    char first;
    asm volatile("mov %1, %%fs; movb %%fs:8, %0" : "=q"(first) : "r"(selector));
    CHECK(first == 'f');
    struct user_desc seen = {.entry_number = desc.entry_number};
    SHOW(syscall(SYS_get_thread_area, &seen));
    CHECK(seen.base_addr == desc.base_addr && seen.limit == 0xfffff && seen.seg_32bit && seen.useable);
    desc.entry_number = -1;
    SHOW(syscall(SYS_set_thread_area, &desc));
    desc.entry_number = -1;
    SHOW(syscall(SYS_set_thread_area, &desc));
    desc.entry_number = 3;
    SHOW(syscall(SYS_set_thread_area, &desc));
    SHOW(syscall(SYS_get_thread_area, &desc));
    SHOW(syscall(SYS_set_thread_area, (void *)8));
#endif
    return 0;
}
