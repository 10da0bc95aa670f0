#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace viv::testing {

/// A font whose letters are all different and whose blocks are the usual ones. `seed` makes another one.
inline std::vector<std::byte> make_font(unsigned height, unsigned seed = 1) {
    std::vector<std::byte> font(256 * size_t{height});
    for (unsigned character = 0; character < 256; ++character) {
        for (unsigned y = 0; y < height; ++y) {
            unsigned row = character == ' ' || y == 0 ? 0 : (character * 37 + y * y * seed * 11) >> (y % 3) & 0x7E;
            if (y == 1 && character != ' ') row = character;
            if (character == 0xDB) row = 0xFF;
            if (character == 0xDC) row = y < height / 2 ? 0x00 : 0xFF;
            if (character == 0xDD) row = 0xF0;
            if (character == 0xDE) row = 0x0F;
            if (character == 0xDF) row = y < height / 2 ? 0xFF : 0x00;
            font[size_t{character} * height + y] = std::byte{static_cast<uint8_t>(row)};
        }
    }
    return font;
}

}  // namespace viv::testing
