// Models: what the VGA's CRT controller, character generator, shift registers, attribute controller and DAC make of
//   memory: all text and graphics modes by their registers, never by a mode number.
// Not modelled: the border, 16- and 32-bit shift loads, register changes in the middle of a frame, horizontal skew.
// Ignored bits: SR1 bits 2 and 4, CR2 to CR5 (blanking and retrace positions), AR11 (border colour), AR12 bits 4-5.
// Reference: IBM Personal System/2 Hardware Interface Technical Reference: Video Subsystems (1991), VGA Function.
#include "devices/video/renderer.hpp"

#include <algorithm>
#include <span>

#include "devices/video/colours.hpp"
#include "devices/video/vga_timing.hpp"

namespace viv {
namespace {

constexpr uint32_t address_mask = vga_cells - 1;
constexpr unsigned font_map = 2;
constexpr unsigned glyph_stride = 32;  // bytes that a character takes in the font map, whatever its height

uint8_t map_byte(uint32_t cell, unsigned map) {
    return static_cast<uint8_t>(cell >> (8 * map));
}

bool is_graphics(const VgaState& state) {
    return (state.gr(GR::miscellaneous) & gr6_graphics) != 0;
}

bool is_blanked(const VgaState& state) {
    return (state.sr(SR::clocking_mode) & sr1_screen_off) || !(state.attribute_index & ar_screen_on) ||
           state.sr(SR::reset) != sr0_running || !(state.cr(CR::mode_control) & cr17_sync_enable);
}

uint32_t start_address(const VgaState& state) {
    return uint32_t{state.cr(CR::start_address_high)} << 8 | state.cr(CR::start_address_low);
}

uint32_t cursor_location(const VgaState& state) {
    return uint32_t{state.cr(CR::cursor_location_high)} << 8 | state.cr(CR::cursor_location_low);
}

unsigned maximum_scan_line(const VgaState& state) {
    return state.cr(CR::maximum_scan_line) & 0x1Fu;
}

unsigned lines_per_scan(const VgaState& state) {
    return state.cr(CR::maximum_scan_line) & cr9_double_scan ? 2 : 1;
}

unsigned byte_panning(const VgaState& state) {
    return (state.cr(CR::preset_row_scan) >> 5) & 3u;
}

bool panning_ends_at_split(const VgaState& state) {
    return (state.ar(AR::mode_control) & ar10_panning_top_only) != 0;
}

// The map address that the CRT controller puts out for its `counter`.
uint32_t map_address(const VgaState& state, uint32_t counter, unsigned row_scan) {
    const uint8_t mode = state.cr(CR::mode_control);
    uint32_t address = counter;
    if (state.cr(CR::underline_location) & cr14_double_word) {
        // IBM's manual has bits 12 and 13 come round to 0 and 1. Chain 4 then could not reach what is shown: with the
        // bits that are shifted out, as here, mode 13h has its 64000 pixels in a row.
        address = counter << 2 | ((counter >> 14) & 3);
    } else if (!(mode & cr17_byte_mode)) {
        address = counter << 1 | ((counter >> (mode & cr17_wrap_15 ? 15 : 13)) & 1);
    }
    if (!(mode & cr17_address_13)) address = (address & ~0x2000u) | (row_scan & 1) << 13;
    if (!(mode & cr17_address_14)) address = (address & ~0x4000u) | (row_scan >> 1 & 1) << 14;
    return address & address_mask;
}

// The counter at the n-th character of a line.
uint32_t counter_at(const VgaState& state, uint32_t line_start, unsigned character) {
    unsigned steps = character;
    if (state.cr(CR::underline_location) & cr14_count_by_4) {
        steps /= 4;
    } else if (state.cr(CR::mode_control) & cr17_count_by_2) {
        steps /= 2;
    }
    return (line_start + steps) & address_mask;
}

// What an attribute byte asks for.
struct Look {
    unsigned foreground;  // 4-bit pixels
    unsigned background;
    bool blink;
    bool underline;
};

Look look_of(const VgaState& state, uint8_t attribute) {
    const bool blinks = (state.ar(AR::mode_control) & ar10_blink) != 0;
    const bool mono = (state.ar(AR::mode_control) & ar10_mono) != 0;
    const unsigned enabled = state.ar(AR::plane_enable);
    return {attribute & 0x0Fu & enabled, (attribute >> 4u) & (blinks ? 0x07u : 0x0Fu) & enabled,
            blinks && (attribute & 0x80), mono && (attribute & 0x77) == 0x01};
}

// Where the glyphs of a character with this attribute begin in the font map (SR3: attribute bit 3 chooses map A or B).
uint32_t font_base(const VgaState& state, uint8_t attribute) {
    const uint8_t select = state.sr(SR::character_map_select);
    const unsigned map =
        attribute & 0x08 ? (select >> 2 & 3u) | (select >> 3 & 4u) : (select & 3u) | (select >> 2 & 4u);
    return (map & 3) * 0x4000 + (map >> 2) * 0x2000;
}

struct CursorShape {
    bool enabled;
    unsigned first;
    unsigned last;
    unsigned skew;
};

CursorShape cursor_shape(const VgaState& state) {
    const uint8_t start = state.cr(CR::cursor_start);
    const uint8_t end = state.cr(CR::cursor_end);
    CursorShape shape{!(start & cr0a_cursor_off), start & 0x1Fu, end & 0x1Fu, (end >> 5) & 3u};
    if (shape.first > shape.last || shape.first > maximum_scan_line(state)) shape.enabled = false;
    return shape;
}

// One scan line's place in memory.
struct Line {
    uint32_t start = 0;  // the counter at its first character
    unsigned row_scan = 0;
    bool below_split = false;
};

// Walks down the scan lines as the CRT controller's counters do.
class Raster {
  public:
    explicit Raster(const VgaState& state)
        : maximum_(maximum_scan_line(state)),
          repeats_(lines_per_scan(state)),
          pitch_(state.cr(CR::offset) * 2u),
          line_compare_(vga_line_compare(state)),
          panning_below_(panning_ends_at_split(state) ? 0 : byte_panning(state)) {
        line_.start = start_address(state) + byte_panning(state);
        line_.row_scan = state.cr(CR::preset_row_scan) & 0x1Fu;
    }
    [[nodiscard]] const Line& line() const { return line_; }
    void next() {
        if (number_++ == line_compare_) {
            line_ = {panning_below_, 0, true};
            repeated_ = 0;
            return;
        }
        if (++repeated_ < repeats_) return;
        repeated_ = 0;
        if (line_.row_scan == maximum_) {
            line_.row_scan = 0;
            line_.start += pitch_;
        } else {
            line_.row_scan = (line_.row_scan + 1) & 0x1F;
        }
    }

