# What option ROMs are called with, and what they may call.

.code16
.text

.set bda_ebda_segment, 0x0E
.set ebda_pnp, 0xC0

# Loads DS, ES, FS and GS by a descriptor of `selector`, and gives them back their values: the limit stays.
.macro set_limits selector
    pushfw
    cli
    pushw %ds
    pushw %es
    pushw %fs
    pushw %gs
    pushl %eax
    pushl %ecx
    lgdtl %cs:limits_gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    movw $\selector, %cx
    movw %cx, %ds
    movw %cx, %es
    movw %cx, %fs
    movw %cx, %gs
    andb $0xFE, %al
    movl %eax, %cr0
    popl %ecx
    popl %eax
    popw %gs
    popw %fs
    popw %es
    popw %ds
    popfw
.endm

.set flat_data, 0x08            # up to 4 GiB
.set real_data, 0x10            # 64 KiB
    .balign 8
limits_gdt:
    .quad 0
    .quad 0x00CF93000000FFFF
    .quad 0x000093000000FFFF
limits_gdt_pointer:
    .word limits_gdt_pointer - limits_gdt - 1
    .long 0xF0000 + limits_gdt

# void call_option_rom(uint32_t entry segment:offset, uint32_t pci_address): a far call as at POST: AX = PCI address, BX and
# DX = no ISA Plug and Play card, ES:DI = $PnP, segments without limits ("big real mode", which the memory manager's users
# need). It may change every register but the stack's.
.globl call_option_rom
call_option_rom:
    set_limits flat_data
    pushw %ds
    pushw %es
    pushw %fs
    pushw %gs
    pushl %ebx
    pushl %esi
    pushl %edi
    pushl %ebp
    pushl %eax
    movw %dx, %ax
    movw $0xFFFF, %bx
    movw $0xFFFF, %dx
    movw %fs:bda_ebda_segment, %es
    movw $ebda_pnp, %di
    movw %sp, %bp
    sti
    lcallw *(%bp)
    sti
    cld
    movzwl %sp, %esp
    popl %eax
    popl %ebp
    popl %edi
    popl %esi
    popl %ebx
    popw %gs
    popw %fs
    popw %es
    popw %ds
    set_limits real_data
    retl

# The far entry of the POST memory manager: arguments on the stack, the last one first; the caller takes them away.
.set pmm_function, 6
.set pmm_first, 8
.set pmm_second, 12
.set pmm_third, 16
post_memory_entry:
    pushw %bp
    movw %sp, %bp
    pushl %ebx
    pushl %ecx
    movw pmm_function(%bp), %ax
    movl pmm_first(%bp), %ebx
    movl pmm_second(%bp), %ecx
    movw pmm_third(%bp), %dx
    pushfw
    pushw %cs
    callw post_memory_call
    popl %ecx
    popl %ebx
    popw %bp
    lretw

# No function of the Plug and Play BIOS is there: FUNCTION_NOT_SUPPORTED.
pnp_entry:
    movw $0x82, %ax
    lretw

# Option ROMs look for this on paragraphs.
    .balign 16
    .ascii "$PMM"
    .byte 0x01              # revision
    .byte 16                # bytes
    .byte 0                 # checksum, by build_rom.py
    .word post_memory_entry, 0xF000
    .byte 0, 0, 0, 0, 0

# Goes into the EBDA when there are option ROMs, who are told where it is; systems that look for it in the ROM find none,
# since there is no Plug and Play BIOS for them.
.globl pnp_installation
pnp_installation:
    .ascii "$PnP"
    .byte 0x10              # version 1.0
    .byte pnp_end - pnp_installation
    .word 0                 # no events
    .byte 0                 # checksum, by build_rom.py
    .long 0
    .word pnp_entry, 0xF000
    .word pnp_entry
    .long 0xF0000
    .long 0
    .word 0xF000
    .long 0xF0000
pnp_end:
