/*
 * Collecting: which block the hook saw, and what became of it.
 *
 * The block hook (on_block, or what is inlined for it) appends the number of each block to the ring.  A run is cut
 * into stretches that fit into the ring; where one ends, the CPU is at the beginning of a block, as at the end of a
 * slice, so stretches change nothing.  Between two of them the ring is filtered and packed (flow.c).
 */
#include "trace.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FIRST_INDEX 8192u
#define MAX_BLOCK_BYTES 8192u /* the engine's blocks lie in two pages at most */

/* ---- the dictionary */

static uint64_t hash_code(uint64_t pc, const uint8_t *code, size_t size)
{
    uint64_t h = pc * 0x9e3779b97f4a7c15ull ^ size;
    for (; size >= 8; code += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, code, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdull;
        h ^= h >> 32;
    }
    for (; size; size--) h = (h ^ *code++) * 0x100000001b3ull;
    return h ^ h >> 29;
}

static bool is_block(const struct trace *t, const struct trace_block *b, const struct trace_block *like, const uint8_t *code)
{
    return b->hash == like->hash && b->pc == like->pc && b->size == like->size && b->bits == like->bits &&
           b->icount == like->icount && !memcmp(t->codes.data + b->code, code, b->size);
}

static void enlarge_index(struct trace *t)
{
    uint32_t mask = t->index_mask * 2 + 1;
    uint32_t *index = malloc((mask + 1ull) * sizeof *index);
    if (!index) abort(); /* as bytes_put() */
    memset(index, 0xff, (mask + 1ull) * sizeof *index);
    for (uint32_t n = 0; n < t->nr_blocks; n++) {
        uint32_t i = (uint32_t)t->blocks[n].hash & mask;
        while (index[i] != NO_BLOCK) i = (i + 1) & mask;
        index[i] = n;
    }
    free(t->index);
    t->index = index;
    t->index_mask = mask;
}

static uint32_t add_block(struct trace *t, struct trace_block block, const uint8_t *code)
{
    if (t->nr_blocks == t->max_blocks) {
        uint32_t max = t->max_blocks ? t->max_blocks * 2 : 4096;
        struct trace_block *bigger = realloc(t->blocks, max * sizeof *bigger);
        if (!bigger) abort(); /* as bytes_put() */
        t->blocks = bigger;
        t->max_blocks = max;
    }
    block.code = (uint32_t)t->codes.size;
    bytes_put(&t->codes, code, block.size);
    t->blocks[t->nr_blocks] = block;
    if (t->nr_blocks * 2 > t->index_mask) enlarge_index(t);
    return t->nr_blocks++;
}

/* The number of the block of these bytes at pc. */
static uint32_t number_of(struct machine *m, uint64_t pc, const uint8_t *code, size_t size, unsigned icount)
{
    struct trace *t = m->trace;
    struct trace_block like = {.pc = pc, .size = (uint16_t)size, .icount = (uint16_t)icount};
    like.bits = (uint8_t)machine_code_bits(m);
    like.hash = hash_code(pc, code, size);
    uint32_t i = (uint32_t)like.hash & t->index_mask;
    for (; t->index[i] != NO_BLOCK; i = (i + 1) & t->index_mask)
        if (is_block(t, &t->blocks[t->index[i]], &like, code)) return t->index[i];
    t->index[i] = t->nr_blocks;
    return add_block(t, like, code);
}

static uint32_t block_at(struct machine *m, uint64_t pc, uint32_t size, unsigned icount)
{
    uint8_t code[MAX_BLOCK_BYTES];
    size_t have = machine_fetch(m, pc, code, size < sizeof code ? size : sizeof code);
    return number_of(m, pc, code, have, icount);
}

/* ---- what the hooks say */

static inline void append(struct machine *m, uint32_t entry)
{
    *m->trace_cursor++ = entry;
}

