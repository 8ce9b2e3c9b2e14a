// AF_UNIX streams and sequenced packets: what poll says, half-closed connections, resets, flags, whole and in pieces.
#include "net.h"

static char big[1 << 20];

static void flags(int type)
{
    int s[2];
    char buf[32] = "";
    printf("- flags, type %d\n", type);
    socketpair(AF_UNIX, type, 0, s);
    show_poll("fresh", s[0]);
    SHOW(send(s[0], "hello", 5, MSG_EOR));
    SHOW(send(s[0], "world", 5, 0));
    show_poll("to read", s[1]);
    int n;
    ioctl(s[1], FIONREAD, &n);
    SHOW(n);
    SHOW(recv(s[1], buf, 3, MSG_PEEK));
    SHOW(recv(s[1], buf, 3, MSG_PEEK | MSG_TRUNC));
    SHOW(recv(s[1], buf, 3, MSG_TRUNC));
    printf("%.3s\n", buf);
    SHOW(recv(s[1], buf, 32, 0));
    printf("%.7s\n", buf);
    SHOW(recv(s[1], buf, 32, MSG_DONTWAIT));
    SHOW(send(s[0], "", 0, 0));
    SHOW(recv(s[1], buf, 32, MSG_DONTWAIT));
    struct iovec out[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}}, in[2] = {{buf, 1}, {buf + 10, 2}};
    struct msghdr m = {.msg_iov = out, .msg_iovlen = 3}, r = {.msg_iov = in, .msg_iovlen = 2};
    SHOW(sendmsg(s[0], &m, 0));
    SHOW(recvmsg(s[1], &r, 0));
    SHOW(r.msg_flags);
    printf("%c %.2s\n", buf[0], buf + 10);
    SHOW(recv(s[1], buf, 32, MSG_DONTWAIT | MSG_WAITALL));
    SHOW(write(s[0], "xy", 2));
    SHOW(writev(s[0], out, 3));
    SHOW(read(s[1], buf, 2));
    SHOW(readv(s[1], in, 2));
    SHOW(recv(s[1], buf, 32, MSG_DONTWAIT) > 0);
    struct mmsghdr mm[3] = {{{.msg_iov = out, .msg_iovlen = 1}}, {{.msg_iov = out + 2, .msg_iovlen = 1}}, {{.msg_iov = out, .msg_iovlen = 3}}};
    SHOW(sendmmsg(s[0], mm, 3, 0));
    printf("%u %u %u\n", mm[0].msg_len, mm[1].msg_len, mm[2].msg_len);
    struct iovec piece[3] = {{buf, 4}, {buf + 4, 4}, {buf + 8, 4}};
    struct mmsghdr mr[3] = {{{.msg_iov = piece, .msg_iovlen = 1}}, {{.msg_iov = piece + 1, .msg_iovlen = 1}}, {{.msg_iov = piece + 2, .msg_iovlen = 1}}};
    struct timespec soon = {0, 50000000};
    fflush(stdout);
    SHOW(recvmmsg(s[1], mr, 3, MSG_WAITFORONE, &soon));
    printf("%u %u %u\n", mr[0].msg_len, mr[1].msg_len, mr[2].msg_len);
    close(s[0]);
    close(s[1]);
}

static void ends(int type)
{
    int s[2];
    char buf[32];
    printf("- ends, type %d\n", type);
    socketpair(AF_UNIX, type, 0, s);
    SHOW(write(s[0], "last", 4));
    SHOW(shutdown(s[0], SHUT_WR));
    show_poll("shut for writing", s[0]);
    show_poll("the other", s[1]);
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    SHOW(read(s[1], buf, 32));
    SHOW(read(s[1], buf, 32));
    SHOW(write(s[1], "back", 4));
    SHOW(read(s[0], buf, 32));
    SHOW(shutdown(s[0], SHUT_RD));
    show_poll("shut", s[0]);
    show_poll("the other", s[1]);
    SHOW(send(s[1], "x", 1, MSG_NOSIGNAL));
    close(s[0]);
    show_poll("closed", s[1]);
    close(s[1]);

    socketpair(AF_UNIX, type, 0, s);
    write(s[1], "unread", 6);
    close(s[1]);
    show_poll("peer closed", s[0]);
    SHOW(read(s[0], buf, 32));
    SHOW(read(s[0], buf, 32));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    close(s[0]);

    socketpair(AF_UNIX, type, 0, s);
    write(s[1], "unread", 6);
    close(s[0]);
    show_poll("reset", s[1]);
    SHOW(get_option(s[1], SOL_SOCKET, SO_ERROR));
    SHOW(get_option(s[1], SOL_SOCKET, SO_ERROR));
    SHOW(read(s[1], buf, 32));
    close(s[1]);

    socketpair(AF_UNIX, type, 0, s);
    write(s[1], "unread", 6);
    close(s[0]);
    SHOW(read(s[1], buf, 32));
    SHOW(read(s[1], buf, 32));
    close(s[1]);
}

