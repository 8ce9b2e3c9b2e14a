// The line discipline: what each key does, shown as the echo and as what a reader gets.
#include "guest.h"
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;

static void show(const char *what, int fd)
{
    unsigned char data[512];
    int n = read(fd, data, sizeof data);
    printf("  %s:", what);
    if (n < 0)
        printf(" errno %d", errno);
    for (int i = 0; i < n; i++)
        printf(data[i] > 32 && data[i] < 127 && data[i] != '\\' ? "%c" : "\\%o", data[i]);
    printf("\n");
}

static struct termios base;

static void reset(void)
{
    tcsetattr(slave, TCSANOW, &base);
    tcflush(slave, TCIOFLUSH);
    char junk[4096];
    while (read(master, junk, sizeof junk) > 0) {
    }
    if (write(slave, "\r", 1) != 1) // column 0
        printf("reset failed\n");
    usleep(10000);
    while (read(master, junk, sizeof junk) > 0) {
    }
}

static void type(const char *what, const char *keys, size_t size)
{
    printf("%s\n", what);
    if (write(master, keys, size) != (ssize_t)size)
        printf("  write: errno %d\n", errno);
    usleep(20000);
    show("read", slave);
    show("echo", master);
}

#define TYPE(what, keys) type(what, keys, sizeof keys - 1)

static void set(tcflag_t iflag, tcflag_t no_iflag, tcflag_t lflag, tcflag_t no_lflag, tcflag_t oflag, tcflag_t no_oflag)
{
    reset();
    struct termios t = base;
    t.c_iflag = (t.c_iflag | iflag) & ~no_iflag;
    t.c_lflag = (t.c_lflag | lflag) & ~no_lflag;
    t.c_oflag = (t.c_oflag | oflag) & ~no_oflag;
    tcsetattr(slave, TCSANOW, &t);
}

static void editing(void)
{
    set(0, 0, 0, 0, 0, 0);
    TYPE("erase", "abc\177\177d\n");
    TYPE("erase an empty line", "\177\177\n");
    TYPE("erase a control character", "a\001\177b\n");
    TYPE("erase tabs", "a\tb\177\177\177c\td\177\177\n");
    TYPE("erase a word", "one two_3  \027four\n");
    TYPE("erase words", "a/b c\027\027\027x\n");
    TYPE("kill", "one\ttwo\001\025three\n");
    TYPE("reprint", "ab\001c\022d\n");
    TYPE("literal", "a\026\003b\026\n\026\026\n");
    TYPE("CR is NL", "a\rb\n");
    TYPE("a NUL", "a\0b\n");
    TYPE("nothing after the last line", "");
    TYPE("UTF-8 without IUTF8", "a\303\244\177b\n");
    set(IUTF8, 0, 0, 0, 0, 0);
    TYPE("UTF-8", "a\303\244\177b\n");
    TYPE("a UTF-8 word", "a \303\244\303\266 \027b\n");
    set(0, 0, 0, ECHOE, 0, 0);
    TYPE("without ECHOE", "ab\177c\027d\025e\n");
    set(0, 0, 0, ECHOKE, 0, 0);
    TYPE("without ECHOKE", "ab\025c\n");
    set(0, 0, 0, ECHOKE | ECHOK, 0, 0);
    TYPE("without ECHOK", "ab\025c\n");
    set(0, 0, ECHOPRT, 0, 0, 0);
    TYPE("ECHOPRT", "abc\177\177d\177\177\177e\n");
    set(0, 0, 0, ECHOCTL, 0, 0);
    TYPE("without ECHOCTL", "a\001b\177\177\n");
    set(0, 0, 0, ECHO, 0, 0);
    TYPE("without ECHO", "ab\177c\025d\027e\n");
    set(0, 0, ECHONL, ECHO, 0, 0);
    TYPE("ECHONL", "ab\n");
    set(0, 0, 0, IEXTEN, 0, 0);
    TYPE("without IEXTEN", "one two\027\026\022x\n");
}

static void input_modes(void)
{
    set(IGNCR, 0, 0, 0, 0, 0);
    TYPE("IGNCR", "a\rb\n");
    set(INLCR, ICRNL, 0, ICANON, 0, 0);
    TYPE("INLCR", "a\rb\n");
    set(ISTRIP, 0, 0, 0, 0, 0);
    TYPE("ISTRIP", "\341\342\n");
    set(IUCLC, 0, 0, 0, 0, 0);
    TYPE("IUCLC", "ABCd\n");
    set(PARMRK, 0, 0, 0, 0, 0);
    TYPE("PARMRK", "a\377b\n");
    set(0, 0, 0, ICANON, 0, 0);
    TYPE("raw with echo", "a\n\004\177b");
    TYPE("signals without a group", "a\003b\034c\032d");
    set(0, 0, NOFLSH, 0, 0, 0);
    TYPE("NOFLSH", "abc\003d\n");
    set(0, 0, 0, 0, 0, 0);
    TYPE("a signal flushes", "abc\003d\n");
    set(0, 0, 0, ISIG, 0, 0);
    TYPE("without ISIG", "abc\003d\n");
    set(0, IXON, 0, 0, 0, 0);
    TYPE("without IXON", "a\023b\021c\n");
    struct termios t = base;
    reset();
    t.c_cc[VEOL] = '!';
    t.c_cc[VEOL2] = '?';
    t.c_cc[VERASE] = _POSIX_VDISABLE;
    tcsetattr(slave, TCSANOW, &t);
    TYPE("VEOL", "a!b?c\177\n");
    show("read", slave);
    show("read", slave);
}

