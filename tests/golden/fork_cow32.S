/* fork_cow.S on the classic machine: int 0x80, two levels of tables, no NX. */
        .include "elf32.inc"
start:  movl    $1, counter             /* the page becomes ours: file_cow */
        movl    $2, %eax                /* fork */
        int     $0x80
        test    %eax, %eax
        jz      child
        movl    $7, %eax                /* waitpid(-1, &status, 0) */
        movl    $-1, %ebx
        movl    $status, %ecx
        xorl    %edx, %edx
        int     $0x80
        addl    $1, counter
        movl    counter, %ebx           /* 2: the child's 10 is the child's own */
        movl    $252, %eax              /* exit_group */
        int     $0x80
child:  movl    $10, counter            /* shared with the parent: cow_copy */
        movl    counter, %ebx
        movl    $252, %eax
        int     $0x80
        .org    0x2000