  private:
    unsigned maximum_;
    unsigned repeats_;
    uint32_t pitch_;
    unsigned line_compare_;
    uint32_t panning_below_;
    Line line_;
    unsigned number_ = 0;
    unsigned repeated_ = 0;
};

// Draws the dots of one line at a time.
class LinePainter {
  public:
    LinePainter(const VgaState& state, const VgaTiming& timing, const VgaBeam& beam)
        : state_(state),
          colours_(state),
          width_(timing.dots_per_character),
          cursor_(cursor_shape(state)),
          cursor_on_(cursor_.enabled && vga_cursor_phase(beam)),
          attribute_on_(vga_attribute_phase(beam)) {}

    void paint(const Line& line, std::span<Rgb> dots) const {
        const auto characters = static_cast<unsigned>(dots.size() / width_);
        for (unsigned i = 0; i < characters; ++i) {
            const uint32_t counter = counter_at(state_, line.start, i);
            const uint32_t cell = state_.memory[map_address(state_, counter, line.row_scan)];
            const auto out = dots.subspan(size_t{i} * width_, width_);
            if (!is_graphics(state_)) {
                paint_character(cell, (counter - cursor_.skew) & address_mask, line.row_scan, out);
            } else if (state_.gr(GR::graphics_mode) & gr5_shift_256) {
                paint_bytes(cell, out);
            } else {
                paint_pixels(cell, out);
            }
        }
    }

