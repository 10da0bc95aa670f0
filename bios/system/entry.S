# System BIOS: header, doors to the services written in C++, and boot.

#include "bios/service.inc"

.code16

.set bda_floppy_recalibrate, 0x3E

# ---- Header (struct SystemRomHeader) --------------------------------------------------------------------------------

.section .header, "a"
    .ascii "Vivarium BIOS\0\0\0"
    .long 0x42564956
    .word 1
    .word (vectors_end - vectors) / 4
    .word boot_entry
    .word vectors
    .word dummy_interrupt
.globl pci_buses
pci_buses:
    .byte 0, 0                  # the number of PCI buses, written at power-on

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
    service_entry int16_services, keyboard_service
    service_entry int17_printer, printer_service
    service_entry int1a_clock, time_service
    service_entry int70_clock, clock_interrupt
    service_entry int74_mouse, mouse_interrupt
    service_entry post_memory_call, post_memory_service

# The keyboard and "device busy" hooks of INT 15h are called on every key: they answer without changing stacks.
.globl int15_system
int15_system:
    cmpb $0x4F, %ah
    je 1f
    cmpb $0x90, %ah
    je 2f
    cmpb $0x91, %ah
    je 2f
    cmpb $0x53, %ah
    je int15_53_power_management
    cmpb $0x87, %ah
    je int15_87_move_block
    cmpb $0x89, %ah
    je int15_89_protected_mode
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

# 00h and 10h wait on the caller's stack, as in the BIOS of a PC: some programs leave the wait by their timer interrupt and
# go on with the SS that they find (KolibriOS's loader). The services take a key or set ZF, with interrupts closed.
.globl int16_keyboard
int16_keyboard:
    testb $0xEF, %ah
    jnz int16_services
    cli
    pushw %ax
    pushfw
    pushw %cs
    callw int16_services
    jnz 2f
    movw $0x9002, %ax       # the keyboard is waited for
    int $0x15
1:  cli
    popw %ax
    pushw %ax
    pushfw
    pushw %cs
    callw int16_services
    jnz 2f
    sti
    hlt
    jmp 1b
2:  addw $2, %sp
    iretw

# ---- Boot -----------------------------------------------------------------------------------------------------------

# INT 18h, 19h and POST never return, so they take a stack of their own and forget what was on the service stacks. It ends
# 3 KiB below the boot sector: option ROMs (iPXE's) take the place right below that one while they boot.
    .macro begin_boot
    cli
    cld
    xorl %eax, %eax
    movw %ax, %ss
    movl $0x7000, %esp
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
3:  begin_boot
    calll initialise_option_roms
    int $0x19

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
