// Every mode of the video BIOS's table, as the BIOS programs it, with a scene that gives each pixel a colour of its
// own: the adapter's picture must have it at each dot.

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>

#include "bios/layout.hpp"
#include "bios/rom_images.hpp"
#include "bios/video/parameters.hpp"
#include "devices/video/vga.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using rom::ScanLines;

namespace {

using Colour = std::array<uint8_t, 3>;

// What a monitor shows of the sixteen colours that all of these modes begin with.
constexpr std::array<Colour, 16> sixteen = {{{0x00, 0x00, 0x00},
                                             {0x00, 0x00, 0xAA},
                                             {0x00, 0xAA, 0x00},
                                             {0x00, 0xAA, 0xAA},
                                             {0xAA, 0x00, 0x00},
                                             {0xAA, 0x00, 0xAA},
                                             {0xAA, 0x55, 0x00},
                                             {0xAA, 0xAA, 0xAA},
                                             {0x55, 0x55, 0x55},
                                             {0x55, 0x55, 0xFF},
                                             {0x55, 0xFF, 0x55},
                                             {0x55, 0xFF, 0xFF},
                                             {0xFF, 0x55, 0x55},
                                             {0xFF, 0x55, 0xFF},
                                             {0xFF, 0xFF, 0x55},
                                             {0xFF, 0xFF, 0xFF}}};
constexpr Colour black = {0, 0, 0}, grey = {0xAA, 0xAA, 0xAA}, white = {0xFF, 0xFF, 0xFF};

/// A VGA that is programmed through its ports as bios/video/modes.cpp does it.
class Adapter {
  public:
    void set_mode(uint8_t mode, ScanLines lines) {
        const uint8_t index = rom::parameter_index(mode, lines);
        REQUIRE(index != rom::no_parameters);
        const rom::VideoParameters& p = rom::parameters::table.entry[index];
        const uint16_t crtc = p.miscellaneous & 1 ? 0x3D4 : 0x3B4;
        out(0x3C2, p.miscellaneous);
        indexed(0x3C4, 0, 3);
        for (uint8_t i = 0; i < 4; ++i) indexed(0x3C4, static_cast<uint8_t>(i + 1), p.sequencer[i]);
        indexed(crtc, 0x11, 0);
        for (uint8_t i = 0; i < 25; ++i) indexed(crtc, i, p.crtc[i]);
        for (uint8_t i = 0; i < 9; ++i) indexed(0x3CE, i, p.graphics[i]);
        in(static_cast<uint16_t>(crtc + 6));
        for (uint8_t i = 0; i < 20; ++i) {
            out(0x3C0, i);
            out(0x3C0, p.attribute[i]);
        }
        out(0x3C0, 0x14);
        out(0x3C0, 0);
        load_dac(mode, lines);
        if (mode <= 3 || mode == 7) {
            load_font(p);
            indexed(crtc, 0x0A, 0x20);  // no cursor
        }
        in(static_cast<uint16_t>(crtc + 6));
        out(0x3C0, 0x20);
        columns = p.columns;
        rows = p.rows_minus_one + 1u;
        character_height = p.character_height;
    }
    void out(uint16_t port, uint8_t value) { vga_.ports().write({uint64_t{port} - Vga::first_port, 1}, value); }
    void in(uint16_t port) { vga_.ports().read({uint64_t{port} - Vga::first_port, 1}); }
    void indexed(uint16_t port, uint8_t index, uint8_t value) {
        out(port, index);
        out(static_cast<uint16_t>(port + 1), value);
    }
    void poke(uint32_t address, uint8_t value) { vga_.memory().write({address - 0xA0000, 1}, value); }
    [[nodiscard]] Image picture() const { return vga_.pixels(); }
    /// Row `y` of a character in the font of this height.
    [[nodiscard]] uint8_t glyph(uint8_t character, unsigned y) const {
        return std::to_integer<uint8_t>(font_[character * size_t{character_height} + y]);
    }
    /// A colour of the DAC as it was loaded.
    [[nodiscard]] Colour dac(uint8_t index) const {
        const auto level = [&](size_t part) {
            const uint8_t value = vga_.state().dac[index * 3u + part];
            return static_cast<uint8_t>(value << 2 | value >> 4);
        };
        return {level(0), level(1), level(2)};
    }

