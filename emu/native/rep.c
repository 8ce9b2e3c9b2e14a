/*
 * REP MOVS and REP STOS, many elements at once.
 *
 * The engine runs them one element and one block at a time.  From the second element on, as many as are sure to
 * go by without a fault, a stop or anybody noticing are done here: inside one page of the target and of the
 * source, whose entries already have every right and bit that the accesses would need or set, and whose target
 * cannot hold code.  Every element counts, and the engine always does the last one itself.
 */
#include "machine.h"

#include <string.h>

#define PTE_P (1ull << 0)
#define PTE_RW (1ull << 1)
#define PTE_US (1ull << 2)
#define PTE_A (1ull << 5)
#define PTE_D (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_XD (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull
#define PAGE 4096u
#define REG_RAX 0
#define REG_RCX 1
#define REG_RSI 6
#define REG_RDI 7
#define WORTH_IT 8 /* elements */
#define SEGMENT_SIZE 24
#define ES_BASE 8                      /* in the segment registers' part of the state */
#define DS_BASE (3 * SEGMENT_SIZE + 8) /* ES CS SS DS FS GS */

/* The host address of the 4 KiB page of va, if its entry has all of `needed` and the levels above allow it. */
static uint8_t *page_with(struct machine *m, uint64_t va, uint64_t needed)
{
    int level = m->long_mode ? (m->cr[4] & (1u << 12) ? 5 : 4) : 3;
    uint64_t table = m->long_mode ? m->cr[3] & PTE_ADDR : m->cr[3] & 0xffffffe0u, entry;
    for (;; level--) {
        unsigned shift = 12 + 9 * (unsigned)(level - 1);
        uint64_t at = table + 8 * (va >> shift & (!m->long_mode && level == 3 ? 3 : 511));
        if (at + 8 > m->ram_size) return NULL;
        memcpy(&entry, m->ram + at, 8);
        if (!(entry & PTE_P)) return NULL;
        if (level == 1) break;
        bool has_rights = m->long_mode || level < 3;
        if (has_rights && (entry & PTE_PS || (needed & (PTE_RW | PTE_US) & ~entry))) return NULL;
        table = entry & PTE_ADDR;
    }
    uint64_t phys = entry & PTE_ADDR;
    return (entry & needed) == needed && phys + PAGE <= m->ram_size ? m->ram + phys : NULL;
}

/* Does the instruction use flat addresses of the code's own width, upwards? */
static bool is_plain(struct machine *m, const struct insn *insn)
{
    if ((!insn->moves && !insn->fills) || insn->overridden || !m->at.segments || !(m->cr[4] & (1u << 5))) return false;
    int32_t direction;
    memcpy(&direction, m->env + m->at.hflags - 4, 4);
    if (direction != 1) return false;
    if (machine_code_bits(m) == 64) return !insn->addr32;
    uint64_t es, ds;
    memcpy(&es, m->env + m->at.segments + ES_BASE, 8);
    memcpy(&ds, m->env + m->at.segments + DS_BASE, 8);
    return machine_code_bits(m) == 32 && insn->addr32 && !es && !ds;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void fill(uint8_t *to, uint64_t value, unsigned width, uint64_t count)
{
    if (width == 1) {
        memset(to, (int)value, count);
        return;
    }
    for (uint64_t i = 0; i < count; i++) memcpy(to + i * width, &value, width);
}

/* Do up to `limit` elements of the REP at pc, leaving at least one; how many were done. */
uint64_t rep_many(struct machine *m, uint64_t pc, uint64_t limit)
{
    uint64_t *regs = (uint64_t *)m->env;
    if (regs[REG_RCX] <= WORTH_IT || limit < WORTH_IT) return 0;
    const struct insn insn = insn_at(m, pc);
    if (!is_plain(m, &insn)) return 0;
    uint64_t mask = insn.addr32 ? 0xffffffffu : ~0ull;
    uint64_t from = regs[REG_RSI] & mask, to = regs[REG_RDI] & mask;
    uint64_t count = least(limit, (regs[REG_RCX] & mask) - 1);
    count = least(count, (PAGE - to % PAGE) / insn.width);
    if (insn.moves) count = least(count, (PAGE - from % PAGE) / insn.width);
    if (count < WORTH_IT || watches_page(m, to) || (insn.moves && watches_page(m, from))) return 0;
    uint8_t *target = page_with(m, to, PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_XD);
    if (!target) return 0;
    target += to % PAGE;
    if (insn.moves) {
        const uint8_t *source = page_with(m, from, PTE_P | PTE_US | PTE_A);
        if (!source) return 0;
        source += from % PAGE;
        /* Upwards into itself: the elements that were just stored would be read again. */
        if (target > source && target - source < (ptrdiff_t)(count * insn.width))
            count = (uint64_t)(target - source) / insn.width;
        if (!count) return 0;
        memmove(target, source, count * insn.width);
        regs[REG_RSI] = (from + count * insn.width) & mask;
    } else {
        fill(target, regs[REG_RAX], insn.width, count);
    }
    regs[REG_RDI] = (to + count * insn.width) & mask;
    regs[REG_RCX] = (regs[REG_RCX] - count) & mask;
    return count;
}
