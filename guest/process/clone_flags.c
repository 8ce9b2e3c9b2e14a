/* clone and clone3, raw: what each flag shares, which exclude each other, exit signals and thread ids. */
#include "guest.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/wait.h>

static char stack[65536] __attribute__((aligned(64)));
static volatile int value, seen_parent;
static int fd_made, child_tid, parent_tid;

static void on_signal(int sig)
{
    value = sig;
}

static int touch(void *how)
{
    long what = (long)how;
    value = 77;
    if (what & CLONE_FILES)
        fd_made = dup(1);
    if (what & CLONE_FS) {
        umask(011);
        if (chdir("/"))
            return 1;
    }
    if (what & CLONE_SIGHAND)
        signal(SIGUSR1, on_signal);
    if (what & CLONE_CHILD_SETTID)
        seen_parent = child_tid == (int)syscall(SYS_gettid);
    if (what & CLONE_PARENT)
        seen_parent = getppid();
    return 5;
}

static int wait_for(pid_t pid, int options)
{
    int status;
    pid_t found = waitpid(pid, &status, options);
    if (found < 0 || (pid > 0 && found != pid))
        return -errno;
    return status;
}

static void try(const char *name, int flags, int options)
{
    value = 0;
    fd_made = -1;
    signal(SIGUSR1, SIG_DFL);
    umask(022);
    fflush(stdout);
    pid_t pid = clone(touch, stack + sizeof(stack), flags, (void *)(long)flags, &parent_tid, NULL, &child_tid);
    if (pid < 0) {
        printf("%s: errno %d\n", name, errno);
        return;
    }
    int status = wait_for(pid, options);
    if (status < 0) { /* it may still run */
        printf("%s: errno %d\n", name, -status);
        return;
    }
    struct sigaction action;
    char where[PATH_MAX];
    sigaction(SIGUSR1, NULL, &action);
    printf("%s: status %#x value %d fd %s handler %s umask %o cwd %s\n", name, status, value,
           fd_made >= 0 && fcntl(fd_made, F_GETFD) == 0 ? "shared" : "own", action.sa_handler == on_signal ? "shared" : "own",
           umask(022), strcmp(getcwd(where, sizeof(where)), "/") ? "own" : "shared");
}

static long raw_clone3(struct clone_args *args, size_t size)
{
    fflush(stdout);
    long pid = syscall(SYS_clone3, args, size);
    if (pid == 0)
        _exit(6);
    return pid;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    try("nothing", SIGCHLD, 0);
    try("VM", CLONE_VM | SIGCHLD, 0);
    try("VM VFORK", CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
    try("FILES", CLONE_FILES | SIGCHLD, 0);
    try("VM FILES", CLONE_VM | CLONE_FILES | SIGCHLD, 0);
    try("VM SIGHAND", CLONE_VM | CLONE_SIGHAND | SIGCHLD, 0);
    try("no exit signal", CLONE_VM, __WALL);
    try("no exit signal, __WCLONE", CLONE_VM, __WCLONE);
    try("no exit signal, plain wait", CLONE_VM, 0);
    CHECK(wait_for(-1, __WCLONE) == 5 << 8);
    try("exit signal, __WCLONE", CLONE_VM | SIGCHLD, __WCLONE);
    CHECK(wait_for(-1, 0) == 5 << 8);
    signal(SIGUSR2, on_signal);
    pid_t pid = clone(touch, stack + sizeof(stack), SIGUSR2, NULL);
    CHECK(wait_for(pid, __WALL) == 5 << 8 && value == SIGUSR2);
    try("PARENT_SETTID", CLONE_VM | CLONE_PARENT_SETTID | SIGCHLD, 0);
    CHECK(parent_tid > 1);
    try("CHILD_SETTID", CLONE_VM | CLONE_CHILD_SETTID | SIGCHLD, 0);
    CHECK(seen_parent == 1);
    child_tid = 99;
    try("CHILD_CLEARTID", CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, 0);
    SHOW(child_tid);

    value = seen_parent = 0;
    pid = fork();
    if (pid == 0) { /* CLONE_PARENT: a sister, not a child */
        pid_t sister = clone(touch, stack + sizeof(stack), CLONE_VM | CLONE_PARENT | SIGCHLD, (void *)(long)CLONE_PARENT);
        int status;
        CHECK(sister > 0 && waitpid(sister, &status, 0) == -1 && errno == ECHILD);
        while (value != 77)
            sched_yield();
        while (kill(sister, 0) == 0 && !seen_parent)
            sched_yield();
        CHECK(seen_parent == getppid());
        fflush(stdout);
        _exit(0);
    }
    int collected = 0;
    while (wait(NULL) > 0)
        collected++;
    SHOW(collected);

    printf("-- refused\n");
    try("THREAD alone", CLONE_THREAD, 0);
    try("SIGHAND alone", CLONE_SIGHAND | SIGCHLD, 0);
    try("THREAD SIGHAND", CLONE_THREAD | CLONE_SIGHAND, 0);
    try("NEWNS FS", CLONE_NEWNS | CLONE_FS | SIGCHLD, 0);
    try("NEWUSER FS", CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0);

    printf("-- clone3\n");
    struct clone_args args = {.exit_signal = SIGCHLD};
    pid = raw_clone3(&args, sizeof(args));
    CHECK(pid > 0 && wait_for(pid, 0) == 6 << 8);
    SHOW(raw_clone3(&args, 63));
    CHECK((pid = raw_clone3(&args, 64)) > 0 && wait_for(pid, 0) == 6 << 8);
    SHOW(raw_clone3((struct clone_args *)8, sizeof(args)));
    SHOW(raw_clone3(&args, 5000));
    args.exit_signal = 65;
    SHOW(raw_clone3(&args, sizeof(args)));
    args = (struct clone_args){.exit_signal = SIGCHLD, .stack = (uintptr_t)stack};
    SHOW(raw_clone3(&args, sizeof(args)));
    args = (struct clone_args){.exit_signal = SIGCHLD, .stack_size = 4096};
    SHOW(raw_clone3(&args, sizeof(args)));
    args = (struct clone_args){.flags = SIGCHLD};
    SHOW(raw_clone3(&args, sizeof(args)));
    args = (struct clone_args){.flags = CLONE_SIGHAND | CLONE_VM | CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    SHOW(raw_clone3(&args, sizeof(args)));
    args = (struct clone_args){.flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD};
    SHOW(raw_clone3(&args, sizeof(args)));
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, SIG_IGN);
    args = (struct clone_args){.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    fflush(stdout);
    pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        struct sigaction one, two;
        sigaction(SIGUSR1, NULL, &one);
        sigaction(SIGUSR2, NULL, &two);
        _exit((one.sa_handler == SIG_DFL) + 2 * (two.sa_handler == SIG_IGN));
    }
    SHOW(wait_for(pid, 0));
    return 0;
}
