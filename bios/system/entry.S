# System BIOS: header, interrupt handlers that need no C++, and the doors to those that do.

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

# ---- Header (struct SystemRomHeader) --------------------------------------------------------------------------------

.section .header, "a"
    .ascii "Vivarium BIOS\0\0\0"
    .long 0x42564956
    .word 1
    .word (vectors_end - vectors) / 4
    .word boot_entry
    .word vectors
    .word dummy_interrupt
    .word 0

vectors:
.macro vector number, handler
    .word \number, \handler
.endm
    vector 0x02, int02_nmi
    vector 0x05, int05_print_screen
    vector 0x08, int08_timer
    vector 0x09, int09_keyboard
    vector 0x0A, spurious_master
    vector 0x0B, spurious_master
    vector 0x0C, spurious_master
    vector 0x0D, spurious_master
    vector 0x0E, int0e_floppy
    vector 0x0F, spurious_master
    vector 0x11, int11_equipment
    vector 0x12, int12_memory_size
    vector 0x13, int13_disk
    vector 0x14, int14_serial
    vector 0x15, int15_system
    vector 0x16, int16_keyboard
    vector 0x17, int17_printer
    vector 0x18, int18_no_boot
    vector 0x19, int19_boot
    vector 0x1A, int1a_time
    vector 0x1B, dummy_interrupt
    vector 0x1C, dummy_interrupt
    vector 0x1E, diskette_parameters
    vector 0x40, int13_disk
    vector 0x42, int10_video
    vector 0x4A, dummy_interrupt
    vector 0x70, int70_clock
    vector 0x71, int71_redirect
    vector 0x72, spurious_slave
    vector 0x73, spurious_slave
    vector 0x74, int74_mouse
    vector 0x75, int75_coprocessor
    vector 0x76, int76_disk
    vector 0x77, spurious_slave
vectors_end:

# ---- Doors ----------------------------------------------------------------------------------------------------------

.text
    service_common
    service_entry int05_print_screen, print_screen
    service_entry int09_keyboard, keyboard_interrupt
    service_entry int13_disk, disk_service
    service_entry int14_serial, serial_service
    service_entry int15_services, system_service
    service_entry int16_keyboard, keyboard_service
    service_entry int17_printer, printer_service
    service_entry int1a_time, time_service
    service_entry int70_clock, clock_interrupt
    service_entry int74_mouse, mouse_interrupt

# The keyboard and "device busy" hooks of INT 15h are called on every key: they answer without changing stacks.
.globl int15_system
int15_system:
    cmpb $0x4F, %ah
    je 1f
    cmpb $0x90, %ah
    je 2f
    cmpb $0x91, %ah
    je 2f
    cmpb $0x87, %ah
    je int15_87_move_block
    jmp int15_services
1:  pushw %bp       # 4Fh: carry, the scan code is to be processed
    movw %sp, %bp
    orb $1, 6(%bp)
    popw %bp
    iretw
2:  xorb %ah, %ah   # 90h, 91h: nobody waits here
    pushw %bp
    movw %sp, %bp
    andb $0xFE, 6(%bp)
    popw %bp
    iretw

# ---- Boot -----------------------------------------------------------------------------------------------------------

.globl boot_entry
boot_entry:
    # The floppy controller comes out of reset some microseconds after power-on, interrupts, and says so once for each of
    # four drives. POST takes these reports, so that no IRQ6 is left for the guest. FFh: there is no controller. A timer
    # tick may end a wait early; after four it is given up.
    movw $0x3F4, %dx
    movw $4, %cx
1:  cli
    inb %dx, %al
    cmpb $0xFF, %al
    je 3f
    cmpb $0x80, %al
    je 2f
    sti
    hlt
    loop 1b
    jmp 3f
2:  movw $4, %cx
4:  movw $0x3F5, %dx
    movb $0x08, %al         # SENSE INTERRUPT STATUS: ST0 and the cylinder
    outb %al, %dx
    inb %dx, %al
    inb %dx, %al
    loop 4b
    movw $bda_segment, %ax
    movw %ax, %ds
    andb $0x7F, bda_floppy_recalibrate
3:  int $0x19

# INT 18h and 19h never return, so they take the stack below the boot sector and forget what was on the service stacks.
    .macro begin_boot
    cli
    cld
    xorl %eax, %eax
    movw %ax, %ss
    movl $0x7C00, %esp
    movw $bda_segment, %ax
    movw %ax, %fs
    movw %fs:bda_ebda_segment, %ax
    movw %ax, %ds
    movw $0x800, ebda_next_stack
    pushw $0
    popw %ds
    pushw $0
    popw %es
    sti
    .endm

