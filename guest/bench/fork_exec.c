// 100 times: fork, execute a static program that says nothing (this one, with an argument), wait.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char *again[] = {argv[0], "child", NULL};
    int ended = 0;
    if (argc > 1)
        return 7;
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            execv(argv[0], again);
            _exit(1);
        }
        int status;
        if (waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7)
            ended++;
    }
    printf("%d\n", ended);
    return 0;
}
