// The program sees itself in /proc.
// guest: args="first second"
#include "guest.h"

int main(int argc, char **argv)
{
    char path[PATH_MAX], real[PATH_MAX], text[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    CHECK(length > 0);
    path[length > 0 ? length : 0] = 0;
    CHECK(realpath(argv[0], real) && strcmp(real, path) == 0);

    int fd = open("/proc/self/cmdline", O_RDONLY);
    length = read(fd, text, sizeof(text));
    close(fd);
    CHECK(strcmp(text, argv[0]) == 0);
    printf("%d %s %s\n", argc, text + strlen(argv[0]) + 1, text + length - 7);
    fd = open("/proc/self/comm", O_RDONLY);
    length = read(fd, text, sizeof(text));
    close(fd);
    printf("%.*s", (int)length, text);

    struct stat by_path, by_link;
    CHECK(stat(path, &by_path) == 0 && stat("/proc/self/exe", &by_link) == 0);
    CHECK(by_path.st_ino == by_link.st_ino && by_path.st_size == by_link.st_size);
    CHECK(map_lines((void *)main, (char *)main + 1) == 1);
    CHECK(map_lines(&fd, &fd + 1) == 1);
    return 0;
}
