/* Memory that is read and written in every way: by the program, by the kernel for it, by a child, under two names. */
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int counter;
char buffer[64];
char *shared;
volatile int sum;
struct { char pad[3]; int odd; } __attribute__((packed)) volatile crooked;

static int deep(int n)
{
    volatile int local = n;
    local += 2;
    return local;
}

int caller(int n)
{
    int result = deep(n);
    return result + 1;
}

int main(void)
{
    int ends[2];
    counter = 1;
    counter = 1;
    counter = 2;
    sum = counter + 1;
    if (pipe(ends) || write(ends[1], "hello", 5) != 5) return 1;
    if (read(ends[0], buffer, 5) != 5) return 2;
    if (write(ends[1], buffer + 2, 3) != 3) return 3;
    crooked.odd = 5;
    sum = crooked.odd;
    sum = caller(3);
    memset(buffer, 'x', sizeof buffer);
    shared = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[0] = 1;
    pid_t child = fork();
    if (child == 0) {
        counter = 100;
        shared[0] = 2;
        shared[4096] = 1;
        _exit(7);
    }
    int status;
    waitpid(child, &status, 0);
    counter = 3;
    sum = shared[0] + shared[4096];
    munmap(shared, 8192);
    return sum == 3 ? 0 : 4;
}
