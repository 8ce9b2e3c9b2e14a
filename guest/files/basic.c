// Create, write, seek, read, truncate, append, sparse files.
#include "guest.h"

static void content(int fd)
{
    char text[128] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    for (ssize_t i = 0; i < n; i++)
        putchar(text[i] ? text[i] : '.');
    printf(" (%zd)\n", n);
}

int main(void)
{
    char text[16] = "";
    struct stat st;
    int fd = open("basic.txt", O_RDWR | O_CREAT | O_EXCL, 0640);
    SHOW_OK(fd);
    SHOW(write(fd, "hello world", 11));
    SHOW(lseek(fd, 6, SEEK_SET));
    SHOW(read(fd, text, 16));
    puts(text);
    SHOW(read(fd, text, 16));
    SHOW(lseek(fd, -5, SEEK_END));
    SHOW(write(fd, "there", 5));
    content(fd);
    SHOW(pwrite(fd, "J", 1, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(ftruncate(fd, 5));
    content(fd);
    SHOW(ftruncate(fd, 8));
    content(fd);
    SHOW(lseek(fd, 12, SEEK_SET));
    SHOW(write(fd, "!", 1));
    content(fd);
    int append = open("basic.txt", O_WRONLY | O_APPEND);
    SHOW(lseek(append, 0, SEEK_SET));
    SHOW(write(append, "++", 2));
    SHOW(lseek(append, 0, SEEK_CUR));
    SHOW(pwrite(append, "==", 2, 0)); /* Linux appends even so */
    content(fd);
    SHOW(fstat(fd, &st));
    printf("%o %ld links %ld blocksize %d\n", st.st_mode, (long)st.st_size, (long)st.st_nlink, st.st_blksize > 0);
    int truncated = open("basic.txt", O_RDWR | O_TRUNC);
    SHOW(fstat(fd, &st));
    printf("%ld\n", (long)st.st_size);
    /* a hole of more than 4 GiB */
    SHOW(pwrite64(truncated, "far", 3, 5ll << 30));
    SHOW(fstat(fd, &st));
    struct stat64 st64;
    SHOW(fstat64(fd, &st64));
    printf("%lld sparse %d\n", (long long)st64.st_size, st64.st_blocks < 1000);
    SHOW(pread64(fd, text, 3, 5ll << 30));
    SHOW(pread64(fd, text, 3, 1ll << 32));
    printf("%d\n", text[0]);
    printf("%lld\n", (long long)lseek64(fd, 0, SEEK_END));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(unlink("basic.txt"));
    SHOW(fstat64(fd, &st64));
    printf("links %ld\n", (long)st64.st_nlink);
    SHOW(ftruncate(fd, 3));
    content(fd);
    return 0;
}
