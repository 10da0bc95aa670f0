#include "devices/video/linear_picture.hpp"

namespace viv {
namespace {

constexpr uint8_t five_bits(unsigned value) {
    return static_cast<uint8_t>((value & 0x1F) << 3 | (value & 0x1F) >> 2);
}
constexpr uint8_t six_bits(unsigned value) {
    return static_cast<uint8_t>((value & 0x3F) << 2 | (value & 0x3F) >> 4);
}

}  // namespace

bool is_linear_blanked(const VgaState& state) {
    return (state.sr(SR::clocking_mode) & sr1_screen_off) || !(state.attribute_index & ar_screen_on);
}

LinearPicture::LinearPicture(const VgaState& state, std::span<const std::byte> memory)
    : width_(state.dispi.x_resolution),
      height_(state.dispi.y_resolution),
      bits_per_pixel_(state.dispi.bits_per_pixel),
      plane_enable_(state.ar(AR::plane_enable) & 0x0F),
      blanked_(is_linear_blanked(state)),
      pitch_(dispi_frame(state.dispi).pitch),
      colours_(state) {
    if (blanked_) return;
    const DispiFrame frame = dispi_frame(state.dispi);
    const auto shown = memory.subspan(frame.start, frame.size);
    bytes_.assign(shown.begin(), shown.end());
}

Rgb LinearPicture::pixel(std::span<const std::byte> line, unsigned x) const {
    const auto byte = [line](size_t at) { return std::to_integer<unsigned>(line[at]); };
    switch (bits_per_pixel_) {
        case 4: {
            unsigned value = 0;
            for (unsigned map = 0; map < 4; ++map) value |= (byte(x / 8 * 4 + map) >> (7 - x % 8) & 1u) << map;
            return colours_.palette(value & plane_enable_);
        }
        case 8: return colours_.direct(static_cast<uint8_t>(byte(x)));
        case 15: {
            const unsigned value = byte(x * 2u) | byte(x * 2u + 1) << 8;
            return {five_bits(value >> 10), five_bits(value >> 5), five_bits(value)};
        }
        case 16: {
            const unsigned value = byte(x * 2u) | byte(x * 2u + 1) << 8;
            return {five_bits(value >> 11), six_bits(value >> 5), five_bits(value)};
        }
        default: break;
    }
    const size_t at = size_t{x} * (bits_per_pixel_ / 8u);
    return {static_cast<uint8_t>(byte(at + 2)), static_cast<uint8_t>(byte(at + 1)), static_cast<uint8_t>(byte(at))};
}

Image LinearPicture::image() const {
    Image image{width_, height_, {}};
    image.pixels.resize(size_t{width_} * height_);
    if (blanked_) return image;
    for (unsigned y = 0; y < height_; ++y) {
        const auto line = std::span(bytes_).subspan(size_t{y} * pitch_);
        Rgb* out = &image.pixels[size_t{y} * width_];
        for (unsigned x = 0; x < width_; ++x) out[x] = pixel(line, x);
    }
    return image;
}

}  // namespace viv
