// A program of both architectures without a libc, linked at fixed addresses: sessions about it are the same anywhere.
// It writes a table by calls, forks a child that writes to a shared page, waits, prints, faults if it has an argument.
#ifdef __x86_64__
#define WORD 8
#define SYS_write 1
#define SYS_fork 57
#define SYS_exit 60
#define SYS_wait4 61
#define A rdi
#define B rsi
#define C rdx
#define D r10
#define NR eax
#define ENTER syscall
#define SP rsp
#define FP rbp
#define ADDR rbx
#else
#define WORD 4
#define SYS_exit 1
#define SYS_fork 2
#define SYS_write 4
#define SYS_wait4 114
#define A ebx
#define B ecx
#define C edx
#define D esi
#define NR eax
#define ENTER int 0x80
#define SP esp
#define FP ebp
#define ADDR edi
#endif
.intel_syntax noprefix
.globl _start, store, fill, table, counter, child, bye
.text
.type _start, @function
_start:
        xor FP, FP
        call fill
        mov NR, SYS_fork
        ENTER
        test eax, eax
        jz child
        mov NR, SYS_wait4
        mov A, -1
        xor C, C
        xor D, D
        xor B, B
        ENTER
        mov NR, SYS_write
        mov A, 1
        lea B, [message]
        mov C, 5
        ENTER
        cmp dword ptr [SP], 1
        jne .Lwrong
bye:
        mov NR, SYS_exit
        mov A, 3
        ENTER
.Lwrong:
        mov dword ptr [16], 1
child:
        mov dword ptr [counter], 9
        mov NR, SYS_exit
        mov A, 7
        ENTER
.size _start, . - _start

.type fill, @function
fill:
        push FP
        mov FP, SP
        mov eax, 1
.Lagain:
        call store
        add eax, 1
        cmp eax, 4
        jle .Lagain
        pop FP
        ret
.size fill, . - fill

.type store, @function
store:
        push FP
        mov FP, SP
        add dword ptr [counter], eax
        lea ADDR, [table]
        mov [ADDR + 4 * WORD / WORD], eax
        pop FP
        ret
.size store, . - store

.data
.type counter, @object
counter: .long 0
.size counter, 4
message: .ascii "done\n\0"
.balign 8
.type table, @object
table:  .long 0, 0, 0, 0
.size table, 16
.section .note.GNU-stack, "", @progbits
