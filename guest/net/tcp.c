// TCP over the loopback: errors in their order, connections with and without waiting, half-closed, reset, urgent data.
#include "net.h"

static char big[1 << 20];

/* A listener on a port of the kernel's choice. */
static int listener(int backlog)
{
    int l = socket(AF_INET, SOCK_STREAM, 0);
    bind(l, inet(INADDR_LOOPBACK, 0), sizeof(struct sockaddr_in));
    listen(l, backlog);
    return l;
}

/* Two ends of a connection: s[0] connects, s[1] is accepted. */
static void tcp_pair(int *s)
{
    int l = listener(5);
    s[0] = socket(AF_INET, SOCK_STREAM, 0);
    connect(s[0], inet(INADDR_LOOPBACK, port_of(l)), sizeof(struct sockaddr_in));
    s[1] = accept(l, NULL, NULL);
    close(l);
}

static void show_in(const char *what, int fd, int (*get)(int, struct sockaddr *, socklen_t *), int port)
{
    struct sockaddr_in at = {0};
    socklen_t length = sizeof(at);
    int result = get(fd, (struct sockaddr *)&at, &length);
    printf("%s: %d errno %d", what, result, result ? errno : 0);
    if (!result)
        printf(" length %u family %d %s port %s", length, at.sin_family, inet_ntoa(at.sin_addr), ntohs(at.sin_port) == port ? "as expected" : at.sin_port ? "other" : "0");
    putchar('\n');
}

