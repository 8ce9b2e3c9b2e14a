// mkdir, rmdir, readdir, rename, links, symlinks, dot-dot, working directory.
#include "guest.h"
#include <dirent.h>

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void list(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, by_name);
    printf("%s:", path);
    for (int i = 0; i < n; i++)
        printf(" %s/%d", entries[i]->d_name, entries[i]->d_type);
    putchar('\n');
}

int main(void)
{
    struct stat st, st2;
    char path[PATH_MAX];
    SHOW(mkdir("a", 0755));
    SHOW(mkdir("a/b", 0700));
    close(make_file("a/file", 5));
    SHOW(symlink("file", "a/link"));
    SHOW(symlink("../../a", "a/b/up"));
    SHOW(symlink("loop", "a/loop"));
    SHOW(link("a/file", "a/hard"));
    list("a");
    list("a/b");
    SHOW(stat("a/link", &st));
    printf("%d %ld\n", S_ISREG(st.st_mode), (long)st.st_size);
    SHOW(lstat("a/link", &st));
    printf("%d %ld\n", S_ISLNK(st.st_mode), (long)st.st_size);
    SHOW(stat("a/hard", &st) | stat("a/b/up/b/up/file", &st2));
    CHECK(st.st_ino == st2.st_ino && st.st_nlink == 2);
    SHOW(stat("a/loop", &st));
    SHOW(open("a/link", O_RDONLY | O_NOFOLLOW));
    SHOW(readlink("a/b/up", path, sizeof(path)));
    SHOW(stat("a", &st));
    printf("links of a directory %ld\n", (long)st.st_nlink);
    SHOW(rmdir("a"));
    SHOW(rename("a/file", "a/b/moved"));
    SHOW(rename("a/b", "c"));
    list("a");
    list("c");
    SHOW(chdir("c"));
    CHECK(getcwd(path, sizeof(path)) && strcmp(strrchr(path, '/'), "/c") == 0);
    list("..");
    SHOW(stat("../c/./../a//hard", &st));
    SHOW(chdir(".."));
    int dir = open("c", O_RDONLY | O_DIRECTORY);
    SHOW(openat(dir, "moved", O_RDONLY) > 0);
    SHOW(mkdirat(dir, "inner", 0711));
    SHOW(renameat(dir, "moved", AT_FDCWD, "a/back"));
    SHOW(fstatat(dir, "inner", &st, 0));
    printf("%o\n", st.st_mode);
    SHOW(unlinkat(dir, "inner", AT_REMOVEDIR));
    SHOW(fchdir(dir));
    CHECK(access("up", F_OK) == 0 || errno == ENOENT);
    SHOW(chdir(".."));
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a/back", AT_FDCWD, "a/hard", 1)); /* RENAME_NOREPLACE */
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "a/back", AT_FDCWD, "c", 2));      /* RENAME_EXCHANGE */
    list(".");
    list("a");
    SHOW(rename("a/back", "c2"));
    SHOW(unlink("c2/up"));
    SHOW(rmdir("c2"));
    SHOW(unlink("c"));
    SHOW(unlink("a/link") | unlink("a/loop") | unlink("a/hard"));
    SHOW(rmdir("a"));
    list(".");
    return 0;
}
