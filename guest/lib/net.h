/* What the programs of guest/net share: addresses in one expression, control messages, events by name. */
#ifndef NET_H
#define NET_H

#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#define BAD ((void *)8)

static struct sockaddr_un un_address UNUSED;

/* A path of AF_UNIX; '@' in front means the abstract name. */
static UNUSED struct sockaddr *un(const char *name)
{
    memset(&un_address, 0, sizeof(un_address));
    un_address.sun_family = AF_UNIX;
    strcpy(un_address.sun_path, name);
    if (name[0] == '@')
        un_address.sun_path[0] = 0;
    return (struct sockaddr *)&un_address;
}

/* The length of that address; a path's includes its NUL. */
static UNUSED socklen_t un_len(const char *name)
{
    return offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] != '@');
}

/* Print an address of AF_UNIX. */
static UNUSED void show_un(const char *what, const struct sockaddr_un *at, socklen_t length)
{
    printf("%s: length %u family %d ", what, length, length >= 2 ? at->sun_family : -1);
    for (unsigned i = 0; i + 2 < length && i < sizeof(at->sun_path); i++)
        putchar(at->sun_path[i] ? at->sun_path[i] : '@');
    putchar('\n');
}

/* Print which events poll reports for fd. */
static UNUSED void show_poll(const char *what, int fd)
{
    static const struct { int bit; const char *name; } names[] = {
        {POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"}, {POLLHUP, "HUP"}, {POLLRDHUP, "RDHUP"},
        {POLLRDNORM, "RDNORM"}, {POLLWRNORM, "WRNORM"}, {POLLRDBAND, "RDBAND"}, {POLLWRBAND, "WRBAND"}};
    struct pollfd p = {fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLWRBAND, 0};
    int n = poll(&p, 1, 0);
    printf("poll %s: %d", what, n);
    for (unsigned i = 0; i < COUNT(names); i++)
        if (p.revents & names[i].bit)
            printf(" %s", names[i].name);
    putchar('\n');
}

/* An option that is a number; -1 with errno as the call left it. */
static UNUSED int get_option(int fd, int level, int name)
{
    int value = -12345;
    socklen_t length = sizeof(value);
    return getsockopt(fd, level, name, &value, &length) ? -1 : value;
}

static UNUSED int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static UNUSED struct sockaddr *inet(unsigned address, int port)
{
    static struct sockaddr_in at;
    at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    return (struct sockaddr *)&at;
}

static UNUSED struct sockaddr *inet6(const char *address, int port)
{
    static struct sockaddr_in6 at;
    at = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, address, &at.sin6_addr);
    return (struct sockaddr *)&at;
}

/* The port a socket of AF_INET or AF_INET6 is bound to. */
static UNUSED int port_of(int fd)
{
    struct sockaddr_in6 at = {0};
    socklen_t length = sizeof(at);
    return getsockname(fd, (struct sockaddr *)&at, &length) ? -1 : ntohs(at.sin6_port);
}

#endif
