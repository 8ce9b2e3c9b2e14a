// Controlling terminals: who gets one, foreground and background, stops, hang-ups, the end of a session.
#include "guest.h"
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

static int master;
static char name[64];
static volatile sig_atomic_t came[NSIG];

static void on_signal(int sig)
{
    came[sig]++;
}

static void hear(int sig)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(sig, &action, NULL);
    came[sig] = 0;
}

static void new_pair(void)
{
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    unlockpt(master);
    strcpy(name, ptsname(master));
}

static const char *ended(int status)
{
    static char text[64];
    if (WIFSTOPPED(status))
        sprintf(text, "stopped by %d", WSTOPSIG(status));
    else if (WIFSIGNALED(status))
        sprintf(text, "killed by %d", WTERMSIG(status));
    else if (WIFCONTINUED(status))
        sprintf(text, "continued");
    else
        sprintf(text, "exited with %d", WEXITSTATUS(status));
    return text;
}

static void stat_line(const char *what)
{
    char line[512];
    FILE *f = fopen("/proc/self/stat", "r");
    int pgrp, session, tty, foreground;
    if (!f || !fgets(line, sizeof line, f))
        return;
    fclose(f);
    sscanf(strrchr(line, ')') + 2, "%*c %*d %d %d %d %d", &pgrp, &session, &tty, &foreground);
    printf("%s: terminal %s, foreground is %s\n", what, tty ? "yes" : "no",
           foreground == -1 ? "none" : foreground == pgrp ? "ours" : "another");
}

/* Run *body* in a session of its own and wait for it. */
static void in_session(const char *what, void (*body)(void))
{
    printf("%s\n", what);
    fflush(stdout);
    new_pair();
    pid_t pid = fork();
    if (!pid) {
        setsid();
        body();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("  the session's leader %s\n", ended(status));
    fflush(stdout);
    close(master);
}

static void acquiring(void)
{
    stat_line("before");
    SHOW(open("/dev/tty", O_RDWR));
    int slave = open(name, O_RDWR | O_NOCTTY);
    stat_line("with O_NOCTTY");
    SHOW(tcgetpgrp(slave));
    SHOW(tcgetsid(slave));
    SHOW(tcsetpgrp(slave, getpgrp()));
    SHOW_OK(open(name, O_WRONLY));
    stat_line("open for writing only");
    SHOW_OK(open(name, O_RDWR));
    stat_line("open");
    CHECK(tcgetpgrp(slave) == getpgrp());
    CHECK(tcgetsid(slave) == getsid(0));
    CHECK(tcgetpgrp(master) == getpgrp());
    SHOW(tcsetpgrp(master, getpgrp()));
    SHOW(tcsetpgrp(slave, 999999));
    SHOW(tcsetpgrp(slave, -1));
    SHOW(tcsetpgrp(slave, getppid()));
    int tty = open("/dev/tty", O_RDWR);
    CHECK(tty >= 0);
    CHECK(tcgetpgrp(tty) == getpgrp());
    SHOW(ioctl(tty, TIOCSCTTY, 0));
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        stat_line("a child");
        SHOW(ioctl(slave, TIOCSCTTY, 0));
        SHOW(ioctl(slave, TIOCNOTTY));
        stat_line("that gave it up");
        setsid();
        stat_line("in a session of its own");
        SHOW(ioctl(slave, TIOCSCTTY, 0));
        SHOW(tcgetpgrp(slave));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    stat_line("the leader");
    hear(SIGHUP);
    hear(SIGCONT);
    SHOW(ioctl(slave, TIOCNOTTY));
    printf("heard HUP %d, CONT %d\n", came[SIGHUP], came[SIGCONT]);
    stat_line("the leader has given it up");
    SHOW(ioctl(slave, TIOCSCTTY, 0));
    stat_line("and taken it again");
}

static void keys(void)
{
    int slave = open(name, O_RDWR);
    static const struct {
        char key;
        int sig;
    } all[] = {{3, SIGINT}, {28, SIGQUIT}, {26, SIGTSTP}};
    for (unsigned i = 0; i < COUNT(all); i++) {
        hear(all[i].sig);
        if (write(master, &all[i].key, 1) != 1)
            printf("write failed\n");
        usleep(20000);
        printf("key %d: signal %d came %d times\n", all[i].key, all[i].sig, came[all[i].sig]);
    }
    hear(SIGINT);
    char c;
    if (!fork()) {
        usleep(30000);
        if (write(master, "\3", 1) != 1)
            _exit(1);
        _exit(0);
    }
    SHOW(read(slave, &c, 1));
    hear(SIGWINCH);
    struct winsize size = {10, 20, 0, 0};
    SHOW(ioctl(slave, TIOCSWINSZ, &size));
    printf("WINCH %d\n", came[SIGWINCH]);
    SHOW(ioctl(master, TIOCSWINSZ, &size));
    printf("WINCH %d\n", came[SIGWINCH]);
    size.ws_row++;
    SHOW(ioctl(master, TIOCSWINSZ, &size));
    printf("WINCH %d\n", came[SIGWINCH]);
    SHOW(ioctl(master, TIOCSIG, SIGWINCH));
    printf("WINCH %d\n", came[SIGWINCH]);
    SHOW(ioctl(master, TIOCSIG, SIGQUIT));
    printf("QUIT %d\n", came[SIGQUIT]);
    SHOW(ioctl(master, TIOCSIG, 0));
}

static void wait_child(pid_t pid)
{
    int status;
    fflush(stdout);
    if (waitpid(pid, &status, WUNTRACED | WCONTINUED) == pid)
        printf("  the child: %s\n", ended(status));
}

static void background(void)
{
    int slave = open(name, O_RDWR);
    char c;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        printf("  read gives %d", (int)read(slave, &c, 1));
        printf(" %c\n", c);
        fflush(stdout);
        struct termios t;
        tcgetattr(slave, &t);
        t.c_lflag |= TOSTOP;
        printf("  tcsetattr gives %d\n", tcsetattr(slave, TCSANOW, &t));
        printf("  write gives %d\n", (int)write(slave, "x", 1));
        fflush(stdout);
        printf("  tcsetpgrp gives %d\n", tcsetpgrp(slave, getpgrp()));
        fflush(stdout);
        _exit(7);
    }
    setpgid(child, child);
    wait_child(child); // SIGTTIN
    signal(SIGTTOU, SIG_IGN);
    if (write(master, "a\n", 2) != 2)
        printf("write failed\n");
    SHOW(tcsetpgrp(slave, child));
    kill(-child, SIGCONT);
    wait_child(child); // continued
    usleep(20000);
    // It is in the foreground: all goes well, until the end.
    wait_child(child);
    SHOW(tcsetpgrp(slave, getpgrp()));

    fflush(stdout);
    child = fork();
    if (!child) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_DFL);
        if (write(slave, "x", 1) != 1) // TOSTOP is still set
            printf("  write failed\n");
        _exit(0);
    }
    setpgid(child, child);
    wait_child(child); // SIGTTOU
    struct termios t;
    tcgetattr(slave, &t);
    t.c_lflag &= ~TOSTOP;
    tcsetattr(slave, TCSANOW, &t);
    kill(-child, SIGCONT);
    wait_child(child);
    wait_child(child);

    fflush(stdout);
    child = fork();
    if (!child) {
        setpgid(0, 0);
        signal(SIGTTIN, SIG_IGN);
        SHOW(read(slave, &c, 1));
        SHOW(tcflush(slave, TCIFLUSH));
        fflush(stdout);
        _exit(0);
    }
    setpgid(child, child);
    wait_child(child);

    fflush(stdout);
    child = fork();
    if (!child) {
        setpgid(0, 0);
        for (;;)
            pause();
    }
    setpgid(child, child);
    SHOW(tcsetpgrp(slave, child));
    usleep(10000);
    if (write(master, "\32", 1) != 1)
        printf("write failed\n");
    wait_child(child); // ^Z
    SHOW(tcsetpgrp(slave, getpgrp()));
    kill(-child, SIGCONT);
    wait_child(child);
    SHOW(tcsetpgrp(slave, child));
    if (write(master, "\3", 1) != 1)
        printf("write failed\n");
    wait_child(child); // ^C
}

