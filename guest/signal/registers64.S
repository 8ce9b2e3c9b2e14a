// A signal in the middle of a program: every register is as before after sigreturn, integer, SSE, x87 and flags.
// guest: arch=x86-64
// The handler destroys all it can.  The status is a bit for each group that changed.
.intel_syntax noprefix
.globl _start
handler:
    xor eax, eax
    mov ebx, eax
    mov ecx, eax
    mov edx, eax
    mov esi, eax
    mov edi, eax
    mov ebp, eax
    mov r8, rax
    mov r9, rax
    mov r10, rax
    mov r11, rax
    mov r12, rax
    mov r13, rax
    mov r14, rax
    mov r15, rax
    pxor xmm0, xmm0
    movdqa xmm7, xmm0
    movdqa xmm15, xmm0
    fninit
    fldz
    push 0x1f80 | 0x6000
    ldmxcsr [rsp]
    pop rax
    std
    cld
    stc
    ret
restorer:
    mov eax, 15             # rt_sigreturn
    syscall
_start:
    mov eax, 13             # rt_sigaction(SIGILL, action, 0, 8)
    mov edi, 4
    lea rsi, [rip + action]
    xor edx, edx
    mov r10d, 8
    syscall
    xor r15d, r15d
    test rax, rax
    jz 1f
    or r15d, 1
1:  movdqu xmm0, [rip + pattern]
    movdqa xmm7, xmm0
    pslldq xmm7, 3
    movdqa xmm15, xmm0
    psrldq xmm15, 5
    fninit
    fldpi
    fld1
    fldcw [rip + control]
    ldmxcsr [rip + sse_control]
    mov rax, 0x1111111111111111
    mov rbx, 0x2222222222222222
    mov rcx, 0x3333333333333333
    mov rdx, 0x4444444444444444
    mov rsi, 0x5555555555555555
    mov rdi, 0x6666666666666666
    mov rbp, 0x7777777777777777
    mov r8,  0x8888888888888888
    mov r9,  0x9999999999999999
    mov r10, 0xaaaaaaaaaaaaaaaa
    mov r11, 0xbbbbbbbbbbbbbbbb
    mov r12, 0xcccccccccccccccc
    mov r13, 0xdddddddddddddddd
    mov r14, 0xeeeeeeeeeeeeeeee
    cmp rax, rax            # ZF, no CF
    ud2                     # SIGILL; the handler's frame says rip; it must be stepped over
after:
    jnz bad_flags
    jc bad_flags
    jmp 2f
bad_flags:
    or r15d, 2
2:  mov [rip + saved], rax
    mov rax, 0x2222222222222222
    cmp rbx, rax
    jne bad
    mov rax, 0x3333333333333333
    cmp rcx, rax
    jne bad
    mov rax, 0x4444444444444444
    cmp rdx, rax
    jne bad
    mov rax, 0x5555555555555555
    cmp rsi, rax
    jne bad
    mov rax, 0x6666666666666666
    cmp rdi, rax
    jne bad
    mov rax, 0x7777777777777777
    cmp rbp, rax
    jne bad
    mov rax, 0x8888888888888888
    cmp r8, rax
    jne bad
    mov rax, 0x9999999999999999
    cmp r9, rax
    jne bad
    mov rax, 0xaaaaaaaaaaaaaaaa
    cmp r10, rax
    jne bad
    mov rax, 0xbbbbbbbbbbbbbbbb
    cmp r11, rax
    jne bad
    mov rax, 0xcccccccccccccccc
    cmp r12, rax
    jne bad
    mov rax, 0xdddddddddddddddd
    cmp r13, rax
    jne bad
    mov rax, 0xeeeeeeeeeeeeeeee
    cmp r14, rax
    jne bad
    mov rax, 0x1111111111111111
    cmp [rip + saved], rax
    je 3f
bad:
    or r15d, 4
3:  movdqu xmm1, [rip + pattern]
    pcmpeqb xmm1, xmm0
    pmovmskb eax, xmm1
    cmp eax, 0xffff
    jne bad_sse
    movdqu xmm1, [rip + pattern]
    pslldq xmm1, 3
    pcmpeqb xmm1, xmm7
    pmovmskb eax, xmm1
    cmp eax, 0xffff
    jne bad_sse
    movdqu xmm1, [rip + pattern]
    psrldq xmm1, 5
    pcmpeqb xmm1, xmm15
    pmovmskb eax, xmm1
    cmp eax, 0xffff
    je 4f
bad_sse:
    or r15d, 8
4:  fnstcw [rip + saved]
    mov ax, [rip + saved]
    cmp ax, [rip + control]
    jne bad_x87
    fld1
    fcomip st, st(1)        # st(0) was 1
    jne bad_x87
    fstp st(0)
    fldpi
    fcomip st, st(1)
    je 5f
bad_x87:
    or r15d, 16
5:  stmxcsr [rip + saved]
    mov eax, [rip + saved]
    cmp eax, [rip + sse_control]
    je 6f
    or r15d, 32
6:  mov edi, r15d
    mov eax, 60
    syscall
stepper:                    # (signo, info, ucontext): rip += 2, then destroy everything
    add qword ptr [rdx + 168], 2
    jmp handler
.section .rodata
pattern: .byte 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
control: .word 0x27f
sse_control: .long 0x1f80 | 0x2000
.data
.balign 8
action: .quad stepper, 0x04000004, restorer, 0   # SA_RESTORER | SA_SIGINFO
saved: .quad 0
.section .note.GNU-stack,"",@progbits
