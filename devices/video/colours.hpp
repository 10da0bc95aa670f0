#pragma once

#include <array>
#include <cstdint>

#include "devices/video/screen.hpp"
#include "devices/video/vga_state.hpp"

namespace viv {

/// What pixels look like behind the attribute controller and the DAC.
class VgaColours {
  public:
    explicit VgaColours(const VgaState& state) {
        const bool wide = state.dispi.wide_dac();
        for (unsigned i = 0; i < 256; ++i) {
            const size_t at = 3u * (i & state.dac_mask);
            const auto level = [&](size_t part) {
                const uint8_t value = state.dac[at + part];
                return wide ? value : static_cast<uint8_t>(value << 2 | value >> 4);
            };
            direct_[i] = {level(0), level(1), level(2)};
        }
        const uint8_t select = state.ar(AR::colour_select);
        for (size_t i = 0; i < 16; ++i) {
            unsigned index = state.attribute[i] | (select & 0x0Cu) << 4;
            if (state.ar(AR::mode_control) & ar10_colour_select_5_4) index = (index & 0xCF) | (select & 3u) << 4;
            palette_[i] = direct_[index];
        }
    }
    /// A pixel of 8 bits, past the palette registers.
    [[nodiscard]] Rgb direct(uint8_t pixel) const { return direct_[pixel]; }
    /// A pixel of 4 bits.
    [[nodiscard]] Rgb palette(unsigned pixel) const { return palette_[pixel & 0x0F]; }

  private:
    std::array<Rgb, 256> direct_;
    std::array<Rgb, 16> palette_;
};

}  // namespace viv
