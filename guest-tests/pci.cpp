// PCI from inside: configuration mechanism 1, the BIOS's services, shadow RAM, and BARs that move.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t bridge = 0x0000, isa_bridge = 0x0008;  // bus, device, function

uint32_t select(uint16_t function, uint8_t offset) {
    outl(0xCF8, 0x80000000u | uint32_t{function} << 8 | (offset & 0xFCu));
    return 0xCFCu + (offset & 3u);
}
uint8_t config(uint16_t function, uint8_t offset) {
    return inb(static_cast<uint16_t>(select(function, offset)));
}
uint32_t config32(uint16_t function, uint8_t offset) {
    return inl(static_cast<uint16_t>(select(function, offset)));
}
void set_config(uint16_t function, uint8_t offset, uint8_t value) {
    outb(static_cast<uint16_t>(select(function, offset)), value);
}
void set_config32(uint16_t function, uint8_t offset, uint32_t value) {
    outl(static_cast<uint16_t>(select(function, offset)), value);
}

void test_ports() {
    check_equal(config32(bridge, 0), 0x12378086, "the host bridge is at 0:0.0");
    check_equal(config32(isa_bridge, 0), 0x70008086, "the ISA bridge at 0:1.0");
    check_equal(config32(0x00F8, 0), 0xFFFFFFFF, "where nobody is there are ones");
    outl(0xCF8, 0x80000000);
    outb(0xCF8, 0x12);
    check_equal(inl(0xCF8), 0x80000000, "the address register takes 32 bits at once only");
    check_equal(inb(0xCF9), 0, "the reset control register is behind it");
}

void test_bios() {
    Registers r = interrupt(0x1A, {.eax = 0xB101});
    check(!r.carry() && r.ah() == 0, "B101h: there is a PCI BIOS");
    check_equal(r.edx, 0x20494350, "that says so");
    check_equal(r.bx(), 0x0210, "of version 2.10");
    check_equal(r.al(), 1, "with mechanism 1");
    check_equal(r.ecx & 0xFF, 0, "and one bus");

    r = interrupt(0x1A, {.eax = 0xB102, .ebx = 0x1234, .ecx = 0x7000, .edx = 0x8086, .esi = 0});
    check(!r.carry() && r.ah() == 0 && r.bx() == isa_bridge, "B102h finds a device");
    check(r.cx() == 0x7000 && r.dx() == 0x8086 && (r.esi & 0xFFFF) == 0, "and keeps the registers");
    r = interrupt(0x1A, {.eax = 0xB102, .ecx = 0x7000, .edx = 0x8086, .esi = 1});
    check(r.carry() && r.ah() == 0x86, "but no second one");
    r = interrupt(0x1A, {.eax = 0xB102, .ecx = 0x7000, .edx = 0xFFFF});
    check(r.carry() && r.ah() == 0x83, "and not of vendor FFFFh");
    r = interrupt(0x1A, {.eax = 0xB103, .ecx = 0x060100, .esi = 0});
    check(!r.carry() && r.bx() == isa_bridge, "B103h finds a class");
    r = interrupt(0x1A, {.eax = 0xB103, .ecx = 0x123456, .esi = 0});
    check(r.carry() && r.ah() == 0x86, "or not");

    r = interrupt(0x1A, {.eax = 0xB108, .ebx = bridge, .ecx = 0x55555555, .edi = 1});
    check(!r.carry() && r.ecx == 0x55555580, "B108h reads a byte");
    r = interrupt(0x1A, {.eax = 0xB109, .ebx = bridge, .ecx = 0x55555555, .edi = 2});
    check(!r.carry() && r.ecx == 0x55551237, "B109h reads a word");
    r = interrupt(0x1A, {.eax = 0xB10A, .ebx = bridge, .edi = 0});
    check(!r.carry() && r.ecx == 0x12378086, "B10Ah reads a dword");
    r = interrupt(0x1A, {.eax = 0xB10A, .ebx = bridge, .edi = 2});
    check(r.carry() && r.ah() == 0x87, "but not across dwords");
    r = interrupt(0x1A, {.eax = 0xB108, .ebx = bridge, .edi = 0x100});
    check(r.carry() && r.ah() == 0x87, "nor beyond 256 bytes");
    interrupt(0x1A, {.eax = 0xB10D, .ebx = bridge, .ecx = 0xA5A5A5A5, .edi = 0x60});
    interrupt(0x1A, {.eax = 0xB10C, .ebx = bridge, .ecx = 0x1122, .edi = 0x62});
    interrupt(0x1A, {.eax = 0xB10B, .ebx = bridge, .ecx = 0x33, .edi = 0x61});
    check_equal(config32(bridge, 0x60), 0x112233A5, "B10Bh-B10Dh write a byte, a word, a dword");

    r = interrupt(0x1A, {.eax = 0xB10F, .ebx = 0x0010, .ecx = 0x050A});
    check(!r.carry() && r.ah() == 0, "B10Fh routes an interrupt");
    check_equal(config(isa_bridge, 0x61), 5, "INTA# of device 2 is PIRQB#");
    check_equal(inb(0x4D0) & 0x20, 0x20, "and it is a level");
    r = interrupt(0x1A, {.eax = 0xB10F, .ebx = 0x0010, .ecx = 0x080A});
    check(r.carry() && r.ah() == 0x88, "but not to IRQ 8");
    r = interrupt(0x1A, {.eax = 0xB106});
    check(r.carry() && r.ah() == 0x81, "B106h: there are no special cycles");
}

