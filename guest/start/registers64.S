// What a program finds in its registers: zeroes, the stack aligned to 16, argc on top, x87 and SSE as after reset.
// guest: arch=x86-64 args="a b"
// The status is a bit for each thing that is not so.
.intel_syntax noprefix
.globl _start
_start:
    or rax, rbx
    or rax, rcx
    or rax, rdx
    or rax, rsi
    or rax, rdi
    or rax, rbp
    or rax, r8
    or rax, r9
    or rax, r10
    or rax, r11
    or rax, r12
    or rax, r13
    or rax, r14
    or rax, r15
    xor edi, edi
    test rax, rax
    jz 1f
    or edi, 1
1:  test rsp, 15
    jz 1f
    or edi, 2
1:  cmp qword ptr [rsp], 3
    je 1f
    or edi, 4
1:  fnstcw [rsp - 16]
    cmp word ptr [rsp - 16], 0x37f
    je 1f
    or edi, 8
1:  stmxcsr [rsp - 16]
    cmp dword ptr [rsp - 16], 0x1f80
    je 1f
    or edi, 16
1:  pushfq
    pop rax
    and eax, 0xcd5          # CF PF AF ZF SF DF OF: IF is on in user mode
    // the flags are those of the last cmp: ZF and PF
    cmp eax, 0x44
    je 1f
    or edi, 32
1:  mov eax, 60
    syscall
.section .note.GNU-stack,"",@progbits
