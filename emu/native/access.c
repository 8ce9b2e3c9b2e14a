/*
 * Noting every load and store.
 *
 * Translated code looks up an address in the engine's TLB itself, and calls a function of the engine where that does
 * not do.  While there is a trace of accesses, watch.c marks every page as watched, so it never does; and the tables
 * of those functions, and the calls of helpers to memory, lead here.  The code is translated as ever: blocks end where
 * they do without a trace, which hooks of the engine's own would not guarantee.
 *
 * Noted is what the engine does for an instruction: 16 bytes are two accesses of 8.  Walks of page tables and loads of
 * descriptors go other ways.  An access that faults, or is given up, does not come back here.
 */
#include "trace.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 0x1000u
#define CC_OP_OFFSET (16 * 8 + 5 * 8) /* in the CPU's state: see machine_calibrate() */

typedef bool restore_state(void *cpu, uintptr_t host_pc, bool will_exit);

static struct machine *noting; /* the machines that have traces of accesses, linked by trace->next_noting */
static restore_state *restore;

static struct machine *machine_of(const void *env)
{
    for (struct machine *m = noting; m; m = m->trace->next_noting)
        if (m->env == env) return m;
    return NULL;
}

/* The address of the instruction whose code returns to host_pc; the CPU's state stays as it is. */
static uint64_t address_of(struct machine *m, uintptr_t host_pc)
{
    uint64_t eip, found;
    uint32_t cc_op;
    memcpy(&eip, m->env + EIP_OFFSET, 8);
    memcpy(&cc_op, m->env + CC_OP_OFFSET, 4);
    restore(m->trace->cpu, host_pc, false);
    memcpy(&found, m->env + EIP_OFFSET, 8);
    memcpy(m->env + EIP_OFFSET, &eip, 8);
    memcpy(m->env + CC_OP_OFFSET, &cc_op, 4);
    return found;
}

/* Which instruction of the block that runs is it?  Asked of the engine once for each place in a translation. */
static unsigned index_of(struct machine *m, uint32_t block, uintptr_t host_pc)
{
    struct trace *t = m->trace;
    const struct trace_block *b = &t->blocks[block];
    if (b->icount == 1) return 0;
    uint64_t instance = m->last_site == NO_SITE ? t->edges | 1ull << 32 : m->last_site;
    struct place *place = &t->places[(host_pc * 0x9e3779b97f4a7c15ull >> 48) % NR_PLACES];
    if (place->host_pc == host_pc && place->block == block && place->instance == instance) return place->index;
    uint64_t pc = address_of(m, host_pc), at = b->pc;
    unsigned index = 0;
    for (const uint8_t *code = t->codes.data + b->code; at < pc && index < b->icount; index++) {
        unsigned length = insn_length(code, b->size - (at - b->pc), b->bits);
        if (!length) break;
        code += length;
        at += length;
    }
    *place = (struct place){host_pc, instance, block, index};
    return index;
}

/* Where address is in RAM; page-table entries change only between runs. */
static uint64_t physical(struct machine *m, uint64_t address)
{
    struct trace *t = m->trace;
    uint64_t page = address / PAGE_BYTES;
    struct translation *known = &t->translations[page % NR_TRANSLATIONS];
    if (known->page != page || known->run != m->run) {
        const uint8_t *host = machine_translate(m, page * PAGE_BYTES);
        *known = (struct translation){page, host ? (uint64_t)(host - m->ram) : NO_PHYS, m->run};
    }
    return known->frame == NO_PHYS ? NO_PHYS : known->frame + address % PAGE_BYTES;
}

static uint64_t value_at(struct machine *m, uint64_t address, uint64_t phys, unsigned size)
{
    uint64_t value = 0;
    size_t here = PAGE_BYTES - address % PAGE_BYTES;
    if (here >= 8 && phys <= m->ram_size - 8) { /* in one piece, whatever its size */
        memcpy(&value, m->ram + phys, 8);
        return value & ~0ull >> (64 - 8 * size);
    }
    if (here > size) here = size;
    if (phys != NO_PHYS) memcpy(&value, m->ram + phys, here);
    uint64_t mask = machine_code_bits(m) == 64 ? ~0ull : 0xffffffffu;
    uint64_t rest = here < size ? physical(m, (address + here) & mask) : NO_PHYS;
    if (rest != NO_PHYS) memcpy((uint8_t *)&value + here, m->ram + rest, size - here);
    return value;
}

/* An access has been made. */
static void note(struct machine *m, uint64_t address, unsigned shift, bool store, uintptr_t host_pc)
{
    struct trace *t = m->trace;
    if (m->trace_cursor == t->ring || !t->listening) return;
    if (t->nr_accesses == t->max_accesses) {
        t->max_accesses = t->max_accesses ? 2 * t->max_accesses : 1 << 16;
        t->accesses = realloc(t->accesses, t->max_accesses * sizeof *t->accesses);
        if (!t->accesses) abort(); /* as bytes_put() */
    }
    uint64_t phys = physical(m, address);
    t->accesses[t->nr_accesses++] = (struct access){
        .address = address, .phys = phys, .value = value_at(m, address, phys, 1u << shift),
        .entry = (uint32_t)(m->trace_cursor - t->ring - 1),
        .index = (uint16_t)index_of(m, m->trace_cursor[-1], host_pc),
        .shift = (uint8_t)shift, .store = store};
}

