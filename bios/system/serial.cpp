// INT 14h: serial ports (8250 and later).
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 14H"; National PC16550D data sheet.

#include "bios/system/services.hpp"

namespace viv::rom {
namespace {

constexpr uint16_t data = 0, interrupt_enable = 1, line_control = 3, modem_control = 4, line_status = 5,
                   modem_status = 6;
constexpr uint8_t divisor_latch = 0x80, break_control = 0x40;
constexpr uint8_t received = 0x01, transmit_empty = 0x20, timed_out = 0x80;
constexpr uint8_t ticks_per_second = 18;

void set_line(uint16_t port, uint16_t divisor, uint8_t line) {
    out_byte(static_cast<uint16_t>(port + line_control), divisor_latch | line);
    out_byte(static_cast<uint16_t>(port + data), static_cast<uint8_t>(divisor));
    out_byte(static_cast<uint16_t>(port + interrupt_enable), static_cast<uint8_t>(divisor >> 8));
    out_byte(static_cast<uint16_t>(port + line_control), line);
    out_byte(static_cast<uint16_t>(port + interrupt_enable), 0);
}

void read_status(Registers& r, uint16_t port) {
    r.ah() = in_byte(static_cast<uint16_t>(port + line_status));
    r.al() = in_byte(static_cast<uint16_t>(port + modem_status));
}

// Waits for `bits` in a register, as many seconds as the BIOS data area says for this port.
bool wait_for(uint16_t port, uint16_t reg, uint8_t bits, uint8_t unit) {
    const uint16_t limit = static_cast<uint16_t>(get(at(bda::com_timeouts, unit)) * ticks_per_second);
    enable_interrupts();
    const uint32_t start = get(bda::timer_ticks);
    do {
        if ((in_byte(static_cast<uint16_t>(port + reg)) & bits) == bits) return true;
    } while (get(bda::timer_ticks) - start <= limit);
    return false;
}

void int14_00_initialise(Registers& r, uint16_t port) {
    // 110, 150, 300, 600, 1200, 2400, 4800, 9600 baud; the divisor of 110 does not fit the shifting row.
    const uint8_t rate = r.al() >> 5;
    const uint16_t divisor = rate == 0 ? 1047 : static_cast<uint16_t>(1536 >> rate);
    set_line(port, divisor, r.al() & 0x1F);
    read_status(r, port);
}

void int14_01_send(Registers& r, uint16_t port, uint8_t unit) {
    out_byte(static_cast<uint16_t>(port + modem_control),
             in_byte(static_cast<uint16_t>(port + modem_control)) | 0x03);  // DTR, RTS
    if (wait_for(port, modem_status, 0x30, unit) && wait_for(port, line_status, transmit_empty, unit)) {
        out_byte(port, r.al());
        r.ah() = in_byte(static_cast<uint16_t>(port + line_status)) & 0x7F;
    } else {
        r.ah() = in_byte(static_cast<uint16_t>(port + line_status)) | timed_out;
    }
}

void int14_02_receive(Registers& r, uint16_t port, uint8_t unit) {
    out_byte(static_cast<uint16_t>(port + modem_control),
             in_byte(static_cast<uint16_t>(port + modem_control)) | 0x01);  // DTR
    if (wait_for(port, line_status, received, unit)) {
        r.ah() = in_byte(static_cast<uint16_t>(port + line_status)) & 0x1E;
        r.al() = in_byte(port);
    } else {
        r.ah() = timed_out;
    }
}

void int14_03_status(Registers& r, uint16_t port) {
    read_status(r, port);
}

void int14_04_extended_initialise(Registers& r, uint16_t port) {
    static constexpr uint16_t divisors[] = {1047, 768, 384, 192, 96, 48, 24, 12, 6};
    VIV_IN_ROM static constexpr RomTable table{divisors};
    // No, odd, even, stick odd, stick even parity.
    static constexpr uint8_t parities[] = {0x00, 0x08, 0x18, 0x28, 0x38};
    VIV_IN_ROM static constexpr RomTable parity_bits{parities};
    if (r.cl() >= table.size() || r.bh() >= parity_bits.size() || r.ch() > 3) {
        r.ah() = timed_out;
        return;
    }
    const auto line =
        static_cast<uint8_t>((r.ch() & 3) | (r.bl() ? 0x04 : 0) | parity_bits[r.bh()] | (r.al() ? break_control : 0));
    set_line(port, table[r.cl()], line);
    read_status(r, port);
}

void int14_05_modem_control(Registers& r, uint16_t port) {
    if (r.al() == 0) {
        r.bl() = in_byte(static_cast<uint16_t>(port + modem_control));
    } else if (r.al() == 1) {
        out_byte(static_cast<uint16_t>(port + modem_control), r.bl() & 0x1F);
    }
    read_status(r, port);
}

}  // namespace

extern "C" void serial_service(Registers& r) {
    if (r.dx() > 3) return;
    const auto unit = static_cast<uint8_t>(r.dx());
    const uint16_t port = get(at(bda::com_ports, unit));
    if (port == 0) return;
    switch (r.ah()) {
        case 0x00: return int14_00_initialise(r, port);
        case 0x01: return int14_01_send(r, port, unit);
        case 0x02: return int14_02_receive(r, port, unit);
        case 0x03: return int14_03_status(r, port);
        case 0x04: return int14_04_extended_initialise(r, port);
        case 0x05: return int14_05_modem_control(r, port);
    }
}

}  // namespace viv::rom
