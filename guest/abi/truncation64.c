// Arguments that are ints: their upper halves are nobody's business.
// guest: arch=x86-64
#include "guest.h"

int main(void)
{
    char c;
    int fd = make_file("cut.txt", 100);
    unsigned long dirty = 0xdeadbeef00000000ul;
    SHOW(syscall(SYS_pread64, dirty | fd, &c, 1, 0));
    SHOW(syscall(SYS_lseek, dirty | fd, 7, dirty | SEEK_SET));
    SHOW(syscall(SYS_lseek, fd, -1l, SEEK_CUR));
    SHOW(syscall(SYS_lseek, fd, 0xfffffffful, SEEK_SET));
    SHOW(syscall(SYS_fcntl, dirty | fd, dirty | F_GETFD, 0));
    SHOW_OK(syscall(SYS_getpid | 0));
    SHOW(syscall(0xffffffff, 0));
    SHOW(syscall(-1l, 0));
    SHOW(syscall(1000, 0));
    SHOW(syscall(SYS_kill, getpid() | dirty, 0ul | dirty));
    unlink("cut.txt");
    return 0;
}
