/*
 * The engine's library calls its own global functions through slots that the dynamic linker filled, and keeps tables
 * of them.  A slot can be given another function.
 */
#define _GNU_SOURCE
#include "machine.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 0x1000u

/* The parts of a loaded library that say which slots there are. */
struct linkage {
    uintptr_t base;
    const char *names;
    const ElfW(Sym) *symbols;
    const ElfW(Rela) *calls, *tables;
    size_t calls_size, tables_size; /* bytes */
};

static bool find_linkage(const struct machine *m, struct linkage *found)
{
    Dl_info info;
    struct link_map *map = NULL;
    if (!dladdr1((void *)(uintptr_t)m->api->open, &info, (void **)&map, RTLD_DL_LINKMAP) || !map) return false;
    *found = (struct linkage){.base = map->l_addr};
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_STRTAB) found->names = (const char *)d->d_un.d_ptr;
        if (d->d_tag == DT_SYMTAB) found->symbols = (const ElfW(Sym) *)d->d_un.d_ptr;
        if (d->d_tag == DT_JMPREL) found->calls = (const ElfW(Rela) *)d->d_un.d_ptr;
        if (d->d_tag == DT_PLTRELSZ) found->calls_size = d->d_un.d_val;
        if (d->d_tag == DT_RELA) found->tables = (const ElfW(Rela) *)d->d_un.d_ptr;
        if (d->d_tag == DT_RELASZ) found->tables_size = d->d_un.d_val;
    }
    return found->names && found->symbols && found->calls && found->tables;
}

static void **find_slot(const struct linkage *in, const ElfW(Rela) *rows, size_t size, unsigned type, const char *name)
{
    for (size_t i = 0; i < size / sizeof *rows; i++) {
        const ElfW(Sym) *symbol = &in->symbols[ELF64_R_SYM(rows[i].r_info)];
        if (ELF64_R_TYPE(rows[i].r_info) == type && !strcmp(in->names + symbol->st_name, name))
            return (void **)(in->base + rows[i].r_offset);
    }
    return NULL;
}

/* A global function of the engine; NULL: there is none of that name. */
void *linkage_function(const struct machine *m, const char *name)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)m->api->open, &info)) return NULL;
    void *library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_LOCAL);
    if (!library) return NULL;
    void *function = dlsym(library, name);
    dlclose(library); /* it stays: we hold it open already */
    return function;
}

/* The slot through which the engine calls `name`, or (in_table) where one of its tables has it; can be written. */
void **linkage_slot(const struct machine *m, const char *name, bool in_table)
{
    struct linkage linkage;
    if (!find_linkage(m, &linkage)) return NULL;
    void **slot = in_table ? find_slot(&linkage, linkage.tables, linkage.tables_size, R_X86_64_64, name)
                           : find_slot(&linkage, linkage.calls, linkage.calls_size, R_X86_64_JUMP_SLOT, name);
    uintptr_t page = (uintptr_t)slot & ~(uintptr_t)(PAGE_BYTES - 1);
    return slot && !mprotect((void *)page, PAGE_BYTES, PROT_READ | PROT_WRITE) ? slot : NULL;
}
