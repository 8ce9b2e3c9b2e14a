/*
 * Watchpoints: the CPU stops behind the instruction that read or wrote watched memory.
 *
 * The engine is QEMU, whose TLB marks pages that hold watchpoints and asks about every access to them; other pages
 * keep the fast way.  The engine's build has left all of it in place, except the three functions that know the
 * watchpoints: those are empty.  Its calls of them go through its procedure linkage table, so we fill in our own.
 *
 * - At the fill of a TLB entry: does the page hold watched bytes?  A watch is of linear addresses under one root,
 *   or of physical addresses, whichever way they are reached.
 * - At an access to such a page: does it touch watched bytes?  In a free run the access is given up then, as for a
 *   page fault, and the instruction is run once more as a step, which only notes what it touches.
 *
 * The walk itself writes accessed and dirty bits.  That happens at fills only, so a watched entry of a page table is
 * compared there.
 */
#define _GNU_SOURCE
#include "machine.h"
#include "trace.h"

#include <stdlib.h>
#include <string.h>

#define CPU_REACH (64 * 1024) /* the registers lie so far behind the beginning of the CPU's state at most */
#define PAGE_BYTES 0x1000u
#define NO_PHYS (~0ull)

typedef void exit_restore(void *cpu, uintptr_t host_pc);

static struct machine *watching; /* those that have watches, linked by next_watching */
static exit_restore *loop_exit_restore;
static bool tried, filled_in;

static struct machine *machine_of(const void *cpu)
{
    for (struct machine *m = watching; m; m = m->next_watching)
        if ((uintptr_t)m->env - (uintptr_t)cpu < CPU_REACH) return m;
    return NULL;
}

static uint64_t physical(struct machine *m, uint64_t address)
{
    const uint8_t *host = machine_translate(m, address);
    return host ? (uint64_t)(host - m->ram) : NO_PHYS;
}

/* Do the bytes [address, address + size), which lie in one page, belong to the watch? */
static bool touches(struct machine *m, const struct machine_watch *w, uint64_t address, uint64_t size)
{
    if (w->kind == WATCH_LINEAR && w->root != m->cr[3]) return false;
    uint64_t at = w->kind == WATCH_LINEAR ? address : physical(m, address);
    return at != NO_PHYS && at < w->address + w->size && w->address < at + size;
}

static uint64_t word_at(const struct machine *m, uint64_t phys, uint64_t size)
{
    uint64_t word = 0;
    if (phys + size <= m->ram_size) memcpy(&word, m->ram + phys, size < 8 ? size : 8);
    return word;
}

static void note(struct machine *m, size_t watch, uint32_t access, uint64_t address, uint64_t size, uint64_t old)
{
    for (size_t i = 0; i < m->nr_hits; i++) {
        const struct watch_hit *h = &m->hits[i];
        /* A store that is not aligned is asked about as a whole, and then done byte by byte. */
        if (h->watch == watch && h->access == access && address - h->address < h->size) return;
    }
    if (m->nr_hits == MAX_HITS) return;
    m->hits[m->nr_hits++] =
        (struct watch_hit){.watch = (uint32_t)watch, .access = access, .address = address, .size = size, .old = old};
}

/* Has the walk that just ended written a watched entry of a table?  Then the run stops, at the latest in front of the next block. */
static bool walk_wrote(struct machine *m, uint64_t page)
{
    bool wrote = false;
    for (size_t i = 0; i < m->nr_watches; i++) {
        struct machine_watch *w = &m->watches[i];
        if (w->kind != WATCH_ENTRY) continue;
        uint64_t now = word_at(m, w->address, w->size);
        if (now == w->old) continue;
        note(m, i, WATCH_WRITE, page, w->size, w->old);
        w->old = now;
        wrote = true;
    }
    if (wrote && !m->stepping && m->budget > 0) {
        m->held_budget += m->budget;
        m->budget = 0;
    }
    return wrote;
}

/* Which accesses to the page [page, page + size) are to be asked about?  Called at each fill of a TLB entry. */
static int address_matches(void *cpu, uint64_t page, uint64_t size)
{
    struct machine *m = machine_of(cpu);
    uint32_t asked = 0;
    if (!m) return 0;
    if (m->trace && m->trace->notes_accesses) {
        m->trace->cpu = cpu;
        asked = WATCH_READ | WATCH_WRITE; /* so that they do not take the fast way past access.c */
    }
    if (m->watches_entries && walk_wrote(m, page)) asked = WATCH_READ | WATCH_WRITE;
    for (size_t i = 0; i < m->nr_watches; i++)
        if (m->watches[i].kind != WATCH_ENTRY && touches(m, &m->watches[i], page, size)) asked |= m->watches[i].access;
    return (int)asked;
}

/* Give the access up, with the state as it was in front of its instruction. */
static void give_up(struct machine *m, void *cpu, uintptr_t host_pc)
{
    m->exit_kind = EXIT_WATCH;
    m->api->emu_stop(m->uc);
    loop_exit_restore(cpu, host_pc);
}

/*
 * A store that is not aligned is asked about in two parts, as if it always crossed into another page: the bytes up to
 * the border, and those from the border on.  Where it does not, the "border" is the beginning of its own page: the
 * first part has a negative size, the second reaches from there to the end of the store.  Put them together.
 */
