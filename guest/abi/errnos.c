// A table of calls that must fail, each in its own way.
#include "guest.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

int main(void)
{
    char buffer[16];
    int pipes[2];
    struct pollfd nothing;
    if (pipe(pipes) || mkdir("dir", 0755))
        return 1;
    int file = make_file("file", 10), dir = open("dir", O_RDONLY | O_DIRECTORY), write_only = open("file", O_WRONLY),
        read_only = open("file", O_RDONLY);
    SHOW(close(-1));
    SHOW(close(500));
    SHOW(read(500, buffer, 1));
    SHOW(read(write_only, buffer, 1));
    SHOW(write(read_only, buffer, 1));
    SHOW(read(dir, buffer, 1));
    SHOW(write(dir, buffer, 1));
    SHOW(pread(file, buffer, 1, -1));
    SHOW(pread(pipes[0], buffer, 1, 0));
    SHOW(lseek(pipes[0], 0, SEEK_SET));
    SHOW(lseek(file, 0, 99));
    SHOW(lseek(file, -100, SEEK_CUR));
    SHOW(open("", O_RDONLY));
    SHOW(open("absent", O_RDONLY));
    SHOW(open("absent/x", O_RDONLY | O_CREAT, 0644));
    SHOW(open("file/x", O_RDONLY));
    SHOW(open("dir", O_WRONLY));
    SHOW(open("dir", O_RDWR | O_CREAT, 0644));
    SHOW(open("file", O_RDONLY | O_DIRECTORY));
    SHOW(open("file", O_RDWR | O_CREAT | O_EXCL, 0644));
    SHOW(open("file/", O_RDONLY));
    SHOW(mkdir("dir", 0755));
    SHOW(mkdir("file/x", 0755));
    SHOW(mkdir("absent/x", 0755));
    SHOW(rmdir("file"));
    SHOW(rmdir("absent"));
    SHOW(rmdir("."));
    SHOW(unlink("dir"));
    SHOW(unlink("absent"));
    SHOW(rename("absent", "x"));
    SHOW(rename("file", "dir"));
    SHOW(rename("dir", "file"));
    SHOW(rename("dir", "dir/inner"));
    SHOW(link("dir", "dirlink"));
    SHOW(link("file", "dir"));
    SHOW(symlink("x", "file"));
    SHOW(symlink("", "empty"));
    SHOW(readlink("file", buffer, 16));
    SHOW(truncate("dir", 0));
    SHOW(truncate("file", -1));
    SHOW(ftruncate(read_only, 0));
    SHOW(ftruncate(pipes[1], 0));
    SHOW(chdir("file"));
    SHOW(chdir("absent"));
    SHOW(fchdir(file));
    SHOW(dup(500));
    SHOW(dup2(500, 3));
    SHOW(dup2(file, -1));
    SHOW(dup3(file, file, 0));
    SHOW(dup3(file, 20, 64));
    SHOW(fcntl(500, F_GETFD));
    SHOW(fcntl(file, 9999));
    SHOW(fcntl(file, F_DUPFD, -1));
    SHOW(pipe2(pipes, 64));
    SHOW(poll(&nothing, 1u << 31, 0));
    SHOW(access("absent", F_OK));
    SHOW(access("file", 64));
    SHOW(faccessat(500, "file", F_OK, 0));
    SHOW(openat(file, "x", O_RDONLY));
    SHOW(openat(500, "x", O_RDONLY));
    SHOW(unlinkat(AT_FDCWD, "file", 77));
    SHOW(syscall(SYS_getdents64, file, buffer, 16));
    SHOW(syscall(SYS_getdents64, dir, buffer, 1));
    SHOW(wait(NULL));
    SHOW(waitpid(1, NULL, 0));
    SHOW(waitpid(-1, NULL, 0x1234));
    SHOW(getpriority(99, 0));
    SHOW(getrlimit(99, (void *)buffer));
    SHOW(syscall(SYS_getrandom, buffer, 16, 64));
    SHOW(syscall(SYS_sched_getaffinity, 0, 1, buffer));
    SHOW(ioctl(file, 0x5401, buffer));
    SHOW(ioctl(500, 0x5401, buffer));
    SHOW(fsync(pipes[0]));
    SHOW(fallocate(file, 0, -1, 5));
    SHOW(fallocate(pipes[0], 0, 0, 5));
    SHOW(fallocate(read_only, 0, 0, 5));
    SHOW(posix_fadvise(pipes[0], 0, 0, 0));
    unlink("file");
    rmdir("dir");
    return 0;
}