.globl int19_boot
int19_boot:
    begin_boot
    calll boot_system

.globl int18_no_boot
int18_no_boot:
    begin_boot
    calll boot_refused
    int $0x19

# void start_boot_sector(uint32_t drive (AX), uint32_t entry segment:offset (DX)): does not return.
.globl start_boot_sector
start_boot_sector:
    cli
    movzwl %ax, %ecx        # drive
    pushl %edx
    popl %ebx               # segment:offset
    xorl %eax, %eax
    movw %ax, %ss
    movl $0x7C00, %esp
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    pushw $0x0202           # IF
    pushl %ebx
    movl %ecx, %edx
    movl $0xAA55, %eax
    xorl %ebx, %ebx
    movl $1, %ecx
    xorl %esi, %esi
    xorl %edi, %edi
    xorl %ebp, %ebp
    iretw

# ---- Hardware interrupts --------------------------------------------------------------------------------------------

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

# ---- Calls from C++ to interrupts that software may have hooked -------------------------------------------------------
# Hooks are trusted with no register but the stack.

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

# ---- INT 15h AH=87h: move CX words through protected mode -------------------------------------------------------------
# ES:SI is the caller's descriptor table: 10h source and 18h destination are the caller's; 08h, 20h, 28h are ours.
# Runs on the caller's stack, which descriptor 28h describes.

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
    lret $2

# ---- Fixed addresses --------------------------------------------------------------------------------------------------
# Where software that predates the vectors' use expects things (IBM PC/XT and AT BIOS listings).

.section .fixed, "ax"
.set fixed_base, 0xE000
.macro at_address address
    .org \address - fixed_base, 0
.endm

    at_address 0xE05B
restart:
    # A jump to FFFF:0 asks for a restart; the host redoes its power-on work.
    movw $0xCF9, %dx
    movb $2, %al
    outb %al, %dx
    movb $6, %al
    outb %al, %dx
1:  cli
    hlt
    jmp 1b
.globl restart

    at_address 0xE2C3
    jmp int02_nmi
    at_address 0xE3FE
    jmp int13_disk
    at_address 0xE6F2
    jmp int19_boot

    # INT 15h AH=C0h.
    at_address 0xE6F5
.globl system_configuration
system_configuration:
    .word 8
    .byte 0xFC, 0x01, 0x00
    .byte 0x74              # second 8259, RTC, keyboard intercept, EBDA
    .byte 0x40              # INT 16h AH=09h
    .byte 0, 0, 0

    at_address 0xE739
    jmp int14_serial
    at_address 0xE82E
    jmp int16_keyboard
    at_address 0xE987
    jmp int09_keyboard
    at_address 0xEC59
    jmp int13_disk
    at_address 0xEF57
    jmp int0e_floppy

    # Vector 1Eh: step rate and unload, load and DMA, motor-off ticks, 512 bytes, last sector, gap, data length,
    # format gap, format filler, settle ms, motor start in 1/8 s.
    at_address 0xEFC7
.globl diskette_parameters
diskette_parameters:
    .byte 0xAF, 0x02, 0x25, 0x02, 18, 0x1B, 0xFF, 0x6C, 0xF6, 0x0F, 0x08
    at_address 0xEFD2
    jmp int17_printer
    at_address 0xF045
int10_video:
    # Vector 42h is what a second display adapter leaves of the first one's INT 10h: there is none.
    iretw
    at_address 0xF065
    int $0x10
    iretw
    at_address 0xF841
    jmp int12_memory_size
    at_address 0xF84D
    jmp int11_equipment
    at_address 0xF859
    jmp int15_system

    # The first half of the 8x8 font, where CGA programs look for it.
    at_address 0xFA6E
#include "font_8x8_low.inc"

    at_address 0xFE6E
    jmp int1a_time
    at_address 0xFEA5
    jmp int08_timer
    at_address 0xFF53
.globl dummy_interrupt
dummy_interrupt:
    iretw
    at_address 0xFF54
    jmp int05_print_screen

    at_address 0xFFF0
    ljmpw $0xF000, $restart
    .ascii "11/22/26"
    .byte 0
    .byte 0xFC
    .byte 0