    /// By how many dots the line is shifted to the left.
    [[nodiscard]] unsigned panning(const Line& line) const {
        if (line.below_split && panning_ends_at_split(state_)) return 0;
        const unsigned value = state_.ar(AR::panning) & 0x0F;
        if (is_graphics(state_) && (state_.gr(GR::graphics_mode) & gr5_shift_256)) return value & 6;
        if (width_ == 9) return value >= 8 ? 0 : value + 1;
        return value & 7;
    }

  private:
    void paint_character(uint32_t cell, uint32_t cursor_counter, unsigned row_scan, std::span<Rgb> out) const {
        const uint8_t character = map_byte(cell, 0);
        const uint8_t attribute = map_byte(cell, 1);
        const Look look = look_of(state_, attribute);
        const uint32_t glyph = font_base(state_, attribute) + character * glyph_stride + row_scan;
        unsigned bits = unsigned{map_byte(state_.memory[glyph], font_map)} << 1;
        // The ninth dot of the line-drawing characters repeats the eighth, so that lines join.
        if ((state_.ar(AR::mode_control) & ar10_line_graphics) && character >= 0xC0 && character <= 0xDF) {
            bits |= bits >> 1 & 1;
        }
        if (look.underline && row_scan == (state_.cr(CR::underline_location) & 0x1Fu)) bits = 0x1FF;
        if (look.blink && !attribute_on_) bits = 0;
        if (cursor_on_ && cursor_counter == cursor_location(state_) && row_scan >= cursor_.first &&
            row_scan <= cursor_.last) {
            bits = 0x1FF;
        }
        const Rgb foreground = colours_.palette(look.foreground);
        const Rgb background = colours_.palette(look.background);
        for (Rgb& dot : out) {
            dot = bits & 0x100 ? foreground : background;
            bits <<= 1;
        }
    }

    // 256 colours: each map holds one pixel, two dots wide.
    void paint_bytes(uint32_t cell, std::span<Rgb> out) const {
        for (unsigned dot = 0; dot < out.size(); ++dot) {
            const uint8_t pixel = map_byte(cell, dot / 2 % 4);
            if (state_.ar(AR::mode_control) & ar10_8_bit_pixels) {
                out[dot] = colours_.direct(pixel);
            } else {
                out[dot] = sixteen(dot % 2 == 0 ? pixel >> 4 : pixel);
            }
        }
    }

    void paint_pixels(uint32_t cell, std::span<Rgb> out) const {
        const bool interleaved = (state_.gr(GR::graphics_mode) & gr5_shift_interleaved) != 0;
        for (unsigned dot = 0; dot < out.size(); ++dot) {
            unsigned pixel = 0;
            if (dot >= 8) {
                // Nothing is left in the shift registers for a ninth dot.
            } else if (interleaved) {
                const unsigned shift = 6 - dot % 4 * 2;
                pixel = (map_byte(cell, dot / 4) >> shift & 3u) | (map_byte(cell, 2 + dot / 4) >> shift & 3u) << 2;
            } else {
                for (unsigned map = 0; map < 4; ++map) pixel |= (map_byte(cell, map) >> (7 - dot) & 1u) << map;
            }
            out[dot] = sixteen(pixel);
        }
    }

    // Blinking graphics invert the intensity, even of maps that are not enabled: that is how mode 0Fh blinks.
    [[nodiscard]] Rgb sixteen(unsigned pixel) const {
        pixel &= state_.ar(AR::plane_enable) & 0x0Fu;
        if ((state_.ar(AR::mode_control) & ar10_blink) && !attribute_on_) pixel ^= 8;
        return colours_.palette(pixel);
    }

