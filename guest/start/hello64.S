// No libc at all: two system calls.
// guest: arch=x86-64
.intel_syntax noprefix
.globl _start
_start:
    mov eax, 1              # write(1, text, length)
    mov edi, 1
    lea rsi, [rip + text]
    mov edx, offset length
    syscall
    mov edi, eax            # the status: how many bytes were written
    mov eax, 60             # exit
    syscall
.section .rodata
text: .ascii "hello from assembly\n"
.set length, . - text
.section .note.GNU-stack,"",@progbits