static int from_child[2];

static void say(const char *text)
{
    if (write(from_child[1], text, strlen(text)) < 0)
        _exit(9);
}

static void leaver(void)
{
    int slave = open(name, O_RDWR);
    if (!fork()) {
        hear(SIGHUP);
        hear(SIGCONT);
        close(master);
        say("ready.");
        while (!came[SIGHUP])
            usleep(1000);
        usleep(10000);
        say(came[SIGCONT] ? "HUP and CONT." : "HUP.");
        char c;
        say(read(slave, &c, 1) == -1 && errno == EIO ? "read EIO." : "read ok.");
        say(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO ? "no tty." : "tty.");
        _exit(0);
    }
    close(slave);
    usleep(20000);
}

static void hung_up(void)
{
    int slave = open(name, O_RDWR);
    hear(SIGHUP);
    hear(SIGCONT);
    char c;
    stat_line("before");
    close(master);
    usleep(20000);
    printf("heard HUP %d, CONT %d\n", came[SIGHUP], came[SIGCONT]);
    stat_line("after");
    SHOW(read(slave, &c, 1));
    SHOW(open("/dev/tty", O_RDWR));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    in_session("acquiring", acquiring);
    in_session("keys", keys);
    in_session("background", background);
    if (pipe(from_child))
        return 1;
    in_session("a leader that leaves", leaver);
    close(from_child[1]);
    char text[256] = "";
    for (int n = 0, got; (got = read(from_child[0], text + n, sizeof text - 1 - n)) > 0;)
        n += got;
    printf("  who stayed: %s\n", text);
    fflush(stdout);
    new_pair();
    pid_t pid = fork();
    if (!pid) {
        setsid();
        hung_up();
        fflush(stdout);
        _exit(0);
    }
    close(master); // the child has the last one
    int status;
    waitpid(pid, &status, 0);
    printf("hung up: %s\n", ended(status));
    return 0;
}
