# Boot sector of every test guest. Loads the rest of the image behind itself with INT 13h and calls guest_main, with
# CS = DS = ES = SS = 0: a test is one segment of at most 64 KiB, so that its pointers are linear addresses.

    .code16
    .section .boot, "ax"
    .globl _start
_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x7C00, %esp
    ljmp $0, $1f
1:  sti
    movb %dl, boot_drive
    cmpb $0xE0, %dl             # from a CD-ROM the BIOS has loaded all of it
    jae 4f
    movb $0x08, %ah
    int $0x13
    andw $0x3F, %cx
    movw %cx, sectors_per_track

    # One sector a call: head and track edges need no thought, and tests are small.
    movw $0x07E0, %bx           # segment of the next sector
    movw $1, %si                # linear sector number
    movw $__payload_sectors, %di
2:  testw %di, %di
    jz 4f
    movw %si, %ax
    xorw %dx, %dx
    divw sectors_per_track      # ax = track of both heads, dx = sector - 1
    movb %dl, %cl
    incb %cl
    movb %al, %dh
    andb $1, %dh
    shrw $1, %ax
    movb %al, %ch
    movb boot_drive, %dl
    movw %bx, %es
    pushw %bx
    xorw %bx, %bx
    movw $0x0201, %ax
    int $0x13
    popw %bx
    jc 3f
    addw $0x20, %bx
    incw %si
    decw %di
    jmp 2b
3:  movw $0x0E21, %ax           # '!': the load failed
    int $0x10
    hlt
    jmp 3b
4:  xorw %ax, %ax
    movw %ax, %es
    calll guest_main
5:  hlt
    jmp 5b

    .globl boot_drive
boot_drive:
    .byte 0
sectors_per_track:
    .word 0

    .org 510
    .word 0xAA55

# void call_interrupt(uint8_t vector, Registers* registers): INT vector with these registers; returns them with FLAGS.
    .text
    .globl call_interrupt
call_interrupt:
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    movl 20(%esp), %eax
    movb %al, 1f + 1
    movl 24(%esp), %ebp
    pushl %ebp
    movl 0(%ebp), %eax
    movl 4(%ebp), %ebx
    movl 8(%ebp), %ecx
    movl 12(%ebp), %edx
    movl 16(%ebp), %esi
    movl 20(%ebp), %edi
    movw 28(%ebp), %es
    pushl 24(%ebp)
    movw 30(%ebp), %ds
    popl %ebp
    jmp 1f                      # the INT below was written a moment ago
1:  int $0x00
    cld
    pushl %ebp
    pushw %ds
    pushfl
    pushl %eax
    xorw %ax, %ax
    movw %ax, %ds
    movl 14(%esp), %ebp
    popl 0(%ebp)
    popl 32(%ebp)
    popw 30(%ebp)
    popl 24(%ebp)
    movl %ebx, 4(%ebp)
    movl %ecx, 8(%ebp)
    movl %edx, 12(%ebp)
    movl %esi, 16(%ebp)
    movl %edi, 20(%ebp)
    movw %es, 28(%ebp)
    movw %ax, %es
    addl $4, %esp
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    retl

# Entry points of counted interrupts, 16 IRQs: each pushes its number and calls count_irq(number).
    .balign 8
    .globl irq_entries
irq_entries:
    .set irq, 0
    .rept 16
    pushl $irq
    jmp irq_common
    .set irq, irq + 1
    .balign 8
    .endr
irq_common:
    pushal
    pushw %ds
    pushw %es
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    cld
    movl 36(%esp), %eax
    pushl %eax
    calll count_irq
    addl $4, %esp
    popw %es
    popw %ds
    popal
    addl $4, %esp
    iretw

# void make_segments_flat(): GS, and what pointers go by, reach 4 GiB from now on, on this CPU.
    .globl make_segments_flat
make_segments_flat:
    pushfl
    cli
    lgdtl flat_gdt
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    jmp 1f
1:  movw $8, %cx
    movw %cx, %ds
    movw %cx, %es
    movw %cx, %ss
    movw %cx, %gs
    andb $0xFE, %al
    movl %eax, %cr0
    jmp 2f
2:  xorw %cx, %cx
    movw %cx, %ds
    movw %cx, %es
    movw %cx, %ss
    movw %cx, %gs
    popfl
    retl

    .data
    .balign 8
flat_table:
    .quad 0, 0x008F93000000FFFF
flat_gdt:
    .word 15
    .long flat_table
