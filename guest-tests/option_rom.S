# An option ROM that tests its BIOS and prints TAP on COM1. Three of it are given to the machine: the first one's boot entry
# returns, the second one's calls INT 18h, and the third one ends the run. option_rom.py makes it whole.

.code16
.text

.set points, 0x5F0              # how many checks there were, and how many failed: words in memory that nobody uses
.set failures, 0x5F2
.set units_at_first, 8          # of 512 bytes; init makes 4 of them
.set first_segment, 0xCA00
.set segment_distance, 0x80
.set handle, 0x31564956

    .byte 0x55, 0xAA, units_at_first
    jmp initialise
    .org 0x18
    .word pci_structure
    .word pnp_header

    .org 0x1C
    .balign 16
pci_structure:
    .ascii "PCIR"
    .word 0x1234, 0x5678
    .word 0
    .word 0x18
    .byte 0                     # revision
    .byte 0, 0, 2               # a network controller
    .word units_at_first
    .word 0
    .byte 0                     # code of a PC's BIOS
    .byte 0x80                  # the last image
    .word 0
    .balign 16
pnp_header:
    .ascii "$PnP"
    .byte 1, 2
    .word 0                     # no other header
    .byte 0, 0
    .long 0
    .word 0, 0
    .byte 2, 0, 0
    .byte 0x14
    .word connect               # BCV
    .word 0
    .word boot                  # BEV
    .word 0, 0

# "ok N - TEXT" if the condition holds.
.macro check condition, text
    j\condition 91f
    call say_not
91: call say_result
    .asciz "\text"
.endm

put:                            # AL to COM1
    pushw %dx
    pushw %ax
    movw $0x3FD, %dx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    popw %ax
    movw $0x3F8, %dx
    outb %al, %dx
    popw %dx
    ret

put_text:                       # CS:SI up to a zero, SI behind it
    movb %cs:(%si), %al
    incw %si
    testb %al, %al
    jz 1f
    call put
    jmp put_text
1:  ret

put_number:                     # AX, two digits at most
    movb $10, %dl
    divb %dl
    movb %ah, %dh
    testb %al, %al
    jz 1f
    addb $'0', %al
    call put
1:  movb %dh, %al
    addb $'0', %al
    call put
    ret

say_not:
    pushaw
    pushw %ds
    xorw %ax, %ax
    movw %ax, %ds
    incw failures
    movw $text_not, %si
    call put_text
    popw %ds
    popaw
    ret

say_result:                     # the text is behind the call
    popw %si
    pushaw
    pushw %ds
    xorw %ax, %ax
    movw %ax, %ds
    pushw %si
    movw $text_ok, %si
    call put_text
    incw points
    movw points, %ax
    call put_number
    movw $text_dash, %si
    call put_text
    popw %si
    call put_text
    movw %si, %cx
    movb $'\n', %al
    call put
    popw %ds
    movw %sp, %bp
    movw %cx, 2(%bp)            # SI of the registers that come back
    popaw
    jmp *%si

text_not: .asciz "not "
text_ok: .asciz "ok "
text_dash: .asciz " - "
text_plan: .asciz "1.."

# CS:[pmm] is the manager's entry; ZF is clear if there is none.
find_manager:
    pushw %ds
    movw $0xF000, %ax
1:  movw %ax, %ds
    cmpl $0x4D4D5024, 0         # "$PMM"
    je 2f
    incw %ax
    jnz 1b
    popw %ds
    incw %ax                    # clears ZF
    ret
2:  movl 7, %eax
    popw %ds
    movl %eax, %cs:pmm
    xorw %ax, %ax
    ret
pmm: .long 0

# Allocates ECX paragraphs by the flags in BX, with the handle EDX: EAX.
allocate:
    pushw %bx
    pushl %edx
    pushl %ecx
    pushw $0
    lcallw *%cs:pmm
    addw $12, %sp
    jmp whole_answer
# Function AX with EBX: EAX.
manage:
    pushl %ebx
    pushw %ax
    lcallw *%cs:pmm
    addw $6, %sp
whole_answer:
    shll $16, %edx
    movw %ax, %dx
    movl %edx, %eax
    ret

initialise:
    pushal
    pushw %ds
    pushw %es
    movw %ax, %bp
    cmpw $0xFFFF, %bp
    check e, "a ROM that is no PCI function's is told so"
    cmpl $0x506E5024, %es:(%di)
    check e, "ES:DI is at the BIOS's identity"
    movb $0x5A, %cs:scratch
    cmpb $0x5A, %cs:scratch
    check e, "a ROM can be written while it is initialised"
    call find_manager
    check e, "there is a POST memory manager"
    movl $0x40, %ecx
    movw $1, %bx
    movl $handle, %edx
    call allocate
    movl %eax, %ebp
    cmpl $0x100000, %eax
    check b, "conventional memory is below 1 MiB"
    testl %ebp, %ebp
    check nz, "and was given"
    movw $1, %ax
    movl $handle, %ebx
    call manage
    cmpl %ebp, %eax
    check e, "it is found by its handle"
    movw $2, %ax
    movl %ebp, %ebx
    call manage
    testl %eax, %eax
    check z, "and can be given back"
    movw $1, %ax
    movl $handle, %ebx
    call manage
    testl %eax, %eax
    check z, "and is not found any more"
    movl $0x1000, %ecx
    movw $6, %bx                # extended, aligned
    movl $-1, %edx              # nobody looks for it
    call allocate
    movl %eax, %ebp
    cmpl $0x100000, %eax
    check a, "extended memory is above 1 MiB"
    testw %bp, %bp
    check z, "and aligned to its size"
    xorw %ax, %ax
    movw %ax, %ds
    movl $0x12345678, %ds:(%ebp)
    movl %ds:(%ebp), %eax
    cmpl $0x12345678, %eax
    check e, "and reached by a 32-bit address"
    movl $0x40, %ecx
    movw $2, %bx
    movl $-1, %edx
    call allocate
    cmpl %ebp, %eax
    check ne, "no place is given twice"
    movl $0x100000, %ecx
    movl $-1, %edx
    call allocate
    testl %eax, %eax
    check z, "and no more than there is"
    movb $4, %cs:2
    popw %es
    popw %ds
    popal
    movw $0x20, %ax             # a device to boot from
    lretw
scratch: .byte 0

connect:
    cmpw %ax, %ax
    check e, "the boot connection vector is called"
    lretw

boot:
    cmpl $0x506E5024, %es:(%di)
    check e, "the boot entry is told of the BIOS, too"
    movb $0xA5, %cs:scratch
    cmpb $0x5A, %cs:scratch
    check e, "a ROM cannot be written after POST"
    movl $0x40, %ecx
    movw $1, %bx
    call allocate
    cmpl $-1, %eax
    check e, "the memory manager is gone"
    movw %cs, %ax
    subw $first_segment, %ax
    jz 1f
    cmpw $segment_distance, %ax
    je 2f
    cmpw $2 * segment_distance, %ax
    check e, "the third ROM is right behind the second one"
    movw $0xE000, %ax
    movw %ax, %ds
    cmpw $0xFFFF, 0
    check e, "where there is no ROM there is nothing"
    movw $text_plan, %si
    call put_text
    xorw %ax, %ax
    movw %ax, %ds
    movw points, %ax
    call put_number
    movb $'\n', %al
    call put
    movw $0x501, %dx
    movb failures, %al
    outb %al, %dx
3:  hlt
    jmp 3b
1:  lretw
2:  int $0x18
