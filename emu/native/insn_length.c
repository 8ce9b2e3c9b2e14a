/*
 * How long is this x86 instruction?  Only the length: Intel SDM vol. 2, appendix A (opcode maps) and
 * 2.1-2.3 (prefixes, ModRM, VEX).  Where 64-bit processors differ (0x66 before a near branch), the
 * emulated CPU's choice is taken: the prefix counts unless REX.W overrides it.
 */
#include "machine.h"

enum {
    NONE = 0,
    MODRM = 1 << 0,
    IB = 1 << 1,     /* 8-bit immediate */
    IW = 1 << 2,     /* 16-bit immediate */
    IZ = 1 << 3,     /* 16- or 32-bit immediate, by operand size */
    IV = 1 << 4,     /* as IZ, but 64 bits with REX.W */
    MOFFS = 1 << 5,  /* an address, by address size */
    FAR = 1 << 6,    /* IZ and a 16-bit selector */
    GROUP3 = 1 << 7, /* F6, F7: an immediate for /0 and /1 only */
    ISREG = 1 << 8,  /* the operand is a register, whatever ModRM says */
    IB2 = 1 << 9,    /* two 8-bit immediates */
};

static unsigned one_byte(uint8_t op, unsigned bits)
{
    if (op < 0x40) {
        switch (op & 7) {
        case 4: return IB;
        case 5: return IZ;
        case 6: case 7: return NONE;
        default: return MODRM;
        }
    }
    switch (op) {
    case 0x62: return MODRM;
    case 0x63: return MODRM;
    case 0x68: return IZ;
    case 0x69: return MODRM | IZ;
    case 0x6a: return IB;
    case 0x6b: return MODRM | IB;
    case 0x80: case 0x82: case 0x83: return MODRM | IB;
    case 0x81: return MODRM | IZ;
    case 0x9a: case 0xea: return bits == 64 ? NONE : FAR;
    case 0xa0: case 0xa1: case 0xa2: case 0xa3: return MOFFS;
    case 0xa8: return IB;
    case 0xa9: return IZ;
    case 0xc0: case 0xc1: case 0xc6: return MODRM | IB;
    case 0xc7: return MODRM | IZ;
    case 0xc2: case 0xca: return IW;
    case 0xc4: case 0xc5: return MODRM; /* LES, LDS; as VEX they do not come here */
    case 0xc8: return IW | IB;
    case 0xcd: case 0xd4: case 0xd5: return IB;
    case 0xe8: case 0xe9: return IZ;
    case 0xeb: return IB;
    case 0xf6: return MODRM | IB | GROUP3;
    case 0xf7: return MODRM | IZ | GROUP3;
    case 0xfe: case 0xff: return MODRM;
    default: break;
    }
    if (op >= 0x70 && op <= 0x7f) return IB;
    if (op >= 0x84 && op <= 0x8f) return MODRM;
    if (op >= 0xb0 && op <= 0xb7) return IB;
    if (op >= 0xb8 && op <= 0xbf) return IV;
    if (op >= 0xd0 && op <= 0xd3) return MODRM;
    if (op >= 0xd8 && op <= 0xdf) return MODRM;
    if (op >= 0xe0 && op <= 0xe7) return IB;
    return NONE;
}

/* *mandatory*: one of the prefixes 66, F2, F3 stands in front, *rep*: one of the latter two. */
static unsigned two_byte(uint8_t op, bool mandatory, bool rep)
{
    if (op >= 0x80 && op <= 0x8f) return IZ;
    if (op >= 0x30 && op <= 0x37) return NONE;
    if (op >= 0xc8 && op <= 0xcf) return NONE;
    if (op == 0x70) return MODRM | IB;
    /* Where a memory operand is invalid the emulated CPU takes the register of the same number. */
    if (op >= 0x71 && op <= 0x73) return MODRM | IB | ISREG;
    if (op >= 0x20 && op <= 0x23) return MODRM | ISREG; /* control and debug registers: SDM says so */
    if (op == 0x50 || op == 0xd7 || op == 0xf7 || (op == 0xd6 && rep)) return MODRM | ISREG;
    if (op == 0x78 && mandatory) return MODRM | ISREG | IB2; /* EXTRQ, INSERTQ */
    switch (op) {
    case 0x05: case 0x06: case 0x07: case 0x08: case 0x09: case 0x0b: case 0x0e: case 0x77:
    case 0xa0: case 0xa1: case 0xa2: case 0xa8: case 0xa9: case 0xaa:
        return NONE;
    case 0xc5:
        return MODRM | IB | ISREG;
    case 0x0f: case 0xa4: case 0xac: case 0xba: case 0xc2: case 0xc4: case 0xc6:
        return MODRM | IB;
    default:
        return MODRM;
    }
}

