/*
 * How many instructions does a translated block hold?  The engine says so when it translates one (the
 * edge event); a table keyed by (pc, size) remembers.  Where two blocks share that key and differ
 * (other code at the same place in another address space), the entry is marked and the count is taken
 * by decoding the code each time, so the count stays exact.
 */
#include "machine.h"

#include <stdlib.h>
#include <string.h>

#define PTE_PRESENT 1ull
#define PTE_LARGE (1ull << 7)
#define PTE_FRAME 0x000ffffffffff000ull
#define CR0_PG_BIT (1u << 31)
#define CR4_PAE_BIT (1u << 5)
#define CR4_LA57_BIT (1u << 12)

int blocks_init(struct block_table *t)
{
    t->mask = (1u << 13) - 1;
    t->used = 0;
    t->slots = calloc(t->mask + 1, sizeof *t->slots);
    return t->slots ? 0 : -1;
}

void blocks_free(struct block_table *t)
{
    free(t->slots);
    t->slots = NULL;
}

static struct block *find_slot(struct block_table *t, uint64_t pc, uint32_t size)
{
    size_t i = block_hash(pc, size) & t->mask;
    while (t->slots[i].icount && (t->slots[i].pc != pc || t->slots[i].size != size))
        i = (i + 1) & t->mask;
    return &t->slots[i];
}

static void grow(struct block_table *t)
{
    struct block_table bigger = {.mask = t->mask * 2 + 1, .used = t->used};
    bigger.slots = calloc(bigger.mask + 1, sizeof *bigger.slots);
    if (!bigger.slots) abort(); /* the host is out of memory: there is no exact count to go on with */
    for (size_t i = 0; i <= t->mask; i++)
        if (t->slots[i].icount) *find_slot(&bigger, t->slots[i].pc, t->slots[i].size) = t->slots[i];
    free(t->slots);
    *t = bigger;
}

void blocks_add(struct machine *m, uint64_t pc, uint16_t size, uint16_t icount)
{
    struct block_table *t = &m->blocks;
    struct block *b = find_slot(t, pc, size);
    if (b->icount) {
        if (b->icount != icount) b->ambiguous = 1;
        return;
    }
    *b = (struct block){.pc = pc, .size = size, .icount = icount};
    if (++t->used * 2 > t->mask) grow(t);
}

/* Where the leaf entry's page lies, in tables of 8-byte entries; false: not present. */
static bool walk_long(struct machine *m, uint64_t table, int level, uint64_t va, uint64_t *phys)
{
    for (;; level--) {
        unsigned shift = 12 + 9 * (unsigned)(level - 1);
        uint64_t index = va >> shift & (!m->long_mode && level == 3 ? 3 : 511), entry;
        if (table + 8 * index + 8 > m->ram_size) return false;
        memcpy(&entry, m->ram + table + 8 * index, 8);
        if (!(entry & PTE_PRESENT)) return false;
        bool can_be_large = level == 2 || (level == 3 && m->long_mode);
        if (level == 1 || (can_be_large && (entry & PTE_LARGE))) {
            uint64_t mask = (1ull << shift) - 1;
            *phys = (entry & PTE_FRAME & ~mask) | (va & mask);
            return true;
        }
        table = entry & PTE_FRAME;
    }
}

/* The same in tables of 4-byte entries. */
static bool walk_two_level(struct machine *m, uint64_t table, uint64_t va, uint64_t *phys)
{
    uint32_t entry;
    uint64_t at = (table & 0xfffff000u) + 4 * (va >> 22 & 1023);
    if (at + 4 > m->ram_size) return false;
    memcpy(&entry, m->ram + at, 4);
    if (!(entry & PTE_PRESENT)) return false;
    if (entry & PTE_LARGE) {
        *phys = (entry & 0xffc00000u) | (va & 0x3fffff);
        return true;
    }
    at = (entry & 0xfffff000u) + 4 * (va >> 12 & 1023);
    if (at + 4 > m->ram_size) return false;
    memcpy(&entry, m->ram + at, 4);
    *phys = (entry & 0xfffff000u) | (va & 0xfff);
    return entry & PTE_PRESENT;
}

