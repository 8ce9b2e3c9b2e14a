// Named pipes: opening waits for the other side; O_NONBLOCK, O_RDWR; poll; a second writer.
#include "guest.h"
#include <poll.h>
#include <sys/wait.h>

static int polled(int fd, int events)
{
    struct pollfd p = {.fd = fd, .events = events};
    int n = poll(&p, 1, 0);
    return n == 1 ? p.revents : -n;
}

static void on_alarm(int signo)
{
}

int main(void)
{
    char buf[32] = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    SHOW(mkfifo("f", 0600));
    SHOW(mkfifo("f", 0600));
    SHOW(open("f", O_WRONLY | O_NONBLOCK));
    int r = open("f", O_RDONLY | O_NONBLOCK);
    CHECK(r >= 0);
    SHOW(read(r, buf, 4));
    SHOW(polled(r, POLLIN));
    int w = open("f", O_WRONLY | O_NONBLOCK);
    CHECK(w >= 0);
    SHOW(read(r, buf, 4));
    SHOW(polled(r, POLLIN));
    SHOW(polled(w, POLLOUT));
    SHOW(write(w, "abc", 3));
    SHOW(polled(r, POLLIN));
    close(w);
    SHOW(polled(r, POLLIN));
    SHOW(read(r, buf, 2));
    SHOW(read(r, buf, 2));
    SHOW(read(r, buf, 2));
    SHOW(polled(r, POLLIN));
    w = open("f", O_WRONLY);
    SHOW(polled(r, POLLIN));
    close(r);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(w, "x", 1));
    r = open("f", O_RDONLY | O_NONBLOCK);
    SHOW(write(w, "x", 1));
    close(r);
    close(w);

    int both = open("f", O_RDWR);
    SHOW(write(both, "loop", 4));
    SHOW(read(both, buf, 8));
    SHOW(polled(both, POLLIN | POLLOUT));
    close(both);

    pid_t child = fork();
    if (!child) {
        usleep(10000);
        int fd = open("f", O_WRONLY);
        usleep(10000);
        write(fd, "hello", 5);
        _exit(7);
    }
    r = open("f", O_RDONLY);
    SHOW(read(r, buf, 32));
    SHOW(read(r, buf, 32));
    int status;
    waitpid(child, &status, 0);
    SHOW(WEXITSTATUS(status));
    close(r);

    child = fork();
    if (!child) {
        usleep(10000);
        int fd = open("f", O_RDONLY);
        int n = read(fd, buf, 32);
        _exit(n);
    }
    w = open("f", O_WRONLY);
    SHOW(write(w, "sent", 4));
    waitpid(child, &status, 0);
    SHOW(WEXITSTATUS(status));
    close(w);

    /* A reader that comes and goes while the writer waits in open: the writer still gets in. */
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    pid_t parent = getpid();
    child = fork();
    if (!child) {
        usleep(10000);
        close(open("f", O_RDONLY | O_NONBLOCK));
        _exit(0);
    }
    w = open("f", O_WRONLY);
    CHECK(w >= 0);
    SHOW(write(w, "x", 1));
    waitpid(child, &status, 0);
    close(w);

    child = fork();
    if (!child) {
        usleep(10000);
        kill(parent, SIGALRM);
        _exit(0);
    }
    SHOW(open("f", O_RDONLY));
    waitpid(child, &status, 0);
    struct stat st;
    stat("f", &st);
    SHOW((st.st_mode & S_IFMT) == S_IFIFO);
    SHOW(lseek(open("f", O_RDWR), 0, SEEK_SET));
    unlink("f");

    /* A pipe without a name never makes its opener wait. */
    int p[2];
    char name[64];
    pipe(p);
    write(p[1], "left", 4);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", p[0]);
    close(p[1]);
    r = open(name, O_RDONLY);
    CHECK(r >= 0);
    SHOW(read(r, buf, 32));
    SHOW(read(r, buf, 32));
    close(r);
    w = open(name, O_WRONLY | O_NONBLOCK);
    CHECK(w >= 0);
    SHOW(write(w, "more", 4));
    SHOW(read(p[0], buf, 32));
    return 0;
}
