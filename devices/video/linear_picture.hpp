#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/video/colours.hpp"
#include "devices/video/screen.hpp"
#include "devices/video/vga_state.hpp"

namespace viv {

/// A copy of what a picture of the DISPI registers is made of. No part of the VGA's raster is in it.
class LinearPicture {
  public:
    /// Of an enabled state. `memory` is all of the adapter's linear memory.
    LinearPicture(const VgaState& state, std::span<const std::byte> memory);
    /// Every pixel; black while the screen is off.
    [[nodiscard]] Image image() const;

  private:
    [[nodiscard]] Rgb pixel(std::span<const std::byte> line, unsigned x) const;

    unsigned width_;
    unsigned height_;
    uint16_t bits_per_pixel_;
    uint8_t plane_enable_;
    bool blanked_;
    uint32_t pitch_;
    VgaColours colours_;
    std::vector<std::byte> bytes_;
};

/// True while the registers keep a picture of the DISPI registers dark: they look at fewer of them than the VGA's own
/// pictures, since drivers of the linear frame buffer do not set up the VGA.
bool is_linear_blanked(const VgaState& state);

}  // namespace viv
