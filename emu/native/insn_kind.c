/* The few instructions that stepping and counting treat in their own way. */
#include "machine.h"

#include <string.h>

static bool is_prefix(uint8_t b, bool is64)
{
    return b == 0x66 || b == 0x67 || b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x2e || b == 0x36 || b == 0x3e ||
           b == 0x26 || b == 0x64 || b == 0x65 || (is64 && (b & 0xf0) == 0x40);
}

/* Of MOVS, CMPS, STOS, LODS, SCAS and INS, OUTS; ORDINARY: none of them. */
static enum special string_kind(uint8_t op)
{
    switch (op & 0xfe) {
    case 0xa4: case 0xaa: case 0xac: case 0x6c: case 0x6e: return REP_STRING;
    case 0xa6: case 0xae: return REP_COMPARE;
    default: return ORDINARY;
    }
}

static enum special branch_kind(const uint8_t *code, size_t size, size_t at)
{
    uint8_t op = code[at], next = at + 1 < size ? code[at + 1] : 0;
    if ((op & 0xf0) == 0x70 || (op >= 0xe0 && op <= 0xe3) || op == 0xe9 || op == 0xea || op == 0xeb) return BRANCH;
    if ((op & 0xf6) == 0xc2) return BRANCH; /* C2 C3 CA CB: returns */
    if (op == 0x0f && (next & 0xf0) == 0x80) return BRANCH;
    if (op == 0x9a) return CALL;
    if (op == 0xe8) {
        int32_t distance = 0;
        if (at + 5 > size) return CALL;
        memcpy(&distance, code + at + 1, 4);
        return distance == -(int32_t)(at + 5) ? CALL_SELF : CALL;
    }
    unsigned group = next >> 3 & 7;
    if (op == 0xff && (group == 2 || group == 3)) return CALL;
    if (op == 0xff && (group == 4 || group == 5)) return BRANCH;
    return ORDINARY;
}

struct insn insn_classify(const uint8_t *code, size_t size, unsigned bits)
{
    struct insn insn = {.special = ORDINARY, .width = 1};
    bool rep = false, addrsize = false, opsize = false, rexw = false, rexb = false;
    size_t at = 0;
    for (; at < size && is_prefix(code[at], bits == 64); at++) {
        uint8_t b = code[at];
        if (b == 0xf2 || b == 0xf3) {
            rep = true;
            insn.repne = b == 0xf2;
        }
        if (b == 0x67) addrsize = true;
        if (b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65) insn.overridden = true;
        if (b == 0x66) opsize = true;
        rexw = bits == 64 && (b & 0xf8) == 0x48;
        rexb = bits == 64 && (b & 0xf1) == 0x41;
    }
    insn.addr32 = bits == 64 ? addrsize : bits == 32 ? !addrsize : addrsize;
    insn.addr16 = bits == 16 ? !addrsize : bits == 32 && addrsize;
    if (at >= size) return insn;
    uint8_t op = code[at];
    if (op == 0x9c) insn.special = PUSHF;
    else if (op == 0x9d || op == 0xcf) insn.special = POPF;
    else if (op == 0x90 && rep && !insn.repne && !rexb) insn.special = ENDS_BLOCK; /* PAUSE */
    else if (op == 0x17 && bits != 64) insn.special = ENDS_BLOCK;
    else if (op == 0x8e && at + 1 < size && (code[at + 1] >> 3 & 7) == 2) insn.special = ENDS_BLOCK;
    else if (rep && string_kind(op) != ORDINARY) {
        insn.special = string_kind(op);
        insn.moves = (op & 0xfe) == 0xa4;
        insn.fills = (op & 0xfe) == 0xaa;
        insn.stores = (op & 0xfe) == 0xa4 || (op & 0xfe) == 0xaa || (op & 0xfe) == 0x6c;
        if (op & 1) insn.width = rexw ? 8 : opsize != (bits == 16) ? 2 : 4;
    }
    else insn.special = branch_kind(code, size, at);
    return insn;
}
