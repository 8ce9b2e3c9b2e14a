// 200 times: fork, write to 64 pages that parent and child share, exit, wait.
// guest: cflags=-O2
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    char *pages = mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ended = 0;
    for (int i = 0; i < 64; i++)
        pages[i * 4096] = i;
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child == 0) {
            for (int page = 0; page < 64; page++)
                pages[page * 4096]++;
            _exit(pages[5 * 4096]);
        }
        int status;
        if (waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6)
            ended++;
    }
    printf("%d\n", ended);
    return 0;
}
