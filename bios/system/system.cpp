// INT 15h: system services. Hook points (4Fh, 90h, 91h) are in entry.S, 87h and 89h in protected_mode.S,
// C2h in mouse.cpp.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 15H"; ACPI 6.4, section 15.1 (E820h).

#include "bios/system/mouse.hpp"
#include "bios/system/services.hpp"

namespace viv::rom {
namespace {

constexpr uint8_t not_supported = 0x86;
constexpr uint32_t smap = 0x534D4150;  // 'SMAP'
constexpr uint16_t port_a20 = 0x92;
constexpr uint8_t a20_open = 0x02;
constexpr uint16_t keyboard_data = 0x60, keyboard_status = 0x64;
constexpr uint8_t keyboard_input_full = 0x02;
constexpr uint8_t keyboard_write_output_port = 0xD1;

void succeed(Registers& r) {
    r.ah() = 0;
    r.clear_carry();
}

void fail(Registers& r, uint8_t code) {
    r.ah() = code;
    r.set_carry();
}

// ---- Memory --------------------------------------------------------------------------------------------------------

// Either gate opens A20, so only memory knows: the word that 1 MiB + 4F0h shares with 4F0h when it is closed.
bool a20_is_open() {
    const auto low = far_read<uint16_t>(0, 0x4F0);
    const auto high = far_read<uint16_t>(0xFFFF, 0x500);
    if (low != high) return true;
    far_write(0xFFFF, 0x500, static_cast<uint16_t>(~high));
    const bool open = far_read<uint16_t>(0, 0x4F0) == low;
    far_write(0xFFFF, 0x500, high);
    return open;
}

void keyboard_write(uint16_t port, uint8_t value) {
    for (uint16_t tries = 0xFFFF; tries != 0 && (in_byte(keyboard_status) & keyboard_input_full); --tries) {
    }
    out_byte(port, value);
}

void close_a20() {
    out_byte(port_a20, in_byte(port_a20) & 0xFC);
    if (!a20_is_open()) return;
    keyboard_write(keyboard_status, keyboard_write_output_port);
    keyboard_write(keyboard_data, 0xDD);  // everything but A20
}

void int15_24_a20(Registers& r) {
    const uint8_t value = in_byte(port_a20);
    switch (r.al()) {
        case 0x00: close_a20(); break;
        case 0x01: out_byte(port_a20, static_cast<uint8_t>((value | a20_open) & 0xFE)); break;
        case 0x02: r.al() = a20_is_open() ? 1 : 0; break;
        case 0x03: r.bx() = 0x0003; break;  // through the 8042 and through port 92h
        default: return fail(r, not_supported);
    }
    succeed(r);
}

void int15_88_extended_memory(Registers& r) {
    uint16_t kib = cmos_read_word(0x30);
    // With memory above 16 MiB the answer counts on, up to the 63 MiB that do not make old programs' sums overflow.
    const uint16_t above_16m = cmos_read_word(0x34);  // in units of 64 KiB
    if (above_16m != 0) {
        const uint32_t total = uint32_t{above_16m} * 64 + 15 * 1024;
        kib = total > 63 * 1024 ? 63 * 1024 : static_cast<uint16_t>(total);
    }
    r.ax() = kib;
    r.clear_carry();
}

void int15_e801_memory_sizes(Registers& r) {
    r.ax() = cmos_read_word(0x30);  // KiB from 1 to 16 MiB
    r.bx() = cmos_read_word(0x34);  // 64 KiB units above
    if (r.bx() != 0) r.ax() = 15 * 1024;
    r.cx() = r.ax();
    r.dx() = r.bx();
    r.clear_carry();
}

void int15_e820_memory_map(Registers& r) {
    constexpr uint16_t table = __builtin_offsetof(Ebda, e820);
    const uint32_t count = ebda_get(VIV_EBDA_FIELD(e820_count));
    const uint32_t index = r.ebx();
    if (r.edx() != smap || r.ecx() < 20 || index >= count) return fail(r, not_supported);
    const uint8_t size = r.ecx() >= 24 ? 24 : 20;
    far_copy(r.es, r.di(), get(bda::ebda_segment), static_cast<uint16_t>(table + index * sizeof(E820Entry)), size);
    r.eax() = smap;
    r.ecx() = size;
    r.ebx() = index + 1 < count ? index + 1 : 0;
    r.clear_carry();
}

void int15_e8(Registers& r) {
    switch (r.al()) {
        case 0x01: return int15_e801_memory_sizes(r);
        case 0x20: return int15_e820_memory_map(r);
    }
    fail(r, not_supported);
}

// ---- Waiting -------------------------------------------------------------------------------------------------------

uint32_t microseconds_of(Registers& r) {
    return uint32_t{r.cx()} << 16 | r.dx();
}

void int15_83_event_wait(Registers& r) {
    if (r.al() == 1) {
        stop_wait();
        return succeed(r);
    }
    if (r.al() != 0) return fail(r, not_supported);
    if (!start_wait(r.es, r.bx(), microseconds_of(r))) return fail(r, 0x83);
    succeed(r);
}

void int15_86_wait(Registers& r) {
    constexpr uint8_t elapsed = 0x80;
    disable_interrupts();
    if (!start_wait(bda_segment, bda::wait_active.offset, microseconds_of(r))) return fail(r, 0x83);
    while (!(get(bda::wait_active) & elapsed)) wait_for_interrupt();
    put(bda::wait_active, 0);
    succeed(r);
}

// ---- Configuration -------------------------------------------------------------------------------------------------

void int15_c0_configuration(Registers& r) {
    r.es = system_rom_segment;
    r.bx() = near_offset(system_configuration);
    succeed(r);
}

void int15_c1_ebda_segment(Registers& r) {
    r.es = get(bda::ebda_segment);
    r.clear_carry();
}

// 52h: removable media eject: allowed.
void int15_52_media_eject(Registers& r) {
    succeed(r);
}

// 85h: SysReq key; programs hook it.
void int15_85_system_request(Registers& r) {
    succeed(r);
}

}  // namespace

extern "C" void system_service(Registers& r) {
    switch (r.ah()) {
        case 0x24: return int15_24_a20(r);
        case 0x52: return int15_52_media_eject(r);
        case 0x83: return int15_83_event_wait(r);
        case 0x85: return int15_85_system_request(r);
        case 0x86: return int15_86_wait(r);
        case 0x88: return int15_88_extended_memory(r);
        case 0xC0: return int15_c0_configuration(r);
        case 0xC1: return int15_c1_ebda_segment(r);
        case 0xC2: return int15_c2_pointing_device(r);
        case 0xE8: return int15_e8(r);
    }
    fail(r, not_supported);
}

}  // namespace viv::rom
