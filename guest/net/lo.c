// What programs learn of lo: getifaddrs over netlink, SIOCGIF*, netlink itself, /proc/net.
#include "net.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

static void lines_of(const char *path, const char *what)
{
    FILE *file = fopen(path, "r");
    char line[512];
    int n = 0;
    while (fgets(line, sizeof(line), file))
        if (!n++ || strstr(line, what))
            printf("%zu %.*s\n", n == 1 ? strlen(line) : 0, n == 1 ? 300 : 40, line);
    fclose(file);
}

int main(void)
{
    struct ifaddrs *all, *one;
    char text[64];
    SHOW(getifaddrs(&all));
    for (one = all; one; one = one->ifa_next) {
        if (strcmp(one->ifa_name, "lo") || !one->ifa_addr)
            continue;
        int family = one->ifa_addr->sa_family;
        printf("lo flags %#x family %d", one->ifa_flags, family);
        if (family == AF_INET) {
            printf(" %s", inet_ntoa(((struct sockaddr_in *)one->ifa_addr)->sin_addr));
            printf(" mask %s", inet_ntoa(((struct sockaddr_in *)one->ifa_netmask)->sin_addr));
        } else if (family == AF_INET6)
            printf(" %s", inet_ntop(AF_INET6, &((struct sockaddr_in6 *)one->ifa_addr)->sin6_addr, text, sizeof(text)));
        putchar('\n');
    }
    SHOW(if_nametoindex("lo"));
    SHOW(if_nametoindex("nothing"));
    printf("%s\n", if_indextoname(1, text));

    puts("- ioctl");
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r = {.ifr_name = "lo"};
    SHOW(ioctl(s, SIOCGIFFLAGS, &r));
    printf("%#x\n", r.ifr_flags & 0xffff);
    SHOW(ioctl(s, SIOCGIFADDR, &r));
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
    SHOW(ioctl(s, SIOCGIFNETMASK, &r));
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
    SHOW(ioctl(s, SIOCGIFMTU, &r));
    SHOW(r.ifr_mtu);
    SHOW(ioctl(s, SIOCGIFHWADDR, &r));
    SHOW(r.ifr_hwaddr.sa_family);
    SHOW(ioctl(s, SIOCGIFINDEX, BAD));
    strcpy(r.ifr_name, "none");
    SHOW(ioctl(s, SIOCGIFFLAGS, &r));
    SHOW(ioctl(s, 0x12345678, &r));

    puts("- netlink");
    SHOW(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE));
    SHOW(socket(AF_NETLINK, SOCK_RAW, 31));
    int n = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct sockaddr_nl at = {.nl_family = AF_NETLINK}, other = {.nl_family = AF_INET};
    socklen_t length = sizeof(at);
    SHOW(bind(n, (void *)&at, 4));
    SHOW(bind(n, (void *)&other, sizeof(other)));
    SHOW(bind(n, (void *)&at, sizeof(at)));
    SHOW(getsockname(n, (void *)&at, &length));
    CHECK(at.nl_pid == getpid());
    char reply[20000];
    SHOW(recv(n, reply, sizeof(reply), 0));
    struct {
        struct nlmsghdr h;
        struct rtgenmsg g;
        char pad[60];
    } ask = {{.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)), .nlmsg_type = RTM_GETADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 77}, {AF_INET}};
    SHOW(send(n, &ask, ask.h.nlmsg_len, 0));
    long got = recv(n, reply, sizeof(reply), 0);
    CHECK(got > 0);
    struct nlmsghdr *h = (void *)reply;
    SHOW(h->nlmsg_type);
    SHOW(h->nlmsg_seq);
    SHOW(h->nlmsg_flags & NLM_F_MULTI);
    CHECK(h->nlmsg_pid == getpid());
    ask.h.nlmsg_type = 999;
    ask.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    while (recv(n, reply, sizeof(reply), 0) > 0)
        ;
    SHOW(send(n, &ask, ask.h.nlmsg_len, 0));
    SHOW(recv(n, reply, sizeof(reply), 0) > 0);
    SHOW(h->nlmsg_type);
    SHOW(((struct nlmsgerr *)NLMSG_DATA(h))->error);

    puts("- /proc/net");
    lines_of("/proc/net/if_inet6", " lo");
    lines_of("/proc/self/net/dev", "no such line");
    FILE *f = fopen("/proc/net/unix", "r");
    char line[512];
    fgets(line, sizeof(line), f);
    fputs(line, stdout);
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(l, un("@guest-listed"), un_len("@guest-listed"));
    listen(l, 1);
    fclose(f);
    f = fopen("/proc/net/unix", "r");
    while (fgets(line, sizeof(line), f))
        if (strstr(line, "@guest-listed"))
            printf("%.37s%s", strchr(line, ':'), strchr(line, '@'));
    fclose(f);
    int t = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET6, SOCK_STREAM, 0);
    bind(t, inet(INADDR_LOOPBACK, 0), 16);
    listen(t, 1);
    bind(u, inet(INADDR_LOOPBACK, 0), 16);
    bind(v, inet6("::1", 0), 28);
    listen(v, 1);
    const char *files[] = {"/proc/net/tcp", "/proc/net/udp", "/proc/net/tcp6", "/proc/net/udp6"};
    int fds[] = {t, u, v, -1};
    for (int i = 0; i < 4; i++) {
        f = fopen(files[i], "r");
        fgets(line, sizeof(line), f);
        printf("%zu %s", strlen(line), line);
        char wanted[60];
        sprintf(wanted, ":%04X ", fds[i] < 0 ? 0xfffff : port_of(fds[i]));
        while (fgets(line, sizeof(line), f)) {
            char *at = strstr(line, wanted);
            if (at && strlen(line) > 90) {
                char *local = strchr(line, ':') + 2;
                printf("%zu %.*s%.50s\n", i < 2 ? strlen(line) : 0, (int)(at - local), local, at + 5);
            }
        }
        fclose(f);
    }
    sprintf(text, "/proc/self/fd/%d", t);
    char link[64] = "";
    readlink(text, link, 63);
    printf("%.8s\n", link);
    struct stat st;
    fstat(t, &st);
    sprintf(text, "socket:[%lu]", (long)st.st_ino);
    CHECK(!strcmp(text, link));
    return 0;
}
