// A signal in the middle of a program: every register is as before after sigreturn, integer, SSE, x87 and flags.
// guest: arch=i386
// Once with the old frame (sigreturn) and once with the rt frame.  The status is a bit for each group that changed.
.intel_syntax noprefix
.globl _start
destroy:
    xor eax, eax
    mov ebx, eax
    mov ecx, eax
    mov edx, eax
    mov esi, eax
    mov edi, eax
    mov ebp, eax
    pxor xmm0, xmm0
    movdqa xmm7, xmm0
    fninit
    fldz
    push 0x1f80 | 0x6000
    ldmxcsr [esp]
    pop eax
    stc
    ret
old_handler:                # (signo, sigcontext by value): eip is its 15th word
    add dword ptr [esp + 8 + 14 * 4], 2
    jmp destroy
rt_handler:                 # (signo, info, ucontext)
    mov eax, [esp + 12]
    add dword ptr [eax + 20 + 14 * 4], 2
    jmp destroy
rt_restorer:
    mov eax, 173
    int 0x80
old_restorer:
    pop eax
    mov eax, 119
    int 0x80
_start:
    mov dword ptr [status], 0
    mov dword ptr [action], offset old_handler
    mov dword ptr [action + 4], 0x04000000
    mov dword ptr [action + 8], offset old_restorer
    call round
    mov dword ptr [action], offset rt_handler
    mov dword ptr [action + 4], 0x04000004
    mov dword ptr [action + 8], offset rt_restorer
    call round
    mov ebx, [status]
    mov eax, 1
    int 0x80
round:
    mov eax, 174            # rt_sigaction(SIGILL, action, 0, 8)
    mov ebx, 4
    mov ecx, offset action
    xor edx, edx
    mov esi, 8
    int 0x80
    test eax, eax
    jz 1f
    or dword ptr [status], 1
1:  movdqu xmm0, [pattern]
    movdqa xmm7, xmm0
    pslldq xmm7, 3
    fninit
    fldpi
    fld1
    fldcw [control]
    ldmxcsr [sse_control]
    mov eax, 0x11111111
    mov ebx, 0x22222222
    mov ecx, 0x33333333
    mov edx, 0x44444444
    mov esi, 0x55555555
    mov edi, 0x66666666
    mov ebp, 0x77777777
    cmp eax, eax
    ud2
    jnz 2f
    jnc 3f
2:  or dword ptr [status], 2
3:  cmp eax, 0x11111111
    jne bad
    cmp ebx, 0x22222222
    jne bad
    cmp ecx, 0x33333333
    jne bad
    cmp edx, 0x44444444
    jne bad
    cmp esi, 0x55555555
    jne bad
    cmp edi, 0x66666666
    jne bad
    cmp ebp, 0x77777777
    je 4f
bad:
    or dword ptr [status], 4
4:  movdqu xmm1, [pattern]
    pcmpeqb xmm1, xmm0
    pmovmskb eax, xmm1
    cmp eax, 0xffff
    jne bad_sse
    movdqu xmm1, [pattern]
    pslldq xmm1, 3
    pcmpeqb xmm1, xmm7
    pmovmskb eax, xmm1
    cmp eax, 0xffff
    je 5f
bad_sse:
    or dword ptr [status], 8
5:  fnstcw [saved]
    mov ax, [saved]
    cmp ax, [control]
    jne bad_x87
    fld1
    fcomip st, st(1)
    jne bad_x87
    fstp st(0)
    fldpi
    fcomip st, st(1)
    je 6f
bad_x87:
    or dword ptr [status], 16
6:  stmxcsr [saved]
    mov eax, [saved]
    cmp eax, [sse_control]
    je 7f
    or dword ptr [status], 32
7:  ret
.section .rodata
pattern: .byte 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
control: .word 0x27f
sse_control: .long 0x1f80 | 0x2000
.data
.balign 4
action: .long 0, 0, 0, 0, 0
saved: .long 0
status: .long 0
.section .note.GNU-stack,"",@progbits
