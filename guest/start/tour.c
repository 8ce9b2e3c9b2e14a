// A walk through the page faults of an ordinary program: what `make run` shows.
#include "guest.h"

int main(void)
{
    catch_faults(0);
    char *fresh = map_pages(4, PROT_READ | PROT_WRITE);
    printf("a fresh page reads as %d: the shared zero page\n", peek(fresh));
    poke(fresh, 1);
    printf("written, it is a page of our own: %d\n", peek(fresh));

    int fd = make_file("tour.txt", 3 * PAGE);
    char *file = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("a file page: '%c', and its neighbour came with it: '%c'\n", peek(file), peek(file + PAGE));
    poke(file, 'X');
    char in_file;
    if (pread(fd, &in_file, 1, 0) != 1)
        return 1;
    printf("a private write copies: here '%c', in the file still '%c'\n", peek(file), in_file);

    mprotect(fresh, PAGE, PROT_READ);
    FAULT(poke(fresh, 2));
    printf("a write to a read-only page: signal %d, code %d (SEGV_ACCERR)\n", caught.signo, caught.code);
    FAULT(poke(NULL, 1));
    printf("a write to address 0: signal %d, code %d (SEGV_MAPERR)\n", caught.signo, caught.code);
    if (ftruncate(fd, PAGE))
        return 1;
    FAULT(peek(file + 2 * PAGE));
    printf("a page beyond the end of its file: signal %d, code %d (BUS_ADRERR)\n", caught.signo, caught.code);
    unlink("tour.txt");
    return 0;
}
