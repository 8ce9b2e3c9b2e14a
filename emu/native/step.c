/*
 * One instruction at a time, by the trap flag: code translated under TF is cached apart from the rest, so
 * stepping neither flushes translations nor changes the blocks of a free run (emu_start's count does both).
 * The flag is ours, not the guest's: it is hidden again wherever the guest could see it.
 */
#include "machine.h"
#include "trace.h"

#include <string.h>

#define TF 0x100u
#define ZF 0x40u
#define HF_INHIBIT_IRQ (1u << 3) /* the instruction behind a load of SS */

static uint64_t rep_counter(struct machine *m, const struct insn *insn)
{
    uint64_t rcx = ((uint64_t *)m->env)[1];
    return insn->addr16 ? rcx & 0xffff : insn->addr32 ? rcx & 0xffffffffu : rcx;
}

/*
 * A free run enters a REP block once more, to find its counter at zero and leave; under TF, and behind a load
 * of SS, the last iteration leaves at once.  The count is the free run's.
 */
static unsigned retired(const struct insn *insn, uint64_t before, uint64_t after, uint64_t flags)
{
    if (insn->special != REP_STRING && insn->special != REP_COMPARE) return 1;
    if (before != 1 || after != 0) return 1;
    bool by_flag = insn->special == REP_COMPARE && !!(flags & ZF) == insn->repne;
    return by_flag ? 1 : 2;
}

/*
 * MOV SS, POP SS, and in this engine PAUSE: the trap flag waits for one more instruction.  A block ends behind
 * them, though, so one block of a free run is one instruction.
 */
static int step_block(struct machine *m)
{
    m->stepping = true;
    machine_go_counted(m, 1);
    m->stepping = false;
    if (m->exit_kind == EXIT_BUDGET) m->exit_kind = EXIT_NONE;
    return (int)m->exit_kind;
}

/* Take our own trap flag out of what PUSHF stored. */
static void hide_flag(struct machine *m)
{
    uint64_t sp = ((uint64_t *)m->env)[4];
    uint8_t *image = machine_translate(m, (machine_code_bits(m) == 64 ? sp : sp & 0xffffffffu) + 1);
    if (image) *image &= 0xfe;
}

/* Our own trap flag has done its work, or none of it: count and note what retired. */
static void retire(struct machine *m, unsigned count, uint64_t rip, const uint8_t *code, size_t have)
{
    m->icount += count;
    if (m->trace) trace_step(m, rip, code, have, count);
}

/* Run one instruction; EXIT_NONE if it retired and nothing happened.  What it touches is noted, behind earlier hits. */
int step_once(struct machine *m)
{
    uint64_t rip;
    uint8_t code[16];
    uint32_t hflags;
    memcpy(&rip, m->env + EIP_OFFSET, 8);
    memcpy(&hflags, m->env + m->at.hflags, 4);
    size_t have = machine_fetch(m, rip, code, sizeof code);
    struct insn insn = insn_classify(code, have, machine_code_bits(m));
    if (insn.special == ENDS_BLOCK) return step_block(m);
    uint64_t counter = rep_counter(m, &insn), flags = machine_flags(m);
    uint64_t guest_tf = flags & TF;
    bool guest_traps = guest_tf;
    bool leaves_at_once = guest_traps || hflags & HF_INHIBIT_IRQ;
    machine_set_flags(m, flags | TF);

    m->budget = INT64_MAX; /* the block hook counts on it; the step counts by itself */
    uint32_t *cursor = m->trace_cursor;
    size_t accesses = m->trace ? m->trace->nr_accesses : 0;
    m->stepping = true;
    machine_go(m);
    m->stepping = false;
    m->trace_cursor = cursor; /* what the block hook noted is noted by retire() */

    bool trapped = m->exit_kind == EXIT_EXCEPTION && m->vector == 1 && !m->is_software;
    flags = machine_flags(m);
    if (trapped && insn.special == POPF) guest_tf = flags & TF;
    if (trapped && insn.special == PUSHF && !guest_tf) {
        hide_flag(m);
        if (m->trace) trace_hide_bit(m, TF);
    }
    flags = (flags & ~(uint64_t)TF) | guest_tf;
    machine_set_flags(m, flags);
    if (m->exit_kind == EXIT_SYSCALL) ((uint64_t *)m->env)[11] = flags;
    if (m->exit_kind == EXIT_SYSCALL || m->exit_kind == EXIT_SYSENTER ||
        (m->exit_kind == EXIT_EXCEPTION && m->is_software))
        retire(m, 1, rip, code, have);
    else if (!trapped && m->trace)
        m->trace->nr_accesses = accesses; /* of an instruction that did not retire */
    if (!trapped) return (int)m->exit_kind;
    retire(m, leaves_at_once ? 1 : retired(&insn, counter, rep_counter(m, &insn), flags), rip, code, have);
    /* A trap that the guest asked for is the guest's; what POPF makes of the flag counts from the next instruction. */
    if (guest_traps) return EXIT_EXCEPTION;
    m->exit_kind = EXIT_NONE;
    return EXIT_NONE;
}

int machine_step_one(struct machine *m)
{
    watches_begin(m);
    memcpy(&m->hit_pc, m->env + EIP_OFFSET, 8);
    int kind = step_once(m);
    if (kind != EXIT_NONE) watches_undone(m);
    return kind;
}