static void errors(void)
{
    char buf[64];
    struct sockaddr_in at;
    puts("- socket");
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    SHOW(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    SHOW(socket(AF_INET, SOCK_SEQPACKET, 0));
    SHOW(socket(AF_INET, SOCK_RDM, 0));
    SHOW(socket(AF_INET, SOCK_STREAM, 400));
    SHOW(socket(AF_INET, SOCK_STREAM, -1));
    SHOW(socket(AF_INET6, SOCK_STREAM, 300));
    int fds[2];
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, fds));

    puts("- fresh");
    int s = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    SHOW(get_option(s, SOL_SOCKET, SO_PROTOCOL));
    SHOW(get_option(s, SOL_SOCKET, SO_DOMAIN));
    show_poll("fresh", s);
    SHOW(send(s, "x", 1, 0));
    SHOW(recv(s, buf, 1, 0));
    SHOW(accept(s, NULL, NULL));
    show_in("name", s, (void *)getsockname, 0);
    show_in("peer", s, (void *)getpeername, 0);
    SHOW(recv(s, buf, 1, MSG_OOB));
    SHOW(recv(s, buf, 1, MSG_ERRQUEUE));
    int n;
    SHOW(ioctl(s, FIONREAD, &n));
    SHOW(n);

    puts("- bind");
    SHOW(bind(s, inet(INADDR_LOOPBACK, 0), 15));
    SHOW(bind(s, inet6("::1", 0), 28));
    SHOW(bind(s, inet(0x01020304, 0), 16));
    memcpy(&at, inet(INADDR_LOOPBACK, 0), sizeof(at));
    at.sin_family = AF_UNSPEC;
    SHOW(bind(s, (void *)&at, 16));
    SHOW(bind(s, inet(INADDR_LOOPBACK, 0), 16));
    SHOW(bind(s, inet(INADDR_LOOPBACK, 0), 16));
    int port = port_of(s), t = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(port >= 1024);
    SHOW(bind(t, inet(INADDR_LOOPBACK, port), 16));
    SHOW(bind(t, inet(INADDR_ANY, port), 16));
    SHOW(bind(t, inet(INADDR_LOOPBACK + 1, port), 16));
    SHOW(listen(s, 5));
    SHOW(listen(s, 6));
    SHOW(connect(s, inet(INADDR_LOOPBACK, port), 16));
    SHOW(send(s, "x", 1, 0));
    SHOW(recv(s, buf, 1, 0));
    SHOW(ioctl(s, FIONREAD, &n));
    SHOW(ioctl(s, TIOCOUTQ, &n));
    SHOW(get_option(s, SOL_SOCKET, SO_ACCEPTCONN));
    close(t);

    puts("- SO_REUSEADDR");
    int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0);
    set_option(a, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(b, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind(a, inet(INADDR_LOOPBACK, 0), 16));
    SHOW(bind(b, inet(INADDR_LOOPBACK, port_of(a)), 16));
    SHOW(listen(a, 1));
    SHOW(listen(b, 1));
    close(b);
    b = socket(AF_INET, SOCK_STREAM, 0);
    set_option(b, SOL_SOCKET, SO_REUSEADDR, 1);
    SHOW(bind(b, inet(INADDR_LOOPBACK, port_of(a)), 16));
    close(a);
    close(b);
    a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0);
    set_option(a, SOL_SOCKET, SO_REUSEPORT, 1);
    SHOW(bind(a, inet(INADDR_LOOPBACK, 0), 16));
    SHOW(bind(b, inet(INADDR_LOOPBACK, port_of(a)), 16));
    set_option(b, SOL_SOCKET, SO_REUSEPORT, 1);
    SHOW(bind(b, inet(INADDR_LOOPBACK, port_of(a)), 16));
    SHOW(listen(a, 1));
    SHOW(listen(b, 1));
    close(a);
    close(b);

    puts("- connect");
    a = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(a, inet(INADDR_LOOPBACK, 1), 1));
    SHOW(connect(a, inet(INADDR_LOOPBACK, 1), 15));
    SHOW(connect(a, inet6("::1", 1), 28));
    SHOW(connect(a, inet(INADDR_LOOPBACK, 1), 16));
    show_poll("refused", a);
    SHOW(get_option(a, SOL_SOCKET, SO_ERROR));
    SHOW(connect(a, inet(0xe0000001, 1), 16));
    SHOW(connect(a, inet(0x7fffffff, 1), 16));
    SHOW(connect(a, inet(INADDR_LOOPBACK, port), 16));
    show_in("peer", a, (void *)getpeername, port);
    SHOW(connect(a, inet(INADDR_LOOPBACK, port), 16));
    SHOW(listen(a, 1));
    SHOW(bind(a, inet(INADDR_LOOPBACK, 0), 16));
    int c = accept(s, NULL, NULL);
    show_in("name", c, (void *)getsockname, port);
    show_in("peer", c, (void *)getpeername, port_of(a));
    close(a);
    close(c);
    a = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(a, inet(INADDR_ANY, port), 16));
    show_in("peer", a, (void *)getpeername, port);
    at.sin_family = AF_UNSPEC;
    SHOW(connect(a, (void *)&at, 16));
    show_in("peer", a, (void *)getpeername, port);
    SHOW(connect(a, inet(INADDR_LOOPBACK, port), 16));
    close(a);
    close(s);

    puts("- options");
    s = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(get_option(s, IPPROTO_TCP, TCP_NODELAY));
    SHOW(set_option(s, IPPROTO_TCP, TCP_NODELAY, 7));
    SHOW(get_option(s, IPPROTO_TCP, TCP_NODELAY));
    SHOW(set_option(s, IPPROTO_TCP, TCP_KEEPIDLE, 0));
    SHOW(set_option(s, IPPROTO_TCP, TCP_KEEPIDLE, 30));
    SHOW(get_option(s, IPPROTO_TCP, TCP_KEEPIDLE));
    SHOW(set_option(s, IPPROTO_TCP, TCP_KEEPINTVL, 40000));
    SHOW(set_option(s, IPPROTO_TCP, TCP_KEEPCNT, 128));
    SHOW(get_option(s, IPPROTO_TCP, TCP_KEEPCNT));
    SHOW(set_option(s, IPPROTO_TCP, TCP_SYNCNT, 0));
    SHOW(set_option(s, IPPROTO_TCP, TCP_MAXSEG, 10));
    SHOW(set_option(s, IPPROTO_TCP, 999, 1));
    SHOW(get_option(s, IPPROTO_TCP, 999));
    SHOW(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, "a", 1));
    SHOW(set_option(s, SOL_SOCKET, SO_KEEPALIVE, 1));
    SHOW(get_option(s, SOL_SOCKET, SO_KEEPALIVE));
    SHOW(set_option(s, IPPROTO_IP, IP_TOS, 16));
    SHOW(get_option(s, IPPROTO_IP, IP_TOS));
    SHOW(set_option(s, IPPROTO_IP, IP_TTL, 300));
    SHOW(set_option(s, IPPROTO_IP, IP_TTL, 5));
    SHOW(get_option(s, IPPROTO_IP, IP_TTL));
    SHOW(get_option(s, IPPROTO_IP, 999));
    SHOW(get_option(s, IPPROTO_IP, IP_MTU));
    SHOW(get_option(s, 77, 1));
    SHOW(set_option(s, 77, 1, 1));
    struct linger l = {1, 5};
    SHOW(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
    close(s);
}

