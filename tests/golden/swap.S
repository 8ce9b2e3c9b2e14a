/* Three pages are written, sent to swap, and come back: for a read, for a write, and for a write of the kernel's. */
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
        movl    $1, (%rbx)              /* anon, three times */
        movl    $2, 0x1000(%rbx)
        movl    $3, 0x2000(%rbx)
        movl    $28, %eax               /* madvise(all of it, MADV_PAGEOUT) */
        movq    %rbx, %rdi
        movl    $0x3000, %esi
        movl    $21, %edx
        syscall
        movl    (%rbx), %ecx            /* swap_in: the slot is kept while the page is clean */
        addl    %ecx, 0x1000(%rbx)      /* swap_in, and the page is ours to write */
        movl    $96, %eax               /* gettimeofday(third page, NULL): the kernel's write brings it back, too */
        lea     0x2000(%rbx), %rdi
        xorl    %esi, %esi
        syscall
        movl    0x1000(%rbx), %edi      /* exit_group(3): what was written is there */
        movl    $231, %eax
        syscall
        hlt
        .org    0x2000
