// Waiting with a timeout: poll, ppoll, select, pselect; ready and not ready descriptors.
#include "guest.h"
#include <poll.h>
#include <sys/select.h>
#include <time.h>

static int64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

int main(void)
{
    int pipes[2];
    char c;
    if (pipe(pipes))
        return 1;
    struct pollfd fds[3] = {{pipes[0], POLLIN, 0}, {pipes[1], POLLOUT, 0}, {-1, POLLIN, 99}};
    SHOW(poll(fds, 3, 0));
    printf("%#x %#x %#x\n", fds[0].revents, fds[1].revents, fds[2].revents);
    int64_t start = now();
    SHOW(poll(fds, 1, 30));
    CHECK(now() - start >= 29 && now() - start < 2000);
    SHOW(write(pipes[1], "x", 1));
    SHOW(poll(fds, 1, 1000));
    printf("%#x\n", fds[0].revents);
    SHOW(read(pipes[0], &c, 1));
    fd_set readable, writable;
    FD_ZERO(&readable); FD_ZERO(&writable);
    FD_SET(pipes[0], &readable), FD_SET(pipes[1], &writable);
    struct timeval tv = {0, 10000};
    SHOW(select(pipes[1] + 1, &readable, &writable, NULL, &tv));
    printf("%d %d\n", FD_ISSET(pipes[0], &readable) != 0, FD_ISSET(pipes[1], &writable) != 0);
    FD_ZERO(&readable); FD_SET(pipes[0], &readable);
    tv = (struct timeval){0, 10000};
    SHOW(select(pipes[0] + 1, &readable, NULL, NULL, &tv));
    struct timespec ts = {0, 5000000};
    SHOW(ppoll(fds, 1, &ts, NULL));
    SHOW(pselect(0, NULL, NULL, NULL, &ts, NULL));
    fds[0].fd = 500;
    SHOW(poll(fds, 1, 0));
    printf("%#x\n", fds[0].revents);
    FD_ZERO(&readable); FD_SET(500, &readable);
    SHOW(select(501, &readable, NULL, NULL, &tv));
    close(pipes[1]);
    fds[0].fd = pipes[0];
    SHOW(poll(fds, 1, 100));
    printf("%#x\n", fds[0].revents);
    SHOW(read(pipes[0], &c, 1));
    return 0;
}