static void nonblocking(void)
{
    char buf[8];
    puts("- without waiting");
    int l = listener(5), s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    show_poll("listens", l);
    SHOW(connect(s, inet(INADDR_LOOPBACK, port_of(l)), 16));
    show_poll("connecting", s);
    show_poll("listens", l);
    SHOW(get_option(s, SOL_SOCKET, SO_ERROR));
    SHOW(connect(s, inet(INADDR_LOOPBACK, port_of(l)), 16));
    SHOW(connect(s, inet(INADDR_LOOPBACK, port_of(l)), 16));
    SHOW(recv(s, buf, 8, 0));
    SHOW(send(s, "early", 5, 0));
    int c = accept4(l, NULL, NULL, SOCK_NONBLOCK);
    SHOW(recv(c, buf, 8, 0));
    SHOW(recv(c, buf, 8, 0));
    fcntl(l, F_SETFL, O_NONBLOCK);
    SHOW(accept(l, NULL, NULL));
    int port = port_of(l);
    close(l);
    close(s);
    close(c);
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(connect(s, inet(INADDR_LOOPBACK, port), 16));
    show_poll("refused", s);
    SHOW(get_option(s, SOL_SOCKET, SO_ERROR));
    SHOW(get_option(s, SOL_SOCKET, SO_ERROR));
    SHOW(connect(s, inet(INADDR_LOOPBACK, port), 16));
    SHOW(connect(s, inet(INADDR_LOOPBACK, port), 16));
    SHOW(connect(s, inet(INADDR_LOOPBACK, port), 16));
    close(s);
}

static void ends(void)
{
    int s[2], n;
    char buf[32];
    puts("- half-closed");
    tcp_pair(s);
    SHOW(write(s[0], "last", 4));
    SHOW(shutdown(s[0], SHUT_WR));
    SHOW(shutdown(s[0], SHUT_WR));
    show_poll("shut for writing", s[0]);
    show_poll("the other", s[1]);
    SHOW(send(s[0], "x", 1, 0));
    SHOW(read(s[1], buf, 32));
    SHOW(read(s[1], buf, 32));
    SHOW(write(s[1], "back", 4));
    SHOW(read(s[0], buf, 32));
    SHOW(shutdown(s[1], SHUT_RDWR));
    show_poll("both", s[0]);
    show_poll("both", s[1]);
    SHOW(read(s[0], buf, 32));
    SHOW(send(s[0], "x", 1, 0));
    SHOW(shutdown(s[0], SHUT_RD));
    SHOW(shutdown(s[0], 5));
    close(s[0]);
    close(s[1]);

    puts("- the reader shuts");
    tcp_pair(s);
    SHOW(shutdown(s[1], SHUT_RD));
    show_poll("shut for reading", s[1]);
    SHOW(read(s[1], buf, 32));
    SHOW(write(s[0], "anyway", 6));
    SHOW(read(s[1], buf, 32));
    SHOW(read(s[1], buf, 32));
    close(s[0]);
    close(s[1]);

    puts("- closed");
    tcp_pair(s);
    write(s[1], "bye", 3);
    close(s[1]);
    show_poll("peer closed", s[0]);
    SHOW(read(s[0], buf, 32));
    SHOW(read(s[0], buf, 32));
    SHOW(send(s[0], "one", 3, 0));
    show_poll("reset by what it sent", s[0]);
    SHOW(send(s[0], "two", 3, 0));
    SHOW(get_option(s[0], SOL_SOCKET, SO_ERROR));
    SHOW(read(s[0], buf, 32));
    close(s[0]);

    puts("- closed with something unread");
    tcp_pair(s);
    write(s[0], "unread", 6);
    write(s[1], "before", 6);
    close(s[1]);
    show_poll("reset", s[0]);
    SHOW(read(s[0], buf, 32));
    SHOW(read(s[0], buf, 32));
    SHOW(read(s[0], buf, 32));
    SHOW(send(s[0], "x", 1, 0));
    struct sockaddr_in at;
    socklen_t length = sizeof(at);
    SHOW(getpeername(s[0], (void *)&at, &length));
    close(s[0]);

    puts("- linger for 0 seconds");
    tcp_pair(s);
    struct linger l = {1, 0};
    SHOW(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
    close(s[1]);
    SHOW(send(s[0], "x", 1, 0));
    SHOW(send(s[0], "x", 1, 0));
    close(s[0]);

    puts("- a listener that goes");
    int k = listener(5), c = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(c, inet(INADDR_LOOPBACK, port_of(k)), 16));
    SHOW(write(c, "x", 1));
    close(k);
    show_poll("never accepted", c);
    SHOW(read(c, buf, 1));
    close(c);
    k = listener(5);
    SHOW(shutdown(k, SHUT_RD));
    SHOW(accept(k, NULL, NULL));
    close(k);

    puts("- TIME_WAIT");
    k = listener(5);
    int port = port_of(k);
    c = socket(AF_INET, SOCK_STREAM, 0);
    connect(c, inet(INADDR_LOOPBACK, port), 16);
    int d = accept(k, NULL, NULL);
    close(k);
    k = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(bind(k, inet(INADDR_LOOPBACK, port), 16));
    close(d);
    SHOW(bind(k, inet(INADDR_LOOPBACK, port), 16));
    close(c);
    SHOW(bind(k, inet(INADDR_LOOPBACK, port), 16));
    set_option(k, SOL_SOCKET, SO_REUSEADDR, 1);
    n = bind(k, inet(INADDR_LOOPBACK, port), 16);
    SHOW(n);
    close(k);

    puts("- an early reset");
    k = listener(5);
    c = socket(AF_INET, SOCK_STREAM, 0);
    connect(c, inet(INADDR_LOOPBACK, port_of(k)), 16);
    setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    close(c);
    length = sizeof(at);
    SHOW_OK(d = accept(k, (void *)&at, &length));
    SHOW(read(d, buf, 1));
    SHOW(read(d, buf, 1));
    SHOW(getpeername(d, (void *)&at, &length));
}