    unsigned columns = 0;
    unsigned rows = 0;
    unsigned character_height = 0;

  private:
    void load_dac(uint8_t mode, ScanLines lines) {
        const bool cga =
            (mode >= 4 && mode <= 6) || mode == 0x0D || mode == 0x0E || (mode <= 3 && lines == ScanLines::lines_200);
        out(0x3C6, 0xFF);
        out(0x3C8, 0);
        for (unsigned i = 0; i < (mode == 0x13 ? 256u : 64u); ++i) {
            const auto index = static_cast<uint8_t>(i);
            const rom::Rgb colour = mode == 0x13                ? rom::linear_color(index)
                                    : mode == 7 || mode == 0x0F ? rom::mono_color(index)
                                    : cga                       ? rom::cga_color(index)
                                                                : rom::ega_color(index);
            for (const uint8_t level : {colour.red, colour.green, colour.blue}) out(0x3C9, level);
        }
    }
    void load_font(const rom::VideoParameters& p) {
        // The 8x14 and the 8x8 font follow the 8x16 one in the ROM.
        const auto image = rom::video_bios();
        uint16_t at = 0;
        std::memcpy(&at, &image[rom::video_header_offset + offsetof(rom::VideoRomHeader, font_8x16)], sizeof at);
        const size_t skip = p.character_height == 16 ? 0u : p.character_height == 14 ? 4096u : 4096u + 14 * 256u;
        font_ = image.subspan(at + skip, 256 * size_t{p.character_height});
        indexed(0x3C4, 2, 4);
        indexed(0x3C4, 4, 6);
        indexed(0x3CE, 5, 0);
        indexed(0x3CE, 6, 4);
        for (uint32_t i = 0; i < 256 * uint32_t{p.character_height}; ++i) {
            poke(0xA0000 + i / p.character_height * 32 + i % p.character_height, std::to_integer<uint8_t>(font_[i]));
        }
        indexed(0x3C4, 2, p.sequencer[1]);
        indexed(0x3C4, 4, p.sequencer[3]);
        indexed(0x3CE, 5, p.graphics[5]);
        indexed(0x3CE, 6, p.graphics[6]);
    }

