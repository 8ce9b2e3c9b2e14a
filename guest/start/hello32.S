// No libc at all: two system calls.
// guest: arch=i386
.intel_syntax noprefix
.globl _start
_start:
    mov eax, 4              # write(1, text, length)
    mov ebx, 1
    mov ecx, offset text
    mov edx, offset length
    int 0x80
    mov ebx, eax            # the status: how many bytes were written
    mov eax, 1              # exit
    int 0x80
.section .rodata
text: .ascii "hello from assembly\n"
.set length, . - text
.section .note.GNU-stack,"",@progbits
