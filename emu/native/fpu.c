/*
 * The x87 and SSE state in FXSAVE's layout (SDM vol. 1, table 10-2), which is what signal frames hold.
 * The instruction itself runs in the guest only; here it is put together register by register.
 */
#include "machine.h"

#include <string.h>

#define NR_XMM_LONG 16
#define NR_XMM_LEGACY 8

void machine_fxsave(struct machine *m, uint8_t *image)
{
    uint16_t fcw = 0, fsw = 0, tags = 0;
    uint32_t mxcsr = 0, mask = 0xffff;
    uint8_t abridged = 0;
    memset(image, 0, 512);
    m->api->reg_read(m->uc, UC_X86_REG_FPCW, &fcw);
    m->api->reg_read(m->uc, UC_X86_REG_FPSW, &fsw);
    m->api->reg_read(m->uc, UC_X86_REG_FPTAG, &tags);
    m->api->reg_read(m->uc, UC_X86_REG_MXCSR, &mxcsr);
    for (unsigned i = 0; i < 8; i++)
        if (((tags >> (2 * i)) & 3) != 3) abridged |= (uint8_t)(1u << i);
    unsigned top = (fsw >> 11) & 7;
    memcpy(image + 0, &fcw, 2);
    memcpy(image + 2, &fsw, 2);
    image[4] = abridged;
    memcpy(image + 24, &mxcsr, 4);
    memcpy(image + 28, &mask, 4);
    for (unsigned i = 0; i < 8; i++) {
        uint8_t value[16] = {0};
        m->api->reg_read(m->uc, UC_X86_REG_FP0 + (int)((top + i) & 7), value);
        memcpy(image + 32 + 16 * i, value, 10);
    }
    for (unsigned i = 0; i < (m->long_mode ? NR_XMM_LONG : NR_XMM_LEGACY); i++)
        m->api->reg_read(m->uc, UC_X86_REG_XMM0 + (int)i, image + 160 + 16 * i);
}

void machine_fxrstor(struct machine *m, const uint8_t *image)
{
    uint16_t fcw, fsw, tags = 0;
    uint32_t mxcsr;
    memcpy(&fcw, image + 0, 2);
    memcpy(&fsw, image + 2, 2);
    memcpy(&mxcsr, image + 24, 4);
    mxcsr &= 0xffff;
    for (unsigned i = 0; i < 8; i++)
        if (!(image[4] & (1u << i))) tags |= (uint16_t)(3u << (2 * i));
    unsigned top = (fsw >> 11) & 7;
    m->api->reg_write(m->uc, UC_X86_REG_FPCW, &fcw);
    m->api->reg_write(m->uc, UC_X86_REG_FPSW, &fsw);
    for (unsigned i = 0; i < 8; i++)
        m->api->reg_write(m->uc, UC_X86_REG_FP0 + (int)((top + i) & 7), image + 32 + 16 * i);
    m->api->reg_write(m->uc, UC_X86_REG_FPTAG, &tags);
    m->api->reg_write(m->uc, UC_X86_REG_MXCSR, &mxcsr);
    for (unsigned i = 0; i < (m->long_mode ? NR_XMM_LONG : NR_XMM_LEGACY); i++)
        m->api->reg_write(m->uc, UC_X86_REG_XMM0 + (int)i, image + 160 + 16 * i);
}
