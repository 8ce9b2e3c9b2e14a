/* A handler for SIGSEGV that repairs what went wrong, then SIGTERM without one. */
        .include "elf64.inc"
        .set    PAGE, 0x10000
start:  movl    $13, %eax               /* rt_sigaction(SIGSEGV, &action, 0, 8) */
        movl    $11, %edi
        lea     action(%rip), %rsi
        xorl    %edx, %edx
        movl    $8, %r10d
        syscall
        movl    $PAGE, %ebx
        movl    $7, (%rbx)              /* no mapping: SEGV_MAPERR; the handler makes one */
        movl    $39, %eax               /* getpid */
        syscall
        movl    %eax, %edi
        movl    $62, %eax               /* kill(self, SIGTERM) */
        movl    $15, %esi
        syscall
        hlt
handler: movl   $9, %eax                /* mmap(PAGE, 1 page, RW, PRIVATE|ANONYMOUS|FIXED, -1, 0) */
        movl    $PAGE, %edi
        movl    $0x1000, %esi
        movl    $3, %edx
        movl    $0x32, %r10d
        movq    $-1, %r8
        xorl    %r9d, %r9d
        syscall
        ret
restorer: movl  $15, %eax               /* rt_sigreturn */
        syscall
        .org    0x1000
action: .quad   BASE + (handler - image)
        .quad   0x04000004              /* SA_SIGINFO | SA_RESTORER */
        .quad   BASE + (restorer - image)
        .quad   0
        .org    0x2000
