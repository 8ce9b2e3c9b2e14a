// AF_UNIX datagrams: boundaries, senders' names, who may send to whom, queues that are full.
#include "net.h"

int main(void)
{
    char buf[64];
    struct sockaddr_un name;
    socklen_t length;
    signal(SIGPIPE, SIG_IGN);
    int a = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), b = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int c = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    show_poll("fresh", a);
    bind(a, un("a"), un_len("a"));
    bind(b, un("@guest-b"), un_len("@guest-b"));
    puts("- names");
    SHOW(sendto(b, "from b", 6, 0, un("a"), un_len("a")));
    SHOW(sendto(c, "from c", 6, 0, un("a"), un_len("a")));
    SHOW(sendto(c, "", 0, 0, un("a"), un_len("a")));
    show_poll("to read", a);
    length = sizeof(name);
    SHOW(recvfrom(a, buf, 64, 0, (void *)&name, &length));
    show_un("sender", &name, length);
    length = sizeof(name);
    SHOW(recvfrom(a, buf, 3, MSG_TRUNC, (void *)&name, &length));
    printf("sender length %u\n", length);
    SHOW(recvfrom(a, buf, 3, 0, NULL, NULL));
    SHOW(recvfrom(a, buf, 3, 0, NULL, NULL));
    struct iovec in = {buf, 2};
    struct msghdr m = {.msg_name = &name, .msg_namelen = sizeof(name), .msg_iov = &in, .msg_iovlen = 1};
    sendto(b, "longer", 6, 0, un("a"), un_len("a"));
    SHOW(recvmsg(a, &m, 0));
    SHOW(m.msg_flags);
    show_un("sender", &name, m.msg_namelen);
    struct mmsghdr mm = {{.msg_iov = &in, .msg_iovlen = 1}};
    SHOW(recvmmsg(a, &mm, 1, 0, NULL));

    puts("- connected");
    SHOW(connect(c, un("a"), un_len("a")));
    SHOW(getpeername(c, (void *)&name, &length));
    SHOW(send(c, "x", 1, 0));
    SHOW(read(a, buf, 64));
    SHOW(connect(a, un("@guest-b"), un_len("@guest-b")));
    SHOW(send(c, "x", 1, 0));
    SHOW(sendto(c, "x", 1, 0, un("a"), un_len("a")));
    SHOW(connect(c, un("a"), un_len("a")));
    SHOW(sendto(b, "y", 1, 0, un("a"), un_len("a")));
    SHOW(send(a, "z", 1, 0));
    SHOW(read(a, buf, 64));
    SHOW(read(b, buf, 64));
    struct sockaddr none = {AF_UNSPEC};
    SHOW(connect(a, &none, sizeof(none)));
    SHOW(getpeername(a, (void *)&name, &length));
    SHOW(send(a, "x", 1, 0));
    SHOW(send(c, "x", 1, 0));

    puts("- autobind");
    int d = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr only = {AF_UNIX};
    SHOW(bind(d, &only, 2));
    length = sizeof(name);
    SHOW(getsockname(d, (void *)&name, &length));
    SHOW(length);
    SHOW(name.sun_path[0]);
    SHOW(strspn(name.sun_path + 1, "0123456789abcdef"));
    SHOW(bind(d, &only, 2));
    SHOW(bind(d, un("d"), un_len("d")));

    puts("- full");
    int n = 0;
    while (sendto(b, "m", 1, 0, un("a"), un_len("a")) == 1)
        n++;
    SHOW(errno);
    CHECK(n >= 5 && n < 1000);
    show_poll("c, connected to a full one", c);
    show_poll("b", b);
    SHOW(send(c, "x", 1, 0));
    while (read(a, buf, 64) > 0)
        ;
    show_poll("c, connected to an empty one", c);
    SHOW(send(c, "x", 1, 0));

    puts("- the receiver goes");
    close(a);
    show_poll("c", c);
    SHOW(send(c, "x", 1, 0));
    SHOW(send(c, "x", 1, 0));
    SHOW(sendto(c, "x", 1, 0, un("a"), un_len("a")));
    int s[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    SHOW(shutdown(s[0], SHUT_RD));
    show_poll("shut", s[0]);
    show_poll("the other", s[1]);
    SHOW(send(s[1], "x", 1, 0));
    SHOW(recv(s[0], buf, 1, 0));
    SHOW(recv(s[0], buf, 1, MSG_DONTWAIT));
    SHOW(shutdown(s[1], SHUT_WR));
    SHOW(send(s[1], "x", 1, 0));
    close(s[1]);
    show_poll("peer closed", s[0]);
    SHOW(send(s[0], "x", 1, 0));
    SHOW(send(s[0], "x", 1, 0));
    return 0;
}
