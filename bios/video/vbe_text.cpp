// INT 10h in VBE modes: pixels, characters and scrolling. Drawing goes through the window at A0000h; whole lines are
// moved in the linear frame buffer by INT 15h AH=87h. Reference: VESA BIOS Extension (VBE) Core Functions 3.0, "TTY
// output functions supported".

#include "bios/video/dispi.hpp"
#include "bios/video/video.hpp"

namespace viv::rom {
namespace {

constexpr uint8_t exclusive_or = 0x80;
constexpr uint16_t window_segment = 0xA000;

struct Surface {
    uint8_t bits;
    uint16_t width;  // of a line in memory, in pixels
    bool planar() const { return bits == 4; }
    // Where the pixel is in the window's banks: in four maps, of each map.
    uint32_t place(uint16_t x, uint16_t y) const {
        return planar() ? y * (width / 8u) + x / 8u : (uint32_t{y} * width + x) * bytes_per_pixel(bits);
    }
    // The same in the linear frame buffer, where four maps' bytes are side by side.
    uint32_t linear_place(uint16_t x, uint16_t y) const { return planar() ? place(x, y) * 4 : place(x, y); }
    uint16_t cell_bytes() const { return planar() ? 4 : static_cast<uint16_t>(8 * bytes_per_pixel(bits)); }
};

Surface surface() {
    const auto bits = static_cast<uint8_t>(dispi_read(Dispi::bits_per_pixel));
    return {bits, dispi_read(Dispi::virtual_width)};
}

// Moves the window while it lives.
class Window {
  public:
    Window() : before_(dispi_read(Dispi::bank)), now_(before_) {}
    ~Window() { show(before_); }
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;
    uint8_t read(uint32_t place) {
        show(static_cast<uint16_t>(place >> 16));
        return far_read<uint8_t>(window_segment, static_cast<uint16_t>(place));
    }
    void write(uint32_t place, uint8_t value) {
        show(static_cast<uint16_t>(place >> 16));
        far_write(window_segment, static_cast<uint16_t>(place), value);
    }

