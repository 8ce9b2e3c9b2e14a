/* Opening, running and stopping the engine.  See machine.h. */
#define _GNU_SOURCE
#include "machine.h"
#include "trace.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REG_RCX 1
#define REG_R11 11
#define HF_CS32 (1u << 4)
#define HF_CS64 (1u << 15)
#define PAGE_BYTES 0x1000u

static struct api engine_api;
static char last_error[256];

const char *machine_last_error(void)
{
    return last_error;
}

static int fail(const char *what, const char *detail)
{
    snprintf(last_error, sizeof last_error, "%s: %s", what, detail);
    return -1;
}

/* Load the engine's library; 0, or -1 with machine_last_error(). */
int machine_load(const char *path)
{
    static const struct { const char *name; size_t at; } wanted[] = {
        {"uc_open", offsetof(struct api, open)},
        {"uc_close", offsetof(struct api, close)},
        {"uc_ctl", offsetof(struct api, ctl)},
        {"uc_emu_start", offsetof(struct api, emu_start)},
        {"uc_emu_stop", offsetof(struct api, emu_stop)},
        {"uc_hook_add", offsetof(struct api, hook_add)},
        {"uc_hook_del", offsetof(struct api, hook_del)},
        {"uc_mem_map_ptr", offsetof(struct api, mem_map_ptr)},
        {"uc_reg_read", offsetof(struct api, reg_read)},
        {"uc_reg_write", offsetof(struct api, reg_write)},
        {"uc_context_size", offsetof(struct api, context_size)},
        {"uc_strerror", offsetof(struct api, strerror)},
        {"uc_version", offsetof(struct api, version)},
    };
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return fail("cannot load the engine", dlerror());
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *symbol = dlsym(library, wanted[i].name);
        if (!symbol) return fail("the engine lacks a function", wanted[i].name);
        memcpy((char *)&engine_api + wanted[i].at, &symbol, sizeof symbol);
    }
    return 0;
}

/* A block that was left in front of the instruction at rip has been counted whole: give back what was not retired. */
static void uncount_from(struct machine *m, uint64_t rip)
{
    if (m->last_site != NO_SITE) settle_last_site(m);
    uint64_t offset = rip - m->block_pc;
    if (!m->block_size || offset >= m->block_size) return;
    unsigned retired = count_instructions(m, m->block_pc, rip);
    m->budget += m->block_icount - retired;
    if (m->trace) trace_cut(m, retired);
}

/* May the call for this block be inlined?  A block of one instruction must be looked at: see blocks_restarted(). */
static bool may_inline(struct machine *m, uint64_t pc, uint32_t size, unsigned n)
{
    if (!m->inlining || !blocks_agree(m, pc, size, n)) return false;
    return n > 1 || blocks_kind(m, pc) == BRANCH;
}

/* The budget is spent: the block that is being entered does not run. */
static void stop_at_block(struct machine *m)
{
    m->exit_kind = EXIT_BUDGET;
    m->block_size = 0;
    m->last_site = NO_SITE;
    m->api->emu_stop(m->uc);
}

/*
 * Called for a block that is entered for the first time, and always for those that cannot be inlined.  Budget
 * and count are one word; the block entered last is remembered for faults in its middle.
 */
