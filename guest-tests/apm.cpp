// APM from inside: what INT 15h/53h answers, and the same through the 32-bit entry in protected mode.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

asm(R"(
    .text
    .code16
    .globl call_apm32
call_apm32:                     # EAX, EBX, ECX of apm_registers through the 32-bit entry; back into them, and the carry
    pushal
    pushfl
    cli
    lgdtl apm_gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $1f
    .code32
1:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl apm_registers, %eax
    movl apm_registers + 4, %ebx
    movl apm_registers + 8, %ecx
    lcall *apm_entry
    movl %eax, apm_registers
    movl %ebx, apm_registers + 4
    movl %ecx, apm_registers + 8
    setc apm_carry
    ljmpw $0x20, $2f
    .code16
2:  movw $0x28, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andb $0xFE, %al
    movl %eax, %cr0
    ljmpw $0, $3f
3:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    popfl
    popal
    retl
    .code16gcc
)");

struct [[gnu::packed]] FarPointer {
    uint32_t offset;
    uint16_t selector;
};
struct [[gnu::packed]] TablePointer {
    uint16_t limit;
    uint32_t base;
};

extern "C" {
void call_apm32();
volatile uint32_t apm_registers[3];
volatile uint8_t apm_carry;
FarPointer apm_entry;
TablePointer apm_gdt_pointer;
}

namespace {

uint64_t gdt[6];

Registers apm(uint8_t function, Registers registers = {}) {
    registers.eax = 0x5300u | function;
    return interrupt(0x15, registers);
}

uint64_t descriptor(uint32_t base, uint32_t limit, uint8_t access, uint8_t flags) {
    return (limit & 0xFFFF) | uint64_t{base & 0xFFFFFF} << 16 | uint64_t{access} << 40 |
           uint64_t{(limit >> 16 & 0xF) | flags << 4u} << 48 | uint64_t{base >> 24} << 56;
}

void test_real_mode() {
    Registers r = apm(0x00);
    check(!r.carry() && r.ax() == 0x0102, "5300h: there is APM 1.2");
    check_equal(r.bx(), 0x504D, "that says so");
    check_equal(r.cx() & 3, 3, "with 16-bit and 32-bit protected mode");
    check(!apm(0x01).carry(), "5301h connects");
    r = apm(0x0E, {.ecx = 0x0102});
    check(!r.carry() && r.ax() == 0x0102, "530Eh agrees on version 1.2");
    r = apm(0x0E, {.ecx = 0x0101});
    check(!r.carry() && r.ax() == 0x0101, "or on an older one");
    r = apm(0x0A, {.ebx = 1});
    check(!r.carry() && r.bx() == 0x01FF && r.cx() == 0x80FF, "530Ah: on the mains, without a battery");
    r = apm(0x0A, {.ebx = 0x8001});
    check(r.carry() && r.ah() == 0x09, "there is no first battery");
    r = apm(0x0B);
    check(r.carry() && r.ah() == 0x80, "530Bh: no event");
    r = apm(0x07, {.ebx = 1, .ecx = 1});
    check(!r.carry(), "5307h: standby is over at once");
    take_irq(0);
    sti();
    check(!apm(0x05).carry(), "5305h idles");
    check(irq_count[0] != 0, "until an interrupt");
    give_irq(0);
    r = apm(0x55);
    check(r.carry() && r.ah() == 0x86, "there are no functions beyond");
    check(!apm(0x04).carry(), "5304h disconnects");
}

void test_protected_mode() {
    const Registers r = apm(0x03);
    check(!r.carry(), "5303h connects for 32 bits");
    gdt[1] = descriptor(0, 0xFFFF, 0x9B, 4);
    gdt[2] = descriptor(0, 0xFFFFF, 0x93, 0xC);
    gdt[3] = descriptor(uint32_t{r.ax()} << 4, (r.esi & 0xFFFF) - 1, 0x9B, 4);
    gdt[4] = descriptor(0, 0xFFFF, 0x9B, 0);
    gdt[5] = descriptor(0, 0xFFFF, 0x93, 0);
    apm_gdt_pointer = {sizeof(gdt) - 1, reinterpret_cast<uint32_t>(gdt)};
    apm_entry = {r.ebx, 0x18};
    apm_registers[0] = 0x530A;
    apm_registers[1] = 1;
    call_apm32();
    check_equal(apm_carry, 0, "the 32-bit entry knows the power status");
    check_equal(apm_registers[1] & 0xFFFF, 0x01FF, "which is the same");
    apm_registers[0] = 0x530B;
    call_apm32();
    check_equal(apm_carry, 1, "and that there is no event");
    check_equal(apm_registers[0] >> 8 & 0xFF, 0x80, "with the same reason");
}

}  // namespace

extern "C" void guest_main() {
    test_real_mode();
    test_protected_mode();
    finish();
}
