/*
 * Where is the CPU's state inside the engine?  Registers that hold known values are looked for in the
 * memory behind the engine's own pointers; the exception fields are found by two faults with known
 * error codes.  Nothing is assumed that is not seen: an engine laid out otherwise is refused.
 *
 * Why: the engine never delivers exceptions itself, so env->old_exception stays set and the next fault
 * arrives as #DF (unicorn.md, trap 1); and no register shows the error code.
 */
#define _GNU_SOURCE
#include "machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define SCAN_ENGINE 8192      /* bytes of the engine searched for a pointer to the CPU */
#define SCAN_CPU (160 * 1024) /* bytes of the CPU searched for the registers */

static const int GPR_IDS[8] = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX,
                               UC_X86_REG_ESP, UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI};

/* Read memory that may not be mapped; bytes read. */
static size_t peek(const void *from, void *to, size_t size)
{
    struct iovec local = {to, size}, remote = {(void *)from, size};
    ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    return n > 0 ? (size_t)n : 0;
}

/* Like peek(), page by page, so that a hole ends the read instead of failing it. */
static size_t peek_pages(const uint8_t *from, uint8_t *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t n = 4096 - ((uintptr_t)(from + done) & 4095);
        if (n > size - done) n = size - done;
        if (peek(from + done, to + done, n) != n) break;
        done += n;
    }
    return done;
}

/* The live registers, not a copy, as a closed engine leaves one behind: a write through the engine shows there. */
static bool is_live(struct machine *m, const uint8_t *registers, const uint64_t magic[8])
{
    uint64_t value = 0x13579bdf, seen = 0;
    m->api->reg_write(m->uc, UC_X86_REG_EBX, &value);
    bool live = peek(registers + 3 * 8, &seen, 8) == 8 && seen == value;
    m->api->reg_write(m->uc, UC_X86_REG_EBX, &magic[3]);
    return live;
}

static uint8_t *find_registers(struct machine *m)
{
    uint64_t magic[8];
    for (unsigned i = 0; i < 8; i++) {
        magic[i] = 0x5a17c0de + 0x01020304u * i;
        m->api->reg_write(m->uc, GPR_IDS[i], &magic[i]);
    }
    uint8_t *engine = calloc(1, SCAN_ENGINE), *cpu = malloc(SCAN_CPU);
    uint8_t *found = NULL;
    size_t engine_size = engine && cpu ? peek_pages((uint8_t *)m->uc, engine, SCAN_ENGINE) : 0;
    for (size_t slot = 0; slot + 8 <= engine_size && !found; slot += 8) {
        uint8_t *candidate;
        memcpy(&candidate, engine + slot, 8);
        if (!candidate || ((uintptr_t)candidate & 7)) continue;
        size_t size = peek_pages(candidate, cpu, SCAN_CPU);
        for (size_t at = 0; at + sizeof magic <= size && !found; at += 8)
            if (!memcmp(cpu + at, magic, sizeof magic) && is_live(m, candidate + at, magic)) found = candidate + at;
    }
    free(engine);
    free(cpu);
    return found;
}

/* Byte offset of the only 4- or 8-byte slot that held *before* then and *after* now; 0: none or several. */
static uint32_t only_change(const uint8_t *old, const uint8_t *now, size_t size, uint64_t before, uint64_t after, size_t width)
{
    uint32_t found = 0;
    for (size_t at = 128; at + width <= size; at += width)
        if (!memcmp(old + at, &before, width) && !memcmp(now + at, &after, width)) {
            if (found) return 0;
            found = (uint32_t)at;
        }
    return found;
}

/* "mov ds, eax" with a selector behind the GDT's limit: #GP with the selector as error code. */
static bool fault_with(struct machine *m, uint64_t selector)
{
    memcpy(m->ram, "\x8e\xd8", 2);
    m->api->reg_write(m->uc, UC_X86_REG_EAX, &selector);
    m->exit_kind = EXIT_NONE;
    m->budget = 1;
    m->api->emu_start(m->uc, 0, 0, 0, 0);
    memset(m->ram, 0, 2);
    return m->exit_kind == EXIT_EXCEPTION && m->vector == 13;
}

/* CR0 to CR4 are an array: around CR2. */
static bool is_control_registers(struct machine *m)
{
    uint64_t cr0 = 0, cr4 = 0, cr3 = 0x5a17c000, old = 0;
    m->api->reg_read(m->uc, UC_X86_REG_CR0, &cr0);
    m->api->reg_read(m->uc, UC_X86_REG_CR4, &cr4);
    m->api->reg_read(m->uc, UC_X86_REG_CR3, &old);
    m->api->reg_write(m->uc, UC_X86_REG_CR3, &cr3);
    bool found = m->cr[0] == cr0 && m->cr[3] == cr3 && m->cr[4] == cr4;
    m->api->reg_write(m->uc, UC_X86_REG_CR3, &old);
    return found;
}

const char *machine_calibrate(struct machine *m)
{
    m->env = find_registers(m);
    if (!m->env) return "the CPU registers";
    size_t size = m->env_size;
    uint8_t *pristine = malloc(size), *first = malloc(size), *second = malloc(size);
    if (!pristine || !first || !second) return "host memory";
    memcpy(pristine, m->env, size);
    const char *missing = NULL;

    uint64_t a = 0x2468acec, b = 0x1357bdf0;
    m->api->reg_write(m->uc, UC_X86_REG_CR2, &a);
    memcpy(first, m->env, size);
    m->api->reg_write(m->uc, UC_X86_REG_CR2, &b);
    memcpy(second, m->env, size);
    m->at.cr2 = only_change(first, second, size, a, b, 8);
    if (!m->at.cr2) missing = "CR2";
    m->cr = (const uint64_t *)(m->env + m->at.cr2) - 2;
    if (!missing && !is_control_registers(m)) missing = "the control registers";

    if (!missing && !fault_with(m, 0x1238)) missing = "a first fault";
    memcpy(first, m->env, size);
    m->at.old_exception = only_change(pristine, first, size, 0xffffffffu, 13, 4);
    if (!missing && !m->at.old_exception) missing = "old_exception";
    if (!missing) {
        memset(m->env + m->at.old_exception, 0xff, 4);
        if (!fault_with(m, 0x4568)) missing = "a second fault that is no double fault";
        memcpy(second, m->env, size);
        m->at.error_code = only_change(first, second, size, 0x1238, 0x4568, 4);
        /* exception_is_int is the int behind error_code: int n sets it to 1. */
        m->at.exception_is_int = m->at.error_code + 4;
        if (!missing && !m->at.error_code) missing = "error_code";
    }
    /* regs[16], eip, eflags, cc_dst, cc_src, cc_src2 (8 bytes each), cc_op, df, hflags (4 bytes each):
     * checked by the caller once the CPU is in user mode, where its two low bits are 3. */
    m->at.hflags = 16 * 8 + 5 * 8 + 2 * 4;
    /* Behind hflags and hflags2: ten segment registers of 24 bytes, then CR0 to CR4.  That CR2 is where this
     * puts it shows that they are there. */
    uint32_t segments = m->at.hflags + 2 * 4;
    m->at.segments = segments + 10 * 24 + 2 * 8 == m->at.cr2 ? segments : 0;
    memcpy(m->env, pristine, size);
    m->icount = 0;
    free(pristine);
    free(first);
    free(second);
    return missing;
}
