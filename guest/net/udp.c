// UDP over the loopback: datagrams, connected and not, what is refused and when it is told, who hears what.
#include "net.h"

static void show_from(const char *what, int fd, int port)
{
    struct sockaddr_in6 at = {0};
    socklen_t length = sizeof(at);
    char buf[64], text[64] = "";
    int n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (void *)&at, &length);
    printf("%s: %d errno %d", what, n, n < 0 ? errno : 0);
    if (n >= 0) {
        if (at.sin6_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)&at)->sin_addr, text, sizeof(text));
        else if (at.sin6_family == AF_INET6)
            inet_ntop(AF_INET6, &at.sin6_addr, text, sizeof(text));
        printf(" '%.*s' from %s length %u port %s", n, buf, text, length, ntohs(at.sin6_port) == port ? "as expected" : "other");
    }
    putchar('\n');
}

int main(void)
{
    char buf[64];
    static char big[70000];
    struct sockaddr_in at;
    socklen_t length = sizeof(at);
    int n;
    signal(SIGPIPE, SIG_IGN);
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP);
    puts("- fresh");
    show_poll("fresh", a);
    SHOW(get_option(a, SOL_SOCKET, SO_PROTOCOL));
    SHOW(send(a, "x", 1, 0));
    SHOW(recv(b, buf, 1, 0));
    SHOW(listen(a, 1));
    SHOW(accept(a, NULL, NULL));
    SHOW(getpeername(a, (void *)&at, &length));
    SHOW(getsockname(a, (void *)&at, &length));
    CHECK(at.sin_port);
    SHOW(bind(a, inet(INADDR_LOOPBACK, 0), 16));
    SHOW(bind(b, inet(INADDR_LOOPBACK, port_of(a)), 16));
    int port = port_of(a);

    puts("- send");
    SHOW(sendto(b, "hello", 5, 0, inet(INADDR_LOOPBACK, port), 16));
    CHECK(port_of(b) > 0);
    show_from("a", a, port_of(b));
    SHOW(sendto(b, "", 0, 0, inet(INADDR_LOOPBACK, port), 16));
    show_poll("an empty one", a);
    show_from("a", a, port_of(b));
    SHOW(sendto(b, "any", 3, 0, inet(INADDR_ANY, port), 16));
    show_from("a", a, port_of(b));
    SHOW(sendto(b, "x", 1, 0, inet(INADDR_LOOPBACK, 0), 16));
    SHOW(sendto(b, "x", 1, 0, inet(INADDR_LOOPBACK, port), 15));
    SHOW(sendto(b, "x", 1, 0, inet6("::1", port), 28));
    SHOW(sendto(b, "x", 1, 0, inet(0x7fffffff, port), 16));
    SHOW(sendto(b, "x", 1, MSG_OOB, inet(INADDR_LOOPBACK, port), 16));
    SHOW(sendto(b, big, 65508, 0, inet(INADDR_LOOPBACK, port), 16));
    SHOW(sendto(b, big, 70000, 0, inet(INADDR_LOOPBACK, port), 16));
    SHOW(sendto(b, big, 65507, 0, inet(INADDR_LOOPBACK, port), 16));
    ioctl(a, FIONREAD, &n);
    SHOW(n);
    SHOW(recv(a, big, 70000, 0));
    SHOW(sendto(b, BAD, 10, 0, inet(INADDR_LOOPBACK, port), 16));

    puts("- cut");
    for (int i = 0; i < 4; i++)
        sendto(b, "0123456789", 10, 0, inet(INADDR_LOOPBACK, port), 16);
    SHOW(recv(a, buf, 4, 0));
    SHOW(recv(a, buf, 4, MSG_TRUNC | MSG_PEEK));
    SHOW(recv(a, buf, 4, MSG_TRUNC));
    struct iovec in = {buf, 4};
    struct msghdr m = {.msg_name = &at, .msg_namelen = 99, .msg_iov = &in, .msg_iovlen = 1};
    SHOW(recvmsg(a, &m, 0));
    SHOW(m.msg_flags);
    SHOW(m.msg_namelen);
    SHOW(read(a, buf, 2));
    SHOW(recv(a, buf, 4, MSG_DONTWAIT));

    puts("- connected");
    SHOW(connect(b, inet(INADDR_LOOPBACK, port), 8));
    SHOW(connect(b, inet(INADDR_LOOPBACK, port), 16));
    SHOW(getpeername(b, (void *)&at, &length));
    SHOW(send(b, "one", 3, 0));
    show_from("a", a, port_of(b));
    SHOW(sendto(a, "two", 3, 0, inet(INADDR_LOOPBACK, port_of(b)), 16));
    show_from("b", b, port);
    int c = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(sendto(c, "other", 5, 0, inet(INADDR_LOOPBACK, port_of(b)), 16));
    show_from("b", b, port);
    SHOW(connect(b, inet(INADDR_LOOPBACK, port_of(c)), 16));
    SHOW(sendto(c, "other", 5, 0, inet(INADDR_LOOPBACK, port_of(b)), 16));
    show_from("b", b, port_of(c));
    memset(&at, 0, sizeof(at));
    SHOW(connect(b, (void *)&at, 16));
    SHOW(send(b, "x", 1, 0));

    puts("- refused");
    int nobody = port_of(c);
    close(c);
    c = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    SHOW(sendto(c, "x", 1, 0, inet(INADDR_LOOPBACK, nobody), 16));
    SHOW(recv(c, buf, 1, 0));
    SHOW(connect(c, inet(INADDR_LOOPBACK, nobody), 16));
    SHOW(send(c, "x", 1, 0));
    show_poll("refused", c);
    SHOW(recv(c, buf, 1, 0));
    SHOW(recv(c, buf, 1, 0));
    SHOW(send(c, "x", 1, 0));
    SHOW(send(c, "x", 1, 0));
    SHOW(send(c, "x", 1, 0));
    SHOW(get_option(c, SOL_SOCKET, SO_ERROR));

    puts("- shut");
    int d = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(shutdown(d, SHUT_RD));
    show_poll("unconnected", d);
    SHOW(recv(d, buf, 1, 0));
    SHOW(connect(d, inet(INADDR_LOOPBACK, port), 16));
    SHOW(shutdown(d, SHUT_WR));
    SHOW(send(d, "x", 1, 0));
    show_poll("shut", d);

    puts("- shared ports");
    int e = socket(AF_INET, SOCK_DGRAM, 0), f = socket(AF_INET, SOCK_DGRAM, 0);
    set_option(e, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind(e, inet(INADDR_ANY, 0), 16));
    SHOW(bind(f, inet(INADDR_LOOPBACK, port_of(e)), 16));
    set_option(f, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind(f, inet(INADDR_LOOPBACK, port_of(e)), 16));
    SHOW(sendto(b, "narrow", 6, 0, inet(INADDR_LOOPBACK, port_of(e)), 16));
    SHOW(sendto(b, "wide", 4, 0, inet(INADDR_LOOPBACK + 1, port_of(e)), 16));
    show_from("e", e, port_of(b));
    show_from("f", f, port_of(b));
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(bind(tcp, inet(INADDR_LOOPBACK, port_of(e)), 16));

    puts("- a full receiver loses datagrams");
    set_option(a, SOL_SOCKET, SO_RCVBUF, 4096);
    int lost = 0;
    for (int i = 0; i < 100; i++)
        SHOW_OK(i ? 0 : sendto(b, big, 1000, 0, inet(INADDR_LOOPBACK, port), 16)), sendto(b, big, 1000, 0, inet(INADDR_LOOPBACK, port), 16);
    for (n = 0; recv(a, big, 1000, MSG_DONTWAIT) > 0; n++)
        ;
    CHECK(n > 0 && n < 50);

    puts("- IPv6");
    int s = socket(AF_INET6, SOCK_DGRAM, 0), t = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    SHOW(bind(s, inet(INADDR_LOOPBACK, 0), 16));
    SHOW(bind(s, inet6("::1", 0), 20));
    SHOW(bind(s, inet6("::", 0), 28));
    SHOW(bind(t, inet6("::1", 0), 28));
    SHOW(sendto(t, "six", 3, 0, inet6("::1", port_of(s)), 28));
    show_from("s", s, port_of(t));
    SHOW(sendto(b, "four", 4, 0, inet(INADDR_LOOPBACK, port_of(s)), 16));
    show_from("s", s, port_of(b));
    SHOW(sendto(s, "back", 4, 0, inet6("::ffff:127.0.0.1", port_of(b)), 28));
    show_from("b", b, port_of(s));
    SHOW(sendto(t, "x", 1, 0, inet6("::ffff:127.0.0.1", port_of(b)), 28));
    SHOW(set_option(t, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    int u = socket(AF_INET6, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(get_option(u, IPPROTO_IPV6, IPV6_V6ONLY));
    SHOW(set_option(u, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    SHOW(bind(u, inet6("::ffff:127.0.0.1", 0), 28));
    SHOW(bind(u, inet6("::", 0), 28));
    SHOW(bind(v, inet(INADDR_ANY, port_of(u)), 16));
    SHOW(sendto(u, "x", 1, 0, inet6("::ffff:127.0.0.1", port), 28));
    SHOW(sendto(b, "to four", 7, 0, inet(INADDR_LOOPBACK, port_of(u)), 16));
    SHOW(sendto(t, "to six", 6, 0, inet6("::1", port_of(u)), 28));
    show_from("u", u, port_of(t));
    show_from("v", v, port_of(b));
    int w = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(bind(w, inet(INADDR_ANY, port_of(s)), 16));
    SHOW(set_option(a, IPPROTO_IP, IP_PKTINFO, 1));
    char control[64];
    struct msghdr p = {.msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    sendto(b, "info", 4, 0, inet(INADDR_LOOPBACK, port), 16);
    SHOW(recvmsg(a, &p, 0));
    struct cmsghdr *h = CMSG_FIRSTHDR(&p);
    struct in_pktinfo info;
    memcpy(&info, CMSG_DATA(h), sizeof(info));
    printf("level %d type %d interface %d to %s\n", h->cmsg_level, h->cmsg_type, info.ipi_ifindex, inet_ntoa(info.ipi_addr));
    return 0;
}
