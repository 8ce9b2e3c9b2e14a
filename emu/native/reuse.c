/*
 * Reuse distances: how many different pages were touched since this one was touched before.
 *
 * Each page has a mark at the time of its last touch; the distance is how many marks stand behind it (Fenwick's tree
 * counts them).  When the times run out, the marks move together.
 */
#include "machine.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_PAGES 4096u /* a power of 2, as all sizes of the table */
#define TIMES_EACH 4u     /* times for each place of the table of pages */
#define NR_BUCKETS 65
#define NO_PAGE (~0ull)

struct page_time {
    uint64_t page;
    uint32_t time; /* from 1 */
};

struct reuse {
    struct page_time *pages; /* hash table */
    uint32_t mask, used;
    uint32_t *marks;         /* Fenwick's tree over times */
    uint32_t times, now;
    uint64_t last;
};

static struct page_time *find(struct page_time *pages, uint32_t mask, uint64_t page)
{
    uint32_t i = (uint32_t)(page * 0x9e3779b97f4a7c15ull >> 32) & mask;
    while (pages[i].page != NO_PAGE && pages[i].page != page) i = (i + 1) & mask;
    return &pages[i];
}

static void mark(struct reuse *r, uint32_t time, uint32_t by)
{
    for (; time <= r->times; time += time & -time) r->marks[time] += by;
}

static uint32_t marks_up_to(const struct reuse *r, uint32_t time)
{
    uint32_t sum = 0;
    for (; time; time &= time - 1) sum += r->marks[time];
    return sum;
}

static int by_time(const void *a, const void *b)
{
    uint32_t x = ((const struct page_time *)a)->time, y = ((const struct page_time *)b)->time;
    return (x > y) - (x < y);
}

/* A table of `size` places for the pages there are, whose times begin anew in their order; false: no memory. */
static bool rebuild(struct reuse *r, uint32_t size)
{
    struct page_time *pages = malloc(size * sizeof *pages), *sorted = malloc((r->used + 1) * sizeof *sorted);
    uint32_t *marks = calloc(size * TIMES_EACH + 1, sizeof *marks), n = 0;
    if (!pages || !sorted || !marks) {
        free(pages);
        free(sorted);
        free(marks);
        return false;
    }
    memset(pages, 0xff, size * sizeof *pages);
    for (uint32_t i = 0; r->pages && i <= r->mask; i++)
        if (r->pages[i].page != NO_PAGE) sorted[n++] = r->pages[i];
    qsort(sorted, n, sizeof *sorted, by_time);
    free(r->pages);
    free(r->marks);
    *r = (struct reuse){.pages = pages, .mask = size - 1, .used = n, .marks = marks,
                        .times = size * TIMES_EACH, .now = n, .last = r->last};
    for (uint32_t i = 0; i < n; i++) {
        *find(pages, r->mask, sorted[i].page) = (struct page_time){sorted[i].page, i + 1};
        mark(r, i + 1, 1);
    }
    free(sorted);
    return true;
}

struct reuse *reuse_open(void)
{
    struct reuse *r = calloc(1, sizeof *r);
    if (r) r->last = NO_PAGE;
    if (r && !rebuild(r, FIRST_PAGES)) {
        free(r);
        return NULL;
    }
    return r;
}

void reuse_close(struct reuse *r)
{
    free(r->pages);
    free(r->marks);
    free(r);
}

/* 0 for 0, otherwise 1 + the logarithm of the next power of 2. */
static unsigned bucket(uint32_t distance)
{
    return distance < 2 ? distance : 33u - (unsigned)__builtin_clz(distance - 1);
}

/* Touch `count` pages in turn; counts the distances by their buckets, and pages touched for the first time.  -1: no memory. */
int reuse_touch(struct reuse *r, const uint64_t *pages, size_t count, uint64_t buckets[NR_BUCKETS], uint64_t *first)
{
    for (size_t i = 0; i < count; i++) {
        if (pages[i] == r->last) {
            buckets[0]++;
            continue;
        }
        r->last = pages[i];
        bool full = r->used * 2 > r->mask;
        if ((full || r->now == r->times) && !rebuild(r, full ? 2 * (r->mask + 1) : r->mask + 1)) return -1;
        struct page_time *p = find(r->pages, r->mask, pages[i]);
        if (p->page == NO_PAGE) {
            p->page = pages[i];
            r->used++;
            ++*first;
        } else {
            buckets[bucket(r->used - marks_up_to(r, p->time))]++;
            mark(r, p->time, (uint32_t)-1);
        }
        p->time = ++r->now;
        mark(r, p->time, 1);
    }
    return 0;
}
