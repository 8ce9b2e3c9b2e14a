// malloc of growing sizes: which mapping grew or came, the heap or one of mmap's, and what /proc/self says of it.
// guest: libc=glibc
#include "guest.h"

#define MOST 64

static struct list {
    int count;
    struct {
        unsigned long start, end;
        char rights[8], name[16];
    } at[MOST];
} before, after;

static struct figures {
    long size, data, lib, locked, rss;
} then, now;

static char buffer[16384]; /* of our own: stdio would allocate */

static void slurp(const char *name)
{
    int fd = open(name, O_RDONLY), done, size = 0;
    while ((done = read(fd, buffer + size, sizeof(buffer) - 1 - size)) > 0)
        size += done;
    buffer[size] = 0;
    close(fd);
}

static void take(struct list *list, struct figures *figures)
{
    char *lines = buffer;
    slurp("/proc/self/maps");
    list->count = 0;
    for (char *line; (line = strsep(&lines, "\n")) && *line && list->count < MOST;) {
        char *name = strchr(line, '[');
        sscanf(line, "%lx-%lx %7s", &list->at[list->count].start, &list->at[list->count].end,
               list->at[list->count].rights);
        snprintf(list->at[list->count++].name, 16, "%s", name ? name : strchr(line, '/') ? "a file" : "anonymous");
    }
    slurp("/proc/self/status");
    figures->size = atol(strstr(buffer, "VmSize:") + 7);
    figures->data = atol(strstr(buffer, "VmData:") + 7);
    figures->lib = atol(strstr(buffer, "VmLib:") + 6);
    figures->locked = atol(strstr(buffer, "VmLck:") + 6);
    figures->rss = atol(strstr(buffer, "RssAnon:") + 8);
}

static void compare(void)
{
    int i = 0, j = 0;
    while (i < before.count || j < after.count) {
        bool old = i < before.count, new = j < after.count;
        if (old && new && before.at[i].start < after.at[j].end && after.at[j].start < before.at[i].end) {
            long down = before.at[i].start - after.at[j].start, up = after.at[j].end - before.at[i].end;
            if (down || up)
                printf("  %s %s: %+ld pages below, %+ld above\n", after.at[j].name, after.at[j].rights,
                       down / (long)PAGE, up / (long)PAGE);
            i++, j++;
        } else if (old && (!new || before.at[i].start < after.at[j].start)) {
            printf("  gone: %s, %ld pages\n", before.at[i].name, (before.at[i].end - before.at[i].start) / PAGE);
            i++;
        } else {
            printf("  new: %s %s, %ld pages\n", after.at[j].name, after.at[j].rights,
                   (after.at[j].end - after.at[j].start) / PAGE);
            j++;
        }
    }
    if (then.size != now.size || then.data != now.data || then.rss != now.rss)
        printf("  size %+ld kB, data %+ld kB, resident %+ld kB\n", now.size - then.size, now.data - then.data,
               now.rss - then.rss);
}

static void *step(const char *what, size_t size, void *old)
{
    void *p = NULL;
    take(&before, &then);
    if (old)
        free(old);
    else
        memset(p = malloc(size), 1, size);
    take(&after, &now);
    printf("%s %lu:\n", what, (unsigned long)size);
    compare();
    return p;
}

int main(void)
{
    static const size_t sizes[] = {16, 1000, 5000, 100000, 120000, 130000, 128 * 1024, 132 * 1024, 140000,
                                   1 << 20, 90000, 200000, 3 << 20};
    void *held[COUNT(sizes)];
    setvbuf(stdout, NULL, _IOFBF, 1 << 12);
    printf("the program\n"); /* stdio takes its buffer now */
    take(&before, &then);
    take(&before, &then);
    for (size_t i = 0; i < COUNT(sizes); i++)
        held[i] = step("malloc", sizes[i], NULL);
    for (size_t i = 0; i < COUNT(sizes); i++)
        step("free", sizes[i], held[i]);
    step("malloc", 1 << 20, NULL); /* the threshold has moved: the heap */
    return 0;
}