struct __attribute__((packed)) RouteBuffer {
    uint16_t size;
    uint16_t offset;
    uint16_t segment;
};
uint8_t slots[31 * 16];

void test_routing_options() {
    RouteBuffer buffer{0, 0, 0};
    const auto at = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&buffer));
    Registers r = interrupt(0x1A, {.eax = 0xB10E, .edi = at});
    check(r.carry() && r.ah() == 0x89 && buffer.size == sizeof slots, "B10Eh says how large its table is");
    buffer = {sizeof slots, static_cast<uint16_t>(reinterpret_cast<uintptr_t>(slots)), 0};
    r = interrupt(0x1A, {.eax = 0xB10E, .edi = at});
    check(!r.carry() && slots[16 + 1] == 0x10 && slots[16 + 2] == 0x61, "and gives it");
    check_equal(r.bx(), 0x0C00, "with the interrupts that are PCI's alone");
}

uint8_t sum(uint16_t offset, uint16_t size) {
    uint8_t total = 0;
    for (uint16_t i = 0; i < size; ++i)
        total = static_cast<uint8_t>(total + peek8(0xF000, static_cast<uint16_t>(offset + i)));
    return total;
}

void test_signatures() {
    uint16_t directory = 0, routing = 0;
    for (uint32_t at = 0; at < 0x10000; at += 16) {
        const auto offset = static_cast<uint16_t>(at);
        const uint32_t word =
            peek16(0xF000, offset) | static_cast<uint32_t>(peek16(0xF000, static_cast<uint16_t>(at + 2))) << 16;
        if (word == 0x5F32335F) directory = offset;
        if (word == 0x52495024) routing = offset;
    }
    check(directory && sum(directory, 16) == 0, "the ROM has a 32-bit service directory");
    check(routing && sum(routing, peek16(0xF000, static_cast<uint16_t>(routing + 6))) == 0,
          "and an interrupt routing table");
}

void test_shadow() {
    const uint8_t before = peek8(0xF000, 0xFFF5);
    poke8(0xF000, 0xFFF5, static_cast<uint8_t>(~before));
    check_equal(peek8(0xF000, 0xFFF5), before, "the BIOS is write-protected");
    set_config(bridge, 0x59, 0x30);
    poke8(0xF000, 0xFFF5, 0x5A);
    check_equal(peek8(0xF000, 0xFFF5), 0x5A, "its shadow can be written");
    set_config(bridge, 0x59, 0x20);
    check_equal(peek8(0xF000, 0xFFF5), before, "the ROM behind it is as it was");
    poke8(0xF000, 0xFFF5, 0xA5);
    check_equal(peek8(0xF000, 0xFFF5), before, "writes go to the shadow unseen");
    set_config(bridge, 0x59, 0x10);
    check_equal(peek8(0xF000, 0xFFF5), 0xA5, "until it is shown");
    set_config(bridge, 0x59, 0x30);
    poke8(0xF000, 0xFFF5, before);
    set_config(bridge, 0x59, 0x10);

    check_equal(peek8(0xD000, 0), 0xFF, "nothing is at D0000h");
    set_config(bridge, 0x5C, 0x33);
    for (uint16_t i = 0; i < 0x8000; i = static_cast<uint16_t>(i + 0x1001))
        poke8(0xD000, i, static_cast<uint8_t>(i >> 12 | 0x80));
    bool good = true;
    for (uint16_t i = 0; i < 0x8000; i = static_cast<uint16_t>(i + 0x1001))
        good = good && peek8(0xD000, i) == (i >> 12 | 0x80);
    check(good, "RAM can be opened there");
    // Code that runs there is RAM, too: one that is changed between two calls.
    constexpr uint8_t code[] = {0xB0, 0x11, 0xCB};  // mov al, 11h; retf
    for (uint16_t i = 0; i < 3; ++i) poke8(0xD000, i, code[i]);
    const auto call = [] {
        uint32_t value;
        asm volatile("lcallw $0xD000, $0" : "=a"(value) : : "memory", "cc");
        return value & 0xFF;
    };
    check_equal(call(), 0x11, "code runs there");
    poke8(0xD000, 1, 0x22);
    check_equal(call(), 0x22, "and can be changed");
    set_config(bridge, 0x5C, 0x00);
    check_equal(peek8(0xD000, 0), 0xFF, "it goes");
    set_config(bridge, 0x5C, 0x11);
    check_equal(call(), 0x22, "and comes back with all its bytes");
    set_config(bridge, 0x5C, 0x00);
}

// The frame buffer of the VGA, where there is one, shown in the first megabyte.
void test_moving_memory() {
    const Registers r = interrupt(0x1A, {.eax = 0xB102, .ecx = 0x1111, .edx = 0x1234});
    if (r.carry()) return note("no 1234:1111 on this board");
    const uint16_t vga = r.bx();
    const uint32_t bar = config32(vga, 0x10);
    check((bar & 8) != 0 && (bar & 0xFFFFFFF0) >= 0xC0000000, "the frame buffer has a place");
    set_config32(vga, 0x10, 0xFFFFFFFF);
    check_equal(config32(vga, 0x10) & 0xFFFFFFF0, 0xFF000000, "and 16 MiB");
    set_config32(vga, 0x10, bar);
    check_equal(config32(vga, 0x10), bar, "it can be put back");
}

}  // namespace

extern "C" void guest_main() {
    test_ports();
    test_bios();
    test_routing_options();
    test_signatures();
    test_shadow();
    test_moving_memory();
    finish();
}
