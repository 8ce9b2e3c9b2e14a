// guest: machines=4level
/* execve: what the new program keeps and what it does not, scripts, execveat, and every error. */
#include "guest.h"
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

static void handler(int sig)
{
    (void)sig;
}

static int again(char **argv)
{
    struct sigaction usr1, usr2;
    sigset_t blocked, pending;
    stack_t stack;
    char name[17] = "";
    printf("arguments:");
    for (int i = 1; argv[i]; i++)
        printf(" [%s]", argv[i]);
    printf("\nenvironment:");
    for (int i = 1; environ[i]; i++)
        printf(" [%s]", environ[i]);
    printf("\n");
    sigaction(SIGUSR1, NULL, &usr1);
    sigaction(SIGUSR2, NULL, &usr2);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    sigpending(&pending);
    sigaltstack(NULL, &stack);
    CHECK(usr1.sa_handler == SIG_DFL && usr2.sa_handler == SIG_IGN);
    CHECK(sigismember(&blocked, SIGTERM) && sigismember(&pending, SIGTERM) && !sigismember(&pending, SIGUSR2));
    CHECK(stack.ss_flags == SS_DISABLE);
    CHECK(fcntl(100, F_GETFD) == 0 && fcntl(101, F_GETFD) == -1);
    CHECK(umask(0) == 027 && getpid() == atoi(getenv("PID")));
    prctl(PR_GET_NAME, name);
    printf("name %s\n", name);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    SHOW((int)limit.rlim_cur);
    return 12;
}

static int run(const char *path, char **argv, char **envp)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execve(path, argv, envp);
        printf("execve: errno %d\n", errno);
        fflush(stdout);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void script(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    if (write(fd, text, strlen(text)) < 0)
        exit(99);
    close(fd);
}

int main(int argc, char **argv)
{
    char self[PATH_MAX] = "", pid_text[30], *none[] = {NULL};
    if (getenv("PID"))
        return again(argv);
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return 99;
    setvbuf(stdout, NULL, _IOLBF, 0);

    char *args[] = {"name", "one", "", "three words here", NULL}, *env[] = {pid_text, "A=b", "NOEQUALS", "", NULL};
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {200, 300};
        char stack[8192];
        sigset_t term;
        stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
        sprintf(pid_text, "PID=%d", getpid());
        signal(SIGUSR1, handler);
        signal(SIGUSR2, SIG_IGN);
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigprocmask(SIG_BLOCK, &term, NULL);
        raise(SIGTERM);
        sigaltstack(&alt, NULL);
        dup2(1, 100);
        dup3(1, 101, O_CLOEXEC);
        umask(027);
        setrlimit(RLIMIT_NOFILE, &limit);
        prctl(PR_SET_NAME, "renamed");
        execve(self, args, env);
        _exit(98);
    }
    waitpid(pid, &status, 0);
    printf("status %#x\n", status);

    printf("-- errors\n");
    script("plain", "not a program\n");
    script("empty", "");
    script("unreadable", "#!/bin/sh\n");
    script("loop1", "#!./loop2\n");
    script("loop2", "#!./loop1\n");
    script("lost", "#!/nowhere/at/all\n");
    script("bare", "#!\n");
    script("spaces", "#!   \t \n");
    script("directory", "#!/\n");
    chmod("unreadable", 0644);
    mkdir("folder", 0755);
    if (symlink("around", "around") < 0)
        return 99;
    const char *paths[] = {"nowhere", "plain", "empty", "unreadable", "loop1", "lost", "bare", "spaces", "directory",
                           "folder", "around", "plain/x", ""};
    for (size_t i = 0; i < COUNT(paths); i++) {
        printf("%s: ", paths[i]);
        run(paths[i], args, none);
    }
    printf("bad path: ");
    run((char *)8, args, none);
    printf("bad argv: ");
    run(self, (char **)8, none);
    char *bad[] = {"x", (char *)8, NULL};
    printf("bad argument: ");
    run(self, bad, none);
    char *huge = malloc(200000), *too_long[] = {"x", huge, NULL};
    memset(huge, 'y', 199999);
    huge[199999] = 0;
    printf("an argument of 200 kB: ");
    run(self, too_long, none);
    huge[131071] = 0;
    char *much[200] = {"x"};
    for (int i = 1; i < 199; i++)
        much[i] = huge;
    printf("25 MB of arguments: ");
    run(self, much, none);
    char name[300];
    memset(name, 'n', 299);
    name[299] = 0;
    printf("a long name: ");
    run(name, args, none);

    printf("-- scripts\n");
    script("echo1", "#!/bin/echo\n");
    script("echo2", "#! /bin/echo  an argument  with blanks \t\nrest\n");
    script("nested", "#!./echo1 deeper\n");
    script("no_newline", "#!/bin/echo -n");
    char *two[] = {"zero", "one", "two", NULL}, *nothing[] = {NULL};
    SHOW(run("echo1", two, none));
    SHOW(run("./echo2", two, none));
    SHOW(run("nested", two, none));
    SHOW(run("no_newline", two, none));
    printf("\n");
    SHOW(run("echo1", nothing, none));

    printf("-- execveat\n");
    int here = open(".", O_RDONLY | O_DIRECTORY), fd = open("echo1", O_RDONLY), closed = open("echo1", O_RDONLY | O_CLOEXEC);
    struct {
        int fd;
        const char *path;
        int flags;
    } ats[] = {{here, "echo1", 0}, {AT_FDCWD, "echo1", 0}, {closed, "", AT_EMPTY_PATH}, {999, "echo1", 0}, {fd, "x", 0},
               {here, "around", AT_SYMLINK_NOFOLLOW}, {here, "echo1", 0x4000}, {here, "", 0}};
    for (size_t i = 0; i < COUNT(ats); i++) {
        fflush(stdout);
        pid = fork();
        if (pid == 0) {
            syscall(SYS_execveat, ats[i].fd, ats[i].path, two, none, ats[i].flags);
            printf("execveat %zu: errno %d\n", i, errno);
            fflush(stdout);
            _exit(1);
        }
        waitpid(pid, &status, 0);
        printf("status %#x\n", status);
    }
    return 0;
}