#define TABLE_LOADS(X) X(ret_ldub, 0) X(le_lduw, 1) X(le_ldul, 2) X(le_ldq, 3) X(be_lduw, 1) X(be_ldul, 2) X(be_ldq, 3)
#define TABLE_STORES(X) X(ret_stb, 0) X(le_stw, 1) X(le_stl, 2) X(le_stq, 3) X(be_stw, 1) X(be_stl, 2) X(be_stq, 3)
#define CALLED_LOADS(X) X(ldub, 0) X(ldsb, 0) X(lduw, 1) X(ldsw, 1) X(ldl, 2) X(ldq, 3)
#define CALLED_STORES(X) X(stb, 0) X(stw, 1) X(stl, 2) X(stq, 3)

#define TABLE_LOAD(name, shift)                                                                     \
    static uint64_t (*engine_##name)(void *, uint64_t, uint32_t, uintptr_t);                        \
    static uint64_t our_##name(void *env, uint64_t address, uint32_t how, uintptr_t host_pc)        \
    {                                                                                               \
        uint64_t value = engine_##name(env, address, how, host_pc);                                 \
        struct machine *m = machine_of(env);                                                        \
        if (m) note(m, address, shift, false, host_pc);                                             \
        return value;                                                                               \
    }
#define TABLE_STORE(name, shift)                                                                             \
    static void (*engine_##name)(void *, uint64_t, uint64_t, uint32_t, uintptr_t);                           \
    static void our_##name(void *env, uint64_t address, uint64_t value, uint32_t how, uintptr_t host_pc)     \
    {                                                                                                        \
        engine_##name(env, address, value, how, host_pc);                                                    \
        struct machine *m = machine_of(env);                                                                 \
        if (m) note(m, address, shift, true, host_pc);                                                       \
    }
#define CALLED_LOAD(name, shift)                                                       \
    static uint64_t (*engine_##name)(void *, uint64_t, uintptr_t);                     \
    static uint64_t our_##name(void *env, uint64_t address, uintptr_t host_pc)         \
    {                                                                                  \
        uint64_t value = engine_##name(env, address, host_pc);                         \
        struct machine *m = machine_of(env);                                           \
        if (m) note(m, address, shift, false, host_pc);                                \
        return value;                                                                  \
    }
#define CALLED_STORE(name, shift)                                                                  \
    static void (*engine_##name)(void *, uint64_t, uint64_t, uintptr_t);                           \
    static void our_##name(void *env, uint64_t address, uint64_t value, uintptr_t host_pc)         \
    {                                                                                              \
        engine_##name(env, address, value, host_pc);                                               \
        struct machine *m = machine_of(env);                                                       \
        if (m) note(m, address, shift, true, host_pc);                                             \
    }
TABLE_LOADS(TABLE_LOAD)
TABLE_STORES(TABLE_STORE)
CALLED_LOADS(CALLED_LOAD)
CALLED_STORES(CALLED_STORE)

static struct {
    const char *name;
    bool in_table;
    void *ours;
    void **engine; /* what is called instead of it */
    void **slot;
} detours[] = {
#define IN_TABLE(name, shift) {"helper_" #name "_mmu_x86_64", true, (void *)our_##name, (void **)&engine_##name, NULL},
#define IS_CALLED(name, shift) {"cpu_" #name "_data_ra_x86_64", false, (void *)our_##name, (void **)&engine_##name, NULL},
    TABLE_LOADS(IN_TABLE) TABLE_STORES(IN_TABLE) CALLED_LOADS(IS_CALLED) CALLED_STORES(IS_CALLED)};

#define NR_DETOURS (sizeof detours / sizeof *detours)

static bool find_all(const struct machine *m)
{
    if (restore) return true;
    for (size_t i = 0; i < NR_DETOURS; i++) {
        detours[i].slot = linkage_slot(m, detours[i].name, detours[i].in_table);
        *detours[i].engine = linkage_function(m, detours[i].name);
        if (!detours[i].slot || !*detours[i].engine) return false;
    }
    void *function = linkage_function(m, "cpu_restore_state_x86_64");
    memcpy(&restore, &function, sizeof function);
    return restore;
}

/* Note accesses, too; false: this engine is another one.  What is translated must be forgotten then, and in the end. */
bool accesses_begin(struct machine *m)
{
    struct trace *t = m->trace;
    if (!find_all(m) || !watches_fill_in(m)) return false;
    t->places = calloc(NR_PLACES, sizeof *t->places);
    t->translations = calloc(NR_TRANSLATIONS, sizeof *t->translations);
    if (!t->places || !t->translations) return false;
    for (size_t i = 0; i < NR_DETOURS; i++) *detours[i].slot = detours[i].ours;
    t->next_noting = noting;
    noting = m;
    t->notes_accesses = true;
    watches_listen(m);
    return true;
}

void accesses_end(struct machine *m)
{
    struct trace *t = m->trace;
    for (struct machine **at = &noting; *at; at = &(*at)->trace->next_noting)
        if (*at == m) {
            *at = t->next_noting;
            break;
        }
    if (!noting && t->notes_accesses)
        for (size_t i = 0; i < NR_DETOURS; i++) *detours[i].slot = *detours[i].engine;
    t->notes_accesses = false;
    watches_listen(m);
    free(t->places);
    free(t->translations);
    free(t->accesses);
}
