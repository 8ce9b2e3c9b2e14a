// The form of /proc/self/maps: order, permissions, offsets, names.
#include "guest.h"

int main(void)
{
    int fd = make_file("named.txt", 3 * PAGE);
    char *p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    char *s = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *x = map_pages(1, PROT_EXEC);
    char *n = map_pages(1, PROT_NONE);
    malloc(1);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long previous = 0;
    bool ordered = true;
    while (fgets(line, sizeof(line), maps)) {
        unsigned long start, end, offset, inode;
        char perms[5] = "", name[300] = "";
        unsigned major, minor;
        int fields = sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %299s", &start, &end, perms, &offset, &major, &minor, &inode, name);
        ordered &= fields >= 7 && start >= previous && end > start;
        previous = end;
        char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
        if ((char *)start == p || (char *)start == s)
            printf("%s %lx %s %lu pages, name at column %d\n", perms, offset, base, (end - start) / PAGE,
                   (int)(strchr(line, '/') - line) >= 49);
        else if ((unsigned long)x >= start && (unsigned long)x < end)
            printf("%s %lu '%s'\n", perms, inode, name);
        else if ((unsigned long)n >= start && (unsigned long)n < end)
            printf("%s %lu '%s'\n", perms, inode, name);
        else if (!strcmp(name, "[stack]") || !strcmp(name, "[heap]") || !strcmp(name, "[vdso]"))
            printf("%s %s %lx\n", perms, name, offset);
        else if (start <= (unsigned long)main && (unsigned long)main < end)
            printf("%s main in %s\n", perms, base);
    }
    CHECK(ordered);
    unlink("named.txt");
    return 0;
}
