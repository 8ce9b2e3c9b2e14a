/*
 * One instruction at a time, by the trap flag: code translated under TF is cached apart from the rest, so
 * stepping neither flushes translations nor changes the blocks of a free run (emu_start's count does both).
 * The flag is ours, not the guest's: it is hidden again wherever the guest could see it.
 */
#include "machine.h"

#include <string.h>

#define TF 0x100u
#define ZF 0x40u
#define EIP_OFFSET (16 * 8)

enum special { ORDINARY, PUSHF, POPF, REP_STRING, REP_COMPARE, LOAD_SS };

struct insn {
    enum special special;
    bool repne;
    bool addr32; /* counts in ECX (or CX), not RCX */
    bool addr16;
};

static bool is_prefix(uint8_t b, bool is64)
{
    return b == 0x66 || b == 0x67 || b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x2e || b == 0x36 || b == 0x3e ||
           b == 0x26 || b == 0x64 || b == 0x65 || (is64 && (b & 0xf0) == 0x40);
}

static struct insn classify(const uint8_t *code, size_t size, unsigned bits)
{
    struct insn insn = {.special = ORDINARY};
    bool rep = false, addrsize = false;
    size_t at = 0;
    for (; at < size && is_prefix(code[at], bits == 64); at++) {
        if (code[at] == 0xf2 || code[at] == 0xf3) {
            rep = true;
            insn.repne = code[at] == 0xf2;
        }
        if (code[at] == 0x67) addrsize = true;
    }
    insn.addr32 = bits == 64 ? addrsize : bits == 32 ? !addrsize : addrsize;
    insn.addr16 = bits == 16 ? !addrsize : bits == 32 && addrsize;
    if (at >= size) return insn;
    uint8_t op = code[at];
    if (op == 0x9c) insn.special = PUSHF;
    else if (op == 0x9d || op == 0xcf) insn.special = POPF;
    else if (op == 0x17 || (op == 0x8e && at + 1 < size && ((code[at + 1] >> 3) & 7) == 2)) insn.special = LOAD_SS;
    else if (rep && (op == 0xa4 || op == 0xa5 || op == 0xaa || op == 0xab || op == 0xac || op == 0xad))
        insn.special = REP_STRING;
    else if (rep && (op == 0xa6 || op == 0xa7 || op == 0xae || op == 0xaf))
        insn.special = REP_COMPARE;
    return insn;
}

static uint64_t rep_counter(struct machine *m, const struct insn *insn)
{
    uint64_t rcx = ((uint64_t *)m->env)[1];
    return insn->addr16 ? rcx & 0xffff : insn->addr32 ? rcx & 0xffffffffu : rcx;
}

/*
 * A free run enters a REP block once more, to find its counter at zero and leave; under TF the last
 * iteration leaves at once.  The count is the free run's.
 */
static unsigned retired(struct machine *m, const struct insn *insn, uint64_t before, uint64_t old_rip, uint64_t rip, uint64_t flags)
{
    if (insn->special == LOAD_SS) /* the trap waits for one more instruction */
        return count_instructions(m, old_rip, rip);
    if ((insn->special != REP_STRING && insn->special != REP_COMPARE) || before == 0 || rip == old_rip) return 1;
    bool by_flag = insn->special == REP_COMPARE && !!(flags & ZF) == insn->repne;
    return by_flag ? 1 : 2;
}

/* Run one instruction; EXIT_NONE if it retired and nothing happened. */
int machine_step(struct machine *m)
{
    uint64_t rip, flags, now;
    uint8_t code[16];
    memcpy(&rip, m->env + EIP_OFFSET, 8);
    m->api->reg_read(m->uc, UC_X86_REG_RFLAGS, &flags);
    uint32_t hflags;
    memcpy(&hflags, m->env + m->at.hflags, 4);
    unsigned bits = hflags & (1u << 15) ? 64 : hflags & (1u << 4) ? 32 : 16;
    struct insn insn = classify(code, machine_fetch(m, rip, code, sizeof code), bits);
    uint64_t counter = rep_counter(m, &insn);
    uint64_t guest_tf = flags & TF;
    flags |= TF;
    m->api->reg_write(m->uc, UC_X86_REG_RFLAGS, &flags);

    m->budget = INT64_MAX; /* the block hook counts on it; the step counts by itself */
    machine_go(m);

    bool trapped = m->exit_kind == EXIT_EXCEPTION && m->vector == 1 && !m->is_software;
    m->api->reg_read(m->uc, UC_X86_REG_RFLAGS, &flags);
    if (trapped && insn.special == POPF) guest_tf = flags & TF;
    if (trapped && insn.special == PUSHF && !guest_tf) {
        uint8_t *image = machine_translate(m, ((uint64_t *)m->env)[4] + 1);
        if (image) *image &= 0xfe;
    }
    flags = (flags & ~(uint64_t)TF) | guest_tf;
    m->api->reg_write(m->uc, UC_X86_REG_RFLAGS, &flags);
    if (m->exit_kind == EXIT_SYSCALL) ((uint64_t *)m->env)[11] = flags;
    if (m->exit_kind == EXIT_SYSCALL || m->exit_kind == EXIT_SYSENTER ||
        (m->exit_kind == EXIT_EXCEPTION && m->is_software))
        m->icount++;
    if (!trapped) return (int)m->exit_kind;
    memcpy(&now, m->env + EIP_OFFSET, 8);
    m->icount += retired(m, &insn, counter, rip, now, flags);
    /* A trap that the guest asked for is the guest's; POPF's own flag counts from the next instruction. */
    if (guest_tf && insn.special != POPF) return EXIT_EXCEPTION;
    m->exit_kind = EXIT_NONE;
    return EXIT_NONE;
}
