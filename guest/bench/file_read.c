// A file of 16 MiB, read in pieces of 4 KiB.
// guest: cflags=-O2
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static unsigned char piece[4096];
    unsigned long sum = 0, total = 0;
    int fd = open(argc > 1 ? argv[1] : "/dev/null", O_RDONLY);
    for (ssize_t n; (n = read(fd, piece, sizeof(piece))) > 0; total += n)
        sum += piece[n / 2];
    printf("%lu %lu\n", total, sum);
    return 0;
}
