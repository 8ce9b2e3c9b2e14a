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
#define CR4_PAE_BIT (1u << 5)

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

/* The page's host address behind a linear address, by the guest's own tables; NULL: not mapped. */
uint8_t *machine_translate(struct machine *m, uint64_t va)
{
    uint64_t cr3 = 0, cr4 = 0, cr0 = 0, entry, phys;
    m->api->reg_read(m->uc, UC_X86_REG_CR0, &cr0);
    m->api->reg_read(m->uc, UC_X86_REG_CR3, &cr3);
    m->api->reg_read(m->uc, UC_X86_REG_CR4, &cr4);
    if (!(cr0 & 0x80000000u)) {
        phys = va;
    } else if (cr4 & CR4_PAE_BIT) {
        int level = m->long_mode ? 4 : 3;
        uint64_t table = m->long_mode ? cr3 & PTE_FRAME : cr3 & 0xffffffe0u;
        for (;; level--) {
            unsigned shift = 12 + 9 * (unsigned)(level - 1);
            unsigned bits = !m->long_mode && level == 3 ? 3 : 511;
            uint64_t at = table + 8 * ((va >> shift) & bits);
            if (at + 8 > m->ram_size) return NULL;
            memcpy(&entry, m->ram + at, 8);
            if (!(entry & PTE_PRESENT)) return NULL;
            if (level == 1 || (level < 4 && (m->long_mode || level == 2) && (entry & PTE_LARGE))) {
                uint64_t mask = (1ull << shift) - 1;
                phys = (entry & PTE_FRAME & ~mask) | (va & mask);
                break;
            }
            table = entry & PTE_FRAME;
        }
    } else {
        uint32_t pde, pte;
        uint64_t at = (cr3 & 0xfffff000u) + 4 * ((va >> 22) & 1023);
        if (at + 4 > m->ram_size) return NULL;
        memcpy(&pde, m->ram + at, 4);
        if (!(pde & PTE_PRESENT)) return NULL;
        if (pde & PTE_LARGE) {
            phys = (pde & 0xffc00000u) | (va & 0x3fffff);
        } else {
            at = (pde & 0xfffff000u) + 4 * ((va >> 12) & 1023);
            if (at + 4 > m->ram_size) return NULL;
            memcpy(&pte, m->ram + at, 4);
            if (!(pte & PTE_PRESENT)) return NULL;
            phys = (pte & 0xfffff000u) | (va & 0xfff);
        }
    }
    return phys < m->ram_size ? m->ram + phys : NULL;
}

static unsigned code_bits(struct machine *m)
{
    uint32_t hflags;
    memcpy(&hflags, m->env + m->at.hflags, 4);
    if (hflags & (1u << 15)) return 64; /* HF_CS64: a 64-bit code segment */
    return hflags & (1u << 4) ? 32 : 16; /* HF_CS32 */
}

/* Copy up to size bytes of code at va, across pages; bytes copied. */
size_t machine_fetch(struct machine *m, uint64_t va, uint8_t *window, size_t size)
{
    uint64_t address_mask = code_bits(m) == 64 ? ~0ull : 0xffffffffu;
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
    unsigned count = 0, bits = code_bits(m);
    while (from < to) {
        size_t have = machine_fetch(m, from, window, sizeof window);
        unsigned length = insn_length(window, have, bits);
        if (length == 0) break;
        from += length;
        count++;
    }
    return count;
}

/* The slow side of the look-up: a longer probe, an ambiguous entry, or a block nobody announced. */
unsigned blocks_icount_slow(struct machine *m, uint64_t pc, uint32_t size)
{
    struct block *b = find_slot(&m->blocks, pc, size);
    if (b->icount && !b->ambiguous) return b->icount;
    return count_instructions(m, pc, pc + size);
}
