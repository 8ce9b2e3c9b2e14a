// What goes along with messages: descriptors, credentials, room for them, and sockets that carry each other.
#include "net.h"

union control {
    char bytes[256];
    struct cmsghdr align;
};

/* Send one byte and n descriptors. */
static long send_fds(int to, const int *fds, int n)
{
    union control c = {0};
    struct iovec iov = {"!", 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    return sendmsg(to, &m, 0);
}

/* Receive with room for size bytes of control messages, and tell all that came; the first descriptor. */
static int receive(const char *what, int from, size_t size, int flags)
{
    union control c;
    char buf[16];
    struct iovec iov = {buf, sizeof(buf)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = size ? &c : NULL, .msg_controllen = size};
    int first = -1;
    long n = recvmsg(from, &m, flags);
    printf("%s: %ld flags %#x controllen %zu\n", what, n, m.msg_flags & ~MSG_CMSG_CLOEXEC, n < 0 ? 0 : (size_t)m.msg_controllen - 0);
    if (n < 0)
        return -1;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        size_t room = h->cmsg_len - CMSG_LEN(0);
        printf("  level %d type %d bytes %zu", h->cmsg_level, h->cmsg_type, room);
        if (h->cmsg_type == SCM_RIGHTS)
            for (size_t i = 0; i < room / sizeof(int); i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
                printf(" cloexec %d", fcntl(fd, F_GETFD));
                if (first < 0)
                    first = fd;
                else
                    close(fd);
            }
        if (h->cmsg_type == SCM_CREDENTIALS && room == sizeof(struct ucred)) {
            struct ucred u;
            memcpy(&u, CMSG_DATA(h), sizeof(u));
            printf(" %s %s %s", u.pid == getpid() ? "us" : u.pid ? "other" : "0", u.uid == getuid() ? "us" : "other", u.gid == getgid() ? "us" : "other");
        }
        putchar('\n');
    }
    return first;
}

static long send_control(int to, int level, int type, size_t length, const void *data, size_t size)
{
    union control c = {0};
    struct iovec iov = {"!", 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = CMSG_SPACE(size)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = level;
    h->cmsg_type = type;
    h->cmsg_len = length;
    memcpy(CMSG_DATA(h), data, size);
    return sendmsg(to, &m, 0);
}

int main(void)
{
    int s[2], p[2], fds[300], fd, n;
    char buf[16];
    signal(SIGPIPE, SIG_IGN);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pipe(p);

    puts("- descriptors");
    SHOW(send_fds(s[0], p, 2));
    fd = receive("both", s[1], sizeof(union control), 0);
    write(p[1], "through", 7);
    SHOW(read(fd, buf, 16));
    close(fd);
    SHOW(send_fds(s[0], p, 2));
    fd = receive("room for one", s[1], CMSG_LEN(sizeof(int)), MSG_CMSG_CLOEXEC);
    close(fd);
    SHOW(send_fds(s[0], p, 2));
    receive("no room", s[1], CMSG_LEN(0), 0);
    SHOW(send_fds(s[0], p, 1));
    receive("no buffer", s[1], 0, 0);
    SHOW(send_fds(s[0], p, 1));
    SHOW(recv(s[1], buf, 16, 0));
    SHOW(send_fds(s[0], p, 1));
    fd = receive("peek", s[1], sizeof(union control), MSG_PEEK);
    close(fd);
    fd = receive("take", s[1], sizeof(union control), 0);
    close(fd);
    SHOW(send_fds(s[0], p, 1));
    SHOW(write(s[0], "more", 4));
    fd = receive("not glued", s[1], sizeof(union control), 0);
    close(fd);
    SHOW(read(s[1], buf, 16));
    SHOW(write(s[0], "more", 4));
    SHOW(send_fds(s[0], p, 1));
    SHOW(send_fds(s[0], p, 1));
    fd = receive("glued in front", s[1], sizeof(union control), 0);
    close(fd);
    fd = receive("the other", s[1], sizeof(union control), 0);
    close(fd);

    puts("- bad control messages");
    fds[0] = -1;
    SHOW(send_fds(s[0], fds, 1));
    fds[0] = 77;
    SHOW(send_fds(s[0], fds, 1));
    SHOW(send_control(s[0], SOL_SOCKET, SCM_RIGHTS, 4, p, 8));
    SHOW(send_control(s[0], SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(64), p, 8));
    SHOW(send_control(s[0], SOL_SOCKET, 77, CMSG_LEN(8), p, 8));
    SHOW(send_control(s[0], SOL_SOCKET, SCM_CREDENTIALS, CMSG_LEN(8), p, 8));
    SHOW(send_control(s[0], 99, 77, CMSG_LEN(8), p, 8));
    SHOW(read(s[1], buf, 16));
    SHOW(send_control(s[0], SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0), p, 0));
    SHOW(read(s[1], buf, 16));

    puts("- credentials");
    struct ucred me = {getpid(), getuid(), getgid()}, peer;
    socklen_t length = sizeof(peer);
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
    CHECK(peer.pid == getpid() && peer.uid == getuid() && peer.gid == getgid());
    int lone = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(getsockopt(lone, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    CHECK(peer.pid == 0 && peer.uid == -1 && peer.gid == -1);
    SHOW(send_control(s[0], SOL_SOCKET, SCM_CREDENTIALS, CMSG_LEN(sizeof(me)), &me, sizeof(me)));
    receive("not asked for", s[1], sizeof(union control), 0);
    SHOW(set_option(s[1], SOL_SOCKET, SO_PASSCRED, 1));
    SHOW(get_option(s[1], SOL_SOCKET, SO_PASSCRED));
    SHOW(write(s[0], "plain", 5));
    receive("plain", s[1], sizeof(union control), 0);
    SHOW(send_control(s[0], SOL_SOCKET, SCM_CREDENTIALS, CMSG_LEN(sizeof(me)), &me, sizeof(me)));
    receive("own", s[1], sizeof(union control), 0);
    SHOW(write(s[0], "plain", 5));
    receive("cut", s[1], CMSG_LEN(4), 0);
    SHOW(write(s[0], "plain", 5));
    receive("no buffer", s[1], 0, 0);
    fflush(stdout);
    if (!fork()) {
        write(s[0], "child", 5);
        _exit(0);
    }
    wait(NULL);
    write(s[0], "parent", 6);
    receive("child", s[1], sizeof(union control), 0);
    receive("parent", s[1], sizeof(union control), 0);
    SHOW(send_fds(s[0], p, 1));
    fd = receive("both kinds", s[1], sizeof(union control), 0);
    close(fd);

    puts("- garbage");
    for (n = 0; n < 20; n++) { // each pair is closed while it carries itself
        int g[2];
        socketpair(AF_UNIX, n % 2 ? SOCK_STREAM : SOCK_DGRAM, 0, g);
        send_fds(g[0], g, 2);
        send_fds(g[1], g, 2);
        close(g[0]);
        close(g[1]);
    }
    int g[2], h[2]; // alive: a descriptor leads to one end, which carries the other pair
    socketpair(AF_UNIX, SOCK_STREAM, 0, g);
    socketpair(AF_UNIX, SOCK_STREAM, 0, h);
    send_fds(g[0], h, 2);
    write(h[0], "kept", 4);
    close(h[0]);
    close(h[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, h);
    close(h[0]);
    close(h[1]);
    union control c;
    struct iovec iov = {buf, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    SHOW(recvmsg(g[1], &m, 0));
    memcpy(h, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(h));
    SHOW(read(h[1], buf, 16));
    send_fds(s[0], &s[0], 1); // what is left in flight goes with us
    return 0;
}
