# Calls from C++ to interrupts that software may have hooked. Hooks are trusted with no register but the stack.

#include "bios/service.inc"

.code16

.text
.macro save_for_hook
    pushw %ds
    pushw %es
    pushw %fs
    pushw %gs
    pushl %ebx
    pushl %esi
    pushl %edi
    pushl %ebp
.endm

.macro restore_after_hook
    cld
    popl %ebp
    popl %edi
    popl %esi
    popl %ebx
    popw %gs
    popw %fs
    popw %es
    popw %ds
.endm

# uint32_t call_int15(uint32_t ax): EAX = AX, bit 16 = carry (set on entry).
.globl call_int15
call_int15:
    save_for_hook
    stc
    int $0x15
    movzwl %ax, %eax
    jnc 1f
    orl $0x10000, %eax
1:  restore_after_hook
    retl

# uint32_t call_int17(uint32_t ax, uint32_t dx)
.globl call_int17
call_int17:
    save_for_hook
    int $0x17
    restore_after_hook
    retl

# uint32_t call_int10(uint32_t ax, uint32_t bx, uint32_t dx): EAX = AX, with DX in the upper half.
.globl call_int10
call_int10:
    save_for_hook
    movl %edx, %ebx
    movl %ecx, %edx
    int $0x10
    movzwl %ax, %eax
    shll $16, %edx
    orl %edx, %eax
    restore_after_hook
    retl

# uint32_t call_int16(uint32_t ax): EAX = AX, bit 16 = ZF.
.globl call_int16
call_int16:
    save_for_hook
    int $0x16
    movzwl %ax, %eax
    jnz 1f
    orl $0x10000, %eax
1:  restore_after_hook
    retl

.macro hook_caller name, number
    .globl \name
\name:
    save_for_hook
    int $\number
    restore_after_hook
    retl
.endm
    hook_caller call_int05, 0x05
    hook_caller call_int1b, 0x1B
    hook_caller call_int4a, 0x4A

# void call_mouse_handler(uint32_t handler, const uint16_t* words): far call with four words on the stack.
.globl call_mouse_handler
call_mouse_handler:
    save_for_hook
    pushl %eax
    pushw (%edx)            # status
    pushw 2(%edx)           # x
    pushw 4(%edx)           # y
    pushw $0                # z
    movl %esp, %eax
    lcallw *8(%eax)
    addw $12, %sp
    restore_after_hook
    retl
