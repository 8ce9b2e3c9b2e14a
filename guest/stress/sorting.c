// qsort of records, binary search, string sorting, a hash table; all on the heap.
#include "guest.h"

struct record {
    uint32_t key;
    char name[20];
    struct record *next;
};

static int by_key(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key ? 1 : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) { return strcmp((*(struct record *const *)a)->name, (*(struct record *const *)b)->name); }

int main(void)
{
    enum { N = 20000, BUCKETS = 4096 };
    struct record *records = calloc(N, sizeof(*records)), **names = calloc(N, sizeof(*names)), **table = calloc(BUCKETS, sizeof(*table));
    uint32_t state = 99;
    for (int i = 0; i < N; i++) {
        records[i].key = next_random(&state) % 50000;
        snprintf(records[i].name, sizeof(records[i].name), "%x-%d", next_random(&state) & 0xffff, i);
    }
    qsort(records, N, sizeof(*records), by_key);
    uint32_t hash = 0;
    for (int i = 0; i < N; i++)
        hash = hash * 31 + checksum(&records[i].key, 4 + strlen(records[i].name));
    printf("%#x\n", hash);
    int found = 0;
    for (uint32_t key = 0; key < 1000; key++) {
        int low = 0, high = N;
        while (low < high) {
            int middle = (low + high) / 2;
            if (records[middle].key < key)
                low = middle + 1;
            else
                high = middle;
        }
        found += low < N && records[low].key == key;
    }
    printf("%d found\n", found);
    for (int i = 0; i < N; i++) {
        names[i] = records + i;
        struct record **bucket = table + checksum(records[i].name, strlen(records[i].name)) % BUCKETS;
        records[i].next = *bucket;
        *bucket = records + i;
    }
    qsort(names, N, sizeof(*names), by_name);
    printf("%s %s %s\n", names[0]->name, names[N / 2]->name, names[N - 1]->name);
    int longest = 0;
    for (int i = 0; i < BUCKETS; i++) {
        int length = 0;
        for (struct record *r = table[i]; r; r = r->next)
            length++;
        longest = length > longest ? length : longest;
    }
    printf("%d\n", longest);
    return 0;
}
