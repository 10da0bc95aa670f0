#include "devices/video/dispi.hpp"

#include <algorithm>

namespace viv {
namespace {

bool is_depth(uint16_t bits) {
    return bits == 4 || bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32;
}

// An enabled picture always lies within the memory, whatever was asked for: what does not fit is made smaller.
void fit(DispiState& state, size_t memory) {
    if (!is_depth(state.bits_per_pixel)) state.bits_per_pixel = 8;
    const auto clamp = [](uint16_t value, uint16_t least, uint16_t most) {
        return std::max(least, std::min(value, most));
    };
    state.x_resolution = clamp(state.x_resolution & 0xFFF8, 8, dispi_max_width);
    state.y_resolution = clamp(state.y_resolution, 1, dispi_max_height);
    // A line must fit the memory that there is, and the widest one is 65528 pixels.
    const auto widest =
        static_cast<uint16_t>(std::min<size_t>(memory * 2 / dispi_bytes(state.bits_per_pixel, 2), 0xFFF8) & 0xFFF8);
    state.x_resolution = std::min(state.x_resolution, widest);
    state.virtual_width = clamp(state.virtual_width & 0xFFF8, state.x_resolution, widest);
    const uint16_t lines = dispi_virtual_height(state, memory);
    state.y_resolution = std::min(state.y_resolution, lines);
    state.x_offset = std::min<uint16_t>(state.x_offset, state.virtual_width - state.x_resolution);
    state.y_offset = std::min<uint16_t>(state.y_offset, lines - state.y_resolution);
    const size_t banks = state.planar() ? memory / 4 / dispi_bank_size : memory / dispi_bank_size;
    state.bank = static_cast<uint16_t>(state.bank % std::max<size_t>(banks, 1));
}

}  // namespace

uint16_t dispi_virtual_height(const DispiState& state, size_t memory) {
    const uint32_t pitch = dispi_bytes(state.bits_per_pixel, state.virtual_width);
    return pitch == 0 ? uint16_t{0} : static_cast<uint16_t>(std::min<size_t>(memory / pitch, 0xFFFF));
}

DispiFrame dispi_frame(const DispiState& state) {
    DispiFrame frame;
    frame.pitch = dispi_bytes(state.bits_per_pixel, state.virtual_width);
    // Maps are panned by whole bytes: 8 pixels.
    const uint32_t left = state.planar() ? state.x_offset & 0xFFF8u : state.x_offset;
    frame.start = state.y_offset * frame.pitch + dispi_bytes(state.bits_per_pixel, left);
    frame.size = (state.y_resolution - 1u) * frame.pitch + dispi_bytes(state.bits_per_pixel, state.x_resolution);
    return frame;
}

uint16_t dispi_read(const DispiState& state, size_t memory) {
    const bool maxima = (state.enable & dispi_get_capabilities) != 0;
    switch (static_cast<Dispi>(state.index)) {
        case Dispi::id: return state.id;
        case Dispi::x_resolution: return maxima ? dispi_max_width : state.x_resolution;
        case Dispi::y_resolution: return maxima ? dispi_max_height : state.y_resolution;
        case Dispi::bits_per_pixel: return maxima ? 32 : state.bits_per_pixel;
        case Dispi::enable: return state.enable;
        case Dispi::bank: return state.bank;
        case Dispi::virtual_width: return state.virtual_width;
        case Dispi::virtual_height: return dispi_virtual_height(state, memory);
        case Dispi::x_offset: return state.x_offset;
        case Dispi::y_offset: return state.y_offset;
        case Dispi::video_memory_64k: return static_cast<uint16_t>(memory / dispi_bank_size);
    }
    return 0;
}

bool dispi_write(DispiState& state, uint16_t value, size_t memory) {
    bool clear = false;
    switch (static_cast<Dispi>(state.index)) {
        case Dispi::id:
            if (value >= dispi_first_id && value <= dispi_last_id) state.id = value;
            break;
        case Dispi::x_resolution: state.x_resolution = value; break;
        case Dispi::y_resolution: state.y_resolution = value; break;
        case Dispi::bits_per_pixel: state.bits_per_pixel = value; break;
        case Dispi::enable: {
            const bool switched_on = (value & dispi_enabled) && !state.enabled();
            state.enable = value;
            state.bank = 0;
            if (switched_on) {
                state.virtual_width = 0;
                state.x_offset = 0;
                state.y_offset = 0;
                clear = !(value & dispi_keep_memory);
            }
            break;
        }
        case Dispi::bank: state.bank = value; break;
        case Dispi::virtual_width: state.virtual_width = value; break;
        case Dispi::x_offset: state.x_offset = value; break;
        case Dispi::y_offset: state.y_offset = value; break;
        case Dispi::virtual_height:
        case Dispi::video_memory_64k: break;  // read-only
    }
    if (state.enabled()) fit(state, memory);
    return clear;
}

bool dispi_is_valid(const DispiState& state, size_t memory) {
    if (state.id < dispi_first_id || state.id > dispi_last_id) return false;
    if (!state.enabled()) return true;
    DispiState fitted = state;
    fit(fitted, memory);
    return memory != 0 && fitted == state;
}

}  // namespace viv
