// Pseudo terminals: making a pair, its names and numbers, locks, bytes both ways, closing either end, poll.
// guest: machines=4level,pae,2level
#include "guest.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

static int master, slave;

static void show(const char *what, int fd)
{
    unsigned char data[256];
    int n = read(fd, data, sizeof data);
    printf("%s: %d", what, n);
    if (n < 0)
        printf(" errno %d", errno);
    for (int i = 0; i < n; i++)
        printf(data[i] > 32 && data[i] < 127 && data[i] != '\\' ? " %c" : " \\%o", data[i]);
    printf("\n");
}

static void show_poll(const char *what, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI};
    int n = poll(&p, 1, 0);
    printf("%s: poll %d %#x\n", what, n, p.revents);
}

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        printf("write: errno %d\n", errno);
    usleep(20000); // Linux carries it over in a worker of its own
}

static void make(void)
{
    struct stat st, of_name;
    unsigned number = 0;
    int value;
    char name[64];

    master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    CHECK(master >= 0);
    CHECK(ioctl(master, TIOCGPTN, &number) == 0);
    snprintf(name, sizeof name, "/dev/pts/%u", number);
    CHECK(strcmp(ptsname(master), name) == 0);
    CHECK(stat(name, &st) == 0 && S_ISCHR(st.st_mode));
    CHECK(major(st.st_rdev) == 136 && minor(st.st_rdev) == number);
    CHECK(st.st_uid == geteuid());
    SHOW(open(name, O_RDWR | O_NOCTTY)); // locked
    SHOW(ioctl(master, TIOCGPTLCK, &value));
    printf("locked %d\n", value);
    SHOW(unlockpt(master));
    SHOW(ioctl(master, TIOCGPTLCK, &value));
    printf("locked %d\n", value);
    slave = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
    CHECK(slave >= 0);
    CHECK(isatty(slave) && isatty(master));
    CHECK(strcmp(ttyname(slave), name) == 0);
    CHECK(fstat(slave, &of_name) == 0 && of_name.st_rdev == st.st_rdev);
    SHOW(ioctl(slave, TIOCGPTN, &number));
    SHOW(lseek(slave, 0, SEEK_SET));
    SHOW(fcntl(slave, F_GETFL) & ~O_LARGEFILE);
    SHOW(ioctl(slave, 0x54ff, 0));
    SHOW(ioctl(slave, TIOCGWINSZ, (void *)8));
}

static void both_ways(void)
{
    show_poll("empty master", master);
    show_poll("empty slave", slave);
    show("empty master", master);
    show("empty slave", slave);
    put(slave, "to the master\n\ttab\r\n");
    show_poll("master", master);
    show("master", master);
    put(master, "no line yet");
    show_poll("slave", slave);
    show("slave", slave);
    show("echo", master);
    put(master, ", now\ntwo\n");
    int queued = -1;
    SHOW(ioctl(slave, FIONREAD, &queued));
    printf("queued %d\n", queued);
    show("slave", slave);
    show("slave", slave);
    show("slave", slave);
    show("echo", master);
    char some[4];
    put(master, "abcdefgh\n");
    SHOW(read(slave, some, 3));
    show("rest", slave);
    show("echo", master);
    put(master, "\4");
    SHOW(read(slave, some, 3));
    put(master, "abc\4");
    SHOW(read(slave, some, 3));
    show("nothing behind it", slave);
    put(master, "abcd\4x\n");
    SHOW(read(slave, some, 3));
    show("d", slave);
    show("x", slave);
    show("echo", master);
    SHOW(write(slave, "x", 0));
    SHOW(read(slave, some, 0));
}

static void sizes(void)
{
    struct winsize size = {1, 2, 3, 4};
    SHOW(ioctl(slave, TIOCGWINSZ, &size));
    printf("%d %d %d %d\n", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
    size = (struct winsize){24, 80, 640, 480};
    SHOW(ioctl(master, TIOCSWINSZ, &size));
    size = (struct winsize){0};
    SHOW(ioctl(slave, TIOCGWINSZ, &size));
    printf("%d %d %d %d\n", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
}

static void show_modes(const char *what, int fd)
{
    struct termios t;
    if (tcgetattr(fd, &t)) {
        printf("%s: errno %d\n", what, errno);
        return;
    }
    printf("%s: %#x %#x %#x %#x %d:", what, t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_line);
    for (int i = 0; i < 17; i++)
        printf(" %d", t.c_cc[i]);
    printf(" speed %d %d\n", cfgetispeed(&t), cfgetospeed(&t));
}

static void modes(void)
{
    struct termios t;
    show_modes("slave", slave);
    show_modes("master", master);
    tcgetattr(slave, &t);
    cfmakeraw(&t);
    t.c_cflag = CS7 | PARENB;
    cfsetspeed(&t, B9600);
    SHOW(tcsetattr(slave, TCSANOW, &t));
    show_modes("raw", slave);
    show_modes("master", master);
    put(master, "a\003\r\n");
    show("raw", slave);
    show("no echo", master);
    put(slave, "a\n");
    show("no translation", master);
    tcgetattr(slave, &t);
    t.c_cc[VMIN] = 3;
    SHOW(tcsetattr(slave, TCSADRAIN, &t));
    put(master, "ab");
    show_poll("too few", slave);
    show("too few", slave);
    put(master, "c");
    show_poll("enough", slave);
    show("enough", slave);
    t.c_cc[VMIN] = 0;
    SHOW(tcsetattr(slave, TCSAFLUSH, &t));
    show("none", slave);
    t.c_lflag |= ICANON | ECHO;
    t.c_iflag |= ICRNL;
    t.c_oflag |= OPOST | ONLCR;
    put(master, "left over");
    SHOW(tcsetattr(slave, TCSANOW, &t));
    show("what was typed before is a line", slave);
    SHOW(tcsetattr(slave, 99, &t));
    SHOW(tcflush(slave, 99));
    put(master, "gone");
    SHOW(tcflush(slave, TCIFLUSH));
    put(master, "\n");
    show("after a flush", slave);
    show("echo", master);
    put(slave, "gone too");
    SHOW(tcflush(slave, TCOFLUSH));
    show("flushed", master);
    SHOW(tcsendbreak(slave, 0));
    SHOW(tcdrain(slave));
}

static void closing(void)
{
    char name[64];
    strcpy(name, ptsname(master));
    put(slave, "last words");
    SHOW(close(slave));
    show_poll("no slave", master);
    show("words", master);
    show("end", master);
    slave = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
    CHECK(slave >= 0);
    show_poll("a slave again", master);
    show("empty", master);
    SHOW(close(master));
    show_poll("no master", slave);
    show("no master", slave);
    SHOW(write(slave, "x", 1));
    struct winsize size;
    SHOW(ioctl(slave, TIOCGWINSZ, &size));
    SHOW(tcsetpgrp(slave, getpgrp()));
    SHOW(open(name, O_RDWR | O_NOCTTY));
    SHOW(close(slave));
}

int main(void)
{
    make();
    both_ways();
    sizes();
    modes();
    closing();
    return 0;
}
