/* What fork copies and what it shares: private memory, stack, shared memory, file positions, madvise's exceptions. */
#include "guest.h"
#include <sys/wait.h>

static int data = 1;
static int zeroed[4096];

static int child_said(int *shared)
{
    int status;
    fflush(stdout);
    if (wait(&status) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main(void)
{
    volatile int on_stack = 5;
    char byte;
    int *shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *private = map_pages(64, PROT_READ | PROT_WRITE);
    char *heap = malloc(100000);
    char *wiped = map_pages(2, PROT_READ | PROT_WRITE), *kept_out = map_pages(1, PROT_READ | PROT_WRITE);
    int fd = make_file("file", 3 * PAGE);
    char *of_file = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *with_file = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    setvbuf(stdout, NULL, _IONBF, 0);
    memset(private, 'p', 64 * PAGE);
    memset(heap, 'h', 100000);
    memset(wiped, 'w', 2 * PAGE);
    of_file[0] = 'P';
    lseek(fd, 10, SEEK_SET);
    CHECK(madvise(wiped, PAGE, MADV_WIPEONFORK) == 0);
    CHECK(madvise(kept_out, PAGE, MADV_DONTFORK) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(private[0] == 'p' && private[64 * PAGE - 1] == 'p' && heap[99999] == 'h' && data == 1 && on_stack == 5);
        CHECK(wiped[0] == 0 && wiped[PAGE] == 'w');
        memset(private, 'c', 64 * PAGE);
        memset(heap, 'c', 100000);
        data = 2;
        on_stack = 6;
        zeroed[2000] = 7;
        shared[0] = 42;
        of_file[PAGE] = 'Q';
        with_file[2 * PAGE] = 'S';
        CHECK(lseek(fd, 5, SEEK_CUR) == 15);
        catch_faults(0);
        printf("memory kept out: signal %d\n", FAULT(peek(kept_out)));
        _exit(11);
    }
    SHOW(child_said(shared));
    CHECK(private[0] == 'p' && private[64 * PAGE - 1] == 'p' && heap[5] == 'h' && data == 1 && on_stack == 5);
    CHECK(zeroed[2000] == 0 && shared[0] == 42 && of_file[0] == 'P' && of_file[PAGE] == 'b');
    CHECK(with_file[2 * PAGE] == 'S' && of_file[2 * PAGE] == 'S');
    CHECK(lseek(fd, 0, SEEK_CUR) == 15);
    CHECK(wiped[0] == 'w' && kept_out[0] == 0);

    /* Many generations write to the same page; each has its own. */
    int depth = 0;
    while (depth < 6 && (pid = fork()) == 0) {
        depth++;
        private[0]++;
        shared[1] += private[0];
    }
    if (depth == 0) {
        SHOW(child_said(shared));
        SHOW(shared[1]);
        CHECK(private[0] == 'p');
    } else {
        int below = depth == 6 ? 0 : child_said(shared);
        _exit(below + private[0] - 'p');
    }
    /* A mapping made read-only before fork stays so, and mprotect later does not reach the other side. */
    mprotect(private, PAGE, PROT_READ);
    pid = fork();
    if (pid == 0) {
        catch_faults(0);
        SHOW_FAULT(private, poke(private, 1));
        mprotect(private, PAGE, PROT_READ | PROT_WRITE);
        poke(private, 'x');
        munmap(private + PAGE, PAGE);
        _exit(private[0] == 'x');
    }
    SHOW(child_said(shared));
    CHECK(private[0] == 'p' && private[PAGE] == 'p');
    /* The parent's children see its later writes no more. */
    int go[2];
    CHECK(pipe(go) == 0);
    pid = fork();
    if (pid == 0) {
        CHECK(read(go[0], &byte, 1) == 1);
        _exit(private[2 * PAGE]);
    }
    private[2 * PAGE] = 'N';
    CHECK(write(go[1], "g", 1) == 1);
    SHOW(child_said(shared));
    return 0;
}
