# INT 1Ah AH=B1h, the same services for 32-bit systems (BIOS32), and the interrupt routing table.
# Reference: PCI BIOS Specification 2.1; Standard BIOS 32-bit Service Directory Proposal 0.4; PCI IRQ Routing Table
# Specification 1.0.

.set pir_irqs, 0xDEF8               # what a PIRQ can be routed to (82371SB, 2.2.12)
.set pir_slot_count, 31
.set pir_slots_size, pir_slot_count * 16

.text
.code16
#define BITS 16
#define L(name) pci16_##name
#include "bios/system/pci_service.inc"
#undef L
#undef BITS

.globl int1a_time
int1a_time:
    cmpb $0xB1, %ah
    jne int1a_clock
    cmpb $0, %cs:pci_buses
    jne 1f
    movb $0x81, %ah
    jmp 2f
1:  call pci16_service
2:  pushw %bp
    movw %sp, %bp
    andb $0xFE, 6(%bp)
    cmpb $1, %ah
    cmc
    adcb $0, 6(%bp)
    popw %bp
    iretw

.code32
#define BITS 32
#define L(name) pci32_##name
#include "bios/system/pci_service.inc"

# The service directory: AL = 0 and EBX, ECX, EDX = base, length and entry of the service EAX.
bios32_directory:
    testb %bl, %bl
    jnz 2f
    cmpl $0x49435024, %eax          # "$PCI"
    jne 1f
    pushl %eax
    call pci32_buses
    testb %ah, %ah
    popl %eax
    jz 1f
    movl $0xF0000, %ebx
    movl $0x10000, %ecx
    movl $pci32_entry, %edx
    xorb %al, %al
    lret
1:  movb $0x80, %al
    lret
2:  movb $0x81, %al
    lret

pci32_entry:
    cmpb $0xB1, %ah
    jne 1f
    call pci32_service
    cmpb $1, %ah                    # carry when it failed
    cmc
    lret
1:  movb $0x81, %ah
    stc
    lret

.section .rom.pci, "a"
    .balign 16
    .ascii "_32_"
    .long bios32_directory + 0xF0000
    .byte 0, 1, 0                   # revision, length in paragraphs, checksum: made with the image
    .byte 0, 0, 0, 0, 0

    .balign 16
pir:
    .ascii "$PIR"
    .word 0x0100
    .word 32 + pir_slots_size
    .byte 0, 0x08                   # the router: bus 0, device 1
    .word 0x0C00                    # interrupts that are PCI's alone
    .long 0x70008086
    .long 0
    .fill 11, 1, 0
    .byte 0                         # checksum
pir_slots:
    # Bus, device, four pins of link and possible interrupts, slot number. INTx# of device d is PIRQ (x + d - 1) mod 4.
    .set device, 1
    .rept pir_slot_count
    .byte 0, device << 3
    .set pin, 0
    .rept 4
    .byte 0x60 + ((pin + device - 1) & 3)
    .word pir_irqs
    .set pin, pin + 1
    .endr
    .byte device, 0
    .set device, device + 1
    .endr