/* A block of icount instructions is entered; its number. */
uint32_t trace_enter(struct machine *m, uint64_t pc, uint32_t size, unsigned icount)
{
    uint32_t block = block_at(m, pc, size, icount);
    append(m, block);
    m->trace->last_is_other = false;
    return block;
}

/* The block entered last is entered again. */
void trace_again(struct machine *m, uint64_t pc, uint32_t size, unsigned icount, uint64_t times)
{
    if (m->trace->last_is_other) {
        trace_enter(m, pc, size, icount);
        times--;
    }
    if (m->trace->notes_accesses) { /* each time has its own */
        for (; times; times--) trace_enter(m, pc, size, icount);
        return;
    }
    uint32_t *before = m->trace_cursor - 1;
    if (m->trace_cursor > m->trace->ring && (*before & RING_OP) == RING_AGAIN) *before += (uint32_t)times;
    else if (times) append(m, RING_AGAIN | (uint32_t)times);
}

/* The block entered last was left when it had retired so many instructions. */
void trace_cut(struct machine *m, unsigned retired)
{
    append(m, RING_CUT | retired);
}

/* One instruction retired by itself; code: `have` bytes, from in front of it. */
void trace_step(struct machine *m, uint64_t pc, const uint8_t *code, size_t have, unsigned times)
{
    unsigned length = insn_length(code, have, machine_code_bits(m));
    uint32_t block = number_of(m, pc, code, length, 1);
    append(m, block);
    if (times > 1) append(m, m->trace->notes_accesses ? block : RING_AGAIN | (times - 1));
}

/* What was stored last has this bit no longer. */
void trace_hide_bit(struct machine *m, uint64_t bit)
{
    struct trace *t = m->trace;
    if (t->nr_accesses) t->accesses[t->nr_accesses - 1].value &= ~bit;
}

/* ---- filtering and packing */

/* Are any of these bytes wanted? */
static bool is_wanted(const struct trace *t, uint64_t address, uint64_t size)
{
    for (size_t i = 0; i < t->nr_ranges; i++)
        if (address < t->ranges[i].end && address + size > t->ranges[i].start) return true;
    return !t->nr_ranges;
}

/* Is anything of the block wanted?  Asked once for each filter. */
static bool is_kept(struct trace *t, struct trace_block *b)
{
    if (b->asked != t->filter) {
        b->asked = t->filter;
        b->kept = is_wanted(t, b->pc, b->size);
    }
    return b->kept;
}

/*
 * Pack the accesses of the block that began at instruction `icount`: all of a block that is kept, otherwise those in a
 * wanted place.  One of an instruction that did not retire did not happen.  Were there any?
 */
static bool pack_accesses(struct trace *t, const struct access **next, uint32_t entry, uint64_t icount, unsigned retired, bool kept)
{
    const struct access *a = *next, *end = t->accesses + t->nr_accesses;
    bool any = false;
    for (; a < end && a->entry == entry; a++) {
        if (a->index >= retired || !(kept || is_wanted(t, a->address, 1u << a->shift))) continue;
        packer_add(&t->packer, icount + a->index, a);
        any = true;
    }
    *next = a;
    return any;
}

/* Let the packed part know what came between its last block and this one. */
static void catch_up(struct trace *t)
{
    if (t->written != t->icount) flow_control(&t->flow, FLOW_SKIP, t->icount - t->written);
    t->written = t->icount;
    if (t->written_tag != t->tag) flow_control(&t->flow, FLOW_TAG, t->tag);
    t->written_tag = t->tag;
}

