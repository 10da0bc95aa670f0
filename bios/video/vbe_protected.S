# VBE's protected mode interface (INT 10h AX=4F0Ah): 32-bit code that a program copies wherever it likes and calls near.
# Reference: VESA BIOS Extension 3.0, "Function 0Ah - Return VBE Protected Mode Interface".

.code32
.section .rom.vbe_protected, "a"

.set dispi_index_port, 0x1CE
.set dispi_bits_per_pixel, 3
.set dispi_bank, 5
.set dispi_virtual_width, 6
.set dispi_x_offset, 8
.set dispi_y_offset, 9

.globl vbe_protected, vbe_protected_end
vbe_protected:
    .word set_window - vbe_protected
    .word set_display_start - vbe_protected
    .word set_palette - vbe_protected
    .word ports - vbe_protected

ports:
    .word 0x1CE, 0x1CF, 0x1D0, 0x3C8, 0x3C9, 0x3DA, 0xFFFF
    .word 0xFFFF                # no memory

# AL = register: its value in AX.
read_dispi:
    pushl %edx
    movzbl %al, %eax
    movl $dispi_index_port, %edx
    outw %ax, %dx
    incl %edx
    xorl %eax, %eax
    inw %dx, %ax
    popl %edx
    ret

# AL = register, CX = value.
write_dispi:
    pushl %edx
    movzbl %al, %eax
    movl $dispi_index_port, %edx
    outw %ax, %dx
    incl %edx
    movl %ecx, %eax
    outw %ax, %dx
    popl %edx
    ret

# BH = 0: shows bank DX in window BL = 0; BH = 1: tells it in DX.
set_window:
    testb %bl, %bl
    jnz failed
    cmpb $1, %bh
    ja failed
    je 1f
    pushl %ecx
    movl %edx, %ecx
    movb $dispi_bank, %al
    call write_dispi
    popl %ecx
    jmp done
1:  movb $dispi_bank, %al
    call read_dispi
    movl %eax, %edx
done:
    movw $0x004F, %ax
    ret
failed:
    movw $0x014F, %ax
    ret

# BL = 00h or 80h (during retrace): the picture begins at DX:CX, in units of four bytes.
set_display_start:
    testb $0x7F, %bl
    jnz failed
    pushal
    testb $0x80, %bl
    jz 2f
    movl %edx, %ebp
    movl $0x3DA, %edx
1:  inb %dx, %al
    testb $8, %al
    jz 1b
    movl %ebp, %edx
2:  shll $16, %edx
    movw %cx, %dx
    leal (, %edx, 4), %esi      # in bytes
    movb $dispi_bits_per_pixel, %al
    call read_dispi
    movl %eax, %edi
    movb $dispi_virtual_width, %al
    call read_dispi
    leal 7(%edi), %ebx
    shrl $3, %ebx               # bytes a pixel
    cmpl $4, %edi
    jne 3f
    shll $3, %esi               # four maps: one byte of each is eight pixels
3:  imull %ebx, %eax
    movl %eax, %ecx             # pitch
    movl %esi, %eax
    xorl %edx, %edx
    jecxz 4f
    divl %ecx
    movl %eax, %esi             # line
    movl %edx, %eax
    xorl %edx, %edx
    divl %ebx
    movl %eax, %ecx
    movb $dispi_x_offset, %al
    call write_dispi
    movl %esi, %ecx
    movb $dispi_y_offset, %al
    call write_dispi
4:  popal
    jmp done

# BL = 00h or 80h (during retrace): CX colours from DX on, at ES:EDI as blue, green, red, 0.
set_palette:
    testb $0x7F, %bl
    jnz failed
    pushal
    testb $0x80, %bl
    jz 2f
    movl %edx, %ebp
    movl $0x3DA, %edx
1:  inb %dx, %al
    testb $8, %al
    jz 1b
    movl %ebp, %edx
2:  movzwl %cx, %ecx
    movl %edx, %eax
    movl $0x3C8, %edx
    outb %al, %dx
    incl %edx
    jecxz 4f
3:  movb %es:2(%edi), %al
    outb %al, %dx
    movb %es:1(%edi), %al
    outb %al, %dx
    movb %es:(%edi), %al
    outb %al, %dx
    addl $4, %edi
    loop 3b
4:  popal
    jmp done
vbe_protected_end:
