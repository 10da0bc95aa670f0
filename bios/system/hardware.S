# Hardware interrupts and small services that need no C++.

#include "bios/service.inc"

.code16

.set ticks_per_day, 0x1800B0
.set bda_floppy_recalibrate, 0x3E
.set bda_floppy_motor, 0x3F
.set bda_floppy_motor_count, 0x40
.set bda_memory_kib, 0x13
.set bda_equipment, 0x10
.set bda_last_spurious, 0x6B
.set bda_timer_ticks, 0x6C
.set bda_timer_midnight, 0x70
.set bda_disk_interrupt, 0x8E

.text
# IRQ 0, 18.2 times a second.
.globl int08_timer
int08_timer:
    pushw %ds
    pushl %eax
    pushw %dx
    movw $bda_segment, %ax
    movw %ax, %ds
    incl bda_timer_ticks
    cmpl $ticks_per_day, bda_timer_ticks
    jae 2f
1:  cmpb $0, bda_floppy_motor_count
    jne 3f
4:  int $0x1C
    movb $0x20, %al
    outb %al, $0x20
    popw %dx
    popl %eax
    popw %ds
    iretw
2:  movl $0, bda_timer_ticks
    incb bda_timer_midnight
    jmp 1b
3:  decb bda_floppy_motor_count
    jnz 4b
    andb $0xF0, bda_floppy_motor
    movb $0x0C, %al         # motors off, controller not in reset, DMA gate open
    movw $0x3F2, %dx
    outb %al, %dx
    jmp 4b

# IRQ 6: only a guest that drives the controller itself gets here.
.globl int0e_floppy
int0e_floppy:
    pushw %ds
    pushw %ax
    movw $bda_segment, %ax
    movw %ax, %ds
    orb $0x80, bda_floppy_recalibrate
    movb $0x20, %al
    outb %al, $0x20
    movw $0x9101, %ax
    int $0x15
    popw %ax
    popw %ds
    iretw

# IRQ 14.
.globl int76_disk
int76_disk:
    pushw %ds
    pushw %ax
    movw $bda_segment, %ax
    movw %ax, %ds
    movb $0xFF, bda_disk_interrupt
    movb $0x20, %al
    outb %al, $0xA0
    outb %al, $0x20
    movw $0x9100, %ax
    int $0x15
    popw %ax
    popw %ds
    iretw

# IRQ 9 stands for the IRQ 2 of a PC/XT.
.globl int71_redirect
int71_redirect:
    pushw %ax
    movb $0x20, %al
    outb %al, $0xA0
    popw %ax
    int $0x0A
    iretw

# IRQ 13: the coprocessor's error reaches software as NMI, as on a PC/XT.
.globl int75_coprocessor
int75_coprocessor:
    pushw %ax
    xorb %al, %al
    outb %al, $0xF0
    movb $0x20, %al
    outb %al, $0xA0
    outb %al, $0x20
    popw %ax
    int $0x02
    iretw

.globl int02_nmi
int02_nmi:
    iretw

# An interrupt nobody serves. A level that is really in service is masked, so that it cannot storm; without one it was
# a spurious IRQ 7 or 15, which wants no EOI (for IRQ 15 the master still has its cascade level in service).
.globl spurious_master
spurious_master:
    pushw %ds
    pushw %ax
    movw $bda_segment, %ax
    movw %ax, %ds
    movb $0x0B, %al
    outb %al, $0x20
    inb $0x20, %al
    movb %al, bda_last_spurious
    testb %al, %al
    jz 1f
    movb %al, %ah
    inb $0x21, %al
    andb $0xFB, %ah         # never the cascade
    orb %ah, %al
    outb %al, $0x21
    movb $0x20, %al
    outb %al, $0x20
    jmp 2f
1:  movb $0xFF, bda_last_spurious
2:  popw %ax
    popw %ds
    iretw

.globl spurious_slave
spurious_slave:
    pushw %ds
    pushw %ax
    movw $bda_segment, %ax
    movw %ax, %ds
    movb $0x0B, %al
    outb %al, $0xA0
    inb $0xA0, %al
    movb %al, bda_last_spurious
    testb %al, %al
    jz 1f
    movb %al, %ah
    inb $0xA1, %al
    orb %ah, %al
    outb %al, $0xA1
    movb $0x20, %al
    outb %al, $0xA0
    jmp 2f
1:  movb $0xFF, bda_last_spurious
2:  movb $0x20, %al
    outb %al, $0x20
    popw %ax
    popw %ds
    iretw

# ---- Small services -------------------------------------------------------------------------------------------------

.globl int11_equipment
int11_equipment:
    pushw %ds
    movw $bda_segment, %ax
    movw %ax, %ds
    movw bda_equipment, %ax
    popw %ds
    iretw

.globl int12_memory_size
int12_memory_size:
    pushw %ds
    movw $bda_segment, %ax
    movw %ax, %ds
    movw bda_memory_kib, %ax
    popw %ds
    iretw
