/*
 * What ran, block by block: collected by the block hook into a ring, filtered and packed behind each stretch of a run.
 *
 * The machine is deterministic, so the instructions that retired follow from the blocks that were entered, the bytes
 * of their code, and how far the ones got that were left early.  docs/trace-format.md describes the packed form.
 */
#ifndef EMU_TRACE_H
#define EMU_TRACE_H

#include "machine.h"

#define STRETCH 65536u /* instructions that run between two times of packing */
/* Each entry of the ring retires an instruction, or corrects one that did. */
#define RING_SLOTS (4 * STRETCH)

#define MAX_ROWS (4u << 20)  /* blocks in one piece, and those of a stretch */
#define ACCESS_ROOM 4        /* times `limit`: bytes of packed accesses */
#define MAX_SPAN (32u << 20) /* instructions from the start of a piece: less than a tenth of a second */

/* An entry of the ring: the number of a block, or one of these in the high bits and an argument in the rest. */
#define RING_OP 0xe0000000u
#define RING_CUT 0x80000000u   /* the block before retired only so many instructions */
#define RING_AGAIN 0xa0000000u /* the block before ran so many more times */
#define RING_ARGUMENT 0x1fffffffu
#define NO_BLOCK 0xffffffffu

/* A block as it was executed: the same address with other bytes is another one. */
struct trace_block {
    uint64_t pc;
    uint64_t hash;      /* of its bytes */
    uint32_t code;      /* where they are, in struct trace's codes */
    uint16_t size;
    uint16_t icount;
    uint8_t bits;
    bool kept;          /* by the filter, if `asked` is the filter's number */
    uint32_t asked;
};

/* Bytes that grow. */
struct bytes {
    uint8_t *data;
    size_t size, room;
};

/* Guesses the next block by the last ones: two guesses for each context, the better one first. */
struct guess {
    uint32_t first, second;
};

#define FLOW_CONTEXTS 65536u

struct flow {
    struct guess *guesses;
    uint32_t context;
    uint64_t hits;     /* right guesses that are not written yet */
    unsigned lead;     /* what they come behind */
    struct bytes out;
};

/* An access to memory, as it is noted. */
struct access {
    uint64_t address, phys, value;
    uint32_t entry;  /* of the ring: the block */
    uint16_t index;  /* of the instruction in it */
    uint8_t shift;   /* 1 << shift bytes */
    uint8_t store;
};

/* Which instruction the translated code at host_pc belongs to. */
struct place {
    uintptr_t host_pc;
    uint64_t instance; /* of a translation */
    uint32_t block, index;
};

struct translation {
    uint64_t page, frame; /* a number; an address */
    uint64_t run;         /* of which it is true */
};

#define NR_PLACES 16384u
#define NR_TRANSLATIONS 1024u
#define NO_PHYS (~0ull)

enum access_column { COLUMN_STEP, COLUMN_KIND, COLUMN_ADDRESS, COLUMN_FRAME, COLUMN_VALUE, NR_COLUMNS };

struct access_guess {
    uint64_t address, stride, value;
};

struct page_frame {
    uint64_t page, frame;
};

#define ACCESS_CONTEXTS 65536u
#define NR_FRAMES 4096u

struct packer {
    struct access_guess *guesses;
    struct page_frame *frames;
    uint32_t context;
    uint64_t icount, rows;
    struct bytes columns[NR_COLUMNS];
};

/* Bytes to read from. */
struct source {
    const uint8_t *at, *end;
};

struct range {
    uint64_t start, end;
};

struct trace {
    uint32_t ring[RING_SLOTS];
    struct trace_block *blocks;
    uint32_t nr_blocks, max_blocks;
    uint32_t told;       /* blocks that the reader of the dictionary has */
    uint32_t *index;     /* hash table of numbers, NO_BLOCK: free */
    uint32_t index_mask;
    struct bytes codes;
    bool last_is_other;  /* the block before was translated anew: another one may be there */
    uint64_t exit_rip;
    /* The filter. */
    struct range *ranges;
    size_t nr_ranges;
    uint32_t filter;     /* counts changes */
    bool listening;      /* to the task in the CPU */
    uint32_t tag;        /* what the caller knows it by */
    /* What is packed and not fetched. */
    struct flow flow;
    uint64_t icount;     /* up to here everything is packed, or was not wanted */
    uint64_t start;      /* where the packed part begins */
    uint64_t written;    /* the icount that a reader of it would have */
    uint32_t written_tag;
    uint64_t rows;       /* blocks in it, repeated ones counted each time */
    size_t limit;        /* bytes: run() returns when there are more, or MAX_ROWS, or MAX_SPAN */
    uint64_t ran;        /* instructions of the last call of run() */
    size_t stubs_used;
    struct stub_page *stub_pages; /* where inlined blocks go on: see stub.c */
    /* Accesses to memory: access.c. */
    bool notes_accesses;
    struct machine *next_noting;
    void *cpu;           /* the engine's, which watch.c is told */
    uint32_t edges;      /* counts translations */
    struct access *accesses;
    size_t nr_accesses, max_accesses;
    struct place *places;
    struct translation *translations;
    struct packer packer;
    bool wrong;          /* the count does not agree with the CPU's */
};

/* trace.c */
uint32_t trace_enter(struct machine *m, uint64_t pc, uint32_t size, unsigned icount);
void trace_again(struct machine *m, uint64_t pc, uint32_t size, unsigned icount, uint64_t times);
void trace_cut(struct machine *m, unsigned retired);
void trace_step(struct machine *m, uint64_t pc, const uint8_t *code, size_t have, unsigned times);
void trace_hide_bit(struct machine *m, uint64_t bit);
int trace_run(struct machine *m, int64_t budget);
int trace_run_step(struct machine *m);
void trace_free(struct machine *m);

/* flow.c */
int flow_open(struct flow *f);
void flow_close(struct flow *f);
void flow_reset(struct flow *f);
void flow_block(struct flow *f, uint32_t block);
void flow_control(struct flow *f, unsigned control, uint64_t argument);
void flow_settle(struct flow *f);
void bytes_grow(struct bytes *b, size_t size);
void bytes_put(struct bytes *b, const void *data, size_t size);

#define MAX_NUMBER_BYTES 10

/* A number of seven bits a byte, the low ones first. */
static inline void bytes_put_number(struct bytes *b, uint64_t value)
{
    if (b->size + MAX_NUMBER_BYTES > b->room) bytes_grow(b, MAX_NUMBER_BYTES);
    uint8_t *at = b->data + b->size;
    for (; value > 127; value >>= 7) *at++ = (uint8_t)(value | 128);
    *at++ = (uint8_t)value;
    b->size = (size_t)(at - b->data);
}

bool get_number(struct source *s, uint64_t *value);

/* access.c */
bool accesses_begin(struct machine *m);
void accesses_end(struct machine *m);

/* access_pack.c */
int packer_open(struct packer *p);
void packer_close(struct packer *p);
void packer_reset(struct packer *p, uint64_t icount);
void packer_add(struct packer *p, uint64_t icount, const struct access *a);
size_t packer_size(const struct packer *p);

enum flow_control { FLOW_CUT, FLOW_AGAIN, FLOW_SKIP, FLOW_TAG };

/* stub.c */
const uint8_t *stub_make(struct machine *m, uint32_t icount, uint32_t site, uint32_t block, const uint8_t *back);
void stub_forget(struct trace *t);

#endif
