/*
 * A row of block numbers, packed: programs repeat themselves, so the next block is mostly the one that followed the
 * last few the time before.
 *
 * A table indexed by a hash of the last blocks holds two guesses.  What is written are numbers of seven bits a byte,
 * the low ones first, the highest bit of a byte set when more follow.  The two low bits of a number say what it is:
 *
 *     0   so many blocks are the first guess
 *     1   this block is neither guess
 *     2   the second guess, then so many times the first
 *     3   a control: its kind in the next two bits, its argument above them
 *
 * A reader makes the same guesses.  Packing starts anew in each piece, so that any piece can be read alone.
 */
#include "trace.h"

#include <stdlib.h>
#include <string.h>

enum token { HITS, NEITHER, SECOND, CONTROL };

/* Make room for size bytes more. */
void bytes_grow(struct bytes *b, size_t size)
{
    size_t room = b->room ? b->room * 2 : 4096;
    while (room < b->size + size) room *= 2;
    uint8_t *bigger = realloc(b->data, room);
    if (!bigger) abort(); /* the host is out of memory: there is no complete trace to go on with */
    b->data = bigger;
    b->room = room;
}

void bytes_put(struct bytes *b, const void *data, size_t size)
{
    if (b->size + size > b->room) bytes_grow(b, size);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static inline uint32_t next_context(uint32_t context, uint32_t block)
{
    /* An old block is shifted out after four others. */
    return ((context << 4) ^ (block * 0x9e3779b1u >> 16)) & (FLOW_CONTEXTS - 1);
}

int flow_open(struct flow *f)
{
    memset(f, 0, sizeof *f);
    f->guesses = malloc(FLOW_CONTEXTS * sizeof *f->guesses);
    if (!f->guesses) return -1;
    flow_reset(f);
    return 0;
}

void flow_close(struct flow *f)
{
    free(f->guesses);
    free(f->out.data);
    memset(f, 0, sizeof *f);
}

/* Begin a new piece. */
void flow_reset(struct flow *f)
{
    memset(f->guesses, 0xff, FLOW_CONTEXTS * sizeof *f->guesses);
    f->context = 0;
    f->hits = 0;
    f->lead = HITS;
    f->out.size = 0;
}

/* Write what is only counted so far. */
void flow_settle(struct flow *f)
{
    if (f->hits || f->lead == SECOND) bytes_put_number(&f->out, f->hits << 2 | f->lead);
    f->hits = 0;
    f->lead = HITS;
}

static void not_the_first(struct flow *f, struct guess *g, uint32_t block)
{
    flow_settle(f);
    if (g->second == block) f->lead = SECOND;
    else bytes_put_number(&f->out, (uint64_t)block << 2 | NEITHER);
    g->second = g->first;
    g->first = block;
}

void flow_block(struct flow *f, uint32_t block)
{
    struct guess *g = &f->guesses[f->context];
    if (__builtin_expect(g->first == block, 1)) f->hits++;
    else not_the_first(f, g, block);
    f->context = next_context(f->context, block);
}

void flow_control(struct flow *f, unsigned control, uint64_t argument)
{
    flow_settle(f);
    bytes_put_number(&f->out, (argument << 2 | control) << 2 | CONTROL);
}

/* ---- reading */

/* The next number; false: the data end in it, or it has more than 64 bits. */
bool get_number(struct source *s, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        uint8_t byte = *s->at++;
        if (shift == 63 && byte > 1) return false;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

/* What is read, in columns of `rows` entries. */
struct flow_columns {
    uint64_t *icount;   /* at the block's first instruction */
    uint32_t *block;
    uint16_t *retired;
    uint32_t *tag;
    const uint16_t *counts; /* instructions of each block */
    uint64_t nr_blocks, rows;
};

struct reader {
    const struct flow_columns *to;
    uint64_t row, icount;
    uint32_t tag, context;
    struct guess *guesses;
};

static bool read_block(struct reader *r, uint32_t block)
{
    const struct flow_columns *to = r->to;
    if (block >= to->nr_blocks || r->row == to->rows) return false;
    to->icount[r->row] = r->icount;
    to->block[r->row] = block;
    to->retired[r->row] = to->counts[block];
    to->tag[r->row] = r->tag;
    r->icount += to->counts[block];
    r->row++;
    r->context = next_context(r->context, block);
    return true;
}

static bool read_hits(struct reader *r, uint64_t times)
{
    while (times--)
        if (!read_block(r, r->guesses[r->context].first)) return false;
    return true;
}

static bool read_other(struct reader *r, uint64_t block, bool second)
{
    struct guess *g = &r->guesses[r->context];
    if (second) block = g->second;
    if (block > UINT32_MAX) return false;
    g->second = g->first;
    g->first = (uint32_t)block;
    return read_block(r, (uint32_t)block);
}

static bool read_again(struct reader *r, uint64_t times)
{
    const struct flow_columns *to = r->to;
    if (!r->row || times > to->rows - r->row) return false;
    uint32_t block = to->block[r->row - 1];
    for (; times; times--, r->row++) {
        to->icount[r->row] = r->icount;
        to->block[r->row] = block;
        to->retired[r->row] = to->counts[block];
        to->tag[r->row] = r->tag;
        r->icount += to->counts[block];
    }
    return true;
}

static bool read_control(struct reader *r, uint64_t number)
{
    uint64_t argument = number >> 2;
    switch (number & 3) {
    case FLOW_CUT:
        if (!r->row || argument >= r->to->retired[r->row - 1]) return false;
        r->icount -= r->to->retired[r->row - 1] - argument;
        r->to->retired[r->row - 1] = (uint16_t)argument;
        return true;
    case FLOW_AGAIN: return read_again(r, argument);
    case FLOW_SKIP: r->icount += argument; return true;
    default: r->tag = (uint32_t)argument; return argument <= UINT32_MAX;
    }
}

/*
 * Unpack a piece that begins at *icount; the columns have room for exactly the rows it holds.  0, with the icount
 * behind the piece; -1: these are not the bytes of such a piece; -2: the host is out of memory.
 */
int flow_read(const uint8_t *data, size_t size, uint64_t *icount, const struct flow_columns *columns)
{
    struct source s = {data, data + size};
    struct reader r = {.to = columns, .icount = *icount};
    r.guesses = malloc(FLOW_CONTEXTS * sizeof *r.guesses);
    if (!r.guesses) return -2;
    memset(r.guesses, 0xff, FLOW_CONTEXTS * sizeof *r.guesses);
    bool good = true;
    while (good && s.at < s.end) {
        uint64_t number;
        good = get_number(&s, &number);
        if (!good) break;
        switch (number & 3) {
        case HITS: good = read_hits(&r, number >> 2); break;
        case NEITHER: good = read_other(&r, number >> 2, false); break;
        case SECOND: good = read_other(&r, 0, true) && read_hits(&r, number >> 2); break;
        default: good = read_control(&r, number >> 2);
        }
    }
    free(r.guesses);
    *icount = r.icount;
    return good && r.row == columns->rows ? 0 : -1;
}

/*
 * The offsets of `count` instructions in size bytes of code; false: there are not as many.  The last one is what is
 * left: the processor may have refused it (more than 15 bytes, an operand that cannot be), and it ends where it did.
 */
static bool split(const uint8_t *code, size_t size, unsigned bits, unsigned count, uint16_t *offsets)
{
    size_t at = 0;
    for (; count && at < size; count--) {
        *offsets++ = (uint16_t)at;
        if (count == 1) return true;
        unsigned length = insn_length(code + at, size - at, bits);
        if (!length) return false;
        at += length;
    }
    return !count;
}

/* The same for each of `nr_blocks` blocks, whose code lies one behind the other; how many were right before one was not. */
size_t flow_split(const uint8_t *code, const uint16_t *sizes, const uint16_t *counts, const uint8_t *bits,
                  size_t nr_blocks, uint16_t *offsets)
{
    for (size_t n = 0; n < nr_blocks; n++) {
        if (!split(code, sizes[n], bits[n], counts[n], offsets)) return n;
        code += sizes[n];
        offsets += counts[n];
    }
    return nr_blocks;
}
