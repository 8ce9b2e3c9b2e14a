// splice, tee, vmsplice, sendfile, copy_file_range between files, pipes and processes.
#include "guest.h"
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

static int status_of(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void errors(int file, int *p, int *q)
{
    loff_t off = 0;
    int dir = open(".", O_RDONLY), null = open("/dev/null", O_RDWR);
    SHOW(splice(file, NULL, file, NULL, 10, 0));
    SHOW(splice(99, NULL, p[1], NULL, 10, 0));
    SHOW(splice(p[1], NULL, q[1], NULL, 10, 0));
    SHOW(splice(p[0], NULL, q[0], NULL, 10, 0));
    SHOW(splice(p[0], &off, file, NULL, 10, 0));
    SHOW(splice(file, NULL, p[1], &off, 10, 0));
    SHOW(splice(p[0], NULL, p[1], NULL, 10, 0));
    SHOW(splice(file, NULL, p[1], NULL, 10, 64));
    SHOW(splice(file, NULL, p[1], NULL, 0, 64));
    SHOW(splice(99, NULL, p[1], NULL, 0, 0));
    SHOW(splice(file, (void *)-8L, p[1], NULL, 10, 0));
    off = -5;
    SHOW(splice(file, &off, p[1], NULL, 10, 0));
    SHOW(splice(dir, NULL, p[1], NULL, 10, 0));
    SHOW(tee(file, p[1], 10, 0));
    SHOW(tee(p[0], p[1], 10, 0));
    SHOW(tee(p[0], q[1], 10, SPLICE_F_NONBLOCK));
    SHOW(tee(p[0], q[1], 0, 0));
    SHOW(splice(p[0], NULL, q[1], NULL, 10, SPLICE_F_NONBLOCK));
    SHOW(splice(p[0], NULL, null, NULL, 10, SPLICE_F_NONBLOCK));
    SHOW(vmsplice(file, NULL, 0, 0));
    struct iovec v = {"abc", 3};
    SHOW(vmsplice(file, &v, 1, 0));
    SHOW(sendfile(file, p[0], NULL, 10));
    SHOW(sendfile(p[1], file, (void *)-8L, 10));
    SHOW(sendfile(p[1], dir, NULL, 10));
    SHOW(sendfile(p[1], p[1], NULL, 10));
    SHOW(copy_file_range(file, NULL, p[1], NULL, 10, 0));
    SHOW(copy_file_range(file, NULL, file, NULL, 10, 1));
    SHOW(copy_file_range(dir, NULL, file, NULL, 10, 0));
    close(dir);
    close(null);
}

int main(void)
{
    int p[2], q[2];
    char buf[200000];
    loff_t off;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    pipe(p);
    pipe(q);
    int file = make_file("f", 50000), out = open("g", O_RDWR | O_CREAT | O_TRUNC, 0644);
    lseek(file, 0, SEEK_SET);
    errors(file, p, q);

    /* file to pipe to file */
    SHOW(splice(file, NULL, p[1], NULL, 5000, 0));
    SHOW(lseek(file, 0, SEEK_CUR));
    off = 49000;
    SHOW(splice(file, &off, p[1], NULL, 5000, 0));
    SHOW((long)off);
    SHOW(splice(file, &off, p[1], NULL, 5000, 0));
    SHOW(splice(p[0], NULL, out, NULL, 4000, 0));
    off = 100;
    SHOW(splice(p[0], NULL, out, &off, 100000, 0));
    SHOW((long)off);
    SHOW(lseek(out, 0, SEEK_CUR));
    SHOW(lseek(out, 0, SEEK_END));
    SHOW(pread(out, buf, sizeof(buf), 0));
    printf("%08x\n", checksum(buf, 4000));

    /* a full pipe */
    lseek(file, 0, SEEK_SET);
    SHOW(splice(file, NULL, p[1], NULL, 500000, 0));
    SHOW(splice(file, NULL, p[1], NULL, 500000, SPLICE_F_NONBLOCK));
    lseek(file, 1, SEEK_SET);
    SHOW(splice(file, NULL, p[1], NULL, 500000, SPLICE_F_NONBLOCK));
    SHOW(tee(p[0], q[1], 10000, 0));
    SHOW(read(q[0], buf, 200000));
    SHOW(splice(p[0], NULL, q[1], NULL, 20000, 0));
    SHOW(read(q[0], buf, 200000));
    printf("%08x\n", checksum(buf, 20000));
    while (read(p[0], buf, 65536) == 65536)
        ;

    /* vmsplice both ways */
    struct iovec v[2] = {{"hello ", 6}, {"world", 5}};
    SHOW(vmsplice(p[1], v, 2, 0));
    memset(buf, 0, 20);
    struct iovec r[2] = {{buf, 4}, {buf + 4, 100}};
    SHOW(vmsplice(p[0], r, 2, 0));
    puts(buf);
    SHOW(vmsplice(p[1], v, 1, 99));
    SHOW(vmsplice(p[1], v, 2000, 0));

    /* waiting for another process */
    pid_t child = fork();
    if (!child) {
        usleep(10000);
        write(p[1], "late", 4);
        usleep(10000);
        write(p[1], "tee", 3);
        _exit(0);
    }
    SHOW(splice(p[0], NULL, q[1], NULL, 100, 0));
    SHOW(tee(p[0], q[1], 100, 0));
    SHOW(read(q[0], buf, 100));
    SHOW(read(p[0], buf, 100));
    SHOW(status_of(child));
    child = fork();
    if (!child) {
        close(p[1]);
        usleep(10000);
        size_t total = 0;
        ssize_t n;
        while (total < 150000 && (n = read(p[0], buf, sizeof(buf))) > 0)
            total += n;
        _exit(total == 150000 ? 0 : 1);
    }
    for (int i = 0; i < 3; i++) {
        off = 0;
        ssize_t n, total = 0;
        while (total < 50000 && (n = splice(file, &off, p[1], NULL, 50000 - total, 0)) > 0)
            total += n;
        SHOW(total);
    }
    SHOW(status_of(child));

    /* sendfile: into a pipe that is read, from an offset, appending */
    child = fork();
    if (!child) {
        close(p[1]);
        usleep(10000);
        size_t total = 0;
        ssize_t n;
        while ((n = read(p[0], buf, 3000)) > 0)
            total += n;
        _exit(total == 100000 ? 0 : 1);
    }
    lseek(file, 0, SEEK_SET);
    SHOW(sendfile(p[1], file, NULL, 1000000));
    SHOW(lseek(file, 0, SEEK_CUR));
    off_t small = 0;
    SHOW(sendfile(p[1], file, &small, 1000000));
    SHOW(small);
    while (small < 50000)
        sendfile(p[1], file, &small, 1000000);
    close(p[1]);
    SHOW(status_of(child));
    small = 45000;
    SHOW(sendfile(out, file, &small, 10000));
    int append = open("g", O_WRONLY | O_APPEND);
    small = 0;
    SHOW(sendfile(append, file, &small, 10));
    SHOW(splice(q[0], NULL, append, NULL, 10, SPLICE_F_NONBLOCK));
    write(q[1], "abc", 3);
    SHOW(splice(q[0], NULL, append, NULL, 10, SPLICE_F_NONBLOCK));

    /* copy_file_range */
    off = 40000;
    loff_t to = 10;
    SHOW(copy_file_range(file, &off, out, &to, 20000, 0));
    SHOW((long)off);
    SHOW((long)to);
    lseek(file, 0, SEEK_SET);
    SHOW(copy_file_range(file, NULL, out, NULL, 100, 0));
    SHOW(lseek(file, 0, SEEK_CUR));
    off = 0, to = 50;
    SHOW(copy_file_range(file, &off, file, &to, 100, 0));
    to = 1000;
    SHOW(copy_file_range(file, &off, file, &to, 100, 0));
    off = 100000;
    SHOW(copy_file_range(file, &off, out, NULL, 100, 0));
    SHOW(copy_file_range(file, NULL, append, NULL, 100, 0));

    /* nobody reads */
    close(p[0]);
    pipe(p);
    close(p[0]);
    SHOW(splice(file, NULL, p[1], NULL, 10, 0));
    SHOW(sendfile(p[1], file, NULL, 10));
    SHOW(vmsplice(p[1], v, 1, 0));
    write(q[1], "abc", 3);
    SHOW(tee(q[0], p[1], 10, 0));
    SHOW(splice(q[0], NULL, p[1], NULL, 10, 0));
    close(q[1]);
    read(q[0], buf, 100);
    pipe(p);
    SHOW(splice(q[0], NULL, p[1], NULL, 10, 0));
    SHOW(tee(q[0], p[1], 10, 0));
    unlink("f");
    unlink("g");
    return 0;
}
