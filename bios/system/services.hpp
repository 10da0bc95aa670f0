#pragma once

#include "bios/real_mode.hpp"

namespace viv::rom {

// What the assembler files have for C++: hooks.S, entry.S and fixed.S.
extern "C" {
uint32_t call_int10(uint32_t ax, uint32_t bx, uint32_t dx);
uint32_t call_int15(uint32_t ax);
uint32_t call_int16(uint32_t ax);
uint32_t call_int17(uint32_t ax, uint32_t dx);
void call_int05();
void call_int1b();
void call_int4a();
void call_mouse_handler(uint32_t handler, const uint16_t* words);
void call_option_rom(uint32_t entry, uint32_t pci_address);
[[noreturn]] void start_boot_sector(uint32_t drive, uint32_t entry);
[[noreturn]] void restart();
extern const uint8_t diskette_parameters[];
extern const uint8_t system_configuration[];
extern const uint8_t pnp_installation[];
}

// Tells an INT 15h hook that a device is ready (AH=91h).
inline void tell_device_ready(uint8_t device) {
    call_int15(0x9100u | device);
}

// ---- CMOS ----------------------------------------------------------------------------------------------------------

inline uint8_t cmos_read(uint8_t index) {
    out_byte(0x70, index);
    return in_byte(0x71);
}

inline void cmos_write(uint8_t index, uint8_t value) {
    out_byte(0x70, index);
    out_byte(0x71, value);
}

inline uint16_t cmos_read_word(uint8_t index) {
    const uint8_t low = cmos_read(index);
    return static_cast<uint16_t>(cmos_read(static_cast<uint8_t>(index + 1)) << 8 | low);
}

// ---- 8042 ----------------------------------------------------------------------------------------------------------

// These poll a bounded number of times; a controller that never answers gives false.
bool controller_command(uint8_t command);
bool controller_data(uint8_t value);
bool controller_read(uint8_t& value);

// ---- Timer ---------------------------------------------------------------------------------------------------------

// Real-time clock interrupts every 976 us count `microseconds` down, then set bit 7 of the byte at the far pointer.
// False if a wait is already going on.
bool start_wait(uint16_t flag_segment, uint16_t flag_offset, uint32_t microseconds);
void stop_wait();

// ---- Option ROMs ---------------------------------------------------------------------------------------------------

// The memory manager begins with nothing given away.
void start_memory_manager();

// ---- Console -------------------------------------------------------------------------------------------------------

void print_character(char character);
void print_number(uint32_t number);
void print_rom(uint16_t offset);

template <uint16_t N>
inline void print(const RomTable<char, N>& message) {
    print_rom(message.offset());
}

}  // namespace viv::rom
