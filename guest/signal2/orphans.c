// Orphaned process groups: SIGHUP and SIGCONT for stopped members, and the terminal's stop signals do nothing there.
#include "guest.h"
#include <sys/wait.h>

static int out;

static void note(const char *text)
{
    if (write(out, text, strlen(text)) < 0)
        _exit(9);
}

static void on_hup(int signo) { note("HUP "); }
static void on_cont(int signo) { note("CONT "); }

static void collect(int fd)
{
    char text[200];
    size_t size = 0;
    long got;
    while (size < sizeof(text) - 1 && (got = read(fd, text + size, sizeof(text) - 1 - size)) > 0)
        size += got;
    text[size] = 0;
    printf("%s\n", text);
}

/* A leader with a member in its group: the member stops, then the leader ends. */
static void leader_ends(int stop_first)
{
    int fds[2];
    if (pipe(fds))
        exit(1);
    fflush(stdout);
    pid_t leader = fork();
    if (!leader) {
        close(fds[0]);
        out = fds[1];
        setpgid(0, 0);
        pid_t member = fork();
        if (!member) {
            signal(SIGHUP, on_hup);
            signal(SIGCONT, on_cont);
            if (stop_first) {
                raise(SIGSTOP);
            } else {
                usleep(20000); /* orphaned now */
                raise(SIGTSTP);
                note("TSTP-ignored ");
                raise(SIGTTIN);
                note("TTIN-ignored ");
            }
            note("done");
            _exit(0);
        }
        if (stop_first) {
            int status;
            waitpid(member, &status, WUNTRACED);
            note(WIFSTOPPED(status) ? "stopped " : "NOT-stopped ");
        }
        _exit(0);
    }
    close(fds[1]);
    waitpid(leader, NULL, 0);
    collect(fds[0]);
    close(fds[0]);
}

/* A group of one, whose parent ends: the parent was its only tie to the session. */
static void parent_ends(void)
{
    int fds[2];
    if (pipe(fds))
        exit(1);
    fflush(stdout);
    pid_t parent = fork();
    if (!parent) {
        close(fds[0]);
        out = fds[1];
        pid_t child = fork();
        if (!child) {
            setpgid(0, 0);
            signal(SIGHUP, on_hup);
            signal(SIGCONT, on_cont);
            raise(SIGTSTP);
            note("done");
            _exit(0);
        }
        int status;
        waitpid(child, &status, WUNTRACED);
        note(WIFSTOPPED(status) ? "stopped " : "NOT-stopped ");
        _exit(0);
    }
    close(fds[1]);
    waitpid(parent, NULL, 0);
    collect(fds[0]);
    close(fds[0]);
}

int main(void)
{
    setpgid(0, 0);
    leader_ends(1);
    leader_ends(0);
    parent_ends();
    return 0;
}
