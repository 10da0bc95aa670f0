#pragma once

#include <algorithm>
#include <cstdint>

#include "devices/video/vga_state.hpp"
#include "vmm/core/types.hpp"

namespace viv {

/// The raster that the registers ask for. Dots are those of the (perhaps halved) dot clock.
struct VgaTiming {
    uint64_t dots_per_second = 0;
    unsigned dots_per_character = 8;  // 8 or 9
    unsigned characters = 0;          // on a line, seen or not
    unsigned shown_characters = 0;    // at most `characters`
    unsigned lines = 0;               // of a frame, seen or not
    unsigned shown_lines = 0;         // at most `lines`
    unsigned retrace_start = 0;       // the first line of the vertical retrace; may lie behind the frame
    unsigned retrace_lines = 0;       // 1 to 16
};

/// Where the beam is.
struct VgaBeam {
    uint64_t frame = 0;  // since power-on, as if the timing had always been this one
    unsigned line = 0;
    unsigned dot = 0;
};

constexpr VgaTiming vga_timing(const VgaState& state) {
    const auto bit = [](uint8_t value, unsigned from, unsigned to) { return ((value >> from) & 1u) << to; };
    const uint8_t overflow = state.cr(CR::overflow);
    VgaTiming timing;
    timing.dots_per_second = state.miscellaneous & misc_clock_28_mhz ? 28'322'000 : 25'175'000;
    if (state.sr(SR::clocking_mode) & sr1_half_dot_clock) timing.dots_per_second /= 2;
    timing.dots_per_character = state.sr(SR::clocking_mode) & sr1_eight_dots ? 8 : 9;
    timing.characters = state.cr(CR::horizontal_total) + 5u;
    timing.shown_characters = std::min(state.cr(CR::horizontal_display_end) + 1u, timing.characters);
    timing.lines = (state.cr(CR::vertical_total) | bit(overflow, 0, 8) | bit(overflow, 5, 9)) + 2;
    timing.shown_lines =
        std::min((state.cr(CR::vertical_display_end) | bit(overflow, 1, 8) | bit(overflow, 6, 9)) + 1, timing.lines);
    timing.retrace_start = state.cr(CR::vertical_retrace_start) | bit(overflow, 2, 8) | bit(overflow, 7, 9);
    // The end register holds the low four bits of the line at which the retrace ends.
    timing.retrace_lines = (state.cr(CR::vertical_retrace_end) - timing.retrace_start - 1) % 16 + 1;
    return timing;
}

/// The scan line after which the split screen begins.
constexpr unsigned vga_line_compare(const VgaState& state) {
    return state.cr(CR::line_compare) | (state.cr(CR::overflow) & cr7_line_compare_8 ? 0x100u : 0u) |
           (state.cr(CR::maximum_scan_line) & 0x40u ? 0x200u : 0u);
}

constexpr VgaBeam vga_beam(const VgaTiming& timing, VirtualTime now) {
    const uint64_t line_dots = uint64_t{timing.characters} * timing.dots_per_character;
    const uint64_t dots = ticks_in(now.ns, timing.dots_per_second);
    const uint64_t frame_dots = line_dots * timing.lines;
    const uint64_t within = dots % frame_dots;
    return {dots / frame_dots, static_cast<unsigned>(within / line_dots), static_cast<unsigned>(within % line_dots)};
}

constexpr bool vga_in_vertical_retrace(const VgaTiming& timing, const VgaBeam& beam) {
    return beam.line >= timing.retrace_start && beam.line < timing.retrace_start + timing.retrace_lines;
}

constexpr bool vga_in_display(const VgaTiming& timing, const VgaBeam& beam) {
    return beam.line < timing.shown_lines && beam.dot < timing.shown_characters * timing.dots_per_character;
}

/// Cursors blink 8 frames on, 8 off; characters half as fast.
constexpr bool vga_cursor_phase(const VgaBeam& beam) {
    return beam.frame % 16 < 8;
}
constexpr bool vga_attribute_phase(const VgaBeam& beam) {
    return beam.frame % 32 < 16;
}

}  // namespace viv
