// What a program finds in its registers: zeroes, the stack aligned to 16, argc on top, x87 and SSE as after reset.
// guest: arch=i386 args="a b"
// The status is a bit for each thing that is not so.
.intel_syntax noprefix
.globl _start
_start:
    or eax, ebx
    or eax, ecx
    or eax, edx
    or eax, esi
    or eax, edi
    or eax, ebp
    xor ebx, ebx
    test eax, eax
    jz 1f
    or ebx, 1
1:  test esp, 15
    jz 1f
    or ebx, 2
1:  cmp dword ptr [esp], 3
    je 1f
    or ebx, 4
1:  fnstcw [esp - 16]
    cmp word ptr [esp - 16], 0x37f
    je 1f
    or ebx, 8
1:  stmxcsr [esp - 16]
    cmp dword ptr [esp - 16], 0x1f80
    je 1f
    or ebx, 16
1:  mov ax, ds
    mov cx, ss
    cmp ax, cx
    je 1f
    or ebx, 32
1:  mov eax, 1
    int 0x80
.section .note.GNU-stack,"",@progbits
