# INT 15h AH=87h and 89h: through protected mode, and into it.

#include "bios/service.inc"

.code16

.text

# ---- AH=87h: move CX words -------------------------------------------------------------------------------------------
# ES:SI is the caller's descriptor table: 10h source and 18h destination are the caller's; 08h, 20h, 28h are ours.
# Runs on the caller's stack, which descriptor 28h describes.

.globl int15_87_move_block
int15_87_move_block:
    cli
    cld
    cmpw $0x8000, %cx
    ja 9f
    pushw %ds
    pushw %es
    pushal
    inb $0x92, %al          # A20 open for the copy
    movb %al, %dl
    orb $2, %al
    andb $0xFE, %al
    outb %al, $0x92
    movzwl %si, %esi
    xorl %eax, %eax
    movw %es, %ax
    shll $4, %eax
    addl %esi, %eax
    movw $0x2F, %es:8(%si)
    movl %eax, %es:10(%si)
    movw $0, %es:14(%si)
    movb $0x93, %es:0x15(%si)
    movb $0x93, %es:0x1D(%si)
    movl $0x0000FFFF, %es:0x20(%si)
    movl $0x00009B0F, %es:0x24(%si)
    movl $0x0000FFFF, %es:0x28(%si)
    xorl %eax, %eax
    movw %ss, %ax
    movw %ax, %di           # to come back
    shll $4, %eax
    movl %eax, %es:0x2A(%si)
    movw $0, %es:0x2E(%si)
    movb $0x93, %es:0x2D(%si)
    lgdtl %es:8(%si)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpw $0x20, $1f
1:  movw $0x10, %ax
    movw %ax, %ds
    movb $0x18, %al
    movw %ax, %es
    movb $0x28, %al
    movw %ax, %ss
    movw %di, %bx
    xorw %si, %si
    xorw %di, %di
    pushw %cx
    shrw $1, %cx
    rep movsl
    popw %cx
    andw $1, %cx
    rep movsw
    movw %ss, %ax           # 64 KiB limits for real mode
    movw %ax, %ds
    movw %ax, %es
    movl %cr0, %eax
    andb $0xFE, %al
    movl %eax, %cr0
    ljmpw $0xF000, $2f
2:  movw %bx, %ss
    movb %dl, %al
    outb %al, $0x92
    popal
    popw %es
    popw %ds
    xorb %ah, %ah           # CF = 0, ZF = 1
    sti
    lret $2
9:  movb $2, %ah
    stc
    sti
    lret $2

# ---- AH=89h: into protected mode -------------------------------------------------------------------------------------
# ES:SI is the caller's descriptor table: 08h describes itself, 10h the interrupt table, 18h, 20h, 28h and 30h become DS,
# ES, SS and CS of the caller behind its INT; 38h is ours. BH and BL are the interrupt numbers of IRQ 0 and IRQ 8. All
# interrupts are masked then. Destroys AX and BP. (IBM PC AT Technical Reference, "System BIOS", X_VIRTUAL.)

.globl int15_89_protected_mode
int15_89_protected_mode:
    cli
    cld
    inb $0x92, %al          # A20 open
    orb $2, %al
    andb $0xFE, %al
    outb %al, $0x92
    movb $0x11, %al         # ICW1-ICW4 of both 8259As
    outb %al, $0x20
    outb %al, $0xA0
    movb %bh, %al
    outb %al, $0x21
    movb %bl, %al
    outb %al, $0xA1
    movb $0x04, %al
    outb %al, $0x21
    movb $0x02, %al
    outb %al, $0xA1
    movb $0x01, %al
    outb %al, $0x21
    outb %al, $0xA1
    movb $0xFF, %al
    outb %al, $0x21
    outb %al, $0xA1
    movw $0xFFFF, %es:0x38(%si)
    movl $0x9B0F0000, %es:0x3A(%si)
    movw $0, %es:0x3E(%si)
    popw %bp                # where to go on; its CS and FLAGS have served
    addw $4, %sp
    lgdtw %es:0x08(%si)     # bases of 24 bits: the fourth byte of a 286 descriptor's base is its access byte
    lidtw %es:0x10(%si)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpw $0x38, $1f
1:  movw $0x18, %ax
    movw %ax, %ds
    movb $0x20, %al
    movw %ax, %es
    movb $0x28, %al
    movw %ax, %ss
    pushw $0x30
    pushw %bp
    xorw %ax, %ax           # AH = 0, CF = 0
    lretw
