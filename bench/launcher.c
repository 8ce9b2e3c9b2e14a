/* Runs a program and writes to descriptor 3: wall and CPU nanoseconds, peak memory in KiB, wait status.
 *
 * A program begins its life with the peak memory of whoever started it, which must therefore be small: not Python.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec start, end;
    struct rusage usage;
    int status;
    if (argc < 2)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t pid = fork();
    if (pid == 0) {
        close(3);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid)
        return 1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    long long ns = (end.tv_sec - start.tv_sec) * 1000000000ll + end.tv_nsec - start.tv_nsec;
    long long cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000ll +
                    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000ll;
    return dprintf(3, "%lld %lld %ld %d\n", ns, cpu, usage.ru_maxrss, status) < 0;
}
