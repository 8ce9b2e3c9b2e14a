// Pipes between processes: end of file, SIGPIPE, atomic writes, partial writes, sizes, signals.
#include "guest.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static volatile int hits;

static void on_signal(int signo)
{
    hits++;
}

static int status_of(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void catch(int signo, int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(signo, &action, NULL);
}

static void end_of_file(void)
{
    int p[2];
    char buf[16];
    pipe(p);
    pid_t writers[3];
    for (int i = 0; i < 3; i++)
        if (!(writers[i] = fork())) {
            close(p[0]);
            usleep(5000 * i);
            write(p[1], "abc" + i, 1);
            _exit(i);
        }
    close(p[1]);
    int total = 0, n;
    while ((n = read(p[0], buf, sizeof(buf))) > 0)
        total += n;
    SHOW(n);
    SHOW(total);
    for (int i = 0; i < 3; i++)
        SHOW(status_of(writers[i]));
    SHOW(read(p[0], buf, 4));
    close(p[0]);
}

static void broken(void)
{
    int p[2];
    pipe(p);
    pid_t child = fork();
    if (!child) {
        close(p[0]);
        close(p[1]);
        pipe(p);
        close(p[0]);
        write(p[1], "x", 1);
        _exit(1);
    }
    SHOW(status_of(child));
    catch(SIGPIPE, 0);
    close(p[0]);
    SHOW(write(p[1], "x", 1));
    SHOW(hits);
    SHOW(write(p[1], "", 0));
    struct pollfd out = {.fd = p[1], .events = POLLOUT};
    SHOW(poll(&out, 1, 0));
    SHOW(out.revents);
    close(p[1]);

    /* The reader goes away in the middle of a long write. */
    pipe(p);
    child = fork();
    if (!child) {
        char buf[1000];
        close(p[1]);
        usleep(10000);
        read(p[0], buf, sizeof(buf));
        _exit(0);
    }
    close(p[0]);
    char *big = calloc(1, 200000);
    hits = 0;
    long n = write(p[1], big, 200000);
    CHECK(n == 65536 || n == 65536 + 4096);
    SHOW(hits);
    SHOW(write(p[1], big, 200000));
    SHOW(hits);
    SHOW(status_of(child));
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(p[1], big, 1));
    close(p[1]);
    free(big);
}

static void sizes(void)
{
    int p[2], n;
    char page[4096] = {0};
    pipe(p);
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    long total = 0;
    while ((n = write(p[1], page, 1000)) > 0)
        total += n;
    SHOW(total);
    SHOW(write(p[1], page, 1));
    SHOW(write(p[1], page, 4096));
    ioctl(p[0], FIONREAD, &n);
    SHOW(n);
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 4096));
    read(p[0], page, 4000);
    SHOW(write(p[1], page, 4096));
    SHOW(write(p[1], page, 96));
    for (int i = 0; i < 15; i++)
        read(p[0], page, 4096);
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 8192));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 0));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, -1));
    SHOW(fcntl(open("/dev/null", O_RDONLY), F_GETPIPE_SZ));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 100000));
    total = 0;
    while ((n = write(p[1], page, 4096)) > 0)
        total += n;
    SHOW(total);
    close(p[0]);
    close(p[1]);

    pipe2(p, O_NONBLOCK);
    SHOW(read(p[0], page, 1));
    char *big = calloc(1, 100000);
    SHOW(write(p[1], big, 100000));
    SHOW(write(p[1], big, 5000));
    read(p[0], page, 4096);
    SHOW(write(p[1], big, 5000));
    free(big);
    close(p[0]);
    close(p[1]);
    SHOW(pipe2(p, O_APPEND));
    pipe2(p, O_DIRECT | O_NONBLOCK);
    write(p[1], "packet", 6);
    write(p[1], "next", 4);
    SHOW(read(p[0], page, 3));
    SHOW(read(p[0], page, 30));
    close(p[0]);
    close(p[1]);
}

/* Writers of records up to PIPE_BUF never mix. */
static void atomic(void)
{
    int p[2];
    pid_t writers[4];
    pipe(p);
    for (int i = 0; i < 4; i++)
        if (!(writers[i] = fork())) {
            char record[500];
            memset(record, 'a' + i, sizeof(record));
            for (int j = 0; j < 300; j++)
                write(p[1], record, sizeof(record));
            _exit(0);
        }
    close(p[1]);
    int records = 0, mixed = 0;
    char record[500];
    for (;;) {
        int have = 0, n;
        while (have < 500 && (n = read(p[0], record + have, 500 - have)) > 0)
            have += n;
        if (have < 500)
            break;
        records++;
        for (int i = 1; i < 500; i++)
            mixed += record[i] != record[0];
    }
    SHOW(records);
    SHOW(mixed);
    for (int i = 0; i < 4; i++)
        SHOW(status_of(writers[i]));
    close(p[0]);
}

static void large(void)
{
    int p[2];
    pipe(p);
    size_t size = 1 << 20;
    unsigned char *data = malloc(size);
    uint32_t state = 7;
    for (size_t i = 0; i < size; i++)
        data[i] = next_random(&state);
    uint32_t sum = checksum(data, size);
    pid_t child = fork();
    if (!child) {
        close(p[0]);
        _exit(write(p[1], data, size) == (ssize_t)size ? 0 : 1);
    }
    close(p[1]);
    memset(data, 0, size);
    size_t have = 0;
    ssize_t n;
    while ((n = read(p[0], data + have, 12345 < size - have ? 12345 : size - have)) > 0)
        have += n;
    CHECK(have == size && checksum(data, size) == sum);
    SHOW(status_of(child));
    close(p[0]);
    free(data);
}

static void signals(void)
{
    int p[2];
    char c = 0;
    pipe(p);
    hits = 0;
    catch(SIGALRM, 0);
    pid_t parent = getpid(), child = fork();
    if (!child) {
        usleep(10000);
        kill(parent, SIGALRM);
        _exit(0);
    }
    SHOW(read(p[0], &c, 1));
    SHOW(hits);
    SHOW(status_of(child));
    catch(SIGALRM, SA_RESTART);
    child = fork();
    if (!child) {
        usleep(10000);
        kill(parent, SIGALRM);
        usleep(10000);
        write(p[1], "r", 1);
        _exit(0);
    }
    SHOW(read(p[0], &c, 1));
    SHOW(hits);
    SHOW(c);
    SHOW(status_of(child));
    /* A long write that was begun ends short. */
    char *big = calloc(1, 100000);
    child = fork();
    if (!child) {
        usleep(10000);
        kill(parent, SIGALRM);
        _exit(0);
    }
    SHOW(write(p[1], big, 100000));
    SHOW(hits);
    SHOW(status_of(child));
    free(big);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    end_of_file();
    broken();
    sizes();
    atomic();
    large();
    signals();
    return 0;
}