static void sigpipe(int type)
{
    int s[2], status;
    socketpair(AF_UNIX, type, 0, s);
    close(s[1]);
    pid_t child = fork();
    if (!child) {
        signal(SIGPIPE, SIG_DFL);
        write(s[0], "x", 1);
        _exit(errno);
    }
    waitpid(child, &status, 0);
    printf("- SIGPIPE, type %d: %s %d\n", type, WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    close(s[0]);
}

static void backlog(void)
{
    struct sockaddr_un name;
    socklen_t length = sizeof(name);
    char buf[8];
    puts("- a listener that goes");
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(l, un("l"), un_len("l"));
    listen(l, 5);
    show_poll("listens", l);
    int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    show_poll("unconnected", a);
    SHOW(connect(a, un("l"), un_len("l")));
    SHOW(connect(b, un("l"), un_len("l")));
    SHOW(getpeername(a, (void *)&name, &length));
    show_un("peer", &name, length);
    show_poll("listens", l);
    show_poll("connected", a);
    SHOW(write(a, "early", 5));
    SHOW(unlink("l"));
    SHOW(connect(c, un("l"), un_len("l")));
    int got = accept(l, NULL, NULL);
    SHOW(read(got, buf, 8));
    close(l);
    show_poll("never accepted", b);
    SHOW(read(b, buf, 8));
    SHOW(write(a, "still", 5));
    SHOW(read(got, buf, 8));
    SHOW(write(got, "here", 4));
    SHOW(read(a, buf, 8));
    close(a);
    SHOW(read(got, buf, 8));
    close(b);
    close(c);
    close(got);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    flags(SOCK_STREAM);
    flags(SOCK_SEQPACKET);
    ends(SOCK_STREAM);
    ends(SOCK_SEQPACKET);
    sigpipe(SOCK_STREAM);
    sigpipe(SOCK_SEQPACKET);
    sigpipe(SOCK_DGRAM);
    backlog();

    puts("- full");
    int s[2], ep = epoll_create1(0);
    struct epoll_event ev = {EPOLLIN | EPOLLOUT | EPOLLET, {.u32 = 7}}, got[4];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s);
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &ev));
    SHOW(epoll_wait(ep, got, 4, 0));
    SHOW(got[0].events);
    SHOW(epoll_wait(ep, got, 4, 0));
    long sent = 0, n;
    while ((n = write(s[0], big, sizeof(big))) > 0)
        sent += n;
    SHOW(n);
    CHECK(sent > 100000 && sent < 1000000);
    show_poll("full", s[0]);
    SHOW(epoll_wait(ep, got, 4, 0));
    long received = 0;
    while ((n = read(s[1], big, 50000)) > 0)
        received += n;
    CHECK(received == sent);
    SHOW(epoll_wait(ep, got, 4, 0));
    SHOW(got[0].events);
    SHOW(write(s[1], "x", 1));
    SHOW(epoll_wait(ep, got, 4, 0));
    SHOW(got[0].events);
    SHOW(epoll_wait(ep, got, 4, 0));
    SHOW(write(s[1], "y", 1));
    SHOW(epoll_wait(ep, got, 4, 0));
    close(s[1]);
    SHOW(epoll_wait(ep, got, 4, 0));
    SHOW(got[0].events);
    return 0;
}
