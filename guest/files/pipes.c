// A pipe within one process: bytes in order, capacity, end of file, EPIPE and SIGPIPE, non-blocking, vectors.
#include "guest.h"
#include <sys/uio.h>
#include <sys/ioctl.h>

static volatile int pipe_signals;

static void handler(int signo) { (void)signo; pipe_signals++; }

int main(void)
{
    int p[2], ready = 0;
    char buffer[70000], a[5] = "", b[5] = "";
    SHOW(pipe2(p, O_NONBLOCK | O_CLOEXEC));
    SHOW(read(p[0], buffer, 10));
    SHOW(write(p[1], "abcdefgh", 8));
    SHOW(ioctl(p[0], FIONREAD, &ready));
    printf("%d\n", ready);
    SHOW(read(p[0], buffer, 3));
    struct iovec parts[2] = {{a, 2}, {b, 4}};
    SHOW(readv(p[0], parts, 2));
    printf("%.3s %s %s\n", buffer, a, b);
    memset(buffer, 'x', sizeof(buffer));
    SHOW(write(p[1], buffer, sizeof(buffer)));
    SHOW(write(p[1], buffer, 1));
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    SHOW(read(p[0], buffer, 100));
    SHOW(write(p[1], buffer, 4096));
    long total = 0;
    for (ssize_t n; (n = read(p[0], buffer, sizeof(buffer))) > 0;)
        total += n;
    printf("%ld\n", total);
    parts[0] = (struct iovec){"one", 3}, parts[1] = (struct iovec){"two", 3};
    SHOW(writev(p[1], parts, 2));
    close(p[1]);
    SHOW(read(p[0], buffer, 100));
    SHOW(read(p[0], buffer, 100));
    close(p[0]);
    signal(SIGPIPE, handler);
    SHOW(pipe(p));
    close(p[0]);
    SHOW(write(p[1], "x", 1));
    printf("%d\n", pipe_signals);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(p[1], "x", 1));
    SHOW(fcntl(p[1], F_GETFL) & O_ACCMODE);
    return 0;
}
