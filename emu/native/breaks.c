/*
 * Breakpoints: the CPU stops in front of an address, in whichever address space.
 *
 * A code hook of one address is compiled into that instruction's translation and nowhere else, so a breakpoint
 * costs nothing until it is reached, and neither RAM nor the page tables show it.  Hooks are never deleted: the
 * engine would look up all it ever translated under one, in tables that may have changed (unicorn.md, trap 1).
 * A breakpoint that is off only returns.
 */
#include "machine.h"

#include <stdlib.h>

static void on_code(uc_engine *uc, uint64_t address, uint32_t size, void *user)
{
    (void)address;
    (void)size;
    const struct machine_break *b = user;
    struct machine *m = b->m;
    if (!b->on || m->stepping || m->exit_kind != EXIT_NONE) return;
    m->exit_kind = EXIT_BREAK;
    m->api->emu_stop(uc);
}

/* Stop in front of address, or no longer; 0, or -1: there is no memory for it. */
int machine_set_break(struct machine *m, uint64_t address, int on)
{
    for (struct machine_break *b = m->breaks; b; b = b->next) {
        if (b->address == address) {
            b->on = on;
            return 0;
        }
    }
    if (!on) return 0;
    struct machine_break *b = malloc(sizeof *b);
    uc_hook hook;
    if (!b) return -1;
    *b = (struct machine_break){.m = m, .next = m->breaks, .address = address, .on = true};
    if (m->api->hook_add(m->uc, &hook, UC_HOOK_CODE, (void *)on_code, b, address, address)) {
        free(b);
        return -1;
    }
    m->breaks = b;
    /* What is translated already does not know the hook. */
    return (int)m->api->ctl(m->uc, UC_CTL_WRITE(UC_CTL_TB_FLUSH, 0));
}

/* Is there a breakpoint in front of address? */
bool breaks_at(const struct machine *m, uint64_t address)
{
    for (const struct machine_break *b = m->breaks; b; b = b->next)
        if (b->address == address) return b->on;
    return false;
}

void breaks_free(struct machine *m)
{
    while (m->breaks) {
        struct machine_break *next = m->breaks->next;
        free(m->breaks);
        m->breaks = next;
    }
}
