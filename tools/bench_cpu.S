# The guest of `tools/bench cpu`: a boot sector that reads the rest of itself from the first hard disk and runs one row, in
# 64-bit mode with 4 KiB pages, or boots Linux from the sectors behind it. It writes 'B' to COM1 when the measured part
# begins and 'E' when it has ended, so that the same image can be timed on any PC. tools/bench_cpu.py patches in the row and
# its amount of work.

    .set stack_top,     0x70000     # away from the code: writes beside code are slow everywhere
    .set saved_stack,   0x60000
    .set counter,       0x60008
    .set tables,        0x200000    # PML4, PDPT, PD, then 32 page tables: the first 64 MiB, page by page
    .set page_tables,   tables + 0x3000
    .set source,        0x1000000
    .set target,        0x1100000
    .set fault_area,    0x2000000
    .set fault_pages,   512
    .set fault_entries, page_tables + (fault_area >> 12) * 8
    .set com1,          0x3F8
    .set kernel_header, 0x90000
    .set command_line,  0x9A000
    .set bounce,        0x20000
    .set initrd_address, 0x6000000

    .code16
    .globl _start
_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $_start, %sp
    ljmp $0, $1f
1:  sti
    movb %dl, drive
    movw $0x7E0, packet_segment
    movw $(payload_end - payload + 511) / 512, packet_count
    movl $1, packet_sector
    call read_sectors
    inb $0x92, %al              # A20
    orb $2, %al
    andb $0xFE, %al
    outb %al, $0x92
    movw $com1 + 3, %dx         # 8 bits, no parity
    movb $3, %al
    outb %al, %dx
    cmpl $linux_row, row
    je boot_linux
    jmp enter_long_mode

# packet_count sectors from packet_sector on to packet_segment:0.
read_sectors:
    movw $packet, %si
    movb drive, %dl
    movb $0x42, %ah
    int $0x13
    jc failed
    ret
failed:
    movb $'!', %al
    call put16
    cli
    hlt

# Sends AL.
put16:
    movb %al, %ah
    movw $com1 + 5, %dx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    movw $com1, %dx
    movb %ah, %al
    outb %al, %dx
    ret

drive:  .byte 0
    .balign 4
packet: .byte 16, 0
packet_count:
    .word 0
    .word 0
packet_segment:
    .word 0
packet_sector:
    .long 0, 0

    .org 0x1E0
row:            .long 0         # patched in from here on
rounds:         .long 0
kernel_sector:  .long 0
kernel_sectors: .long 0
initrd_sector:  .long 0
initrd_size:    .long 0
    .org 510
    .word 0xAA55

payload:
# ---- Linux, by its 16-bit boot protocol ----------------------------------------------------------------------------------
boot_linux:
    # The setup code: its length is in its first sector.
    movl kernel_sector, %eax
    movl %eax, packet_sector
    movw $kernel_header >> 4, packet_segment
    movw $64, packet_count
    call read_sectors
    movw $kernel_header >> 4, %ax
    movw %ax, %fs
    movzbl %fs:0x1F1, %eax
    incl %eax
    movl kernel_sectors, %ecx
    subl %eax, %ecx
    addl kernel_sector, %eax
    movl $0x100000, %edi
    call read_high
    movl initrd_sector, %eax
    movl initrd_size, %ecx
    addl $511, %ecx
    shrl $9, %ecx
    movl $initrd_address, %edi
    call read_high

    movw $kernel_header >> 4, %ax
    movw %ax, %fs
    movb $0xFF, %fs:0x210       # type of loader
    orb $0x80, %fs:0x211        # there is a heap
    movw $0x9600, %fs:0x224     # up to here
    movl $command_line, %fs:0x228
    movl $initrd_address, %fs:0x218
    movl initrd_size, %eax
    movl %eax, %fs:0x21C
    movw $command_line >> 4, %ax
    movw %ax, %es
    xorw %di, %di
    movw $arguments, %si
    movw $arguments_end - arguments, %cx
    rep movsb
    movb $'B', %al
    call put16
    cli
    movw $kernel_header >> 4, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movw $0x9600, %sp
    ljmp $(kernel_header >> 4) + 0x20, $0
arguments:
    .asciz "console=ttyS0 panic=-1"
arguments_end:

# ECX sectors from EAX on to EDI above 1 MiB, through a buffer and flat segments.
read_high:
    movl %eax, packet_sector
    movw $bounce >> 4, packet_segment
1:  movl $64, %ebx
    cmpl %ebx, %ecx
    jae 2f
    movl %ecx, %ebx
2:  testl %ebx, %ebx
    jz 3f
    movw %bx, packet_count
    pushal
    call read_sectors
    popal
    pushl %ecx
    cli
    lgdt flat_table_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    movw $data32, %dx
    movw %dx, %ds
    movw %dx, %es
    andb $0xFE, %al
    movl %eax, %cr0
    movl $bounce, %esi
    movl %ebx, %ecx
    shll $7, %ecx
    addr32 rep movsl
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    sti
    popl %ecx
    addl %ebx, packet_sector
    subl %ebx, %ecx
    jmp 1b