static volatile int urgs;

static void on_urg(int signo)
{
    urgs++;
}

static void urgent(int in_line)
{
    int s[2], n;
    char buf[32];
    printf("- urgent, in line %d\n", in_line);
    tcp_pair(s);
    signal(SIGURG, on_urg);
    urgs = 0;
    SHOW(fcntl(s[1], F_SETOWN, getpid()));
    if (in_line)
        set_option(s[1], SOL_SOCKET, SO_OOBINLINE, 1);
    SHOW(recv(s[1], buf, 1, MSG_OOB));
    SHOW(send(s[0], "abc", 3, 0));
    SHOW(send(s[0], "d!", 2, MSG_OOB));
    SHOW(send(s[0], "ef", 2, 0));
    SHOW(urgs);
    show_poll("urgent", s[1]);
    ioctl(s[1], FIONREAD, &n);
    SHOW(n);
    ioctl(s[1], SIOCATMARK, &n);
    SHOW(n);
    SHOW(recv(s[1], buf, 2, 0));
    SHOW(recv(s[1], buf, 32, 0));
    ioctl(s[1], SIOCATMARK, &n);
    SHOW(n);
    SHOW(recv(s[1], buf, 1, MSG_OOB | MSG_PEEK));
    SHOW(recv(s[1], buf, 1, MSG_OOB));
    printf("%c\n", buf[0]);
    SHOW(recv(s[1], buf, 1, MSG_OOB));
    show_poll("taken", s[1]);
    SHOW(recv(s[1], buf, 32, 0));
    printf("%.2s\n", buf);
    ioctl(s[1], SIOCATMARK, &n);
    SHOW(n);
    SHOW(recv(s[1], buf, 32, MSG_DONTWAIT));
    close(s[0]);
    close(s[1]);
}

static void flow(void)
{
    int s[2];
    char buf[16];
    puts("- much");
    tcp_pair(s);
    fcntl(s[0], F_SETFL, O_NONBLOCK);
    fcntl(s[1], F_SETFL, O_NONBLOCK);
    long sent = 0, received = 0, n, wrong = 0;
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = i * 7 + i / 251;
    while ((n = write(s[0], big + sent % 65536, 65536)) > 0)
        sent += n;
    CHECK(sent > 100000);
    show_poll("full", s[0]);
    static char got[100000];
    while ((n = read(s[1], got, sizeof(got))) > 0)
        received += n;
    CHECK(received == sent);
    show_poll("empty", s[0]);
    SHOW(recv(s[1], buf, 4, MSG_TRUNC));
    write(s[0], "0123456789", 10);
    SHOW(recv(s[1], buf, 4, MSG_TRUNC));
    SHOW(recv(s[1], buf, 3, MSG_PEEK));
    SHOW(recv(s[1], buf, 16, 0));
    printf("%.6s\n", buf);
    fcntl(s[1], F_SETFL, 0);
    fflush(stdout);
    if (!fork()) {
        fcntl(s[0], F_SETFL, 0);
        for (size_t at = 0; at < sizeof(big); at += 1000)
            write(s[0], big + at, sizeof(big) - at < 1000 ? sizeof(big) - at : 1000);
        _exit(0);
    }
    close(s[0]);
    static char copy[1 << 20];
    SHOW(recv(s[1], copy, sizeof(copy), MSG_WAITALL));
    CHECK(!memcmp(copy, big, sizeof(big)));
    SHOW(recv(s[1], copy, 1, 0));
    wait(NULL);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    errors();
    nonblocking();
    ends();
    urgent(0);
    urgent(1);
    flow();
    return 0;
}
