// Calls that wait: accept, connect, send, receive; timeouts, signals in the middle, other processes.
#include "net.h"
#include <sys/time.h>
#include <sys/sendfile.h>

static char big[400000];
static volatile int alarms;

static void on_alarm(int signo)
{
    alarms++;
}

static void alarm_soon(int flags)
{
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = flags};
    struct itimerval at = {{0, 0}, {0, 20000}};
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &at, NULL);
}

static void set_timeout(int fd, int name, int ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, name, &tv, sizeof(tv));
}

int main(void)
{
    char buf[64];
    int s[2], n, status;
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(l, un("@guest-block"), un_len("@guest-block"));
    listen(l, 0);

    puts("- a server and its clients");
    for (int i = 0; i < 4; i++)
        if (!fork()) {
            int c = socket(AF_UNIX, SOCK_STREAM, 0);
            char text[32] = "", answer[32] = "";
            if (connect(c, un("@guest-block"), un_len("@guest-block")))
                _exit(1);
            sprintf(text, "client %d", i);
            write(c, text, strlen(text) + 1);
            n = read(c, answer, sizeof(answer));
            _exit(n != strlen(text) + 4 || strncmp(answer, "re: ", 4) || strcmp(answer + 4, text) ? 2 : 0);
        }
    for (int i = 0; i < 4; i++) {
        int c = accept(l, NULL, NULL);
        n = recv(c, buf, sizeof(buf), 0);
        write(c, "re: ", 4) == 4 || puts("short");
        send(c, buf, n - 1, MSG_WAITALL);
        shutdown(c, SHUT_WR);
        read(c, buf, 1);
        close(c);
    }
    for (int i = 0; i < 4; i++) {
        wait(&status);
        SHOW(WEXITSTATUS(status) & 1);
    }

    puts("- all of it, whatever the pieces");
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    if (!fork()) {
        close(s[1]);
        memset(big, 'x', sizeof(big));
        write(s[0], big, sizeof(big)) == sizeof(big) || puts("short write");
        usleep(1000);
        write(s[0], "abc", 3);
        usleep(1000);
        write(s[0], "def", 3);
        _exit(0);
    }
    close(s[0]);
    SHOW(recv(s[1], big, sizeof(big), MSG_WAITALL));
    SHOW(recv(s[1], buf, 6, MSG_WAITALL | MSG_PEEK));
    SHOW(recv(s[1], buf, 64, MSG_WAITALL));
    wait(NULL);
    close(s[1]);

    puts("- low water mark");
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    set_option(s[1], SOL_SOCKET, SO_RCVLOWAT, 4);
    if (!fork()) {
        write(s[0], "ab", 2);
        usleep(5000);
        write(s[0], "cd", 2);
        _exit(0);
    }
    SHOW(recv(s[1], buf, 64, 0));
    wait(NULL);

    puts("- timeouts");
    set_timeout(s[1], SO_RCVTIMEO, 10);
    SHOW(recv(s[1], buf, 64, 0));
    SHOW(read(s[1], buf, 64));
    write(s[0], "ab", 2);
    SHOW(recv(s[1], buf, 64, MSG_WAITALL));
    set_timeout(s[0], SO_SNDTIMEO, 10);
    n = write(s[0], big, sizeof(big));
    CHECK(n > 0 && n < sizeof(big));
    SHOW(write(s[0], big, sizeof(big)));
    SHOW(send(s[0], big, sizeof(big), 0));
    set_timeout(l, SO_RCVTIMEO, 10);
    SHOW(accept(l, NULL, NULL));
    int c[3];
    for (int i = 0; i < 3; i++)
        c[i] = socket(AF_UNIX, SOCK_STREAM, 0);
    set_timeout(c[2], SO_SNDTIMEO, 10);
    SHOW(connect(c[0], un("@guest-block"), un_len("@guest-block")));
    SHOW(connect(c[2], un("@guest-block"), un_len("@guest-block")));
    set_timeout(l, SO_RCVTIMEO, 0);

    puts("- signals");
    set_timeout(s[1], SO_RCVTIMEO, 0);
    while (recv(s[1], big, sizeof(big), MSG_DONTWAIT) > 0)
        ;
    alarm_soon(0);
    SHOW(recv(s[1], buf, 64, 0));
    set_timeout(s[1], SO_RCVTIMEO, 60);
    alarm_soon(SA_RESTART);
    SHOW(recv(s[1], buf, 64, 0));
    alarm_soon(SA_RESTART);
    SHOW(read(s[1], buf, 64));
    set_timeout(s[1], SO_RCVTIMEO, 0);
    alarm_soon(SA_RESTART);
    if (!fork()) {
        usleep(60000);
        write(s[0], "late", 4);
        _exit(0);
    }
    SHOW(recv(s[1], buf, 64, 0));
    wait(NULL);
    write(s[0], "part", 4);
    alarm_soon(0);
    SHOW(recv(s[1], buf, 64, MSG_WAITALL));
    SHOW(alarms);

    puts("- datagrams wait for room");
    int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0);
    bind(a, un("@guest-a"), un_len("@guest-a"));
    connect(b, un("@guest-a"), un_len("@guest-a"));
    if (!fork()) {
        for (int i = 0; i < 40; i++)
            send(b, &i, sizeof(i), 0);
        _exit(0);
    }
    int wrong = 0;
    for (int i = 0, j; i < 40; i++) {
        recv(a, &j, sizeof(j), 0);
        wrong += i != j;
    }
    SHOW(wrong);
    wait(NULL);

    puts("- sendfile and splice");
    int p[2], f = make_file("data", 10000);
    lseek(f, 0, SEEK_SET);
    pipe(p);
    close(s[0]);
    close(s[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    SHOW(sendfile(s[0], f, NULL, 10000));
    SHOW(splice(s[1], NULL, p[1], NULL, 4000, 0));
    SHOW(recv(s[1], big, sizeof(big), 0));
    SHOW(splice(p[0], NULL, s[1], NULL, 4000, 0));
    SHOW(recv(s[0], big, sizeof(big), 0));
    printf("%c\n", big[3999]);
    return 0;
}
