// /proc: files that are made when they are read.
#include "guest.h"

static bool has(const char *path, const char *word)
{
    static char text[65536];
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t total = 0, n;
    while ((n = read(fd, text + total, 1000)) > 0)
        total += n;
    close(fd);
    text[total > 0 ? total : 0] = 0;
    return strstr(text, word) != NULL;
}

int main(void)
{
    char path[64], link[PATH_MAX];
    CHECK(has("/proc/self/status", "\nPid:"));
    CHECK(has("/proc/self/status", "VmRSS:"));
    CHECK(has("/proc/self/stat", "(proc_files) R"));
    CHECK(has("/proc/self/maps", "[stack]"));
    CHECK(has("/proc/self/limits", "Max open files"));
    CHECK(has("/proc/self/comm", "proc_files\n"));
    CHECK(has("/proc/cpuinfo", "processor"));
    CHECK(has("/proc/meminfo", "MemTotal:"));
    CHECK(has("/proc/version", "Linux version"));
    CHECK(has("/proc/filesystems", "nodev"));
    CHECK(has("/proc/sys/kernel/ostype", "Linux"));
    CHECK(has("/proc/sys/vm/overcommit_memory", "\n"));
    CHECK(has("/proc/uptime", "."));
    CHECK(has("/proc/loadavg", "/"));
    CHECK(has("/proc/stat", "cpu "));
    CHECK(!has("/proc/absent", ""));
    snprintf(path, sizeof(path), "/proc/%d/comm", getpid());
    CHECK(has(path, "proc_files"));
    int fd = make_file("opened", 1);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, link, sizeof(link) - 1);
    CHECK(n > 0 && (link[n] = 0, strcmp(strrchr(link, '/'), "/opened") == 0));
    int again = open(path, O_RDONLY);
    SHOW_OK(again);
    SHOW(open("/proc/version", O_RDWR | O_EXCL | O_CREAT, 0600));
    SHOW(mkdir("/proc/new", 0700));
    n = readlink("/proc/self", link, sizeof(link) - 1);
    link[n > 0 ? n : 0] = 0;
    CHECK(atoi(link) == getpid());
    n = readlink("/proc/self/cwd", link, sizeof(link) - 1);
    CHECK(n > 0 && (link[n] = 0, getcwd(path, 0) || 1));
    unlink("opened");
    return 0;
}
