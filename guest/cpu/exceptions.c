// What the CPU refuses becomes a signal with the right code and address: #DE #UD #BP #GP #DB.
#include "guest.h"

static volatile int zero, minus_one = -1, int_min = INT_MIN;
static volatile int sink;

#define AT(label) __asm__ volatile(".globl " label "\n" label ":")

extern char at_ud2[], at_int3[], at_hlt[], at_icebp[];

static NOINLINE void do_ud2(void) { __asm__ volatile("at_ud2: ud2"); }
static NOINLINE void do_int3(void) { __asm__ volatile("at_int3: int3"); }
static NOINLINE void do_hlt(void) { __asm__ volatile("at_hlt: hlt"); }
static NOINLINE void do_cli(void) { __asm__ volatile("cli"); }
static NOINLINE void do_in(void) { __asm__ volatile("in $0x80, %%al" ::: "eax"); }
static NOINLINE void do_rdmsr(void) { __asm__ volatile("rdmsr" : : "c"(0x10) : "eax", "edx"); }
static NOINLINE void do_int_0x21(void) { __asm__ volatile("int $0x21"); }
static NOINLINE void do_cr0(void) { __asm__ volatile("mov %%cr0, %0" : "=r"(*(long *)&sink)); }
static NOINLINE void do_bad_segment(void) { __asm__ volatile("mov %0, %%ds" : : "r"(0x1234)); }
static NOINLINE void do_lock_ud(void) { __asm__ volatile(".byte 0xf0, 0x90"); }

static void tell(const char *what, const void *base)
{
    printf("%s: signal %d code %d", what, caught.signo, caught.code);
    if (base)
        printf(" at base%+ld", (long)(caught.address - (char *)base));
    else
        printf(" address %s", caught.address ? "given" : "none");
    printf(" trap %ld error %ld\n", caught.trapno, caught.error);
}

int main(void)
{
    catch_faults(0);
    FAULT(sink = 100 / zero);
    tell("division by zero", NULL);
    FAULT(sink = int_min / minus_one);
    tell("overflow of a division", NULL);
    FAULT(do_ud2());
    tell("ud2", at_ud2);
    FAULT(do_lock_ud());
    tell("lock nop", NULL);
    FAULT(do_int3());
    tell("int3", NULL);
    FAULT(do_hlt());
    tell("hlt", NULL);
    FAULT(do_cli());
    tell("cli", NULL);
    FAULT(do_in());
    tell("in", NULL);
    FAULT(do_rdmsr());
    tell("rdmsr", NULL);
    FAULT(do_int_0x21());
    tell("int 0x21", NULL);
    FAULT(do_cr0());
    tell("mov cr0", NULL);
    FAULT(do_bad_segment());
    tell("mov ds", NULL);
    return 0;
}
