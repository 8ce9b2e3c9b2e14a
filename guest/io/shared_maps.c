// One file, many views: mappings of two processes, read and write, truncation, appending, shared positions.
// guest: stderr=ignore
#include "guest.h"
#include <sys/wait.h>

static int status_of(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void coherence(void)
{
    int fd = make_file("f", 3 * PAGE), go[2], done[2];
    char c, buf[8] = {0};
    pipe(go);
    pipe(done);
    char *map = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *priv = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    priv[0] = 'P';
    pid_t child = fork();
    if (!child) {
        int mine = open("f", O_RDWR);
        char *other = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mine, 0);
        read(go[0], &c, 1);
        printf("child: %c %c %c\n", map[0], other[0], priv[0]);
        other[1] = '1';
        map[2] = '2';
        pwrite(mine, "3", 1, 3);
        priv[PAGE] = 'C';
        write(done[1], "x", 1);
        read(go[0], &c, 1);
        printf("child: %c\n", other[2 * PAGE]);
        pread(mine, buf, 4, 2 * PAGE);
        printf("child: %.4s\n", buf);
        _exit(0);
    }
    map[0] = 'M';
    write(go[1], "x", 1);
    read(done[0], &c, 1);
    printf("parent: %.4s\n", map);
    pread(fd, buf, 4, 0);
    printf("parent: %.4s\n", buf);
    printf("parent: %c %c %c\n", priv[0], priv[1], priv[PAGE]);
    pwrite(fd, "wxyz", 4, 2 * PAGE);
    SHOW(msync(map, 3 * PAGE, MS_SYNC));
    write(go[1], "x", 1);
    SHOW(status_of(child));
    munmap(map, 3 * PAGE);
    munmap(priv, 3 * PAGE);
    close(fd);

    /* Anonymous shared memory after fork. */
    int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    child = fork();
    if (!child) {
        for (int i = 0; i < 1000; i++)
            __sync_fetch_and_add(shared, 1);
        _exit(0);
    }
    for (int i = 0; i < 1000; i++)
        __sync_fetch_and_add(shared, 1);
    SHOW(status_of(child));
    SHOW(*shared);
    munmap(shared, PAGE);
}

static void truncation(void)
{
    int fd = make_file("f", 3 * PAGE), done[2];
    char c;
    pipe(done);
    char *map = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *priv = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    priv[2 * PAGE] = 'p';
    map[0] = map[PAGE] = map[2 * PAGE] = '!';
    catch_faults(0);
    SHOW_FAULT(map, peek(map + 3 * PAGE));
    pid_t child = fork();
    if (!child) {
        int mine = open("f", O_RDWR);
        ftruncate(mine, PAGE + 100);
        SHOW_FAULT(map, peek(map + 2 * PAGE));
        _exit(0);
    }
    SHOW(status_of(child));
    SHOW_FAULT(map, peek(map + PAGE));
    SHOW_FAULT(map, peek(map + 2 * PAGE));
    SHOW_FAULT(map, poke(map + 2 * PAGE, 1));
    SHOW_FAULT(priv, peek(priv + 2 * PAGE));
    SHOW(read(fd, map + 2 * PAGE, 1));
    SHOW(map[PAGE + 99]);
    SHOW(map[PAGE + 100]);
    map[PAGE + 200] = 'x';
    ftruncate(fd, 3 * PAGE);
    SHOW(map[PAGE + 200]);
    SHOW_FAULT(map, peek(map + 2 * PAGE));
    SHOW(map[2 * PAGE]);
    child = fork();
    if (!child) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigaction(SIGBUS, &action, NULL);
        ftruncate(fd, 0);
        peek(map);
        _exit(0);
    }
    SHOW(status_of(child));
    close(fd);
    munmap(map, 4 * PAGE);
    munmap(priv, 3 * PAGE);
}

static void positions(void)
{
    int fd = open("g", O_RDWR | O_CREAT | O_TRUNC, 0600), other = open("g", O_RDWR | O_APPEND);
    char buf[64] = {0};
    write(fd, "0123456789", 10);
    lseek(fd, 2, SEEK_SET);
    pid_t child = fork();
    if (!child) {
        read(fd, buf, 3);
        _exit(buf[0]);
    }
    SHOW(status_of(child));
    SHOW(lseek(fd, 0, SEEK_CUR));
    child = fork();
    if (!child) {
        lseek(fd, 7, SEEK_SET);
        fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK);
        _exit(0);
    }
    SHOW(status_of(child));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK));
    fcntl(fd, F_SETFL, 0);
    for (int i = 0; i < 3; i++)
        if (!fork()) {
            int mine = open("g", O_WRONLY | O_APPEND);
            for (int j = 0; j < 50; j++)
                write(mine, "line\n", 5);
            _exit(0);
        }
    for (int j = 0; j < 50; j++)
        write(other, "LINE\n", 5);
    while (wait(NULL) > 0)
        ;
    SHOW(lseek(fd, 0, SEEK_END));
    lseek(fd, 10, SEEK_SET);
    int good = 0;
    while (read(fd, buf, 5) == 5)
        good += !memcmp(buf, "line\n", 5) || !memcmp(buf, "LINE\n", 5);
    SHOW(good);
    int copy = dup(other);
    SHOW(pwrite(other, "end", 3, 0));
    SHOW(lseek(copy, 0, SEEK_END));
    close(fd);
}

static void seals(void)
{
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING), plain = memfd_create("plain", 0);
    ftruncate(fd, PAGE);
    SHOW(fcntl(fd, F_GET_SEALS));
    SHOW(fcntl(plain, F_GET_SEALS));
    SHOW(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    mprotect(map, PAGE, PROT_READ);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(map, PAGE);
    char *priv = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    SHOW(write(fd, "x", 1));
    SHOW(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    char *ro = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(ro != MAP_FAILED);
    SHOW(mprotect(ro, PAGE, PROT_READ | PROT_WRITE));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    priv[0] = 'p';
    SHOW(ftruncate(fd, 2 * PAGE));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
    SHOW(ftruncate(fd, PAGE));
    SHOW(ftruncate(fd, 3 * PAGE));
    SHOW(ftruncate(fd, 2 * PAGE));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SHOW(fcntl(fd, F_ADD_SEALS, 32));
    SHOW(fcntl(fd, F_GET_SEALS));
    int file = open("g", O_RDWR);
    SHOW(fcntl(file, F_GET_SEALS));
    pid_t child = fork();
    if (!child)
        _exit(write(fd, "x", 1) == -1 ? errno : 0);
    SHOW(status_of(child));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    coherence();
    truncation();
    positions();
    seals();
    unlink("f");
    unlink("g");
    return 0;
}