  private:
    void show(uint16_t bank) {
        if (bank == now_) return;
        now_ = bank;
        dispi_write(Dispi::bank, bank);
    }
    uint16_t before_, now_;
};

// The sixteen colours in modes without a palette.
struct ColourBytes {
    constexpr uint8_t operator[](uint16_t index) const {
        const auto number = static_cast<uint8_t>(index / 3);
        const Rgb rgb = cga_color(static_cast<uint8_t>((number & 7) | (number & 8) << 1));
        const uint8_t level = index % 3 == 0 ? rgb.red : index % 3 == 1 ? rgb.green : rgb.blue;
        return static_cast<uint8_t>(level << 2 | level >> 4);
    }
};
VIV_IN_ROM constexpr RomTable<uint8_t, 16 * 3> colour_bytes{ColourBytes{}};

uint32_t pixel_of(uint8_t bits, uint8_t color) {
    if (bits <= 8) return color;
    const auto at = static_cast<uint16_t>((color & 0x0F) * 3);
    const uint32_t red = colour_bytes[at], green = colour_bytes[static_cast<uint16_t>(at + 1)],
                   blue = colour_bytes[static_cast<uint16_t>(at + 2)];
    if (bits == 15) return (red >> 3) << 10 | (green >> 3) << 5 | blue >> 3;
    if (bits == 16) return (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3;
    return red << 16 | green << 8 | blue;
}

void put_linear(Window& window, uint8_t bits, uint32_t place, uint32_t pixel, bool combine) {
    for (uint8_t i = 0; i < bytes_per_pixel(bits); ++i, pixel >>= 8) {
        const auto byte = static_cast<uint8_t>(pixel);
        window.write(place + i, combine ? static_cast<uint8_t>(window.read(place + i) ^ byte) : byte);
    }
}

uint32_t get_linear(Window& window, uint8_t bits, uint32_t place) {
    uint32_t pixel = 0;
    for (uint8_t i = 0; i < bytes_per_pixel(bits); ++i) pixel |= uint32_t{window.read(place + i)} << (8 * i);
    return bits == 32 ? pixel & 0xFFFFFF : pixel;
}

// Eight pixels in four maps where `mask` is set.
void put_planar(Window& window, uint32_t place, uint8_t mask, uint8_t color, bool combine) {
    write_indexed(sequencer_port, 2, 0x0F);
    write_indexed(graphics_port, 0, color & 0x0F);
    write_indexed(graphics_port, 1, 0x0F);
    write_indexed(graphics_port, 3, combine ? 0x18 : 0);
    write_indexed(graphics_port, 8, mask);
    window.read(place);
    window.write(place, 0xFF);
    write_indexed(graphics_port, 1, 0);
    write_indexed(graphics_port, 3, 0);
    write_indexed(graphics_port, 8, 0xFF);
}

uint8_t get_planar(Window& window, uint32_t place, uint8_t mask) {
    uint8_t color = 0;
    for (uint8_t map = 4; map-- != 0;) {
        write_indexed(graphics_port, 4, map);
        color = static_cast<uint8_t>(color << 1 | ((window.read(place) & mask) != 0));
    }
    return color;
}

// Only the palette's own colours can be combined with what is there: in 256 colours bit 7 is one of their bits.
bool combines(uint8_t bits, uint8_t color) {
    return bits != 8 && (color & exclusive_or);
}

// INT 15h AH=87h between linear addresses, in steps of two bytes; ascending, so that it repeats what overlaps.
void move_block(uint32_t to, uint32_t from, uint32_t bytes) {
    constexpr uint32_t most = 0x8000;
    uint8_t table[48] = {};
    const auto describe = [&table](uint16_t at, uint32_t base) {
        table[at] = table[at + 1] = 0xFF;
        table[at + 2] = static_cast<uint8_t>(base);
        table[at + 3] = static_cast<uint8_t>(base >> 8);
        table[at + 4] = static_cast<uint8_t>(base >> 16);
        table[at + 5] = 0x93;
        table[at + 7] = static_cast<uint8_t>(base >> 24);
    };
    while (bytes != 0) {
        const uint32_t piece = bytes < most ? bytes : most;
        describe(16, from);
        describe(24, to);
        uint32_t function = 0x8700, words = piece / 2;
        asm volatile("int $0x15" : "+a"(function), "+c"(words) : "S"(near_offset(table)) : "memory", "cc");
        from += piece;
        to += piece;
        bytes -= piece;
    }
}

// Eight pixels of one colour, as the linear frame buffer has them.
void make_cell(uint8_t* cell, const Surface& s, uint8_t color) {
    uint32_t pixel = pixel_of(s.bits, color);
    for (uint16_t i = 0; i < s.cell_bytes(); ++i) {
        if (s.planar()) {
            cell[i] = color >> i & 1 ? 0xFF : 0x00;
        } else {
            cell[i] = static_cast<uint8_t>(pixel >> (8 * (i % bytes_per_pixel(s.bits))));
        }
    }
}

}  // namespace

void draw_vbe_character(FontPlace font, uint8_t color, uint8_t row, uint8_t column, uint8_t height) {
    const Surface s = surface();
    Window window;
    const auto x = static_cast<uint16_t>(column * 8);
    for (uint8_t line = 0; line < height; ++line) {
        const auto y = static_cast<uint16_t>(row * height + line);
        const uint8_t bits = far_read<uint8_t>(font.segment, static_cast<uint16_t>(font.offset + line));
        const bool combine = combines(s.bits, color);
        if (s.planar()) {
            if (!combine) put_planar(window, s.place(x, y), 0xFF, 0, false);
            put_planar(window, s.place(x, y), bits, color, combine);
            continue;
        }
        for (uint8_t i = 0; i < 8; ++i) {
            const bool set = bits & 0x80 >> i;
            if (combine && !set) continue;
            put_linear(window, s.bits, s.place(static_cast<uint16_t>(x + i), y), set ? pixel_of(s.bits, color) : 0,
                       combine);
        }
    }
}

uint8_t read_vbe_bits(uint16_t y, uint8_t column) {
    uint8_t bits = 0;
    for (uint8_t i = 0; i < 8; ++i) {
        bits = static_cast<uint8_t>(bits << 1 | (read_vbe_pixel(static_cast<uint16_t>(column * 8 + i), y) != 0));
    }
    return bits;
}

void write_vbe_pixel(uint16_t x, uint16_t y, uint8_t color) {
    const Surface s = surface();
    Window window;
    if (s.planar()) {
        put_planar(window, s.place(x, y), static_cast<uint8_t>(0x80 >> (x & 7)), color, combines(s.bits, color));
    } else {
        put_linear(window, s.bits, s.place(x, y), pixel_of(s.bits, color), combines(s.bits, color));
    }
}

// Without a palette: the one of the sixteen colours that it is, else the last one.
uint8_t read_vbe_pixel(uint16_t x, uint16_t y) {
    const Surface s = surface();
    Window window;
    if (s.planar()) return get_planar(window, s.place(x, y), static_cast<uint8_t>(0x80 >> (x & 7)));
    const uint32_t pixel = get_linear(window, s.bits, s.place(x, y));
    if (s.bits == 8) return static_cast<uint8_t>(pixel);
    uint8_t color = 0;
    while (color < 15 && pixel_of(s.bits, color) != pixel) ++color;
    return color;
}

void scroll_vbe(const ScrolledLines& lines, uint8_t left, uint8_t right, uint8_t color) {
    const Surface s = surface();
    const uint32_t base = frame_buffer();
    const uint16_t cell = s.cell_bytes();
    const uint32_t bytes = (right - left + 1u) * cell;
    const auto address = [&s, base, left](uint16_t y) {
        return base + s.linear_place(static_cast<uint16_t>(left * 8), y);
    };
    const uint32_t pitch = address(1) - address(0);
    const auto line = [&lines](uint16_t i) {
        return static_cast<uint16_t>(lines.down ? lines.first - i : lines.first + i);
    };
    if (bytes == pitch && !lines.down) {
        // Whole lines are one piece.
        move_block(address(lines.first), address(line(lines.cleared)), lines.moved * pitch);
    } else {
        for (uint16_t i = 0; i < lines.moved; ++i) {
            move_block(address(line(i)), address(line(static_cast<uint16_t>(i + lines.cleared))), bytes);
        }
    }
    if (lines.cleared == 0) return;
    // One cell makes a line of cells, and the line makes the others.
    uint8_t pattern[32];
    make_cell(pattern, s, color);
    const uint32_t first = address(line(lines.moved));
    move_block(first, physical(stack_segment(), near_offset(pattern)), cell);
    move_block(first + cell, first, bytes - cell);
    for (uint16_t i = 1; i < lines.cleared; ++i) {
        move_block(address(line(static_cast<uint16_t>(lines.moved + i))), first, bytes);
    }
}

}  // namespace viv::rom
