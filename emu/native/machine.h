/*
 * The native part of the machine: what Python cannot do per block.
 *
 * It runs the engine, notes why it stopped, keeps the instruction budget and counts retired
 * instructions exactly.  It holds no policy.  Plain C, loaded with ctypes; the engine's library is
 * opened at run time by path, so nothing here links against it.
 */
#ifndef EMU_MACHINE_H
#define EMU_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unicorn/unicorn.h>

enum exit_kind {
    EXIT_NONE = 0,
    EXIT_BUDGET = 1,
    EXIT_SYSCALL = 2,
    EXIT_SYSENTER = 3,
    EXIT_EXCEPTION = 4,
    EXIT_HOST_ERROR = 5,
    EXIT_BREAK = 6,
    EXIT_TRACE = 7,
    EXIT_WATCH = 8,
};

/* Offsets into the engine's CPUX86State.  Found or verified by machine_calibrate(). */
struct env_layout {
    uint32_t hflags;
    uint32_t cr2;
    uint32_t error_code;
    uint32_t exception_is_int;
    uint32_t old_exception;
    uint32_t segments; /* ES, CS, SS, DS, FS, GS; 0: not where they were expected */
};

/* One translated block: how many instructions it holds. */
struct block {
    uint64_t pc;
    uint16_t size;
    uint16_t icount;   /* 0: free slot */
    uint32_t ambiguous; /* two blocks with this pc and size differ in count: decode each time */
};

struct block_table {
    struct block *slots;
    size_t mask; /* number of slots - 1 */
    size_t used;
};

#define NO_SITE 0xffffffffu
#define SPENT_OFFSET 8 /* of the budget in struct machine */

/* A block whose call of the hook was replaced. */
struct site {
    uint64_t pc;
    uint16_t size;
    uint16_t icount;
};

/* An answer to CPUID; subleaf 0xffffffff matches any. */
struct cpuid_answer {
    uint32_t leaf, subleaf, eax, ebx, ecx, edx;
};

#define EIP_OFFSET (16 * 8) /* of the instruction pointer in the CPU's state, behind the general registers */

#define KIND_SLOTS 64

/* An address in front of which the CPU stops; breaks.c. */
struct machine_break {
    struct machine *m;
    struct machine_break *next;
    uint64_t address;
    bool on;
};

/* Memory whose accesses stop the CPU; watch.c. */
enum watch_kind {
    WATCH_LINEAR,   /* linear addresses under one root of page tables */
    WATCH_PHYSICAL,
    WATCH_ENTRY,    /* the physical address of an entry of a page table that the walk may write */
};
#define WATCH_READ 1u
#define WATCH_WRITE 2u

struct machine_watch {
    uint32_t kind;
    uint32_t access;
    uint64_t root;
    uint64_t address;
    uint64_t size;
    uint64_t old; /* of WATCH_ENTRY: its value when last looked at */
};

#define MAX_HITS 32

/* An access that touched a watch. */
struct watch_hit {
    uint32_t watch;   /* its index */
    uint32_t access;
    uint64_t address; /* linear, also of the page whose walk wrote an entry */
    uint64_t size;
    uint64_t old;     /* what was there, up to eight bytes */
};

/* What is special about an instruction, for stepping and counting. */
enum special {
    ORDINARY,
    PUSHF,
    POPF,        /* IRET too */
    ENDS_BLOCK,  /* MOV SS, POP SS, PAUSE: the trap of TF comes only behind the next instruction */
    REP_STRING,
    REP_COMPARE, /* ends by the zero flag, too */
    BRANCH,      /* and does not store */
    CALL,
    CALL_SELF,   /* its target is itself */
};

struct insn {
    enum special special;
    bool repne;
    bool stores;    /* a REP that writes to memory */
    unsigned width; /* bytes of one element of a REP */
    bool addr32;    /* counts in ECX (or CX), not RCX */
    bool addr16;
    bool moves;      /* REP MOVS */
    bool fills;      /* REP STOS */
    bool overridden; /* a segment prefix */
};

struct kind_slot {
    uint64_t pc;
    uint64_t run; /* of which it is true: m->run */
    struct insn insn;
};

struct api; /* the engine's functions, see machine.c */
struct trace; /* trace.h */

struct machine {
    /* Seen from Python as 64-bit words, in this order: emu/cpu.py names the indices. */
    uint64_t icount;     /* retired instructions */
    int64_t budget;      /* what is left of this run's budget */
    uint64_t vector;     /* of the last exception */
    uint64_t error_code; /* of the last exception */
    uint64_t is_software;
    uint64_t cr2;
    uint64_t host_error; /* uc_err */
    uint64_t env_size;   /* bytes of CPU state that a context holds */
    uint64_t env_address;
    /* The next three are private: inlined code wants them here. */
    uint64_t last_site;  /* what inlined code noted: the block entered last; NO_SITE: see block_pc */
    uint32_t *trace_cursor; /* where the block hook notes the next block while there is a trace */
    uint64_t exit_kind;
    uint64_t nr_hits;    /* of watches, by the last instruction */
    uint64_t hits_address;
    uint64_t hit_pc;     /* of that instruction; 0: the walk for the fetch of the next one */
    /* From here on private. */
    uint64_t block_pc;   /* the block entered last in this run, size 0: none */
    uint32_t block_size;
    uint32_t block_icount;
    uint64_t block_rcx;  /* RCX at its beginning, if it has one instruction and did not count itself */
    bool block_rcx_known;
    bool refused;        /* the exception is not the engine's: see refuse() */
    uint8_t *saved;      /* the CPU's state in front of it: env_size bytes */
    bool long_mode;      /* a 64-bit machine: its tables have four or five levels */
    uc_engine *uc;
    const struct api *api;
    uint8_t *env;
    const uint64_t *cr;  /* in env: CR0 to CR4 */
    struct env_layout at;
    uint8_t *ram;
    uint64_t ram_size;
    struct block_table blocks;
    bool inlining;       /* calls of the block hook are replaced: see inline.c */
    bool code_is_writable;
    struct site *sites;
    size_t nr_sites, max_sites;
    uint64_t run;        /* counts calls of the engine */
    struct kind_slot kinds[KIND_SLOTS];
    struct cpuid_answer *cpuid;
    size_t nr_cpuid;
    struct machine_break *breaks;
    bool stepping;       /* a single step goes over breakpoints */
    struct trace *trace; /* NULL: nothing is noted */
    struct machine *next_watching;
    struct machine_watch *watches;
    size_t nr_watches;
    bool watches_entries, watches_physical;
    uint64_t watches_start, watches_end; /* around all linear ones */
    int64_t held_budget; /* taken away to stop in front of the next block */
    uint64_t half_address, half_size; /* of a store that is asked about in two parts */
    struct watch_hit hits[MAX_HITS];
};