/* Bytes of ModRM, SIB and displacement at code[at]; 0: truncated. */
static unsigned modrm_length(const uint8_t *code, size_t size, size_t at, bool addr16)
{
    if (at >= size) return 0;
    uint8_t modrm = code[at], mod = modrm >> 6, rm = modrm & 7;
    if (mod == 3) return 1;
    if (addr16) {
        if (mod == 0) return rm == 6 ? 3 : 1;
        return mod == 1 ? 2 : 3;
    }
    unsigned n = 1; /* RIP-relative addressing has the length of the absolute form */
    uint8_t base = rm;
    if (rm == 4) {
        if (at + 1 >= size) return 0;
        base = code[at + 1] & 7;
        n++;
    }
    if (mod == 0) return base == 5 ? n + 4 : n;
    return mod == 1 ? n + 1 : n + 4;
}

unsigned insn_length(const uint8_t *code, size_t size, unsigned bits)
{
    bool opsize = false, addrsize = false, rexw = false, rep = false, is64 = bits == 64;
    size_t at = 0;
    for (;; at++) {
        if (at >= size) return 0;
        uint8_t b = code[at];
        if (b == 0x66) opsize = true;
        else if (b == 0x67) addrsize = true;
        else if (b == 0xf2 || b == 0xf3) rep = true;
        else if (is64 && (b & 0xf0) == 0x40) {
            /* REX counts only directly before the opcode */
            if (at + 1 >= size) return 0;
            uint8_t next = code[at + 1];
            bool prefix = next == 0x66 || next == 0x67 || next == 0xf0 || next == 0xf2 || next == 0xf3 ||
                          next == 0x2e || next == 0x36 || next == 0x3e || next == 0x26 || next == 0x64 ||
                          next == 0x65 || (next & 0xf0) == 0x40;
            rexw = !prefix && (b & 8);
        }
        else if (b != 0xf0 && b != 0x2e && b != 0x36 && b != 0x3e && b != 0x26 &&
                 b != 0x64 && b != 0x65)
            break;
    }
    uint8_t op = code[at++];
    unsigned what;
    bool vex = (op == 0xc4 || op == 0xc5) && (is64 || (at < size && code[at] >= 0xc0));
    if (vex) {
        unsigned map = 1, prefix;
        if (op == 0xc4) {
            if (at + 1 >= size) return 0;
            map = code[at] & 0x1f;
            at++;
        }
        if (at + 1 >= size) return 0;
        prefix = code[at++] & 3;
        op = code[at++];
        what = map == 3 ? MODRM | IB : map == 2 ? MODRM : two_byte(op, prefix, prefix > 1);
    } else if (op == 0x0f) {
        if (at >= size) return 0;
        op = code[at++];
        if (op == 0x38 || op == 0x3a) {
            what = op == 0x3a ? MODRM | IB : MODRM;
            if (at >= size) return 0;
            at++;
        } else {
            what = two_byte(op, opsize || rep, rep);
        }
    } else {
        what = one_byte(op, bits);
    }

    bool op16 = bits == 16 ? !opsize : opsize && !rexw;
    bool addr16 = bits == 16 ? !addrsize : bits == 32 && addrsize;
    if (what & MODRM) {
        unsigned n = what & ISREG ? at < size : modrm_length(code, size, at, addr16);
        if (n == 0) return 0;
        if ((what & GROUP3) && (code[at] & 0x38) > 0x08) what &= ~(unsigned)(IB | IZ);
        at += n;
    }
    if (what & IB) at += 1;
    if (what & IB2) at += 2;
    if (what & IW) at += 2;
    if (what & IZ) at += op16 ? 2 : 4;
    if (what & IV) at += rexw ? 8 : op16 ? 2 : 4;
    if (what & FAR) at += op16 ? 4 : 6;
    if (what & MOFFS) at += is64 ? (addrsize ? 4 : 8) : addr16 ? 2 : 4;
    return at <= size ? (unsigned)at : 0;
}
