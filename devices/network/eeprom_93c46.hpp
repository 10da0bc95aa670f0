// Models: a 93C46 on its serial lines, 64 words of 16 bits that are read
// Not modelled: writing and erasing
// Ignored bits: none
// Reference: 93C46B datasheet, Microchip DS21749
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace viv {

/// The lines, and how far it is with a command: a part of the state of the device that has it.
struct Eeprom93c46 {
    static constexpr size_t words = 64;

    bool selected = false;  // CS
    bool clocked = false;   // SK
    uint16_t shifted = 0;
    uint8_t bits = 0;       // shifted in since CS rose, at most 9
    uint16_t position = 0;  // of the bit on DO, while it reads
    bool reads = false;
    bool output = true;  // DO
    static void fields(auto& self, auto&& visit) {
        visit("selected", self.selected);
        visit("clocked", self.clocked);
        visit("shifted", self.shifted);
        visit("bits", self.bits);
        visit("position", self.position);
        visit("reads", self.reads);
        visit("output", self.output);
    }
    bool operator==(const Eeprom93c46&) const = default;
    [[nodiscard]] bool can_be() const { return bits <= 9 && position < 16 * words; }

    /// A start bit, two bits of the command and six of the address go in on rising edges of the clock, words come out.
    void drive(bool select, bool clock, bool data, const std::array<uint16_t, words>& content) {
        const bool selected_before = selected, clocked_before = clocked;
        if (!select) *this = {};
        selected = select;
        clocked = clock;
        if (!select || !clock || clocked_before || !selected_before) return;
        constexpr unsigned command_bits = 9, read_command = 6;
        if (reads) {
            output = content[position / 16] >> (15 - position % 16) & 1;
            position = static_cast<uint16_t>((position + 1) % (16 * words));
            return;
        }
        if (bits == command_bits || (bits == 0 && !data)) return;  // nothing begins before the start bit
        shifted = static_cast<uint16_t>(shifted << 1 | data);
        if (++bits < command_bits) return;
        reads = shifted >> 6 == read_command;
        position = static_cast<uint16_t>((shifted & 0x3F) * 16);
        output = !reads;
    }
};

}  // namespace viv