static bool is_half(struct machine *m, uint64_t *address, uint64_t *size)
{
    if ((int64_t)*size <= 0) {
        m->half_address = *address;
        m->half_size = *size;
        return true;
    }
    if (m->half_size) {
        *address = m->half_address;
        *size += m->half_size;
        m->half_size = 0;
    }
    return false;
}

/* The bytes [address, address + size) are about to be accessed. */
static void check_access(void *cpu, uint64_t address, uint64_t size, uint32_t attrs, int access, uintptr_t host_pc)
{
    (void)attrs;
    struct machine *m = machine_of(cpu);
    if (!m || m->exit_kind != EXIT_NONE || is_half(m, &address, &size)) return;
    bool hit = m->held_budget != 0;
    if (!hit && !m->watches_physical && (address >= m->watches_end || address + size <= m->watches_start)) return;
    for (size_t i = 0; i < m->nr_watches; i++) {
        const struct machine_watch *w = &m->watches[i];
        if (w->kind == WATCH_ENTRY || !(w->access & (uint32_t)access) || !touches(m, w, address, size)) continue;
        hit = true;
        uint64_t phys = physical(m, address);
        if (m->stepping) note(m, i, (uint32_t)access, address, size, phys == NO_PHYS ? 0 : word_at(m, phys, size));
    }
    if (hit && !m->stepping) give_up(m, cpu, host_pc);
}

/* ---- the engine's calls */

static bool fill_in(const struct machine *m, const char *name, void *function)
{
    void **slot = linkage_slot(m, name, false);
    if (slot) *slot = function;
    return slot;
}

/* Put our functions where the engine's are empty; once for all machines. */
bool watches_fill_in(const struct machine *m)
{
    if (tried) return filled_in;
    tried = true;
    void *exit_function = linkage_function(m, "cpu_loop_exit_restore_x86_64");
    if (!exit_function) return false;
    memcpy(&loop_exit_restore, &exit_function, sizeof exit_function);
    filled_in = fill_in(m, "cpu_check_watchpoint_x86_64", (void *)(uintptr_t)check_access) &&
                fill_in(m, "cpu_watchpoint_address_matches_x86_64", (void *)(uintptr_t)address_matches);
    return filled_in;
}

/* ---- for Python */

static void leave_list(struct machine *m)
{
    for (struct machine **at = &watching; *at; at = &(*at)->next_watching)
        if (*at == m) {
            *at = m->next_watching;
            return;
        }
}

/* Be told about accesses if somebody wants to know, and forget which pages had any before. */
int watches_listen(struct machine *m)
{
    leave_list(m);
    if (m->nr_watches || (m->trace && m->trace->notes_accesses)) {
        m->next_watching = watching;
        watching = m;
    }
    return machine_flush_tlb(m);
}

/* Watch these, and nothing else; 0, or -1: this engine cannot. */
int machine_set_watches(struct machine *m, const struct machine_watch *watches, size_t count)
{
    struct machine_watch *copy = NULL;
    if (count) {
        if (!watches_fill_in(m)) return -1;
        copy = malloc(count * sizeof *copy);
        if (!copy) return -1;
        memcpy(copy, watches, count * sizeof *copy);
    }
    free(m->watches);
    m->watches = copy;
    m->nr_watches = count;
    m->watches_entries = m->watches_physical = false;
    m->watches_start = ~0ull, m->watches_end = 0;
    m->nr_hits = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t end = copy[i].address + copy[i].size;
        if (copy[i].kind == WATCH_PHYSICAL) m->watches_physical = true;
        if (copy[i].kind == WATCH_LINEAR && copy[i].address < m->watches_start) m->watches_start = copy[i].address;
        if (copy[i].kind == WATCH_LINEAR && end > m->watches_end) m->watches_end = end;
        if (copy[i].kind != WATCH_ENTRY) continue;
        copy[i].old = word_at(m, copy[i].address, copy[i].size);
        m->watches_entries = true;
    }
    return watches_listen(m);
}

/* A run or a step begins; what the kernel did to watched entries of tables is not the walk's doing. */
void watches_begin(struct machine *m)
{
    m->nr_hits = 0;
    m->hit_pc = 0;
    if (!m->watches_entries) return;
    for (size_t i = 0; i < m->nr_watches; i++)
        if (m->watches[i].kind == WATCH_ENTRY)
            m->watches[i].old = word_at(m, m->watches[i].address, m->watches[i].size);
}

/* The instruction has not retired, and will be tried again: forget what it touched.  What the walk wrote is written. */
void watches_undone(struct machine *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->nr_hits; i++)
        if (m->watches[m->hits[i].watch].kind == WATCH_ENTRY) m->hits[kept++] = m->hits[i];
    m->nr_hits = kept;
}

/* A free run has stopped in front of an instruction that touches something: run that. */
void watches_step(struct machine *m)
{
    memcpy(&m->hit_pc, m->env + EIP_OFFSET, 8);
    if (step_once(m) == EXIT_NONE) m->exit_kind = EXIT_WATCH;
    else watches_undone(m);
}

/* Might an access to the page of address be asked about? */
bool watches_page(struct machine *m, uint64_t address)
{
    if (m->trace && m->trace->notes_accesses) return true;
    if (!m->nr_watches) return false;
    uint64_t page = address & ~(uint64_t)(PAGE_BYTES - 1);
    for (size_t i = 0; i < m->nr_watches; i++)
        if (touches(m, &m->watches[i], page, PAGE_BYTES)) return true;
    return false;
}

void watches_free(struct machine *m)
{
    leave_list(m);
    free(m->watches);
}
