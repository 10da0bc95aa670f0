# Fixed addresses, where software that predates the use of vectors expects things (IBM PC/XT and AT BIOS listings).

.code16

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
.globl int10_video
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