static void on_block(uc_engine *uc, uint64_t pc, uint32_t size, void *user)
{
    (void)uc;
    struct machine *m = user;
    if ((uintptr_t)user & SPENT_OFFSET) { /* from inlined code, which has no other arguments: see inline.c */
        m = (struct machine *)((uint8_t *)user - SPENT_OFFSET);
        stop_at_block(m);
        return;
    }
    uint64_t rcx = ((const uint64_t *)m->env)[REG_RCX];
    if (m->last_site != NO_SITE) {
        settle_last_site(m);
    } else if (pc == m->block_pc && size == m->block_size && rcx != m->block_rcx && m->budget > 0) {
        /* A loop of one block that does not count itself: above all REP, once for each element. */
        uint64_t times = 1;
        if (m->inlining && m->block_icount == 1 && m->budget > 1) times += rep_many(m, pc, (uint64_t)m->budget - 1);
        m->budget -= (int64_t)(times * m->block_icount);
        if (m->trace) trace_again(m, pc, size, m->block_icount, times);
        m->block_rcx = ((const uint64_t *)m->env)[REG_RCX];
        return;
    }
    unsigned n = m->block_icount;
    if (pc != m->block_pc || size != m->block_size) {
        const struct block *b = &m->blocks.slots[block_hash(pc, size) & m->blocks.mask];
        n = b->icount;
        if (__builtin_expect(b->pc != pc || b->size != size || b->ambiguous || !n, 0))
            n = blocks_icount_slow(m, pc, size);
        if (__builtin_expect(n == 1 && pc - m->block_pc < m->block_size, 0) && blocks_restarted(m, pc, size))
            uncount_from(m, pc);
    } else if (n == 1 && (rcx == m->block_rcx || !m->block_rcx_known) && blocks_restarted(m, pc, size)) {
        uncount_from(m, pc);
    }
    if (__builtin_expect(m->budget <= 0, 0)) {
        stop_at_block(m);
        return;
    }
    m->block_pc = pc;
    m->block_size = size;
    m->block_icount = n;
    m->block_rcx = rcx;
    m->block_rcx_known = true;
    m->budget -= n;
    uint32_t traced = m->trace ? trace_enter(m, pc, size, n) : NO_BLOCK;
    if (may_inline(m, pc, size, n)) inline_block(m, __builtin_return_address(0), pc, size, n, traced);
}

static void on_edge(uc_engine *uc, uc_tb *current, uc_tb *previous, void *user)
{
    (void)uc;
    (void)previous;
    struct machine *m = user;
    if (m->last_site != NO_SITE) settle_last_site(m);
    /* The block entered last is translated anew: its instructions may be others now. */
    if (current->pc == m->block_pc && current->size == m->block_size) {
        m->block_icount = current->icount;
        if (m->trace) m->trace->last_is_other = true;
    }
    if (m->trace) m->trace->edges++;
    m->kinds[current->pc % KIND_SLOTS].run = 0;
    blocks_add(m, current->pc, current->size, current->icount);
}

static void on_interrupt(uc_engine *uc, uint32_t vector, void *user)
{
    struct machine *m = user;
    /* The single-step trap behind SYSENTER comes after the call has been noted: the call goes first. */
    if (m->exit_kind == EXIT_NONE) {
        m->exit_kind = EXIT_EXCEPTION;
        m->vector = vector;
    }
    m->api->emu_stop(uc);
}

static bool on_invalid(uc_engine *uc, void *user)
{
    struct machine *m = user;
    m->exit_kind = EXIT_EXCEPTION;
    m->vector = 6;
    m->api->emu_stop(uc);
    return true;
}

/*
 * The engine executes an instruction that faults on hardware.  It stops only at the end of the block, so what
 * comes behind must leave no trace: its registers are put back (note_exit), and it gets no memory to store to,
 * as a root beyond RAM reads as zeroes, not present.
 */
static void refuse(struct machine *m, uint64_t vector)
{
    if (m->exit_kind != EXIT_NONE) return; /* another one, in the rest of the block */
    m->exit_kind = EXIT_EXCEPTION;
    m->vector = vector;
    m->refused = true;
    memcpy(m->saved, m->env, m->env_size);
    uint64_t nowhere = (m->ram_size + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    m->api->reg_write(m->uc, UC_X86_REG_CR3, &nowhere);
    m->api->emu_stop(m->uc);
}

static void on_syscall(uc_engine *uc, void *user)
{
    struct machine *m = user;
    if (machine_code_bits(m) != 64) {
        refuse(m, 6); /* #UD on Intel's processors: SDM vol. 2, SYSCALL */
        return;
    }
    m->exit_kind = EXIT_SYSCALL;
    m->api->emu_stop(uc);
}

static void on_sysenter(uc_engine *uc, void *user)
{
    struct machine *m = user;
    m->exit_kind = EXIT_SYSENTER;
    m->api->emu_stop(uc);
}

/*
 * Port I/O at CPL 3: the engine performs it without asking IOPL or the TSS.  Linux gives no ports to
 * programs, so both are #GP(0) at the instruction, as the SDM has it (vol. 1, 19.5).
 */
static uint32_t on_in(uc_engine *uc, uint32_t port, int size, void *user)
{
    (void)uc;
    (void)port;
    (void)size;
    refuse(user, 13);
    return 0;
}

static void on_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *user)
{
    (void)uc;
    (void)port;
    (void)size;
    (void)value;
    refuse(user, 13);
}