/* The host address behind a linear address, by the guest's own tables; NULL: not mapped. */
uint8_t *machine_translate(struct machine *m, uint64_t va)
{
    uint64_t cr3 = m->cr[3], cr4 = m->cr[4], phys = va;
    bool found = true;
    if (!(m->cr[0] & CR0_PG_BIT)) phys = va;
    else if (m->long_mode) found = walk_long(m, cr3 & PTE_FRAME, cr4 & CR4_LA57_BIT ? 5 : 4, va, &phys);
    else if (cr4 & CR4_PAE_BIT) found = walk_long(m, cr3 & 0xffffffe0u, 3, va, &phys);
    else found = walk_two_level(m, cr3, va, &phys);
    return found && phys < m->ram_size ? m->ram + phys : NULL;
}

/* Copy up to size bytes of code at va, across pages; bytes copied. */
size_t machine_fetch(struct machine *m, uint64_t va, uint8_t *window, size_t size)
{
    uint64_t address_mask = machine_code_bits(m) == 64 ? ~0ull : 0xffffffffu;
    size_t have = 0;
    while (have < size) {
        uint64_t at = (va + have) & address_mask;
        const uint8_t *host = machine_translate(m, at);
        if (!host) break;
        size_t n = 0x1000 - (at & 0xfff);
        if (n > size - have) n = size - have;
        memcpy(window + have, host, n);
        have += n;
    }
    return have;
}

/* Instructions in the straight line of code [from, to). */
unsigned count_instructions(struct machine *m, uint64_t from, uint64_t to)
{
    uint8_t window[16]; /* an instruction has at most 15 bytes */
    unsigned count = 0, bits = machine_code_bits(m);
    while (from < to) {
        size_t have = machine_fetch(m, from, window, sizeof window);
        unsigned length = insn_length(window, have, bits);
        if (length == 0) break;
        from += length;
        count++;
    }
    return count;
}

/*
 * The slow side of the look-up: a longer probe, an ambiguous entry, or a block nobody announced.  The engine
 * announces none before one block has run to its end; those are entered here, so that another block with the
 * same key is told from them.
 */
unsigned blocks_icount_slow(struct machine *m, uint64_t pc, uint32_t size)
{
    struct block *b = find_slot(&m->blocks, pc, size);
    if (b->icount && !b->ambiguous) return b->icount;
    unsigned icount = count_instructions(m, pc, pc + size);
    blocks_add(m, pc, (uint16_t)size, (uint16_t)icount);
    return icount;
}

/* What the instruction at pc is, looked at once a run. */
struct insn insn_at(struct machine *m, uint64_t pc)
{
    struct kind_slot *slot = &m->kinds[pc % KIND_SLOTS];
    if (slot->pc != pc || slot->run != m->run) {
        uint8_t code[16];
        slot->insn = insn_classify(code, machine_fetch(m, pc, code, sizeof code), machine_code_bits(m));
        slot->pc = pc;
        slot->run = m->run;
    }
    return slot->insn;
}

/* Does every block with this pc and size hold icount instructions? */
bool blocks_agree(struct machine *m, uint64_t pc, uint32_t size, unsigned icount)
{
    const struct block *b = find_slot(&m->blocks, pc, size);
    return b->icount == icount && !b->ambiguous;
}

/* What kind of instruction stands at pc. */
enum special blocks_kind(struct machine *m, uint64_t pc)
{
    return insn_at(m, pc).special;
}

/*
 * A block of one instruction is entered at pc, inside the block before it.  Did that one run to its end and
 * branch here, or was it given up in front of the instruction at pc?  The engine does the latter when a store
 * hits the block that executes it: the block is forgotten, and the storing instruction becomes one of its own.
 *
 * A branch to here would have met a block that goes on to the same end, or further.  Only for the last
 * instruction itself the two look alike: a REP counts down from one iteration to the next, a CALL can call
 * itself, other branches do not store, and anything else cannot come here twice.
 */
bool blocks_restarted(struct machine *m, uint64_t pc, uint32_t size)
{
    uint64_t end = m->block_pc + m->block_size;
    const uint64_t *regs = (const uint64_t *)m->env;
    if (pc + size != end) return pc + size < end;
    struct insn insn = insn_at(m, pc);
    switch (insn.special) {
    case REP_STRING:
    case REP_COMPARE:
        if (m->block_pc == pc && m->block_rcx_known) return regs[1] == m->block_rcx;
        /* Behind the first iteration, or in front of it?  In front, if its next store goes to this block. */
        return insn.stores && regs[7] + insn.width > m->block_pc && regs[7] < end;
    case BRANCH:
    case CALL_SELF:
        return false;
    default:
        return true;
    }
}
