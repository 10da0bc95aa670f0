// 64-bit mode for a hundred turns, with three sources of interrupts: the timer through the 8259A, the local APIC's own,
// and the keyboard. Each turn waits for all that must come and looks at every register that a machine could lose on its
// way from one engine to another. guest-tests/moves.py has it move; alone it runs through.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

extern "C" void run_in_long_mode();
extern "C" {
volatile uint32_t tick_count = 0, apic_count = 0, key_count = 0, has_avx = 0;
volatile uint8_t key_codes[64];
volatile uint32_t turn_count = 0, failed_check = 0, identity = 0, cpu_features = 0, feature_changes = 0;
alignas(32) volatile uint32_t vector_buffer[8];
volatile uint32_t last_tsc[2], fs_word = 0x0F0F5EED, gs_word = 0x60605EED;
uint8_t text[16];
void timer_entry64();
void apic_entry64();
void key_entry64();
void stray_0();
void stray_1();
void stray_3();
void stray_6();
void stray_8();
void stray_11();
void stray_12();
void stray_13();
void stray_14();
void stray_39();
void stray_47();
}

asm(R"(
    .set TURNS, 100
    .text
    .globl run_in_long_mode
run_in_long_mode:
    pushfl
    pushal
    cli
    movw %sp, real_sp
    movl %cr4, %eax
    movl %eax, real_cr4
    orl $0x620, %eax            # PAE, OSFXSR, OSXMMEXCPT
    cmpl $0, has_avx
    je 1f
    orl $0x40000, %eax          # OSXSAVE
1:  movl %eax, %cr4
    movl $0x1000, %eax          # the page tables
    movl %eax, %cr3
    movl $0xC0000080, %ecx      # EFER.LME
    rdmsr
    orl $0x100, %eax
    wrmsr
    lgdtl long_gdt
    lidtl long_idt
    movl %cr0, %eax
    andl $0x9FFFFFF9, %eax      # no CD, NW, EM, MP
    orl $0x80000023, %eax       # PG, NE, MP, PE
    movl %eax, %cr0
    ljmpl $8, $long_start

    .code64
    .macro expect what
    je 7f
    movl $\what, failed_check(%rip)
    jmp long_end
7:
    .endm
    .macro write_msr index, high, low
    movl $\index, %ecx
    movl $\high, %edx
    movl $\low, %eax
    wrmsr
    .endm
    .macro check_msr index, high, low, what
    movl $\index, %ecx
    rdmsr
    cmpl $\low, %eax
    expect \what
    cmpl $\high, %edx
    expect \what
    .endm

long_start:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq $0x6F00, %rsp
    movw $0x28, %ax
    ltr %ax
    # What must stay.
    movabsq $0x8888111122223333, %r8
    movabsq $0x9999111122223333, %r9
    movabsq $0xAAAA111122223333, %r10
    movabsq $0xBBBB111122223333, %r11
    movabsq $0xCCCC111122223333, %r12
    movabsq $0xDDDD111122223333, %r13
    write_msr 0xC0000081, 0x00230010, 0         # STAR
    write_msr 0xC0000082, 0xFFFF8000, 0x12345678 # LSTAR
    write_msr 0xC0000084, 0, 0x47700            # SFMASK
    write_msr 0xC0000102, 0xFFFF9000, 0x0BADCAFE # KERNEL_GS_BASE
    write_msr 0x175, 0, 0x7654320               # SYSENTER_ESP
    write_msr 0x277, 0x00070406, 0x00070105     # PAT
    write_msr 0xC0000100, 0, fs_word
    write_msr 0xC0000101, 0, gs_word
    movl $0x1234560, %eax
    movq %rax, %dr0
    movl $0x7654000, %eax
    movq %rax, %cr2
    cmpl $0, has_avx(%rip)
    je 1f
    xorl %ecx, %ecx
    xorl %edx, %edx
    movl $7, %eax
    xsetbv
    vmovdqu upper_lanes(%rip), %ymm9
1:  fninit
    fldpi
    fldz
    movl $1, %eax
    movq %rax, %xmm0
    pshufd $0x44, %xmm0, %xmm0                  # 1 in both halves
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movl $\n * 0x10000, %eax
    movq %rax, %xmm\n
    .endr
    cmpl $0, has_avx(%rip)
    je 1f
    vinsertf128 $1, upper_lanes(%rip), %ymm9, %ymm9
1:  xorl %r14d, %r14d                           # the turn
    # The local APIC on, its timer one-shot, vector 31h, no divider.
    movl $0xFEE00000, %ebx
    movl $0x1FF, 0xF0(%rbx)
    movl $0x31, 0x320(%rbx)
    movl $0xB, 0x3E0(%rbx)
    movl $2000000, 0x380(%rbx)

next_turn:
    incl %r14d
    movl %r14d, turn_count(%rip)
    # Two ticks of the 8254 and one of the local APIC, which its handler starts anew: if one is lost, the next never
    # comes.
    movl tick_count(%rip), %esi
    addl $2, %esi
1:  cli
    cmpl %esi, tick_count(%rip)
    jge 2f
    sti
    hlt
    jmp 1b
2:  movl apic_count(%rip), %esi
    incl %esi
3:  cli
    cmpl %esi, apic_count(%rip)
    jge 4f
    sti
    hlt
    jmp 3b
4:  sti

    movabsq $0x8888111122223333, %rax
    cmpq %rax, %r8
    expect 1
    movabsq $0x9999111122223333, %rax
    cmpq %rax, %r9
    expect 1
    movabsq $0xAAAA111122223333, %rax
    cmpq %rax, %r10
    expect 1
    movabsq $0xBBBB111122223333, %rax
    cmpq %rax, %r11
    expect 1
    movabsq $0xCCCC111122223333, %rax
    cmpq %rax, %r12
    expect 1
    movabsq $0xDDDD111122223333, %rax
    cmpq %rax, %r13
    expect 1
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    paddq %xmm0, %xmm\n
    movups %xmm\n, vector_buffer(%rip)
    movl $\n * 0x10000, %eax
    addl %r14d, %eax
    cmpq %rax, vector_buffer(%rip)
    expect 2
    movl %r14d, %eax
    cmpq %rax, vector_buffer + 8(%rip)
    expect 2
    .endr
    cmpl $0, has_avx(%rip)
    je 1f
    vmovdqu %ymm9, vector_buffer(%rip)
    movq upper_lanes(%rip), %rax
    cmpq %rax, vector_buffer + 16(%rip)
    expect 3
    movq upper_lanes + 8(%rip), %rax
    cmpq %rax, vector_buffer + 24(%rip)
    expect 3
1:  fld1
    faddp
    fld %st(0)
    fistpll vector_buffer(%rip)
    movl %r14d, %eax
    cmpq %rax, vector_buffer(%rip)
    expect 4
    check_msr 0xC0000081, 0x00230010, 0, 5
    check_msr 0xC0000082, 0xFFFF8000, 0x12345678, 5
    check_msr 0xC0000084, 0, 0x47700, 5
    check_msr 0xC0000102, 0xFFFF9000, 0x0BADCAFE, 5
    check_msr 0x175, 0, 0x7654320, 5
    check_msr 0x277, 0x00070406, 0x00070105, 5
    cmpl $0x0F0F5EED, %fs:0
    expect 6
    cmpl $0x60605EED, %gs:0
    expect 6
    movq %dr0, %rax
    cmpl $0x1234560, %eax
    expect 7
    movq %cr2, %rax
    cmpl $0x7654000, %eax
    expect 7
    # The time stamp counter never goes back.
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq last_tsc(%rip), %rdx
    movq %rax, last_tsc(%rip)
    xorl %ecx, %ecx
    cmpq %rdx, %rax
    setb %cl
    testl %ecx, %ecx
    expect 8

    # The processor stays who it is. What it has may change where KVM cannot hide features; that is told at the end.
    movl $identity_leaves, %esi
    call hash_cpuid
    movl $identity, %esi
    call keep_hash
    testl %eax, %eax
    expect 9
    movl $feature_leaves, %esi
    call hash_cpuid
    movl $cpu_features, %esi
    call keep_hash
    addl %eax, feature_changes(%rip)

    # "# turn 12": printed byte by byte.
    movl %r14d, %eax
    movl $10, %ecx
    movl $text + 14, %edi
    movb $10, (%rdi)
1:  xorl %edx, %edx
    divl %ecx
    addb $48, %dl
    decl %edi
    movb %dl, (%rdi)
    testl %eax, %eax
    jne 1b
    movl $turn_text, %esi
    movl $7, %ecx
    call send
    movl %edi, %esi
    movl $text + 15, %ecx
    subl %edi, %ecx
    call send
    cmpl $TURNS, %r14d
    jb next_turn

long_end:
    cli
    movl $0xFEE00000, %ebx
    movl $0x10000, 0x320(%rbx)
    pushq $0x18
    movl $leave_long, %eax
    pushq %rax
    lretq

send:                           # ECX bytes at RSI
    movl $0x3FD, %edx
2:  inb %dx, %al
    testb $0x20, %al
    je 2b
    movl $0x3F8, %edx
    lodsb
    outb %al, %dx
    decl %ecx
    jne send
    ret

hash_cpuid:                     # of the leaves at RSI, to EDI
    xorl %edi, %edi
1:  movl (%rsi), %eax
    movl 4(%rsi), %ecx
    cpuid
    .macro mix bit, register
    testl $\bit, 8(%rsi)
    je 2f
    roll $5, %edi
    xorl \register, %edi
2:
    .endm
    mix 1, %eax
    mix 2, %ebx
    mix 4, %ecx
    mix 8, %edx
    addl $12, %esi
    cmpl $-1, (%rsi)
    jne 1b
    ret
keep_hash:                      # EDI in the word at RSI; EAX: 1 when another one was there
    xorl %eax, %eax
    cmpl $1, turn_count(%rip)
    je 1f
    cmpl %edi, (%rsi)
    setne %al
1:  movl %edi, (%rsi)
    ret

    .globl timer_entry64, apic_entry64, key_entry64
timer_entry64:
    pushq %rax
    incl tick_count(%rip)
    movb $0x20, %al
    outb %al, $0x20
    popq %rax
    iretq
apic_entry64:
    pushq %rbx
    incl apic_count(%rip)
    movl $0xFEE00000, %ebx
    movl $0, 0xB0(%rbx)
    movl $2000000, 0x380(%rbx)
    popq %rbx
    iretq
key_entry64:
    pushq %rax
    pushq %rbx
    inb $0x60, %al
    movl key_count(%rip), %ebx
    andl $63, %ebx
    addl $key_codes, %ebx
    movb %al, (%rbx)
    incl key_count(%rip)
    movb $0x20, %al
    outb %al, $0x20
    popq %rbx
    popq %rax
    iretq

    # Vectors that nobody sends: the test ends with their number.
    .irp n, 0, 1, 3, 6, 8, 11, 12, 13, 14, 39, 47
    .globl stray_\n
stray_\n:
    movl $100 + \n, failed_check(%rip)
    jmp long_end
    .endr

    .code16
leave_long:
    movw $0x20, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl %cr0, %eax
    andl $0x7FFFFFFF, %eax
    movl %eax, %cr0
    movl $0xC0000080, %ecx
    rdmsr
    andl $0xFFFFFEFF, %eax
    wrmsr
    movl %cr0, %eax
    andb $0xFE, %al
    movl %eax, %cr0
    ljmpw $0, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl $0, %esp
    movw real_sp, %sp
    lidtl real_idt
    movl real_cr4, %eax
    movl %eax, %cr4
    popal
    popfl
    retl

    .data
    .balign 16
upper_lanes: .quad 0x1020304050607080, 0x90A0B0C0D0E0F000
    .quad 0x1020304050607080, 0x90A0B0C0D0E0F000
long_table: .quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00009B000000FFFF, 0x000093000000FFFF
    .quad 0x0000890068000067, 0  # a task state segment at 6800h
long_gdt: .word 55
    .long long_table
long_idt: .word 0x3FF
    .long 0x5000
real_idt: .word 0x3FF
    .long 0
real_sp: .word 0
real_cr4: .long 0
turn_text: .ascii "# turn "
    # Leaf, subleaf, and which of EAX, EBX, ECX, EDX.
    .balign 4
identity_leaves:
    .long 0, 0, 15, 1, 0, 3, 2, 0, 15, 4, 0, 15, 4, 1, 15, 4, 2, 15, 4, 3, 15, 0xB, 0, 15, 0xB, 1, 15, 0x15, 0, 15
    .long 0x16, 0, 15, 0x80000000, 0, 1, 0x80000002, 0, 15, 0x80000003, 0, 15, 0x80000004, 0, 15, 0x80000006, 0, 4
    .long 0x80000008, 0, 1, -1
feature_leaves:
    .long 1, 0, 12, 6, 0, 1, 7, 0, 14, 0xD, 0, 15, 0xD, 1, 1, 0xD, 2, 3, 0x80000001, 0, 12, 0x80000007, 0, 8, -1
    .text
    .code16gcc
)");

namespace {

void poke32(uint32_t address, uint32_t value) {
    *reinterpret_cast<volatile uint32_t*>(address) = value;
}

/// The first 4 MiB and the local APIC's page.
void make_tables() {
    constexpr uint32_t pml4 = 0x1000, pdpt = 0x2000, low = 0x3000, high = 0x4000, idt = 0x5000, tss = 0x6800;
    for (uint32_t at = pml4; at < 0x5400; at += 4) poke32(at, 0);
    for (uint32_t at = tss; at < tss + 0x68; at += 4) poke32(at, 0);
    poke32(pml4, pdpt | 3);
    poke32(pdpt, low | 3);
    poke32(pdpt + 3 * 8, high | 3);
    poke32(low, 0x83);
    poke32(low + 8, 0x200083);
    poke32(high + ((0xFEE00000u >> 21) & 511) * 8, 0xFEE00083 | 0x10);
    const auto gate = [](uint8_t vector, void (*entry)()) {
        const auto offset = reinterpret_cast<uint32_t>(entry);
        poke32(idt + vector * 16u, 8u << 16 | offset);
        poke32(idt + vector * 16u + 4, 0x8E00);
    };
    gate(0x20, timer_entry64);
    gate(0x21, key_entry64);
    gate(0x31, apic_entry64);
    struct Stray {
        uint8_t vector;
        void (*entry)();
    };
    const Stray strays[] = {{0, stray_0},   {1, stray_1},   {3, stray_3},   {6, stray_6},
                            {8, stray_8},   {11, stray_11}, {12, stray_12}, {13, stray_13},
                            {14, stray_14}, {39, stray_39}, {47, stray_47}};
    for (const Stray& stray : strays) {
        gate(stray.vector, stray.entry);
    }
}

void set_pic(uint8_t master, uint8_t slave, uint8_t master_mask, uint8_t slave_mask) {
    outb(0x20, 0x11);
    outb(0xA0, 0x11);
    outb(0x21, master);
    outb(0xA1, slave);
    outb(0x21, 4);
    outb(0xA1, 2);
    outb(0x21, 1);
    outb(0xA1, 1);
    outb(0x21, master_mask);
    outb(0xA1, slave_mask);
}

void set_timer(uint16_t divisor) {
    outb(0x43, 0x34);
    outb(0x40, static_cast<uint8_t>(divisor));
    outb(0x40, static_cast<uint8_t>(divisor >> 8));
}

uint32_t features() {
    uint32_t ebx, ecx, edx, eax = 1;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return ecx;
}

}  // namespace

extern "C" void guest_main() {
    constexpr uint32_t xsave = 1u << 26, avx = 1u << 28;
    has_avx = (features() & xsave) && (features() & avx);
    make_tables();
    cli();
    const uint8_t masks[] = {inb(0x21), inb(0xA1)};
    set_pic(0x20, 0x28, 0xFC, 0xFF);
    set_timer(11932);  // 100 Hz
    run_in_long_mode();
    set_timer(0);
    set_pic(0x08, 0x70, masks[0], masks[1]);
    sti();
    check_equal(failed_check, 0,
                "nothing is lost (1 registers, 2 SSE, 3 AVX, 4 x87, 5 MSRs, 6 bases, 7 DR0 CR2, 8 TSC, 9 CPUID)");
    if (feature_changes) print("# CPU features changed\n");
    check_equal(turn_count, 100, "a hundred turns in 64-bit mode");
    check(tick_count >= 200 && apic_count >= 100, "every timer came");
    print("# keys");
    for (uint32_t i = 0; i < key_count; ++i) {
        print(" ");
        print_hex(key_codes[i & 63]);
    }
    print("\n");
    finish();
}