/* CPUID is answered from the kernel's table, so no host and no engine version shows through. */
static int on_cpuid(uc_engine *uc, void *user)
{
    (void)uc;
    struct machine *m = user;
    uint64_t *regs = (uint64_t *)m->env;
    uint32_t leaf = (uint32_t)regs[0], subleaf = (uint32_t)regs[1];
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    for (size_t i = 0; i < m->nr_cpuid; i++) {
        const struct cpuid_answer *a = &m->cpuid[i];
        if (a->leaf == leaf && (a->subleaf == 0xffffffffu || a->subleaf == subleaf)) {
            eax = a->eax;
            ebx = a->ebx;
            ecx = a->ecx;
            edx = a->edx;
            break;
        }
    }
    regs[0] = eax;
    regs[3] = ebx;
    regs[1] = ecx;
    regs[2] = edx;
    return 1;
}

static uc_err add_hooks(struct machine *m)
{
    uc_hook h;
    uc_err e = UC_ERR_OK;
    uc_engine *uc = m->uc;
    uc_err (*add)(uc_engine *, uc_hook *, int, void *, void *, uint64_t, uint64_t, ...) = m->api->hook_add;
    e = e ? e : add(uc, &h, UC_HOOK_INTR, (void *)on_interrupt, m, 1, 0);
    e = e ? e : add(uc, &h, UC_HOOK_INSN_INVALID, (void *)on_invalid, m, 1, 0);
    e = e ? e : add(uc, &h, UC_HOOK_INSN, (void *)on_syscall, m, 1, 0, UC_X86_INS_SYSCALL);
    e = e ? e : add(uc, &h, UC_HOOK_INSN, (void *)on_sysenter, m, 1, 0, UC_X86_INS_SYSENTER);
    e = e ? e : add(uc, &h, UC_HOOK_INSN, (void *)on_cpuid, m, 1, 0, UC_X86_INS_CPUID);
    e = e ? e : add(uc, &h, UC_HOOK_INSN, (void *)on_in, m, 1, 0, UC_X86_INS_IN);
    e = e ? e : add(uc, &h, UC_HOOK_INSN, (void *)on_out, m, 1, 0, UC_X86_INS_OUT);
    e = e ? e : add(uc, &h, UC_HOOK_BLOCK, (void *)on_block, m, 1, 0);
    e = e ? e : add(uc, &h, UC_HOOK_EDGE_GENERATED, (void *)on_edge, m, 1, 0);
    return e;
}

void machine_close(struct machine *m)
{
    if (!m) return;
    if (m->uc) m->api->close(m->uc);
    if (m->trace) accesses_end(m);
    trace_free(m);
    blocks_free(&m->blocks);
    breaks_free(m);
    watches_free(m);
    free(m->cpuid);
    free(m->sites);
    free(m->saved);
    free(m);
}

/*
 * A CPU in its reset state (64-bit or protected mode, paging off) with ram_size bytes of RAM at
 * physical address 0.  NULL with machine_last_error() on failure.
 */
struct machine *machine_open(int is64, void *ram, uint64_t ram_size)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m || blocks_init(&m->blocks)) {
        free(m);
        fail("machine_open", "out of memory");
        return NULL;
    }
    m->api = &engine_api;
    m->ram = ram;
    m->ram_size = ram_size;
    m->long_mode = is64;
    m->last_site = NO_SITE;
    uc_err e = m->api->open(UC_ARCH_X86, is64 ? UC_MODE_64 : UC_MODE_32, &m->uc);
    if (!e) e = m->api->mem_map_ptr(m->uc, 0, ram_size, UC_PROT_ALL, ram);
    /* No stop address at all: `until` would catch a guest that jumps there (unicorn.md, trap 2). */
    if (!e) e = m->api->ctl(m->uc, UC_CTL_WRITE(UC_CTL_UC_USE_EXITS, 1), 1);
    if (!e) e = add_hooks(m);
    if (e) {
        fail("the engine cannot be set up", m->api->strerror(e));
        machine_close(m);
        return NULL;
    }
    /* A context is a header and a copy of the CPU's state from its start; 40 bytes on this engine.  The
     * size only bounds what is saved: everything user code can change lies in front of it. */
    m->env_size = m->api->context_size(m->uc) - 40;
    m->saved = malloc(m->env_size);
    const char *missing = m->saved ? machine_calibrate(m) : "host memory";
    if (missing) {
        fail("this build of the engine is laid out otherwise than expected; not found", missing);
        machine_close(m);
        return NULL;
    }
    m->env_address = (uint64_t)(uintptr_t)m->env;
    m->hits_address = (uint64_t)(uintptr_t)m->hits;
    m->inlining = true;
    return m;
}

int machine_set_cpuid(struct machine *m, const struct cpuid_answer *answers, size_t count)
{
    struct cpuid_answer *copy = malloc(count * sizeof *copy);
    if (!copy) return fail("machine_set_cpuid", "out of memory");
    memcpy(copy, answers, count * sizeof *copy);
    free(m->cpuid);
    m->cpuid = copy;
    m->nr_cpuid = count;
    return 0;
}

int machine_flush_tlb(struct machine *m)
{
    return (int)m->api->ctl(m->uc, UC_CTL_WRITE(UC_CTL_TLB_FLUSH, 0));
}

/* RFLAGS; a 32-bit engine does not know that name. */
uint64_t machine_flags(struct machine *m)
{
    uint64_t flags = 0;
    m->api->reg_read(m->uc, UC_X86_REG_EFLAGS, &flags);
    return flags;
}

void machine_set_flags(struct machine *m, uint64_t flags)
{
    m->api->reg_write(m->uc, UC_X86_REG_EFLAGS, &flags);
}

static void note_exit(struct machine *m, uc_err e)
{
    if (m->refused) {
        memcpy(m->env, m->saved, m->env_size);
        machine_flush_tlb(m);
        m->refused = false;
        m->error_code = 0;
        m->is_software = 0;
    } else if (m->exit_kind == EXIT_EXCEPTION) {
        int32_t word;
        memcpy(&word, m->env + m->at.error_code, 4);
        m->error_code = (uint32_t)word;
        memcpy(&word, m->env + m->at.exception_is_int, 4);
        m->is_software = m->vector != 6 && word != 0;
        memcpy(&m->cr2, m->env + m->at.cr2, 8);
    } else if (m->exit_kind == EXIT_SYSCALL) {
        /* What SYSCALL leaves in the registers: SDM vol. 2, SYSCALL. */
        uint64_t *regs = (uint64_t *)m->env;
        regs[REG_R11] = machine_flags(m);
        memcpy(&regs[REG_RCX], m->env + EIP_OFFSET, 8);
    } else if (m->exit_kind == EXIT_NONE || e) {
        m->exit_kind = EXIT_HOST_ERROR;
    }
    m->host_error = (uint64_t)e;
}

/* Start the engine at RIP and note why it stopped. */
void machine_go(struct machine *m)
{
    uint64_t rip;
    memcpy(&rip, m->env + EIP_OFFSET, 8);
    m->exit_kind = EXIT_NONE;
    m->block_size = 0;
    m->last_site = NO_SITE;
    m->run++;
    /* The last exception was served; also removing translations can fault inside and leave a trace here. */
    memset(m->env + m->at.old_exception, 0xff, 4);
    note_exit(m, m->api->emu_start(m->uc, rip, 0, 0, 0));
}

void machine_go_counted(struct machine *m, int64_t budget)
{
    m->budget = budget;
    m->held_budget = 0;
    machine_go(m);
    m->budget += m->held_budget;
    /* A fault leaves its instruction undone; a trap (#DB, int n) comes after it; other stops, in front of one. */
    if (m->exit_kind == EXIT_BREAK || m->exit_kind == EXIT_WATCH || (m->exit_kind == EXIT_EXCEPTION && m->vector != 1 && !m->is_software)) {
        uint64_t rip;
        memcpy(&rip, m->env + EIP_OFFSET, 8);
        uncount_from(m, rip);
    }
    m->icount += (uint64_t)(budget - m->budget);
}

/*
 * A block whose last instruction reaches into a page that cannot be executed faults while it is translated, as
 * a whole: RIP is at its beginning, and nothing of it has run.  Run it up to that instruction.
 */
static void run_up_to_fault(struct machine *m)
{
    uint64_t rip;
    memcpy(&rip, m->env + EIP_OFFSET, 8);
    if (m->cr2 != (rip | (PAGE_BYTES - 1)) + 1) return;
    for (unsigned n = 0; n < PAGE_BYTES; n++) {
        memcpy(&rip, m->env + EIP_OFFSET, 8);
        if (breaks_at(m, rip)) {
            m->exit_kind = EXIT_BREAK;
            return;
        }
        if (machine_step_one(m) != EXIT_NONE) return;
        if (m->nr_hits) {
            m->exit_kind = EXIT_WATCH;
            return;
        }
    }
    m->exit_kind = EXIT_BUDGET; /* not in a straight line after all: go on as after any stop */
}

void machine_run_stretch(struct machine *m, int64_t budget)
{
    watches_begin(m);
    machine_go_counted(m, budget);
    if (m->exit_kind == EXIT_EXCEPTION && m->vector == 14 && !m->is_software) run_up_to_fault(m);
    else if (m->exit_kind == EXIT_WATCH) watches_step(m);
    else if (m->exit_kind == EXIT_BUDGET && m->nr_hits) m->exit_kind = EXIT_WATCH;
}

/* Run until something happens; an exit_kind. */
int machine_run(struct machine *m, int64_t budget)
{
    if (m->trace) return trace_run(m, budget);
    machine_run_stretch(m, budget);
    return (int)m->exit_kind;
}

/* Run one instruction; EXIT_NONE if it retired and nothing happened. */
int machine_step(struct machine *m)
{
    return m->trace ? trace_run_step(m) : machine_step_one(m);
}

/* Whether calls of the block hook are replaced; the results are the same, only slower without. */
void machine_set_inlining(struct machine *m, int on)
{
    m->inlining = on;
}

/* How many calls have been replaced. */
uint64_t machine_nr_sites(struct machine *m)
{
    return m->nr_sites;
}

int machine_flush_code(struct machine *m)
{
    if (m->trace) stub_forget(m->trace);
    return (int)m->api->ctl(m->uc, UC_CTL_WRITE(UC_CTL_TB_FLUSH, 0));
}

/* Drop what was translated from [start, end), linear addresses executable right now. */
int machine_remove_code(struct machine *m, uint64_t start, uint64_t end)
{
    return (int)m->api->ctl(m->uc, UC_CTL_WRITE(UC_CTL_TB_REMOVE_CACHE, 2), start, end);
}

int machine_reg_read(struct machine *m, int id, void *value)
{
    return (int)m->api->reg_read(m->uc, id, value);
}

int machine_reg_write(struct machine *m, int id, const void *value)
{
    return (int)m->api->reg_write(m->uc, id, value);
}

/* The two low bits of hflags are the CPL: 3 once the CPU has entered user mode. */
unsigned machine_cpl(struct machine *m)
{
    uint32_t hflags;
    memcpy(&hflags, m->env + m->at.hflags, 4);
    return hflags & 3;
}

/* 16, 32 or 64: how the code at RIP is decoded. */
unsigned machine_code_bits(struct machine *m)
{
    uint32_t hflags;
    memcpy(&hflags, m->env + m->at.hflags, 4);
    return hflags & HF_CS64 ? 64 : hflags & HF_CS32 ? 32 : 16;
}
