// INT 17h: parallel printers, and INT 05h: print the text screen.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 17H", "Interrupt 05H".

#include "bios/system/services.hpp"

namespace viv::rom {
namespace {

constexpr uint16_t data = 0, status = 1, control = 2;
constexpr uint8_t not_busy = 0x80, timed_out = 0x01;
constexpr uint8_t select = 0x08, not_reset = 0x04, strobe = 0x01;
constexpr uint8_t ticks_per_unit = 18;

// Acknowledge and I/O error are active low at the port and active high in AH; the unused bits read 0.
uint8_t printer_status(uint16_t port) {
    return static_cast<uint8_t>((in_byte(static_cast<uint16_t>(port + status)) ^ 0x48) & 0xF8);
}

void int17_00_print(Registers& r, uint16_t port, uint8_t unit) {
    const uint16_t limit = static_cast<uint16_t>(get(at(bda::lpt_timeouts, unit)) * ticks_per_unit);
    out_byte(static_cast<uint16_t>(port + data), r.al());
    enable_interrupts();
    const uint32_t start = get(bda::timer_ticks);
    while (!(in_byte(static_cast<uint16_t>(port + status)) & not_busy)) {
        if (get(bda::timer_ticks) - start > limit) {
            r.ah() = printer_status(port) | timed_out;
            return;
        }
    }
    out_byte(static_cast<uint16_t>(port + control), select | not_reset | strobe);
    out_byte(static_cast<uint16_t>(port + control), select | not_reset);
    r.ah() = printer_status(port);
}

void int17_01_initialise(Registers& r, uint16_t port) {
    out_byte(static_cast<uint16_t>(port + control), select);
    in_byte(static_cast<uint16_t>(port + status));  // the pulse lasts as long as a bus cycle
    out_byte(static_cast<uint16_t>(port + control), select | not_reset);
    r.ah() = printer_status(port);
}

void int17_02_status(Registers& r, uint16_t port) {
    r.ah() = printer_status(port);
}

}  // namespace

extern "C" void printer_service(Registers& r) {
    if (r.dx() > 2) return;
    const auto unit = static_cast<uint8_t>(r.dx());
    const uint16_t port = get(at(bda::lpt_ports, unit));
    if (port == 0) {
        r.ah() = timed_out | 0x30;  // out of paper, selected: what an open connector reads as
        return;
    }
    switch (r.ah()) {
        case 0x00: return int17_00_print(r, port, unit);
        case 0x01: return int17_01_initialise(r, port);
        case 0x02: return int17_02_status(r, port);
    }
}

// INT 05h. The byte at 50:0 says 1 while it prints, and 0 or FFh (printer failed) afterwards.
extern "C" void print_screen(Registers&) {
    constexpr uint16_t state_segment = 0x50;
    constexpr uint8_t busy = 1, failed = 0xFF;
    constexpr uint8_t printer_faults = 0x29;  // I/O error, out of paper, time-out
    if (far_read<uint8_t>(state_segment, 0) == busy) return;
    far_write<uint8_t>(state_segment, 0, busy);
    enable_interrupts();
    const auto page = static_cast<uint32_t>(get(bda::video_page)) << 8;
    const uint8_t columns = static_cast<uint8_t>(get(bda::video_columns));
    const uint8_t last_row = get(bda::video_rows);
    const auto print = [](uint8_t character) { return (call_int17(character, 0) >> 8 & printer_faults) == 0; };
    const uint16_t cursor = get(at(bda::cursor_positions, get(bda::video_page)));
    bool worked = print('\r') && print('\n');
    for (uint8_t row = 0; worked && row <= last_row; ++row) {
        for (uint8_t column = 0; worked && column < columns; ++column) {
            call_int10(0x0200, page, uint32_t{row} << 8 | column);
            const auto character = static_cast<uint8_t>(call_int10(0x0800, page, 0));
            worked = print(character == 0 ? ' ' : character);
        }
        worked = worked && print('\r') && print('\n');
    }
    call_int10(0x0200, page, cursor);
    far_write<uint8_t>(state_segment, 0, worked ? 0 : failed);
}

}  // namespace viv::rom
