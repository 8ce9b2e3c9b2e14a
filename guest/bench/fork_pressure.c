// 20 times: fork a process of 20 MiB, write to every 16th page in the child; the machine of the benchmark has 16.
// guest: cflags=-O2
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 20 << 8 };

int main(void)
{
    unsigned char *p = mmap(NULL, (size_t)PAGES << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int good = 0;
    for (size_t page = 0; page < PAGES; page++)
        p[page << 12] = page;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (!child) {
            int bad = 0;
            for (size_t page = i % 16; page < PAGES; page += 16) {
                bad += p[page << 12] != (unsigned char)page;
                p[page << 12] = ~page;
            }
            _exit(bad != 0);
        }
        int status;
        good += waitpid(child, &status, 0) == child && !status;
    }
    printf("%d\n", good);
    return 0;
}
