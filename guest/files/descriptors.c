// Descriptors: the lowest free one, dup and its shared offset, close-on-exec, status flags, close_range.
#include "guest.h"

int main(void)
{
    int fd = make_file("fds", 20);
    int first = fd;
    int b = dup(fd), c = open("fds", O_RDWR | O_CLOEXEC);
    printf("%d %d\n", b - first, c - first);
    close(b);
    printf("%d\n", dup(fd) - first);
    lseek(fd, 3, SEEK_SET);
    printf("%ld %ld\n", (long)lseek(b, 0, SEEK_CUR), (long)lseek(c, 0, SEEK_CUR));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(c, F_GETFD));
    SHOW(fcntl(c, F_SETFD, 0));
    SHOW(fcntl(c, F_GETFD));
    SHOW(fcntl(fd, F_DUPFD, 50));
    SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 50));
    SHOW(fcntl(51, F_GETFD));
    SHOW(dup2(fd, 60));
    SHOW(dup2(60, 60));
    SHOW(dup3(fd, 61, O_CLOEXEC));
    SHOW(fcntl(61, F_GETFD));
    printf("%#x\n", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    SHOW(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    printf("%#x %#x\n", fcntl(b, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), fcntl(c, F_GETFL) & (O_APPEND | O_NONBLOCK));
    SHOW(write(b, "!", 1));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(syscall(SYS_close_range, 40, 70, 0));
    SHOW(fcntl(60, F_GETFD));
    SHOW(syscall(SYS_close_range, 70, 40, 0));
    SHOW(close(fd));
    SHOW(close(fd));
    SHOW(lseek(b, 0, SEEK_CUR));
    unlink("fds");
    return 0;
}
