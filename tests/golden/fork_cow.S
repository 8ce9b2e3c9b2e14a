/* A page of data, shared by fork: the child writes (a copy), the parent writes when it is alone (no copy). */
        .include "elf64.inc"
start:  movl    $1, counter(%rip)       /* the page becomes ours: file_cow */
        movl    $57, %eax               /* fork */
        syscall
        test    %eax, %eax
        jz      child
        movl    $61, %eax               /* wait4(-1, &status, 0, 0) */
        movq    $-1, %rdi
        lea     status(%rip), %rsi      /* the kernel writes: cow_copy or cow_reuse */
        xorl    %edx, %edx
        xorl    %r10d, %r10d
        syscall
        addl    $1, counter(%rip)
        movl    counter(%rip), %edi     /* 2: the child's 10 is the child's own */
        movl    $231, %eax              /* exit_group */
        syscall
child:  movl    $10, counter(%rip)      /* shared with the parent: cow_copy */
        movl    counter(%rip), %edi
        movl    $231, %eax
        syscall

        .org    0x1000
counter: .long  0
status: .long   0
        .org    0x2000
