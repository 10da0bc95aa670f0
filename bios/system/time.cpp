// INT 1Ah and IRQ 8: time of day, real-time clock, alarm and timed waits.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 1AH"; Motorola MC146818A data sheet.

#include "bios/system/services.hpp"

namespace viv::rom {
namespace {

constexpr uint8_t seconds = 0x00, alarm_seconds = 0x01, minutes = 0x02, alarm_minutes = 0x03, hours = 0x04,
                  alarm_hours = 0x05, day = 0x07, month = 0x08, year = 0x09, status_a = 0x0A, status_b = 0x0B,
                  status_c = 0x0C, century = 0x32;
// status_b
constexpr uint8_t hold = 0x80, periodic_on = 0x40, alarm_on = 0x20, daylight_saving = 0x01;
// status_c
constexpr uint8_t periodic_event = 0x40, alarm_event = 0x20;

constexpr uint32_t period_us = 976;  // 1024 Hz, the rate status A is set to

// Waits until the clock is not in the middle of a change. False if it never comes out of one (a dead clock).
bool clock_ready() {
    for (uint16_t polls = 0xFFFF; polls != 0; --polls) {
        if (!(cmos_read(status_a) & 0x80)) return true;
    }
    return false;
}

void open_clock_interrupt() {
    out_byte(0xA1, in_byte(0xA1) & 0xFE);
    out_byte(0x21, in_byte(0x21) & 0xFB);
}

void int1a_00_read_ticks(Registers& r) {
    disable_interrupts();
    const uint32_t ticks = get(bda::timer_ticks);
    r.al() = get(bda::timer_midnight);
    put(bda::timer_midnight, 0);
    r.cx() = static_cast<uint16_t>(ticks >> 16);
    r.dx() = static_cast<uint16_t>(ticks);
    r.ah() = 0;
    r.clear_carry();
}

void int1a_01_set_ticks(Registers& r) {
    disable_interrupts();
    put(bda::timer_ticks, uint32_t{r.cx()} << 16 | r.dx());
    put(bda::timer_midnight, 0);
    r.ah() = 0;
    r.clear_carry();
}

void int1a_02_read_time(Registers& r) {
    if (!clock_ready()) return r.set_carry();
    r.dh() = cmos_read(seconds);
    r.cl() = cmos_read(minutes);
    r.ch() = cmos_read(hours);
    r.dl() = cmos_read(status_b) & daylight_saving;
    r.ah() = 0;
    r.al() = r.ch();
    r.clear_carry();
}

// Registers are changed with the clock held; both setters leave the alarm and the interrupts as they were.
void int1a_03_set_time(Registers& r) {
    if (!clock_ready()) return r.set_carry();
    const auto mode = static_cast<uint8_t>((cmos_read(status_b) & 0x66) | 0x02 | (r.dl() & daylight_saving));
    cmos_write(status_b, mode | hold);
    cmos_write(seconds, r.dh());
    cmos_write(minutes, r.cl());
    cmos_write(hours, r.ch());
    cmos_write(status_b, mode);
    r.ah() = 0;
    r.al() = mode;
    r.clear_carry();
}

void int1a_04_read_date(Registers& r) {
    if (!clock_ready()) return r.set_carry();
    r.cl() = cmos_read(year);
    r.dh() = cmos_read(month);
    r.dl() = cmos_read(day);
    r.ch() = cmos_read(century);
    r.ah() = 0;
    r.al() = r.ch();
    r.clear_carry();
}

void int1a_05_set_date(Registers& r) {
    if (!clock_ready()) return r.set_carry();
    const auto mode = static_cast<uint8_t>(cmos_read(status_b) & 0x7F);
    cmos_write(status_b, mode | hold);
    cmos_write(year, r.cl());
    cmos_write(month, r.dh());
    cmos_write(day, r.dl());
    cmos_write(century, r.ch());
    cmos_write(status_b, mode);
    r.ah() = 0;
    r.al() = mode;
    r.clear_carry();
}

void int1a_06_set_alarm(Registers& r) {
    const uint8_t mode = cmos_read(status_b);
    r.ax() = 0;
    if ((mode & alarm_on) || !clock_ready()) return r.set_carry();
    cmos_write(alarm_seconds, r.dh());
    cmos_write(alarm_minutes, r.cl());
    cmos_write(alarm_hours, r.ch());
    open_clock_interrupt();
    cmos_write(status_b, static_cast<uint8_t>((mode & 0x7F) | alarm_on));
    r.clear_carry();
}

void int1a_07_cancel_alarm(Registers& r) {
    const auto mode = static_cast<uint8_t>(cmos_read(status_b) & ~(alarm_on | hold));
    cmos_write(status_b, mode);
    r.ah() = 0;
    r.al() = mode;
    r.clear_carry();
}

}  // namespace

bool start_wait(uint16_t flag_segment, uint16_t flag_offset, uint32_t microseconds) {
    disable_interrupts();
    if (get(bda::wait_active) & 0x01) return false;
    put(bda::wait_active, 1);
    put(bda::wait_flag_segment, flag_segment);
    put(bda::wait_flag_offset, flag_offset);
    put(bda::wait_microseconds, microseconds);
    open_clock_interrupt();
    cmos_write(status_b, cmos_read(status_b) | periodic_on);
    return true;
}

void stop_wait() {
    disable_interrupts();
    put(bda::wait_active, 0);
    cmos_write(status_b, static_cast<uint8_t>(cmos_read(status_b) & ~periodic_on));
}

extern "C" void time_service(Registers& r) {
    switch (r.ah()) {
        case 0x00: return int1a_00_read_ticks(r);
        case 0x01: return int1a_01_set_ticks(r);
        case 0x02: return int1a_02_read_time(r);
        case 0x03: return int1a_03_set_time(r);
        case 0x04: return int1a_04_read_date(r);
        case 0x05: return int1a_05_set_date(r);
        case 0x06: return int1a_06_set_alarm(r);
        case 0x07: return int1a_07_cancel_alarm(r);
    }
    r.set_carry();
}

// IRQ 8.
extern "C" void clock_interrupt(Registers&) {
    disable_interrupts();
    const auto events = static_cast<uint8_t>(cmos_read(status_c) & cmos_read(status_b));
    if ((events & periodic_event) && (get(bda::wait_active) & 0x01)) {
        const uint32_t left = get(bda::wait_microseconds);
        if (left > period_us) {
            put(bda::wait_microseconds, left - period_us);
        } else {
            stop_wait();
            const uint16_t segment = get(bda::wait_flag_segment);
            const uint16_t offset = get(bda::wait_flag_offset);
            far_write<uint8_t>(segment, offset, far_read<uint8_t>(segment, offset) | 0x80);
        }
    }
    if (events & alarm_event) {
        call_int4a();
        disable_interrupts();
    }
    out_byte(0xA0, 0x20);
    out_byte(0x20, 0x20);
}

}  // namespace viv::rom
