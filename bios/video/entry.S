# Video BIOS: option ROM header, INT 10h and the fonts.

#include "bios/service.inc"

.code16

.section .header, "a"
    .byte 0x55, 0xAA
    .byte 0xA000 / 512
    jmp initialise              # a firmware that scans for option ROMs calls this far
    .org 0x18
    .word pci_data
    .org 0x1E
    .ascii "IBM VGA compatible\0"   # C000:001E: how software recognises an EGA or VGA BIOS
    .org 0x40
    .long 0x56564956            # struct VideoRomHeader
    .word 1
    .word (vectors_end - vectors) / 4
    .word vectors
    .word font_8x16
    .word video_parameters + 0x18 * 64
    .word text_palette
    .word save_pointers
    .word 0

vectors:
    .word 0x10, int10_video
    .word 0x1D, cga_parameters
    .word 0x1F, font_8x8 + 128 * 8
    .word 0x43, font_8x16
    .word 0x6D, int10_video
vectors_end:

    .ascii "Vivarium VGA BIOS\0"

# PCI 3.0, 6.3.1.2: for firmware that finds the ROM behind the display adapter's ROM BAR.
    .balign 4
pci_data:
    .ascii "PCIR"
    .word 0x1234, 0x1111
    .word 0
    .word pci_data_end - pci_data
    .byte 0                     # revision of this structure
    .byte 0x00, 0x00, 0x03      # class: VGA
    .word 0xA000 / 512
    .word 1                     # revision of the ROM
    .byte 0                     # code for PCs
    .byte 0x80                  # the last image
    .word 0
pci_data_end:

.text
    service_common

# Far memory accesses in graphics modes take long; the cheap questions are answered without changing stacks.
.globl int10_video
int10_video:
    cmpb $0x0F, %ah
    je int10_0f_get_mode
    pushw $video_service
    jmp service_enter

int10_0f_get_mode:
    pushw %ds
    movw $bda_segment, %ax
    movw %ax, %ds
    movb 0x87, %al
    andb $0x80, %al
    orb 0x49, %al
    movb 0x4A, %ah
    movb 0x62, %bh
    popw %ds
    iretw

    service_entry initialise_service, video_initialise

# Far call: sets the vectors and the data area, as the host does on the pc board, and mode 3.
initialise:
    pushfw
    pushw %cs
    pushw $1f
    jmp initialise_service
1:  lretw

# Far call, as VBE's mode information promises: BH = 0 shows bank DX at A0000h, BH = 1 tells DX. AX is lost.
.globl vbe_window
vbe_window:
    pushw %dx
    movw $0x1CE, %dx
    movw $5, %ax
    outw %ax, %dx
    incw %dx
    testb %bh, %bh
    jnz 1f
    popw %ax
    outw %ax, %dx
    movw %ax, %dx
    lretw
1:  inw %dx, %ax
    popw %dx
    movw %ax, %dx
    lretw

# The 6845 register values of the CGA and MDA, which vector 1Dh points at.
cga_parameters:
    .byte 0x38, 0x28, 0x2D, 0x0A, 0x1F, 0x06, 0x19, 0x1C, 0x02, 0x07, 0x06, 0x07, 0, 0, 0, 0   # 40 columns
    .byte 0x71, 0x50, 0x5A, 0x0A, 0x1F, 0x06, 0x19, 0x1C, 0x02, 0x07, 0x06, 0x07, 0, 0, 0, 0   # 80 columns
    .byte 0x38, 0x28, 0x2D, 0x0A, 0x7F, 0x06, 0x64, 0x70, 0x02, 0x01, 0x06, 0x07, 0, 0, 0, 0   # graphics
    .byte 0x61, 0x50, 0x52, 0x0F, 0x19, 0x06, 0x19, 0x19, 0x02, 0x0D, 0x0B, 0x0C, 0, 0, 0, 0   # monochrome
    .word 2048, 4096, 16384, 16384
    .byte 40, 40, 80, 80, 40, 40, 80, 80
    .byte 0x2C, 0x28, 0x2D, 0x29, 0x2A, 0x2E, 0x1E, 0x29

# 40:A8 points here: video parameters, then nothing of the other six.
.globl save_pointers
save_pointers:
    .word video_parameters, 0xC000
    .long 0, 0, 0, 0, 0, 0

.globl font_8x16, font_8x14, font_8x8
font_8x16:
#include "font_8x16.inc"
font_8x14:
#include "font_8x14.inc"
font_8x8:
#include "font_8x8.inc"