    ManualClock clock_;
    Vga vga_{clock_};
    std::span<const std::byte> font_;
};

/// Compares each dot; each pixel of the scene is `across` by `down` of them.
void check_picture(const Image& image, unsigned width, unsigned height, unsigned across, unsigned down,
                   const std::function<Colour(unsigned x, unsigned y)>& expected) {
    REQUIRE(image.width == width * across);
    REQUIRE(image.height == height * down);
    unsigned wrong = 0;
    for (unsigned y = 0; y < image.height; ++y) {
        for (unsigned x = 0; x < image.width; ++x) {
            const Colour colour = expected(x / across, y / down);
            const bool same = image.at(x, y) == viv::Rgb{colour[0], colour[1], colour[2]};
            if (!same && wrong++ == 0) {
                INFO("the first wrong dot is " << x << ", " << y);
                CHECK(same);
            }
        }
    }
    CHECK(wrong == 0);
}

// A number that neighbours, columns and lines do not share.
unsigned scene(unsigned x, unsigned y) {
    return x * 7 + y * 13 + (x * y >> 3) + (x >> 4);
}

struct TextMode {
    uint8_t mode;
    ScanLines lines;
    unsigned dots;    // of a character
    unsigned height;  // of a character
    unsigned across, down;
};

TEST_CASE("Text modes show each character in its colours at each dot") {
    const auto text = GENERATE(TextMode{0x01, ScanLines::lines_200, 8, 8, 2, 2},    //
                               TextMode{0x01, ScanLines::lines_350, 8, 14, 2, 1},   //
                               TextMode{0x00, ScanLines::lines_400, 9, 16, 2, 1},   //
                               TextMode{0x03, ScanLines::lines_200, 8, 8, 1, 2},    //
                               TextMode{0x02, ScanLines::lines_350, 8, 14, 1, 1},   //
                               TextMode{0x03, ScanLines::lines_400, 9, 16, 1, 1},   //
                               TextMode{0x07, ScanLines::lines_350, 9, 14, 1, 1},   //
                               TextMode{0x07, ScanLines::lines_400, 9, 16, 1, 1});  //
    CAPTURE(static_cast<int>(text.mode), text.height);
    Adapter adapter;
    adapter.set_mode(text.mode, text.lines);
    REQUIRE(adapter.character_height == text.height);
    const auto character = [](unsigned column, unsigned row) { return static_cast<uint8_t>(scene(column, row)); };
    const auto attribute = [](unsigned column, unsigned row) {
        return static_cast<uint8_t>((scene(column, row) >> 3) ^ column);
    };
    const uint32_t base = text.mode == 7 ? 0xB0000 : 0xB8000;
    for (unsigned row = 0; row < adapter.rows; ++row) {
        for (unsigned column = 0; column < adapter.columns; ++column) {
            const uint32_t at = base + (row * adapter.columns + column) * 2;
            adapter.poke(at, character(column, row));
            adapter.poke(at + 1, attribute(column, row));
        }
    }
    check_picture(adapter.picture(), adapter.columns * text.dots, adapter.rows * text.height, text.across, text.down,
                  [&](unsigned x, unsigned y) {
                      const unsigned column = x / text.dots, row = y / text.height, dot = x % text.dots;
                      const uint8_t code = character(column, row), look = attribute(column, row);
                      uint8_t bits = adapter.glyph(code, y % text.height);
                      bool set = dot < 8 ? bits >> (7 - dot) & 1 : code >= 0xC0 && code <= 0xDF && (bits & 1);
                      const unsigned foreground = look & 0x0F, background = look >> 4 & 7;
                      if (text.mode != 7) return sixteen[set ? foreground : background];
                      // Monochrome: off, normal, bright; reversed where the background is not 0; a line under blue.
                      const bool is_underline_row = y % text.height == (text.height == 14 ? 13u : 15u);
                      if (is_underline_row && (look & 0x77) == 0x01) set = true;
                      const auto level = [](unsigned colour) {
                          return colour == 0 ? black : colour == 8 ? grey : white;
                      };
                      const unsigned shown = set ? foreground : background;
                      // Its palette has 8 for the colours 1 to 7, 10h for 8 and 18h above.
                      return level(shown == 0 ? 0 : shown < 8 ? 8 : shown == 8 ? 0 : 24);
                  });
}

void write_planar(Adapter& adapter, unsigned width, unsigned height,
                  const std::function<unsigned(unsigned, unsigned)>& pixel) {
    for (unsigned y = 0; y < height; ++y) {
        for (unsigned x = 0; x < width; x += 8) {
            for (unsigned map = 0; map < 4; ++map) {
                unsigned bits = 0;
                for (unsigned i = 0; i < 8; ++i) bits |= (pixel(x + i, y) >> map & 1) << (7 - i);
                adapter.indexed(0x3C4, 2, static_cast<uint8_t>(1 << map));
                adapter.poke(0xA0000 + y * (width / 8) + x / 8, static_cast<uint8_t>(bits));
            }
        }
    }
}

struct PlanarMode {
    uint8_t mode;
    unsigned width, height, across, down;
};

TEST_CASE("Modes of sixteen colours show each pixel") {
    const auto planar = GENERATE(PlanarMode{0x0D, 320, 200, 2, 2}, PlanarMode{0x0E, 640, 200, 1, 2},
                                 PlanarMode{0x10, 640, 350, 1, 1}, PlanarMode{0x12, 640, 480, 1, 1});
    CAPTURE(static_cast<int>(planar.mode));
    Adapter adapter;
    adapter.set_mode(planar.mode, ScanLines::lines_400);
    write_planar(adapter, planar.width, planar.height, scene);
    check_picture(adapter.picture(), planar.width, planar.height, planar.across, planar.down,
                  [](unsigned x, unsigned y) { return sixteen[scene(x, y) & 0x0F]; });
}

TEST_CASE("Mode 0Fh has black, normal and bright pixels, and some that blink") {
    Adapter adapter;
    adapter.set_mode(0x0F, ScanLines::lines_400);
    constexpr std::array<unsigned, 4> values = {0, 1, 4, 5};
    write_planar(adapter, 640, 350, [&](unsigned x, unsigned y) { return values[scene(x, y) & 3]; });
    constexpr std::array<Colour, 4> shown = {black, grey, white, white};
    check_picture(adapter.picture(), 640, 350, 1, 1, [&](unsigned x, unsigned y) { return shown[scene(x, y) & 3]; });
}

TEST_CASE("Mode 11h has two colours") {
    Adapter adapter;
    adapter.set_mode(0x11, ScanLines::lines_400);
    write_planar(adapter, 640, 480, [](unsigned x, unsigned y) { return scene(x, y) & 1 ? 0x0Fu : 0u; });
    check_picture(adapter.picture(), 640, 480, 1, 1,
                  [](unsigned x, unsigned y) { return scene(x, y) & 1 ? white : black; });
}

TEST_CASE("Modes 4 and 5 have four colours of a CGA, two bits a pixel") {
    const uint8_t mode = GENERATE(uint8_t{4}, uint8_t{5});
    Adapter adapter;
    adapter.set_mode(mode, ScanLines::lines_400);
    for (unsigned y = 0; y < 200; ++y) {
        for (unsigned x = 0; x < 320; x += 4) {
            unsigned byte = 0;
            for (unsigned i = 0; i < 4; ++i) byte = byte << 2 | (scene(x + i, y) & 3);
            adapter.poke(0xB8000 + (y & 1) * 0x2000 + y / 2 * 80 + x / 4, static_cast<uint8_t>(byte));
        }
    }
    constexpr std::array<unsigned, 4> palette = {0, 11, 13, 15};
    check_picture(adapter.picture(), 320, 200, 2, 2,
                  [&](unsigned x, unsigned y) { return sixteen[palette[scene(x, y) & 3]]; });
}

TEST_CASE("Mode 6 has two colours, one bit a pixel") {
    Adapter adapter;
    adapter.set_mode(6, ScanLines::lines_400);
    for (unsigned y = 0; y < 200; ++y) {
        for (unsigned x = 0; x < 640; x += 8) {
            unsigned byte = 0;
            for (unsigned i = 0; i < 8; ++i) byte = byte << 1 | (scene(x + i, y) & 1);
            adapter.poke(0xB8000 + (y & 1) * 0x2000 + y / 2 * 80 + x / 8, static_cast<uint8_t>(byte));
        }
    }
    check_picture(adapter.picture(), 640, 200, 1, 2,
                  [](unsigned x, unsigned y) { return scene(x, y) & 1 ? white : black; });
}

TEST_CASE("Mode 13h has 256 colours, a byte a pixel") {
    Adapter adapter;
    adapter.set_mode(0x13, ScanLines::lines_400);
    for (unsigned y = 0; y < 200; ++y) {
        for (unsigned x = 0; x < 320; ++x) adapter.poke(0xA0000 + y * 320 + x, static_cast<uint8_t>(scene(x, y)));
    }
    for (uint8_t i = 0; i < 16; ++i) CHECK(adapter.dac(i) == sixteen[i]);
    check_picture(adapter.picture(), 320, 200, 2, 2,
                  [&](unsigned x, unsigned y) { return adapter.dac(static_cast<uint8_t>(scene(x, y))); });
}

// As Michael Abrash's "mode X": mode 13h, unchained, with the timing of 480 lines.
TEST_CASE("Mode X has 256 colours in 320x240 square pixels, four maps side by side") {
    Adapter adapter;
    adapter.set_mode(0x13, ScanLines::lines_400);
    adapter.indexed(0x3C4, 4, 0x06);
    adapter.out(0x3C2, 0xE3);
    adapter.indexed(0x3D4, 0x11, 0x0C);
    constexpr std::array<std::array<uint8_t, 2>, 10> timing = {{{0x06, 0x0D},
                                                                {0x07, 0x3E},
                                                                {0x09, 0x41},
                                                                {0x10, 0xEA},
                                                                {0x11, 0xAC},
                                                                {0x12, 0xDF},
                                                                {0x14, 0x00},
                                                                {0x15, 0xE7},
                                                                {0x16, 0x06},
                                                                {0x17, 0xE3}}};
    for (const auto& [index, value] : timing) adapter.indexed(0x3D4, index, value);
    for (unsigned map = 0; map < 4; ++map) {
        adapter.indexed(0x3C4, 2, static_cast<uint8_t>(1 << map));
        for (unsigned y = 0; y < 240; ++y) {
            for (unsigned x = map; x < 320; x += 4) {
                adapter.poke(0xA0000 + y * 80 + x / 4, static_cast<uint8_t>(scene(x, y)));
            }
        }
    }
    check_picture(adapter.picture(), 320, 240, 2, 2,
                  [&](unsigned x, unsigned y) { return adapter.dac(static_cast<uint8_t>(scene(x, y))); });
}

TEST_CASE("A split screen pans above the line and stands still below it") {
    Adapter adapter;
    adapter.set_mode(0x0D, ScanLines::lines_400);
    // A virtual screen of 640 by 150 from 4000h on, a panel of 50 lines from 0 on.
    adapter.indexed(0x3D4, 0x13, 40);
    const auto poke_pixels = [&](uint32_t base, unsigned height, unsigned salt) {
        for (unsigned y = 0; y < height; ++y) {
            for (unsigned x = 0; x < 640; x += 8) {
                for (unsigned map = 0; map < 4; ++map) {
                    unsigned bits = 0;
                    for (unsigned i = 0; i < 8; ++i) bits |= (scene(x + i + salt, y) >> map & 1) << (7 - i);
                    adapter.indexed(0x3C4, 2, static_cast<uint8_t>(1 << map));
                    adapter.poke(0xA0000 + base + y * 80 + x / 8, static_cast<uint8_t>(bits));
                }
            }
        }
    };
    poke_pixels(0, 50, 1000);
    poke_pixels(0x4000, 150, 0);
    constexpr unsigned pan = 85;  // pixels: ten bytes and five
    adapter.indexed(0x3D4, 0x0C, 0x40);
    adapter.indexed(0x3D4, 0x0D, pan / 8);
    adapter.indexed(0x3D4, 0x11, 0x0E);
    constexpr unsigned last_line = 2 * 150 - 1;
    adapter.indexed(0x3D4, 0x18, last_line & 0xFF);
    adapter.indexed(0x3D4, 0x07, 0x1F);
    adapter.indexed(0x3D4, 0x09, 0x80);
    adapter.in(0x3DA);
    adapter.out(0x3C0, 0x13 | 0x20);
    adapter.out(0x3C0, pan % 8);
    adapter.out(0x3C0, 0x10 | 0x20);
    adapter.out(0x3C0, 0x21);  // panning ends at the line
    check_picture(adapter.picture(), 320, 200, 2, 2, [&](unsigned x, unsigned y) {
        return sixteen[(y < 150 ? scene(x + pan, y) : scene(x + 1000, y - 150)) & 0x0F];
    });
}

}  // namespace