3:  ret

# ---- 64-bit mode ---------------------------------------------------------------------------------------------------------
    .balign 8
flat_table:
    .quad 0
    .set code32, 8
    .quad 0x00CF9B000000FFFF
    .set data32, 16
    .quad 0x00CF93000000FFFF
    .set code64, 24
    .quad 0x00AF9B000000FFFF
    .set data64, 32
    .quad 0x00CF93000000FFFF
    .set user_base, 40
    .quad 0x00CFFB000000FFFF
    .quad 0x00CFF3000000FFFF
    .quad 0x00AFFB000000FFFF
flat_table_end:
flat_table_pointer:
    .word flat_table_end - flat_table - 1
    .long flat_table
idt_pointer:
    .word 15 * 16 - 1
    .quad idt

enter_long_mode:
    cli
    lgdt flat_table_pointer
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmp $code32, $1f
    .code32
1:  movw $data32, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $tables, %edi
    movl $(0x3000 + 32 * 0x1000) / 4, %ecx
    xorl %eax, %eax
    rep stosl
    movl $tables + 0x1000 + 7, tables
    movl $tables + 0x2000 + 7, tables + 0x1000
    movl $page_tables + 7, %eax
    movl $tables + 0x2000, %edi
    movl $32, %ecx
1:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $7, %eax
    movl $page_tables, %edi
    movl $32 * 512, %ecx
1:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $tables, %eax
    movl %eax, %cr3
    movl $0x620, %eax           # PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $0xC0000080, %ecx      # EFER: LME, SCE
    rdmsr
    orl $0x101, %eax
    wrmsr
    movl $0x80000033, %eax      # PG, NE, ET, MP, PE
    movl %eax, %cr0
    ljmp $code64, $1f
    .code64
1:  movl $data64, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $stack_top, %esp
    fninit
    lidt idt_pointer
    movl row, %eax
    movl rounds, %ebp
    movq prepare(, %rax, 8), %rcx
    call *%rcx
    movb $'B', %al
    call put
    movl row, %eax
    movq rows(, %rax, 8), %rcx
    call *%rcx
end_of_row:
    movb $'E', %al
    call put
1:  hlt
    jmp 1b
put:
    movb %al, %ah
    movl $com1 + 5, %edx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    movl $com1, %edx
    movb %ah, %al
    outb %al, %dx
nothing:
    ret

    .balign 8
prepare:
    .quad nothing, nothing, nothing, make_list, nothing, nothing, nothing, make_syscall, make_faults
rows:
    .quad integer, copy, copy_strings, chase, calls, sse, x87, syscalls, faults
    .set linux_row, 9

# Registers only: a linear congruential generator, shifts, and a branch that nobody can foresee.
    .balign 16
integer:
    movl $12345, %eax
    xorl %ebx, %ebx
    xorl %edx, %edx
1:  movl $100000, %ecx
2:  imull $1664525, %eax, %eax
    addl $1013904223, %eax
    movl %eax, %esi
    shrl $13, %esi
    xorl %eax, %esi
    leal 3(%rsi, %rbx, 2), %edi
    andl $0xFFFF, %edi
    addq %rdi, %rdx
    testl $0x10000, %esi
    jz 3f
    incl %ebx
    subl %ebx, %edx
3:  cmpl $0x8000, %edi
    adcl $0, %ebx
    decl %ecx
    jnz 2b
    decl %ebp
    jnz 1b
    ret

# 256 KiB by loads and stores.
    .balign 16
copy:
1:  movl $source, %esi
    movl $target, %edi
    movl $0x40000 / 32, %ecx
2:  movq (%rsi), %rax
    movq 8(%rsi), %rbx
    movq %rax, (%rdi)
    movq %rbx, 8(%rdi)
    movq 16(%rsi), %rax
    movq 24(%rsi), %rbx
    movq %rax, 16(%rdi)
    movq %rbx, 24(%rdi)
    addq $32, %rsi
    addq $32, %rdi
    decl %ecx
    jnz 2b
    decl %ebp
    jnz 1b
    ret

# 256 KiB by string instructions, filled and copied.
copy_strings:
1:  movl $source, %edi
    movl $0x40000 / 4, %ecx
    movl %ebp, %eax
    rep stosl
    movl $source, %esi
    movl $target, %edi
    movl $0x40000 / 8, %ecx
    rep movsq
    decl %ebp
    jnz 1b
    ret

# A list in an order without locality: 512 pages with two nodes each, few enough for the caches of the host.
make_list:
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    call node
    movl %eax, %edx
    imull $797, %ecx, %eax
    addl $347, %eax
    andl $0x3FF, %eax
    call node
    movq %rax, (%rdx)
    incl %ecx
    cmpl $0x400, %ecx
    jne 1b
    ret
node:                           # number EAX becomes its address: each on a cache line of another set
    movl %eax, %esi
    shll $11, %eax
    andl $0x1F, %esi
    shll $6, %esi
    leal source(%rax, %rsi), %eax
    ret
    .balign 16
chase:
    movl $source, %eax
1:  movl $0x8000 / 4, %ecx
2:  movq (%rax), %rax
    movq (%rax), %rax
    movq (%rax), %rax
    movq (%rax), %rax
    decl %ecx
    jnz 2b
    decl %ebp
    jnz 1b
    ret

# Fibonacci numbers the slow way.
    .balign 16
calls:
1:  movl $20, %edi
    call fibonacci
    decl %ebp
    jnz 1b
    ret
fibonacci:
    cmpl $2, %edi
    jb 1f
    pushq %rbx
    pushq %rdi
    subl $1, %edi
    call fibonacci
    movl %eax, %ebx
    popq %rdi
    subl $2, %edi
    call fibonacci
    addl %ebx, %eax
    popq %rbx
    ret
1:  movl %edi, %eax
    ret

# z = z * z + c in double precision, as for a picture of the Mandelbrot set.
    .balign 8
cx_value: .double -0.1528
cy_value: .double 1.0397
four:     .double 4.0
    .balign 16
sse:
1:  movl $1000, %edx
2:  xorpd %xmm0, %xmm0
    xorpd %xmm1, %xmm1
    movsd cx_value, %xmm2
    movsd cy_value, %xmm3
    movsd four, %xmm7
    movl $50, %ecx
3:  movapd %xmm0, %xmm4
    mulsd %xmm0, %xmm4
    movapd %xmm1, %xmm5
    mulsd %xmm1, %xmm5
    movapd %xmm4, %xmm6
    addsd %xmm5, %xmm6
    ucomisd %xmm7, %xmm6
    ja 4f
    mulsd %xmm0, %xmm1
    addsd %xmm1, %xmm1
    addsd %xmm3, %xmm1
    subsd %xmm5, %xmm4
    addsd %xmm2, %xmm4
    movapd %xmm4, %xmm0
    decl %ecx
    jnz 3b
4:  decl %edx
    jnz 2b
    decl %ebp
    jnz 1b
    ret

# A polynomial in extended precision.
    .balign 16
x87:
1:  movl $10000, %ecx
2:  fldl cx_value
    fldl cy_value
    fld %st(0)
    fmul %st(2), %st
    fadd %st(1), %st
    fmul %st(2), %st
    faddl four
    fmul %st(2), %st
    fsub %st(1), %st
    fdivl four
    fstpl source
    fstp %st(0)
    fstp %st(0)
    decl %ecx
    jnz 2b
    decl %ebp
    jnz 1b
    ret

# From CPL 3 into a small system call and back.
make_syscall:
    movl $0xC0000081, %ecx      # STAR
    xorl %eax, %eax
    movl $user_base << 16 | code64, %edx
    wrmsr
    incl %ecx                   # LSTAR
    movl $system_call, %eax
    xorl %edx, %edx
    wrmsr
    movl $0xC0000084, %ecx      # FMASK
    movl $0x700, %eax
    wrmsr
    ret
system_call:
    cmpl $1, %eax
    je 1f
    movq %rsp, saved_stack
    movl $stack_top - 256, %esp
    pushq %rcx
    pushq %r11
    addq %rdi, counter
    popq %r11
    popq %rcx
    movq saved_stack, %rsp
    sysretq
1:  movl $stack_top - 64, %esp
    jmp end_of_row
    .balign 16
syscalls:
    movl $1f, %ecx
    movl $2, %r11d
    sysretq
1:  movl $10000, %ebx
2:  xorl %eax, %eax
    movl $3, %edi
    syscall
    decl %ebx
    jnz 2b
    decl %ebp
    jnz 1b
    movl $1, %eax
    syscall

# Pages that are not there: the handler puts each in at its first touch, and then all are taken away again.
make_faults:
    movl $idt + 14 * 16, %edi
    movl $page_fault, %eax
    movw %ax, (%rdi)
    movw $code64, 2(%rdi)
    movw $0x8E00, 4(%rdi)
    ret
    .balign 16
page_fault:
    pushq %rax
    pushq %rdx
    movq %cr2, %rax
    movq %rax, %rdx
    shrq $12, %rdx
    andq $-4096, %rax
    orq $3, %rax
    movq %rax, page_tables(, %rdx, 8)
    popq %rdx
    popq %rax
    addq $8, %rsp
    iretq
faults:
1:  movl $fault_entries, %edi
    movl $fault_pages, %ecx
    xorl %eax, %eax
    rep stosq
    movq %cr3, %rax
    movq %rax, %cr3
    movl $fault_area, %edi
    movl $fault_pages, %ecx
2:  incl (%rdi)
    addq $0x1000, %rdi
    decl %ecx
    jnz 2b
    decl %ebp
    jnz 1b
    ret

    .balign 8
idt:
    .fill 15 * 16
payload_end:
