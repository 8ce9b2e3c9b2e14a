/*
 * Loads and stores, packed in columns: how many instructions since the one before, what kind, where, where in RAM,
 * what value.
 *
 * The context of an access is a hash of the steps and kinds of the last ones, which in a loop stands for a place in
 * the program.  There the next address is guessed from the last two, and the value to be the last one.  Numbers
 * are written as in flow.c; addresses as their distance from the guess, the sign in the lowest bit.
 */
#include "trace.h"

#include <stdlib.h>
#include <string.h>

#define KIND_STORE 4u
#define KIND_SAME_FRAME 8u
#define KIND_SAME_VALUE 16u
#define PAGE_SHIFT 12

int packer_open(struct packer *p)
{
    memset(p, 0, sizeof *p);
    p->guesses = malloc(ACCESS_CONTEXTS * sizeof *p->guesses);
    p->frames = malloc(NR_FRAMES * sizeof *p->frames);
    return p->guesses && p->frames ? 0 : -1;
}

void packer_close(struct packer *p)
{
    free(p->guesses);
    free(p->frames);
    for (size_t i = 0; i < NR_COLUMNS; i++) free(p->columns[i].data);
    memset(p, 0, sizeof *p);
}

/* Begin a new piece at instruction icount. */
void packer_reset(struct packer *p, uint64_t icount)
{
    memset(p->guesses, 0, ACCESS_CONTEXTS * sizeof *p->guesses);
    memset(p->frames, 0xff, NR_FRAMES * sizeof *p->frames);
    for (size_t i = 0; i < NR_COLUMNS; i++) p->columns[i].size = 0;
    p->context = 0;
    p->icount = icount;
    p->rows = 0;
}

static struct access_guess *next_guess(struct packer *p, uint64_t step, unsigned kind)
{
    uint32_t word = (uint32_t)step * 8 + (kind & 7);
    p->context = ((p->context << 4) ^ (word * 0x9e3779b1u >> 16)) & (ACCESS_CONTEXTS - 1);
    return &p->guesses[p->context];
}

static void learn(struct access_guess *g, uint64_t address, uint64_t value)
{
    g->stride = address - g->address;
    g->address = address;
    g->value = value;
}

/* The low size bytes of value, 8 at most. */
static inline void put_bytes(struct bytes *b, uint64_t value, unsigned size)
{
    if (b->size + 8 > b->room) bytes_grow(b, 8);
    memcpy(b->data + b->size, &value, 8);
    b->size += size;
}

void packer_add(struct packer *p, uint64_t icount, const struct access *a)
{
    uint64_t step = icount - p->icount, page = a->address >> PAGE_SHIFT, frame = a->phys >> PAGE_SHIFT;
    unsigned kind = a->shift | (a->store ? KIND_STORE : 0);
    struct access_guess *g = next_guess(p, step, kind);
    struct page_frame *known = &p->frames[page % NR_FRAMES];
    if (known->page == page && known->frame == frame) kind |= KIND_SAME_FRAME;
    else bytes_put_number(&p->columns[COLUMN_FRAME], frame);
    if (g->value == a->value) kind |= KIND_SAME_VALUE;
    else put_bytes(&p->columns[COLUMN_VALUE], a->value, 1u << a->shift);
    int64_t miss = (int64_t)(a->address - (g->address + g->stride));
    bytes_put_number(&p->columns[COLUMN_STEP], step);
    put_bytes(&p->columns[COLUMN_KIND], kind, 1);
    bytes_put_number(&p->columns[COLUMN_ADDRESS], (uint64_t)miss << 1 ^ (uint64_t)(miss >> 63));
    *known = (struct page_frame){page, frame};
    learn(g, a->address, a->value);
    p->icount = icount;
    p->rows++;
}

size_t packer_size(const struct packer *p)
{
    size_t size = 0;
    for (size_t i = 0; i < NR_COLUMNS; i++) size += p->columns[i].size;
    return size;
}

/* What is read, in columns of `rows` entries. */
struct access_columns {
    uint64_t *icount, *address, *phys, *value;
    uint8_t *size, *store;
    uint64_t rows;
};

static bool read_row(struct packer *p, struct source *from, const struct access_columns *to, uint64_t row)
{
    uint64_t step, coded, frame, value = 0;
    if (from[COLUMN_KIND].at == from[COLUMN_KIND].end) return false;
    unsigned kind = *from[COLUMN_KIND].at++, size = 1u << (kind & 3);
    if (kind > 31 || !get_number(&from[COLUMN_STEP], &step)) return false;
    struct access_guess *g = next_guess(p, step, kind);
    if (!get_number(&from[COLUMN_ADDRESS], &coded)) return false;
    uint64_t address = g->address + g->stride + (coded >> 1 ^ -(coded & 1)), page = address >> PAGE_SHIFT;
    struct page_frame *known = &p->frames[page % NR_FRAMES];
    if (kind & KIND_SAME_FRAME) {
        if (known->page != page) return false;
        frame = known->frame;
    } else if (!get_number(&from[COLUMN_FRAME], &frame)) {
        return false;
    }
    if (kind & KIND_SAME_VALUE) {
        value = g->value;
    } else {
        if ((size_t)(from[COLUMN_VALUE].end - from[COLUMN_VALUE].at) < size) return false;
        memcpy(&value, from[COLUMN_VALUE].at, size);
        from[COLUMN_VALUE].at += size;
    }
    *known = (struct page_frame){page, frame};
    learn(g, address, value);
    p->icount += step;
    to->icount[row] = p->icount;
    to->address[row] = address;
    to->phys[row] = frame << PAGE_SHIFT | (address & ((1u << PAGE_SHIFT) - 1));
    to->value[row] = value;
    to->size[row] = (uint8_t)size;
    to->store[row] = !!(kind & KIND_STORE);
    return true;
}

/*
 * Unpack a piece that begins at instruction icount, whose columns have these sizes and lie one behind the other.  0;
 * -1: these are not the bytes of such a piece; -2: the host is out of memory.
 */
int access_read(const uint8_t *data, const uint64_t *sizes, uint64_t icount, const struct access_columns *columns)
{
    struct packer p;
    struct source from[NR_COLUMNS];
    for (size_t i = 0; i < NR_COLUMNS; data += sizes[i++]) from[i] = (struct source){data, data + sizes[i]};
    if (packer_open(&p)) {
        packer_close(&p);
        return -2;
    }
    packer_reset(&p, icount);
    bool good = true;
    for (uint64_t row = 0; good && row < columns->rows; row++) good = read_row(&p, from, columns, row);
    for (size_t i = 0; i < NR_COLUMNS; i++) good = good && from[i].at == from[i].end;
    packer_close(&p);
    return good ? 0 : -1;
}