/* Pack what is in the ring. */
static void pack(struct machine *m)
{
    struct trace *t = m->trace;
    bool kept = false;
    unsigned n = 0; /* instructions of the last block */
    const struct access *access = t->accesses;
    for (const uint32_t *at = t->ring; at < m->trace_cursor; at++) {
        uint32_t argument = *at & RING_ARGUMENT;
        switch (*at & RING_OP) {
        case RING_CUT:
            t->icount -= n - argument;
            if (!kept) break;
            flow_control(&t->flow, FLOW_CUT, argument);
            t->written = t->icount;
            break;
        case RING_AGAIN:
            t->icount += (uint64_t)argument * n;
            if (!kept) break;
            flow_control(&t->flow, FLOW_AGAIN, argument);
            t->written = t->icount;
            t->rows += argument;
            break;
        default: {
            struct trace_block *b = &t->blocks[*at];
            n = b->icount;
            kept = is_kept(t, b);
            if (access < t->accesses + t->nr_accesses) {
                bool is_cut = at + 1 < m->trace_cursor && (at[1] & RING_OP) == RING_CUT;
                unsigned retired = is_cut ? at[1] & RING_ARGUMENT : n;
                kept |= pack_accesses(t, &access, (uint32_t)(at - t->ring), t->icount, retired, kept);
            }
            if (kept) {
                if (t->written != t->icount || t->written_tag != t->tag) catch_up(t);
                flow_block(&t->flow, *at);
                t->written += n;
                t->rows++;
            }
            t->icount += n;
        }
        }
    }
    m->trace_cursor = t->ring;
    t->nr_accesses = 0;
}

/* The CPU stands between two instructions: account for what it did. */
static void settle(struct machine *m)
{
    struct trace *t = m->trace;
    if (!t->listening) m->trace_cursor = t->ring, t->nr_accesses = 0;
    else pack(m);
    if (t->listening && t->icount != m->icount) t->wrong = true;
    t->icount = m->icount;
}

/*
 * Run as machine_run() does; EXIT_TRACE: what is packed must be fetched before the run can go on.  A stretch
 * that ends before its budget is spent ends the run, whatever the reason: so it would without a trace.
 */
int trace_run(struct machine *m, int64_t budget)
{
    struct trace *t = m->trace;
    t->icount = m->icount; /* what is missing, others did */
    t->ran = 0;
    do {
        if (t->flow.out.size >= t->limit || packer_size(&t->packer) >= t->limit * ACCESS_ROOM || t->rows >= MAX_ROWS || m->icount - t->start >= MAX_SPAN) {
            m->exit_kind = EXIT_TRACE;
            break;
        }
        uint64_t before = m->icount;
        int64_t stretch = budget < STRETCH ? budget : STRETCH;
        machine_run_stretch(m, stretch);
        settle(m);
        int64_t ran = (int64_t)(m->icount - before);
        if (m->exit_kind != EXIT_BUDGET || ran < stretch) break;
        budget -= ran;
        t->ran += (uint64_t)ran;
    } while (budget > 0);
    memcpy(&t->exit_rip, m->env + EIP_OFFSET, 8);
    return (int)m->exit_kind;
}

/* Step as machine_step_one() does. */
int trace_run_step(struct machine *m)
{
    m->trace->icount = m->icount;
    int kind = machine_step_one(m);
    settle(m);
    memcpy(&m->trace->exit_rip, m->env + EIP_OFFSET, 8);
    return kind;
}

/* The caller has executed the instruction in front of which the last run ended, and counts it next. */
void machine_trace_retired(struct machine *m)
{
    struct trace *t = m->trace;
    uint8_t code[16];
    if (!t->listening) return;
    t->icount = m->icount;
    trace_step(m, t->exit_rip, code, machine_fetch(m, t->exit_rip, code, sizeof code), 1);
    pack(m);
}

/* ---- for the caller */

void trace_free(struct machine *m)
{
    struct trace *t = m->trace;
    if (!t) return;
    m->trace = NULL;
    stub_forget(t);
    flow_close(&t->flow);
    packer_close(&t->packer);
    free(t->blocks);
    free(t->index);
    free(t->codes.data);
    free(t->ranges);
    munmap(t, sizeof *t);
}

static void begin_piece(struct trace *t)
{
    flow_reset(&t->flow);
    t->rows = 0;
    t->start = t->written = t->icount;
    t->written_tag = 0;
    if (t->notes_accesses) packer_reset(&t->packer, t->icount);
}

