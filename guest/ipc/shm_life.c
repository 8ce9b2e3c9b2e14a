// How long a segment lives, and who counts as attached: fork, exec, exit, munmap of parts, mprotect, IPC_RMID.
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

static int id;

static void state(const char *when)
{
    struct shmid_ds ds;
    if (shmctl(id, IPC_STAT, &ds) < 0) {
        printf("%s: errno %d\n", when, errno);
        return;
    }
    printf("%s: nattch %ld mode %o key %s last %s atime %d dtime %d\n", when, (long)ds.shm_nattch, ds.shm_perm.mode,
           ds.shm_perm.__key ? "yes" : "no",
           !ds.shm_lpid ? "nobody" : ds.shm_lpid == getpid() ? "us" : "another", ds.shm_atime != 0, ds.shm_dtime != 0);
}

static void parts(void)
{
    id = shmget(IPC_PRIVATE, 8 * PAGE, 0600);
    state("made");
    char *at = shmat(id, NULL, 0);
    state("attached");
    mprotect(at + 2 * PAGE, PAGE, PROT_READ);
    state("mprotect in the middle");
    mlock(at + 2 * PAGE, PAGE);
    state("mlock of that page");
    munlock(at + 2 * PAGE, PAGE);
    mprotect(at + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    state("mprotect back: parts stay");
    printf("lines of maps: %d\n", map_lines(at, at + 8 * PAGE));
    mprotect(at, 8 * PAGE, PROT_READ);
    state("mprotect of all");
    mprotect(at + 2 * PAGE, 2 * PAGE, PROT_NONE);
    state("mprotect across a border");
    munmap(at + 6 * PAGE, PAGE);
    state("munmap of a page near the end");
    munmap(at + 7 * PAGE, PAGE);
    state("munmap of the last");
    SHOW(shmdt(at + 2 * PAGE));
    SHOW(shmdt(at));
    state("detached");
    printf("lines of maps: %d\n", map_lines(at, at + 8 * PAGE));
    at = shmat(id, NULL, 0);
    char *moved = mremap(at, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at - 64 * PAGE);
    CHECK(moved == at - 64 * PAGE);
    state("moved");
    char *twice = mremap(moved, 0, 4 * PAGE, MREMAP_MAYMOVE);
    twice[5] = 7;
    CHECK(moved[5] == 7);
    state("mapped twice by mremap");
    SHOW(munmap(twice, 4 * PAGE));
    char *tail = mremap(moved, 8 * PAGE, 2 * PAGE, 0);
    CHECK(tail == moved);
    state("shrunk");
    SHOW(shmdt(moved));
    SHOW(shmctl(id, IPC_RMID, NULL));
    state("removed");
}

static void family(char *self)
{
    int status;
    id = shmget(0x48000000 + getpid(), 2 * PAGE, IPC_CREAT | 0600);
    char *one = shmat(id, NULL, 0), *two = shmat(id, NULL, SHM_RDONLY);
    state("attached twice");
    fflush(stdout);
    if (!fork()) {
        state("in the child");
        shmdt(two);
        state("in the child, detached once");
        one[0] = 42;
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    state("after the child");
    CHECK(two[0] == 42);
    SHOW(shmctl(id, IPC_RMID, NULL));
    state("marked for removal");
    SHOW(shmget(0x48000000 + getpid(), 0, 0));
    char *three = shmat(id, NULL, 0);
    CHECK(three != (char *)-1 && three[0] == 42);
    fflush(stdout);
    if (!fork()) {
        char word[20];
        sprintf(word, "%d", id);
        execl(self, self, word, NULL);
        _exit(9);
    }
    wait(&status);
    printf("status %x\n", status);
    shmdt(one);
    shmdt(two);
    state("one left");
    three[1] = 43;
    fflush(stdout);
    if (!vfork()) {
        _exit(0);
    }
    wait(&status);
    state("after vfork");
    if (!fork()) {
        shmdt(three);
        kill(getpid(), SIGKILL);
    }
    wait(&status);
    CHECK(three[1] == 43);
    shmdt(three);
    state("none left");
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        id = atoi(argv[1]);
        state("after exec");
        char *at = shmat(id, NULL, 0);
        printf("its first byte is %d\n", at[0]);
        return 5;
    }
    parts();
    family(argv[0]);
    return 0;
}
