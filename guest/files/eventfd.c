// eventfd(2) and memfd_create(2), as far as one process can see.
#include "guest.h"
#include <poll.h>
#include <sys/eventfd.h>

int main(void)
{
    uint64_t value = 0;
    int fd = eventfd(3, EFD_NONBLOCK);
    SHOW_OK(fd);
    SHOW(read(fd, &value, 8));
    printf("%llu\n", (unsigned long long)value);
    SHOW(read(fd, &value, 8));
    value = 5;
    SHOW(write(fd, &value, 8));
    SHOW(write(fd, &value, 8));
    SHOW(write(fd, &value, 4));
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    SHOW(poll(&p, 1, 0));
    printf("%#x\n", p.revents);
    SHOW(read(fd, &value, 8));
    printf("%llu\n", (unsigned long long)value);
    value = ~0ull;
    SHOW(write(fd, &value, 8));
    int sem = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    SHOW(read(sem, &value, 8));
    printf("%llu\n", (unsigned long long)value);
    SHOW(read(sem, &value, 8));
    SHOW(read(sem, &value, 8));
    SHOW(eventfd(0, 0x10));
    return 0;
}
