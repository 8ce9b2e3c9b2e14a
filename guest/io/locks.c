// Locks that block: POSIX, OFD and flock; deadlock, release, inheritance.
// guest: libs=-lpthread
#include "guest.h"
#include <pthread.h>
#include <sys/file.h>
#include <sys/wait.h>

static int fd;

static int lock(int fd, int cmd, int type, long start, long len)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, cmd, &l);
}

static void show_lock(const char *what, int fd, int cmd, int type, long start, long len, pid_t owner)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    int r = fcntl(fd, cmd, &l);
    printf("%s: %d type %d start %ld len %ld owner %s\n", what, r, l.l_type, (long)l.l_start, (long)l.l_len,
           l.l_pid == owner ? "it" : l.l_pid == -1 ? "ofd" : l.l_pid == 0 ? "none" : "other");
}

static int status_of(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void on_alarm(int signo)
{
}

static void posix(void)
{
    int go[2], done[2];
    char c;
    pipe(go);
    pipe(done);
    SHOW(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    SHOW(lock(fd, F_SETLK, F_RDLCK, 5, 10));
    pid_t child = fork();
    if (!child) {
        show_lock("child sees", fd, F_GETLK, F_WRLCK, 0, 0, getppid());
        show_lock("child sees", fd, F_GETLK, F_RDLCK, 5, 5, getppid());
        show_lock("child sees", fd, F_GETLK, F_WRLCK, 12, 0, getppid());
        SHOW(lock(fd, F_SETLK, F_WRLCK, 0, 1));
        SHOW(lock(fd, F_SETLK, F_RDLCK, 7, 1));
        write(done[1], "x", 1);
        SHOW(lock(fd, F_SETLKW, F_WRLCK, 0, 5));
        printf("child has it\n");
        _exit(0);
    }
    read(done[0], &c, 1);
    usleep(10000);
    printf("parent gives back\n");
    lock(fd, F_SETLK, F_UNLCK, 0, 5);
    SHOW(status_of(child));

    /* Closing any descriptor of the file drops the process's locks. */
    SHOW(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    close(open("f", O_RDONLY));
    child = fork();
    if (!child)
        _exit(lock(fd, F_SETLK, F_WRLCK, 0, 0) == 0 ? 0 : errno);
    SHOW(status_of(child));

    /* Exit drops them, also for one who waits. */
    child = fork();
    if (!child) {
        lock(fd, F_SETLK, F_WRLCK, 0, 0);
        write(done[1], "x", 1);
        usleep(10000);
        _exit(0);
    }
    read(done[0], &c, 1);
    SHOW(lock(fd, F_SETLKW, F_WRLCK, 0, 0));
    SHOW(status_of(child));
    lock(fd, F_SETLK, F_UNLCK, 0, 0);

    /* Deadlock. */
    child = fork();
    if (!child) {
        lock(fd, F_SETLK, F_WRLCK, 0, 1);
        write(done[1], "x", 1);
        read(go[0], &c, 1);
        _exit(lock(fd, F_SETLKW, F_WRLCK, 1, 1) == 0 ? 0 : errno);
    }
    read(done[0], &c, 1);
    lock(fd, F_SETLK, F_WRLCK, 1, 1);
    write(go[1], "x", 1);
    usleep(20000);
    SHOW(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
    lock(fd, F_SETLK, F_UNLCK, 1, 1);
    SHOW(status_of(child));

    /* A signal. */
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    pid_t parent = getpid();
    child = fork();
    if (!child) {
        lock(fd, F_SETLK, F_WRLCK, 0, 1);
        write(done[1], "x", 1);
        usleep(10000);
        kill(parent, SIGALRM);
        usleep(10000);
        _exit(0);
    }
    read(done[0], &c, 1);
    SHOW(lock(fd, F_SETLKW, F_RDLCK, 0, 1));
    SHOW(status_of(child));
    int ro = open("f", O_RDONLY);
    SHOW(lock(ro, F_SETLK, F_WRLCK, 0, 1));
    SHOW(lock(ro, F_SETLK, F_RDLCK, 0, 1));
    close(ro);
    SHOW(lock(fd, F_SETLK, 9, 0, 1));
    SHOW(lock(fd, F_SETLK, F_WRLCK, -1, 1));
}

static void ofd(void)
{
    int a = open("f", O_RDWR), b = open("f", O_RDWR), c = dup(a), done[2];
    char x;
    pipe(done);
    SHOW(lock(a, F_OFD_SETLK, F_WRLCK, 0, 10));
    SHOW(lock(b, F_OFD_SETLK, F_WRLCK, 5, 10));
    SHOW(lock(c, F_OFD_SETLK, F_WRLCK, 5, 10));
    show_lock("b sees", b, F_OFD_GETLK, F_WRLCK, 0, 0, 12345);
    show_lock("process sees", b, F_GETLK, F_WRLCK, 0, 0, 12345);
    close(a);
    SHOW(lock(b, F_OFD_SETLK, F_RDLCK, 0, 1));
    pid_t child = fork();
    if (!child) {
        close(c);
        write(done[1], "x", 1);
        SHOW(lock(b, F_OFD_SETLKW, F_RDLCK, 0, 1));
        _exit(0);
    }
    read(done[0], &x, 1);
    usleep(10000);
    close(c);
    SHOW(status_of(child));
    SHOW(lock(b, F_OFD_SETLK, F_UNLCK, 0, 0));
    close(b);
}

static void whole_file(void)
{
    int a = open("f", O_RDWR), b = open("f", O_RDWR), done[2];
    char x;
    pipe(done);
    SHOW(flock(a, LOCK_SH));
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    SHOW(flock(b, LOCK_EX | LOCK_NB));
    SHOW(flock(a, LOCK_UN));
    SHOW(flock(b, LOCK_EX | LOCK_NB));
    SHOW(flock(a, LOCK_SH | LOCK_NB));
    SHOW(flock(a, 99));
    pid_t child = fork();
    if (!child) {
        /* Inherited: the same lock. */
        SHOW(flock(b, LOCK_EX | LOCK_NB));
        close(b);
        write(done[1], "x", 1);
        SHOW(flock(a, LOCK_EX));
        printf("child has it\n");
        _exit(0);
    }
    read(done[0], &x, 1);
    usleep(10000);
    printf("parent closes\n");
    close(b);
    SHOW(status_of(child));
    SHOW(flock(open("f", O_RDONLY), LOCK_EX | LOCK_NB));
    SHOW(flock(a, LOCK_UN));
    SHOW(flock(open("f", O_RDONLY), LOCK_EX | LOCK_NB));
    SHOW(lock(a, F_SETLK, F_WRLCK, 0, 0));
}

static void *locker(void *arg)
{
    return (void *)(long)(lock(*(int *)arg, F_SETLKW, F_WRLCK, 0, 1) == 0 ? 0 : errno);
}

/* The descriptor is closed while a thread waits for a lock through it. */
static void closed_meanwhile(void)
{
    int mine = open("f", O_RDWR), done[2];
    char c;
    void *result;
    pthread_t thread;
    pipe(done);
    pid_t child = fork();
    if (!child) {
        lock(mine, F_SETLK, F_WRLCK, 0, 1);
        write(done[1], "x", 1);
        usleep(40000);
        _exit(0);
    }
    read(done[0], &c, 1);
    pthread_create(&thread, NULL, locker, &mine);
    usleep(10000);
    close(mine);
    pthread_join(thread, &result);
    SHOW((long)result);
    SHOW(status_of(child));
    child = fork();
    if (!child)
        _exit(lock(fd, F_SETLK, F_WRLCK, 0, 1) == 0 ? 0 : errno);
    SHOW(status_of(child));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    fd = open("f", O_RDWR | O_CREAT, 0600);
    posix();
    ofd();
    whole_file();
    closed_meanwhile();
    unlink("f");
    return 0;
}
