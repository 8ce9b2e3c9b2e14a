/*
 * What an inlined block does when it is traced does not fit in the place of the call; the rest of it lies here.
 *
 *     48 81 29 n      sub qword [rcx], n          rcx: &m->budget
 *     c7 41 40 site   mov dword [rcx + 0x40], site
 *     48 8b 51 48     mov rdx, [rcx + 0x48]       m->trace_cursor
 *     c7 02 block     mov dword [rdx], block
 *     48 83 c2 04     add rdx, 4
 *     48 89 51 48     mov [rcx + 0x48], rdx
 *     48 ba back      movabs rdx, back
 *     ff e2           jmp rdx
 *
 * rcx and rdx are free: the engine is about to call a C function.
 */
#define _GNU_SOURCE
#include "trace.h"

#include <string.h>
#include <sys/mman.h>

#define STUB_BYTES 48u
#define PAGE_OF_STUBS (1u << 20)
#define CURSOR_DISPLACEMENT 0x48

_Static_assert(offsetof(struct machine, trace_cursor) - offsetof(struct machine, budget) == CURSOR_DISPLACEMENT,
               "the stub finds the ring there");

struct stub_page {
    struct stub_page *next;
};

/* The address of new code for a block, which ends by a jump to *back*; NULL: there is no room. */
const uint8_t *stub_make(struct machine *m, uint32_t icount, uint32_t site, uint32_t block, const uint8_t *back)
{
    struct trace *t = m->trace;
    if (!t->stub_pages || t->stubs_used + STUB_BYTES > PAGE_OF_STUBS) {
        struct stub_page *page = mmap(NULL, PAGE_OF_STUBS, PROT_READ | PROT_WRITE | PROT_EXEC,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return NULL;
        page->next = t->stub_pages;
        t->stub_pages = page;
        t->stubs_used = STUB_BYTES; /* the first place holds the link */
    }
    uint8_t *stub = (uint8_t *)t->stub_pages + t->stubs_used, *p = stub;
    t->stubs_used += STUB_BYTES;
    memcpy(p, "\x48\x81\x29", 3), memcpy(p + 3, &icount, 4), p += 7;
    memcpy(p, "\xc7\x41\x40", 3), memcpy(p + 3, &site, 4), p += 7;
    memcpy(p, "\x48\x8b\x51\x48\xc7\x02", 6), memcpy(p + 6, &block, 4), p += 10;
    memcpy(p, "\x48\x83\xc2\x04\x48\x89\x51\x48\x48\xba", 10), p += 10;
    memcpy(p, &back, 8), memcpy(p + 8, "\xff\xe2", 2);
    return stub;
}

/* Nothing jumps to the stubs any more. */
void stub_forget(struct trace *t)
{
    while (t->stub_pages) {
        struct stub_page *next = t->stub_pages->next;
        munmap(t->stub_pages, PAGE_OF_STUBS);
        t->stub_pages = next;
    }
}