/*
 * Note every block from now on, and every access if asked to; a run ends when about `limit` bytes are packed.  0; -1:
 * there is no memory for it; -2: this engine's accesses cannot be noted.
 */
int machine_trace_start(struct machine *m, size_t limit, int accesses)
{
    struct trace *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED) return -1;
    m->trace = t;
    t->index = malloc(FIRST_INDEX * sizeof *t->index);
    if (!t->index || flow_open(&t->flow)) {
        trace_free(m);
        return -1;
    }
    memset(t->index, 0xff, FIRST_INDEX * sizeof *t->index);
    t->index_mask = FIRST_INDEX - 1;
    t->limit = limit;
    t->listening = true;
    t->filter = 1;
    t->icount = m->icount;
    m->trace_cursor = t->ring;
    if (accesses && (packer_open(&t->packer) || !accesses_begin(m))) {
        trace_free(m);
        return -2;
    }
    begin_piece(t);
    return machine_flush_code(m); /* what is translated already does not know of us */
}

/* The opposite. */
int machine_trace_stop(struct machine *m)
{
    accesses_end(m);
    int error = machine_flush_code(m);
    trace_free(m);
    return error;
}

/* Whose code runs now: a number of the caller's; on 0: it is of no interest. */
void machine_trace_task(struct machine *m, uint32_t tag, int on)
{
    m->trace->tag = tag;
    m->trace->listening = on;
}

/* Keep blocks that touch one of `count` ranges, sorted or not; none: all blocks.  0, or -1: no memory. */
int machine_trace_ranges(struct machine *m, const struct range *ranges, size_t count)
{
    struct range *copy = malloc((count + 1) * sizeof *copy);
    if (!copy) return -1;
    if (count) memcpy(copy, ranges, count * sizeof *copy);
    free(m->trace->ranges);
    m->trace->ranges = copy;
    m->trace->nr_ranges = count;
    m->trace->filter++;
    return 0;
}

/* Where the packed part is and what it holds, for the caller to copy. */
struct trace_piece {
    const uint8_t *data;
    uint64_t size, start, end, rows;
    uint64_t nr_blocks, code_size; /* of the blocks that were not told yet */
    uint64_t ran;                  /* instructions of the run that was cut short */
    uint64_t accesses;
    struct bytes columns[NR_COLUMNS];
    uint64_t wrong;
};

void machine_trace_piece(struct machine *m, struct trace_piece *piece)
{
    struct trace *t = m->trace;
    flow_settle(&t->flow);
    *piece = (struct trace_piece){
        .data = t->flow.out.data, .size = t->flow.out.size, .start = t->start, .end = t->icount, .rows = t->rows,
        .nr_blocks = t->nr_blocks - t->told, .ran = t->ran, .accesses = t->packer.rows, .wrong = t->wrong};
    memcpy(piece->columns, t->packer.columns, sizeof piece->columns);
    if (piece->nr_blocks) piece->code_size = t->codes.size - t->blocks[t->told].code;
}

/* Copy the blocks that were not told yet: columns, and their code one behind the other. */
void machine_trace_blocks(struct machine *m, uint64_t *pc, uint16_t *size, uint16_t *icount, uint8_t *bits, uint8_t *code)
{
    const struct trace *t = m->trace;
    for (uint32_t n = t->told; n < t->nr_blocks; n++) {
        const struct trace_block *b = &t->blocks[n];
        *pc++ = b->pc;
        *size++ = b->size;
        *icount++ = b->icount;
        *bits++ = b->bits;
        memcpy(code, t->codes.data + b->code, b->size);
        code += b->size;
    }
}

/* The piece and the blocks have been copied: begin anew. */
void machine_trace_next(struct machine *m)
{
    m->trace->told = m->trace->nr_blocks;
    begin_piece(m->trace);
}
