// Every way to start the machine or its processor anew. The test goes on after each reset of the machine: CMOS bytes
// that POST leaves alone say how far it was.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

extern "C" uint32_t reset_processor(void (*action)());

// uint32_t reset_processor(void (*action)()): calls action, which must reset the processor; POST comes back to the
// vector in 40:67. Returns the flags at that moment, or FFFFFFFFh when the processor was not reset.
asm(R"(
    .text
    .globl reset_processor
reset_processor:
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    movl %esp, reset_stack
    movw $1f, 0x467
    movw $0, 0x469
    calll *20(%esp)
    movl $0xFFFFFFFF, %eax
    jmp 2f
1:  pushfl                      # on whatever stack there is: this is a processor after reset
    popl %eax
    xorl %ecx, %ecx
    movw %cx, %ds
    movw %cx, %es
    movw %cx, %ss
    movl reset_stack, %esp
2:  popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    retl
    .data
reset_stack: .long 0
    .text
)");

namespace {

constexpr uint8_t cmos_stage = 0x40, cmos_points = 0x41, cmos_failed = 0x42, cmos_magic = 0x43;
constexpr uint8_t magic = 0x5A;
constexpr uint16_t marker = 0x0600;  // in segment 0, which the boot does not touch

// Gives a reset so much time that no slow host makes a working one look like none.
void wait_for_reset() {
    delay_milliseconds(2000);
}

void wait_keyboard_controller() {
    while (inb(0x64) & 0x02) {
    }
}

void by_reset_control_hard() {
    outb(0xCF9, 0x02);
    outb(0xCF9, 0x06);
}

void by_reset_control_soft() {
    outb(0xCF9, 0x00);
    outb(0xCF9, 0x04);
}

void by_keyboard_pulse() {
    wait_keyboard_controller();
    outb(0x64, 0xFE);
}

void by_keyboard_output_port() {
    wait_keyboard_controller();
    outb(0x64, 0xD1);
    wait_keyboard_controller();
    outb(0x60, 0xDE);
}

void by_port_92() {
    outb(0x92, static_cast<uint8_t>(inb(0x92) & ~1));
    outb(0x92, inb(0x92) | 1);
}

// Protected mode with an interrupt table of no entries: the first exception is the third.
void by_triple_fault() {
    static const uint32_t descriptors[] = {0, 0, 0x0000FFFF, 0x008F9B00};
    static struct [[gnu::packed]] {
        uint16_t limit;
        uint32_t base;
    } gdt = {sizeof(descriptors) - 1, 0}, idt = {0, 0};
    gdt.base = reinterpret_cast<uint32_t>(descriptors);
    asm volatile("cli; lgdtl %0; lidtl %1; movl %%cr0, %%eax; orb $1, %%al; movl %%eax, %%cr0; ljmpw $8, $1f; 1: ud2"
                 :
                 : "m"(gdt), "m"(idt)
                 : "eax", "memory");
}

void by_reset_vector() {
    asm volatile("ljmpw $0xFFFF, $0");
}

// The BIOS's own way: what a keyboard would send.
void by_ctrl_alt_del() {
    sti();
    const uint8_t codes[] = {0x1D, 0x38, 0x53};
    for (uint8_t code : codes) {
        wait_keyboard_controller();
        outb(0x64, 0xD2);
        wait_keyboard_controller();
        outb(0x60, code);
        delay_milliseconds(50);
    }
}

struct Way {
    void (*reset)();
    const char* name;
    uint16_t flag;  // of 40:72, before
};

constexpr Way ways[] = {
    {by_reset_control_hard, "CF9h 06h resets the machine", 0x1234},
    {by_reset_control_soft, "CF9h 04h resets the processor, and POST runs", 0x0000},
    {by_keyboard_pulse, "the keyboard controller's FEh does", 0x4321},
    {by_keyboard_output_port, "its output port does", 0x1234},
    {by_port_92, "port 92h does", 0x5678},
    {by_triple_fault, "a triple fault does", 0x0001},
    {by_reset_vector, "a jump to FFFF:0000 does", 0x1234},
    {by_ctrl_alt_del, "Ctrl-Alt-Del does", 0x0000},
};
constexpr uint8_t way_count = sizeof(ways) / sizeof(ways[0]);

void save(uint8_t stage) {
    write_cmos(cmos_stage, stage);
    write_cmos(cmos_points, static_cast<uint8_t>(report().points));
    write_cmos(cmos_failed, static_cast<uint8_t>(report().failed));
    write_cmos(cmos_magic, magic);
}

void check_after_reset(uint8_t stage) {
    const Way& way = ways[stage];
    check(true, way.name);
    const bool by_keys = way.reset == by_ctrl_alt_del;
    check_equal(peek16(0x40, 0x72), by_keys ? 0x1234 : way.flag, by_keys ? "and 40:72 says so" : "and 40:72 is kept");
    check_equal(peek8(0, marker), 0x80 | stage, "and so is memory");
    check_equal(inb(0x21), 0xB8, "the PIC is as POST leaves it");
    check_equal(inb(0x92) & 1, 0, "and port 92h lets the processor run");
}

struct ProcessorWay {
    void (*reset)();
    const char* name;
};

constexpr ProcessorWay processor_ways[] = {
    {by_keyboard_pulse, "with shutdown code 0Ah the keyboard controller's FEh comes back through 40:67"},
    {by_port_92, "and so does port 92h"},
    {by_reset_control_soft, "and CF9h 04h"},
};

void test_processor_resets() {
    for (const ProcessorWay& way : processor_ways) {
        write_cmos(0x0F, 0x0A);
        outb(0x2FF, 0x77);  // the scratch register of COM2: a reset of the processor leaves devices alone
        outb(0x21, 0xF8);
        static void (*action)();
        action = way.reset;
        cli();
        const uint32_t flags = reset_processor([] {
            action();
            wait_for_reset();
        });
        check_equal(flags, 0x0002, way.name);
        check_equal(inb(0x2FF), 0x77, "devices keep their state");
        check_equal(inb(0x21), 0xF8, "and the PIC its mask");
        check_equal(read_cmos(0x0F), 0, "the shutdown code is used up");
        outb(0x92, static_cast<uint8_t>(inb(0x92) & ~1));
        outb(0x21, 0xB8);
    }
    sti();
}

}  // namespace

extern "C" void guest_main() {
    uint8_t stage = 0;
    if (read_cmos(cmos_magic) != magic) {
        check_equal(peek16(0x40, 0x72), 0, "40:72 is 0 after power-on");
        test_processor_resets();
    } else {
        stage = read_cmos(cmos_stage);
        continue_report({read_cmos(cmos_points), read_cmos(cmos_failed)});
        check_after_reset(stage);
        ++stage;
    }
    for (; stage < way_count; ++stage) {
        save(stage);
        poke8(0, marker, 0x80 | stage);
        poke16(0x40, 0x72, ways[stage].flag);
        flush_report();
        ways[stage].reset();
        wait_for_reset();
        check(false, ways[stage].name);
    }
    write_cmos(cmos_magic, 0);
    finish();
}
