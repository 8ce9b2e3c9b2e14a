/*
 * The block hook, written into the code that calls it.
 *
 * A call for every block is what a counted run costs most.  The engine's calls all look alike, so the first one
 * from a block is replaced by what it would do: take the block's instructions off the budget and note which
 * block this was.  Only a spent budget still calls, by the old instruction, with &m->budget instead of m.
 *
 *     48 bf uc        movabs rdi, uc            48 b9 budget   movabs rcx, &budget
 *     be/48 c7/48 be  mov rsi, pc               48 83 39 00    cmp qword [rcx], 0
 *     ba size         mov edx, size      ->     7e ..          jle spent
 *     48 b9 user      movabs rcx, user          48 83 29 n     sub qword [rcx], n
 *                                               c7 41 40 site  mov dword [rcx + 0x40], site
 *                                               eb ..          jmp behind the check
 *     e8 / ff 15      call on_block      spent: e8 / ff 15     call on_block
 *     48 bf uc        movabs rdi, uc            48 bf uc       movabs rdi, uc
 *     33 f6           xor esi, esi              33 f6          xor esi, esi
 *     e8 / ff 15      call check_exit_request   e8 / ff 15     call check_exit_request
 *
 * The pattern is compared byte by byte; a call that looks different stays a call, and is only slower.  The
 * count of a block is part of its code, so blocks with one key and two counts cannot be mixed up.
 */
#define _GNU_SOURCE
#include "machine.h"
#include "trace.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEW_LENGTH 29 /* up to and with the jmp */
#define JLE_END 16
#define MAX_INLINE_ICOUNT 127
#define SITE_DISPLACEMENT 0x40

_Static_assert(offsetof(struct machine, last_site) - offsetof(struct machine, budget) == SITE_DISPLACEMENT,
               "the inlined code stores the site there");
_Static_assert(offsetof(struct machine, budget) == SPENT_OFFSET, "on_block() tells &m->budget from m by it");

/* How the engine calls: directly, or, where the target is too far away, through a pointer; 0: otherwise. */
static size_t call_length(const uint8_t *code)
{
    return code[0] == 0xe8 ? 5 : code[0] == 0xff && code[1] == 0x15 ? 6 : 0;
}

/* Fill the fields about the block entered last from what inlined code noted. */
void settle_last_site(struct machine *m)
{
    const struct site *s = &m->sites[m->last_site];
    m->last_site = NO_SITE;
    m->block_pc = s->pc;
    m->block_size = s->size;
    m->block_icount = s->icount;
    m->block_rcx_known = false;
}

static bool new_site(struct machine *m, uint64_t pc, uint32_t size, unsigned icount, uint32_t *number)
{
    if (m->nr_sites == m->max_sites) {
        size_t more = m->max_sites ? m->max_sites * 2 : 1024;
        struct site *bigger = realloc(m->sites, more * sizeof *bigger);
        if (!bigger || more > UINT32_MAX / 2) return false;
        m->sites = bigger;
        m->max_sites = more;
    }
    *number = (uint32_t)m->nr_sites++;
    m->sites[*number] = (struct site){.pc = pc, .size = (uint16_t)size, .icount = (uint16_t)icount};
    return true;
}

/* Where the call of the block hook and the check behind it are. */
struct call {
    uint8_t *start; /* the first argument is loaded here */
    uint8_t *call;
    uint8_t *end;   /* behind the check */
};

/* Is the code around the return address `back` the engine's call of the block hook? */
static bool find_call(const struct machine *m, uint8_t *back, uint64_t pc, uint32_t size, struct call *found)
{
    uint8_t expected[48], *p = expected;
    uint64_t uc = (uint64_t)(uintptr_t)m->uc, user = (uint64_t)(uintptr_t)m;
    memcpy(p, "\x48\xbf", 2), memcpy(p + 2, &uc, 8), p += 10;
    if (pc <= UINT32_MAX) {
        *p = 0xbe, memcpy(p + 1, &pc, 4), p += 5;
    } else if ((int64_t)pc < 0 && (int64_t)pc >= INT32_MIN) {
        memcpy(p, "\x48\xc7\xc6", 3), memcpy(p + 3, &pc, 4), p += 7;
    } else {
        memcpy(p, "\x48\xbe", 2), memcpy(p + 2, &pc, 8), p += 10;
    }
    *p = 0xba, memcpy(p + 1, &size, 4), p += 5;
    memcpy(p, "\x48\xb9", 2), memcpy(p + 2, &user, 8), p += 10;
    size_t length = (size_t)(p - expected);
    for (size_t call = 5; call <= 6; call++) {
        uint8_t *start = back - call - length;
        if (call_length(back - call) != call || memcmp(start, expected, length)) continue;
        if (memcmp(back, expected, 10) || memcmp(back + 10, "\x33\xf6", 2) || !call_length(back + 12)) return false;
        *found = (struct call){start, back - call, back + 12 + call_length(back + 12)};
        return found->call - start >= NEW_LENGTH;
    }
    return false;
}

/* Store through the kernel the first time: where code cannot be written, nothing is inlined. */
static bool store_code(struct machine *m, uint8_t *where, const uint8_t *code, size_t size)
{
    if (m->code_is_writable) {
        memcpy(where, code, size);
        return true;
    }
    struct iovec local = {(void *)code, size}, remote = {where, size};
    m->code_is_writable = process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size;
    m->inlining = m->code_is_writable;
    return m->code_is_writable;
}

/* Take the block off the budget, note it, and go on behind the check. */
static void put_count(uint8_t *code, uint32_t site, unsigned icount, const struct call *at)
{
    memcpy(code, "\x48\x83\x29", 3);
    code[3] = (uint8_t)icount;
    memcpy(code + 4, "\xc7\x41\x40", 3);
    memcpy(code + 7, &site, 4);
    code[11] = 0xeb;
    code[12] = (uint8_t)(at->end - at->start - NEW_LENGTH);
}

/* The same in a stub, which also notes the block in the trace; false: there is no room for one. */
static bool put_stub(struct machine *m, uint8_t *code, uint32_t site, unsigned icount, uint32_t traced, const uint8_t *end)
{
    const uint8_t *stub = stub_make(m, icount, site, traced, end);
    memcpy(code, "\x48\xba", 2); /* movabs rdx, stub; jmp rdx */
    memcpy(code + 2, &stub, 8);
    memcpy(code + 10, "\xff\xe2", 2);
    return stub;
}

/* Replace the call of the block hook that returns to `back`; the trace, if there is one, knows it as `traced`. */
void inline_block(struct machine *m, uint8_t *back, uint64_t pc, uint32_t size, unsigned icount, uint32_t traced)
{
    struct call at;
    uint32_t site;
    if (icount > MAX_INLINE_ICOUNT || !find_call(m, back, pc, size, &at)) return;
    if (!new_site(m, pc, size, icount, &site)) return;

    uint8_t code[48];
    uint64_t budget = (uint64_t)(uintptr_t)&m->budget;
    size_t length = (size_t)(at.call - at.start);
    memset(code, 0x90, sizeof code);
    memcpy(code, "\x48\xb9", 2);
    memcpy(code + 2, &budget, 8);
    memcpy(code + 10, "\x48\x83\x39\x00\x7e", 5);
    code[15] = (uint8_t)(length - JLE_END);
    if (!m->trace) put_count(code + JLE_END, site, icount, &at);
    else if (!put_stub(m, code + JLE_END, site, icount, traced, at.end)) return;
    store_code(m, at.start, code, length);
}