static void output_modes(void)
{
    static const struct {
        const char *name;
        tcflag_t on, off;
    } modes[] = {{"ONLCR", 0, 0}, {"none", 0, ONLCR}, {"raw", 0, OPOST}, {"OCRNL", OCRNL, ONLCR},
                 {"ONOCR", ONOCR, 0}, {"ONLRET", ONLRET, 0}, {"XTABS", TAB3, 0}, {"OLCUC", OLCUC, 0}};
    for (unsigned i = 0; i < COUNT(modes); i++) {
        set(0, 0, 0, 0, modes[i].on, modes[i].off);
        printf("output %s\n", modes[i].name);
        if (write(slave, "\rab\tc\bd\n\r\n\te\rf\303\244\t.", 17) != 17)
            printf("  errno %d\n", errno);
        usleep(10000);
        show("shown", master);
    }
}

static void flow(void)
{
    set(0, 0, 0, 0, 0, 0);
    TYPE("stop", "a\023b\n");
    SHOW(write(slave, "x", 1));
    TYPE("go on", "\021");
    SHOW(write(slave, "x", 1));
    usleep(10000);
    show("shown", master);
    set(IXANY, 0, 0, 0, 0, 0);
    TYPE("stop", "\023");
    TYPE("any key", "a");
    TYPE("the rest", "\n");
    set(0, 0, 0, 0, 0, 0);
    SHOW(tcflow(slave, TCOOFF));
    SHOW(write(slave, "x", 1));
    SHOW(tcflow(slave, TCOON));
    SHOW(write(slave, "x", 1));
    SHOW(tcflow(slave, TCIOFF));
    SHOW(tcflow(slave, TCION));
    usleep(10000);
    show("shown", master);
    SHOW(tcflow(slave, 9));
}

static void packets(void)
{
    set(0, 0, 0, 0, 0, 0);
    int on = 1, value;
    SHOW(ioctl(master, TIOCPKT, &on));
    SHOW(ioctl(master, TIOCGPKT, &value));
    printf("packet mode %d\n", value);
    TYPE("data", "a\n");
    show("nothing", master);
    TYPE("stop", "\023");
    TYPE("start", "\021");
    SHOW(tcflush(slave, TCIFLUSH));
    show("flush", master);
    SHOW(tcflush(slave, TCOFLUSH));
    show("flush", master);
    struct termios t = base;
    t.c_iflag &= ~IXON;
    SHOW(tcsetattr(slave, TCSANOW, &t));
    show("no keys for flow", master);
    SHOW(tcsetattr(slave, TCSANOW, &base));
    show("keys for flow", master);
    on = 0;
    SHOW(ioctl(master, TIOCPKT, &on));
    SHOW(ioctl(slave, TIOCPKT, &on));
}

static void times(void)
{
    struct termios t = base;
    reset();
    t.c_lflag &= ~(ICANON | ECHO);
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 1;
    tcsetattr(slave, TCSANOW, &t);
    fcntl(slave, F_SETFL, fcntl(slave, F_GETFL) & ~O_NONBLOCK);
    show("a tenth of a second, and nothing", slave);
    TYPE("something at once", "a");
    t.c_cc[VMIN] = 5;
    tcsetattr(slave, TCSANOW, &t);
    TYPE("too little, but no more comes", "abc");
    TYPE("enough", "abcdef");
    t.c_cc[VTIME] = 0;
    tcsetattr(slave, TCSANOW, &t);
    if (!fork()) {
        for (int i = 0; i < 3; i++) {
            usleep(20000);
            if (write(master, "xy", 2) != 2)
                _exit(1);
        }
        _exit(0);
    }
    usleep(1000);
    char data[5];
    SHOW(read(slave, data, 5));
    usleep(50000);
    show("rest", master);
}

static void long_lines(void)
{
    static char big[6000];
    reset();
    struct termios t = base;
    t.c_lflag &= ~ECHO;
    tcsetattr(slave, TCSANOW, &t);
    fcntl(slave, F_SETFL, fcntl(slave, F_GETFL) | O_NONBLOCK);
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = '\n';
    SHOW(write(master, big, sizeof big));
    usleep(50000);
    int n = read(slave, big, sizeof big);
    printf("a line of 6000: %d, ends with %d %d\n", n, big[n - 2], big[n - 1]);
    SHOW(read(slave, big, sizeof big));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    unlockpt(master);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK);
    tcgetattr(slave, &base);
    editing();
    input_modes();
    output_modes();
    flow();
    packets();
    fflush(stdout);
    times();
    long_lines();
    return 0;
}
