// Data from file to file without passing through the program: sendfile, copy_file_range; pread/pwrite vectors.
#include "guest.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

int main(void)
{
    int in = make_file("in", 3 * PAGE + 7), out = make_file("out", 0);
    off_t offset = PAGE;
    SHOW(sendfile(out, in, &offset, PAGE + 1));
    printf("%ld\n", (long)offset);
    lseek(in, 3 * PAGE, SEEK_SET);
    SHOW(sendfile(out, in, NULL, 100));
    SHOW(lseek(in, 0, SEEK_CUR));
    off64_t from = 0;
    SHOW(copy_file_range(in, &from, out, NULL, 10, 0));
    char text[3][5] = {"", "", ""};
    struct iovec parts[3] = {{text[0], 4}, {text[1], 0}, {text[2], 4}};
    SHOW(preadv(out, parts, 3, PAGE - 3));
    printf("%s|%s|%s\n", text[0], text[1], text[2]);
    SHOW(pwritev(out, parts, 3, 0));
    SHOW(pread(out, text[0], 4, 4));
    puts(text[0]);
    struct stat st;
    fstat(out, &st);
    printf("%ld\n", (long)st.st_size);
    SHOW(fallocate(out, 0, 0, 3 * PAGE));
    fstat(out, &st);
    printf("%ld\n", (long)st.st_size);
    SHOW(fsync(out) | fdatasync(out));
    unlink("in");
    unlink("out");
    return 0;
}