    const VgaState& state_;
    VgaColours colours_;
    unsigned width_;
    CursorShape cursor_;
    bool cursor_on_;
    bool attribute_on_;
};

// The counters at which the rows of characters begin. A row of which less than all lines are shown at the bottom does
// not count, as the BIOS counts rows.
std::vector<uint32_t> text_rows(const VgaState& state, const VgaTiming& timing) {
    const unsigned row_lines = (maximum_scan_line(state) + 1) * lines_per_scan(state);
    const unsigned above = std::min(timing.shown_lines, vga_line_compare(state) + 1);
    const uint32_t pitch = state.cr(CR::offset) * 2u;
    std::vector<uint32_t> rows;
    const auto add = [&](uint32_t start, unsigned lines) {
        for (unsigned i = 0; i < lines / row_lines; ++i) rows.push_back((start + i * pitch) & address_mask);
    };
    add(start_address(state) + byte_panning(state), above);
    add(panning_ends_at_split(state) ? 0 : byte_panning(state), timing.shown_lines - above);
    return rows;
}

}  // namespace

TextScreen vga_text(const VgaState& state) {
    TextScreen screen;
    screen.blanked = is_blanked(state);
    if (is_graphics(state)) {
        screen.kind = ScreenKind::graphics;
        return screen;
    }
    const VgaTiming timing = vga_timing(state);
    const VgaColours colours(state);
    const CursorShape cursor = cursor_shape(state);
    const auto rows = text_rows(state, timing);
    screen.columns = timing.shown_characters;
    screen.rows = static_cast<unsigned>(rows.size());
    screen.cells.reserve(size_t{screen.columns} * screen.rows);
    screen.cursor.height = maximum_scan_line(state) + 1;
    for (unsigned row = 0; row < screen.rows; ++row) {
        for (unsigned column = 0; column < screen.columns; ++column) {
            const uint32_t counter = counter_at(state, rows[row], column);
            const uint32_t cell = state.memory[map_address(state, counter, 0)];
            const uint8_t attribute = map_byte(cell, 1);
            const Look look = look_of(state, attribute);
            screen.cells.push_back({map_byte(cell, 0), attribute, look.blink, look.underline,
                                    colours.palette(look.foreground), colours.palette(look.background)});
            if (cursor.enabled && !screen.cursor.visible &&
                ((counter - cursor.skew) & address_mask) == cursor_location(state)) {
                screen.cursor.visible = true;
                screen.cursor.column = column;
                screen.cursor.row = row;
                screen.cursor.first_line = cursor.first;
                screen.cursor.last_line = std::min(cursor.last, maximum_scan_line(state));
            }
        }
    }
    return screen;
}

Image vga_picture(const VgaState& state, VirtualTime now) {
    const VgaTiming timing = vga_timing(state);
    const unsigned dots = timing.shown_characters * timing.dots_per_character;
    const unsigned repeat = state.sr(SR::clocking_mode) & sr1_half_dot_clock ? 2 : 1;
    Image image{dots * repeat, timing.shown_lines, {}};
    image.pixels.resize(size_t{image.width} * image.height);
    if (is_blanked(state)) return image;
    const LinePainter painter(state, timing, vga_beam(timing, now));
    // One more character than is shown, for panning to shift in; a ninth dot may make it nine.
    std::vector<Rgb> line((timing.shown_characters + 1) * timing.dots_per_character);
    Raster raster(state);
    for (unsigned y = 0; y < image.height; ++y, raster.next()) {
        painter.paint(raster.line(), line);
        const unsigned shift = painter.panning(raster.line());
        const auto out = std::span(image.pixels).subspan(size_t{y} * image.width, image.width);
        for (unsigned x = 0; x < image.width; ++x) out[x] = line[x / repeat + shift];
    }
    return image;
}

}  // namespace viv
