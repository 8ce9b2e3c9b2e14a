/* Anonymous memory: read before written, protected, unmapped; and what a touch does after each. */
        .include "elf64.inc"
start:  movl    $9, %eax                /* mmap(0, 3 pages, RW, PRIVATE|ANONYMOUS, -1, 0) */
        xorl    %edi, %edi
        movl    $0x3000, %esi
        movl    $3, %edx
        movl    $0x22, %r10d
        movq    $-1, %r8
        xorl    %r9d, %r9d
        syscall
        movq    %rax, %rbx
        movl    (%rbx), %ecx            /* zero_page */
        movl    $1, (%rbx)              /* the zero page is not ours: cow_copy */
        movl    $2, 0x1000(%rbx)        /* anon */
        movl    $10, %eax               /* mprotect(the second page, PROT_READ) */
        lea     0x1000(%rbx), %rdi
        movl    $0x1000, %esi
        movl    $1, %edx
        syscall
        movl    0x1000(%rbx), %ecx      /* still there: no fault */
        movl    $28, %eax               /* madvise(the first page, MADV_DONTNEED) */
        movq    %rbx, %rdi
        movl    $0x1000, %esi
        movl    $4, %edx
        syscall
        movl    $3, (%rbx)              /* gone: anon, anew */
        movl    $11, %eax               /* munmap(the third page) */
        lea     0x2000(%rbx), %rdi
        movl    $0x1000, %esi
        syscall
        movl    $4, 0x1800(%rbx)        /* read-only: SIGSEGV, SEGV_ACCERR */
        hlt
        .org    0x2000