struct api {
    uc_err (*open)(uc_arch, uc_mode, uc_engine **);
    uc_err (*close)(uc_engine *);
    uc_err (*ctl)(uc_engine *, uc_control_type, ...);
    uc_err (*emu_start)(uc_engine *, uint64_t, uint64_t, uint64_t, size_t);
    uc_err (*emu_stop)(uc_engine *);
    uc_err (*hook_add)(uc_engine *, uc_hook *, int, void *, void *, uint64_t, uint64_t, ...);
    uc_err (*hook_del)(uc_engine *, uc_hook);
    uc_err (*mem_map_ptr)(uc_engine *, uint64_t, uint64_t, uint32_t, void *);
    uc_err (*reg_read)(uc_engine *, int, void *);
    uc_err (*reg_write)(uc_engine *, int, const void *);
    size_t (*context_size)(uc_engine *);
    const char *(*strerror)(uc_err);
    unsigned (*version)(unsigned *, unsigned *);
};

/* calibrate.c: find the CPU state inside the engine; NULL, or what was not found. */
const char *machine_calibrate(struct machine *m);

/* machine.c: start the engine at RIP and note why it stopped. */
void machine_go(struct machine *m);

/* The same with a budget, and count; the blocks' boundaries are where it stops. */
void machine_go_counted(struct machine *m, int64_t budget);

/* The same, up to an instruction that a fault keeps from being translated. */
void machine_run_stretch(struct machine *m, int64_t budget);
int machine_flush_code(struct machine *m);
int machine_flush_tlb(struct machine *m);

/* insn_length.c: bytes of the x86 instruction at code (size bytes readable); 0: truncated. */
unsigned insn_length(const uint8_t *code, size_t size, unsigned bits);

uint64_t machine_flags(struct machine *m);
void machine_set_flags(struct machine *m, uint64_t flags);
unsigned machine_code_bits(struct machine *m);

/* insn_kind.c: look at the instruction at code (size bytes readable). */
struct insn insn_classify(const uint8_t *code, size_t size, unsigned bits);

/* rep.c */
uint64_t rep_many(struct machine *m, uint64_t pc, uint64_t limit);

/* inline.c */
void inline_block(struct machine *m, uint8_t *back, uint64_t pc, uint32_t size, unsigned icount, uint32_t traced);
void settle_last_site(struct machine *m);

/* step.c */
int machine_step_one(struct machine *m);
int step_once(struct machine *m);

/* breaks.c */
int machine_set_break(struct machine *m, uint64_t address, int on);
bool breaks_at(const struct machine *m, uint64_t address);
void breaks_free(struct machine *m);

/* linkage.c */
void *linkage_function(const struct machine *m, const char *name);
void **linkage_slot(const struct machine *m, const char *name, bool in_table);

/* watch.c */
bool watches_fill_in(const struct machine *m);
int watches_listen(struct machine *m);
int machine_set_watches(struct machine *m, const struct machine_watch *watches, size_t count);
void watches_begin(struct machine *m);
void watches_undone(struct machine *m);
void watches_step(struct machine *m);
bool watches_page(struct machine *m, uint64_t address);
void watches_free(struct machine *m);

/* blocks.c */
int blocks_init(struct block_table *t);
void blocks_free(struct block_table *t);
void blocks_add(struct machine *m, uint64_t pc, uint16_t size, uint16_t icount);
unsigned blocks_icount_slow(struct machine *m, uint64_t pc, uint32_t size);
uint8_t *machine_translate(struct machine *m, uint64_t va);
size_t machine_fetch(struct machine *m, uint64_t va, uint8_t *window, size_t size);
unsigned count_instructions(struct machine *m, uint64_t from, uint64_t to);
struct insn insn_at(struct machine *m, uint64_t pc);
bool blocks_agree(struct machine *m, uint64_t pc, uint32_t size, unsigned icount);
enum special blocks_kind(struct machine *m, uint64_t pc);
bool blocks_restarted(struct machine *m, uint64_t pc, uint32_t size);


/* The hot look-up of the block hook: one multiplication, one probe. */
static inline size_t block_hash(uint64_t pc, uint32_t size)
{
    return (size_t)(((pc ^ ((uint64_t)size << 48)) * 0x9e3779b97f4a7c15ull) >> 32);
}

#endif
