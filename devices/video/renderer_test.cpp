#include "devices/video/renderer.hpp"

#include "devices/video/code_page_437.hpp"
#include "devices/video/vga_test_rig.hpp"
#include "vmm/core/catch.hpp"

namespace viv {
namespace {
using namespace testing;

constexpr Rgb grey = {0xAA, 0xAA, 0xAA};
constexpr Rgb black = {0, 0, 0};
constexpr Rgb blue = {0, 0, 0xAA};
constexpr Rgb white = {0xFF, 0xFF, 0xFF};
constexpr Rgb yellow = {0xFF, 0xFF, 0x55};

TEST_CASE("mode 3 is 80 columns and 25 rows of characters with their colours") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.print(0, 0, "Hello", 0x07);
    rig.print(24, 75, "World", 0x1E);
    const TextScreen screen = rig.vga.text();
    CHECK(screen.kind == ScreenKind::text);
    CHECK_FALSE(screen.blanked);
    REQUIRE(screen.columns == 80);
    REQUIRE(screen.rows == 25);
    CHECK(screen.line(0) == "Hello");
    CHECK(screen.line(1).empty());
    CHECK(screen.line(24) == std::string(75, ' ') + "World");
    CHECK(screen.line(25).empty());
    CHECK(screen.plain() == "Hello\n" + std::string(23, '\n') + std::string(75, ' ') + "World\n");
    CHECK(screen.at(0, 0) == TextCell{'H', 0x07, false, false, grey, black});
    CHECK(screen.at(79, 24) == TextCell{'d', 0x1E, false, false, yellow, blue});
}

constexpr std::initializer_list<uint8_t> glyph_a = {0x80, 0x01, 0xFF, 0x00};

/// The dots of a line from x on, '#' for `colour`.
std::string dots(const Image& image, unsigned y, unsigned x, unsigned count, Rgb colour) {
    std::string out;
    for (unsigned i = 0; i < count; ++i) out += image.at(x + i, y) == colour ? '#' : '.';
    return out;
}

TEST_CASE("text has 9-dot cells from the font in map 2, and lines that join") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.out_indexed(0x3D4, 0x0A, 0x20);
    rig.set_glyph('A', glyph_a);
    rig.set_glyph(0xC4, glyph_a);
    rig.print(0, 1, "A\xC4", 0x1F);
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 720);
    REQUIRE(image.height == 400);
    CHECK(dots(image, 0, 9, 18, white) == "#........#........");
    CHECK(dots(image, 1, 9, 18, white) == ".......#........##");
    CHECK(dots(image, 2, 9, 18, white) == "########.#########");
    CHECK(dots(image, 3, 9, 18, blue) == "##################");
    CHECK(image.at(8, 0) == black);
    CHECK(image.at(27, 0) == black);
    CHECK(image.at(9, 16) == black);
}

TEST_CASE("text in 8-dot cells is 640 dots wide") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.out_indexed(0x3C4, 1, 1);
    rig.attribute(0x13, 0);
    rig.out_indexed(0x3D4, 0x0A, 0x20);
    rig.set_glyph('A', glyph_a);
    rig.print(0, 0, "AA");
    const Image image = rig.vga.pixels();
    CHECK(image.width == 640);
    CHECK(dots(image, 0, 0, 16, grey) == "#.......#.......");
    CHECK(dots(image, 1, 0, 16, grey) == ".......#.......#");
}

TEST_CASE("attribute bit 3 chooses between two fonts") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.out_indexed(0x3D4, 0x0A, 0x20);
    rig.set_glyph('A', {0xF0}, 0x4000);
    rig.set_glyph('A', {0x0F}, 0xE000);
    rig.out_indexed(0x3C4, 3, 0x2D);  // map A is number 7, map B number 1
    rig.print(0, 0, "A", 0x07);
    rig.print(0, 1, "A", 0x0F);
    const Image image = rig.vga.pixels();
    CHECK(dots(image, 0, 0, 9, grey) == "####.....");
    CHECK(dots(image, 0, 9, 9, white) == "....####.");
}

TEST_CASE("mode 1 is 40 columns of doubled dots") {
    VgaRig rig;
    rig.set_mode(mode_01);
    rig.set_ega_colours();
    rig.out_indexed(0x3D4, 0x0A, 0x20);
    rig.set_glyph('A', glyph_a);
    rig.poke16(0xB8000, 0x0741);
    rig.poke16(0xB8000 + 80, 0x0742);
    const Image image = rig.vga.pixels();
    CHECK(image.width == 720);
    CHECK(image.height == 400);
    CHECK(dots(image, 0, 0, 18, grey) == "##................");
    const TextScreen screen = rig.vga.text();
    CHECK(screen.columns == 40);
    CHECK(screen.rows == 25);
    CHECK(screen.line(0) == "A");
    CHECK(screen.line(1) == "B");
}

TEST_CASE("smaller characters give 50 rows, and 43 in 350 lines") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.out_indexed(0x3D4, 9, 0x47);
    CHECK(rig.vga.text().rows == 50);
    rig.out_indexed(0x3D4, 0x12, 0x5D);
    CHECK(rig.vga.text().rows == 43);
    CHECK(rig.vga.pixels().height == 350);
    rig.out_indexed(0x3D4, 9, 0xC7);  // double scan
    CHECK(rig.vga.text().rows == 21);
}

TEST_CASE("the cursor has its lines, its cell's colour and its phase") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.print(1, 2, " ", 0x1F);
    rig.out_indexed(0x3D4, 0x0F, 82);
    CHECK(rig.vga.text().cursor == TextCursor{true, 2, 1, 13, 14, 16});
    Image image = rig.vga.pixels();
    CHECK(dots(image, 16 + 13, 17, 11, white) == ".#########.");
    CHECK(dots(image, 16 + 12, 18, 9, blue) == "#########");
    CHECK(dots(image, 16 + 15, 18, 9, blue) == "#########");
    rig.clock.advance(Duration{15'000'000 * 8});  // eight frames on: the off phase
    CHECK(dots(rig.vga.pixels(), 16 + 13, 18, 9, white) == ".........");
    rig.clock.advance(Duration{15'000'000 * 8});
    rig.out_indexed(0x3D4, 0x0B, 0x2E);  // skewed by one character
    CHECK(rig.vga.text().cursor.column == 3);
    rig.out_indexed(0x3D4, 0x0B, 0x0E);
    rig.out_indexed(0x3D4, 0x0A, 0x2D);
    CHECK_FALSE(rig.vga.text().cursor.visible);
    CHECK(dots(rig.vga.pixels(), 16 + 13, 18, 9, white) == ".........");
    rig.out_indexed(0x3D4, 0x0A, 0x0F);  // begins after its end
    CHECK_FALSE(rig.vga.text().cursor.visible);
    rig.out_indexed(0x3D4, 0x0A, 0x0D);
    rig.out_indexed(0x3D4, 0x0E, 0x10);  // elsewhere in memory
    CHECK_FALSE(rig.vga.text().cursor.visible);
}

TEST_CASE("attribute bit 7 blinks, or is the background's intensity") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.out_indexed(0x3D4, 0x0A, 0x20);
    rig.set_glyph('A', {0xFF});
    rig.print(0, 0, "A", 0x97);
    CHECK(rig.vga.text().at(0, 0) == TextCell{'A', 0x97, true, false, grey, blue});
    CHECK(dots(rig.vga.pixels(), 0, 0, 9, grey) == "########.");
    rig.clock.advance(Duration{15'000'000 * 16});
    CHECK(dots(rig.vga.pixels(), 0, 0, 9, grey) == ".........");
    rig.attribute(0x10, 0x04);
    CHECK(rig.vga.text().at(0, 0) == TextCell{'A', 0x97, false, false, grey, {0x55, 0x55, 0xFF}});
    CHECK(dots(rig.vga.pixels(), 0, 0, 9, grey) == "########.");
}

TEST_CASE("mode 7 underlines attribute 1 on its line, at B0000h") {
    VgaRig rig;
    rig.set_mode(mode_07);
    rig.set_ega_colours();
    rig.out_indexed(0x3B4, 0x0A, 0x20);
    rig.print(0, 0, "  ", 0x01, 0xB0000);
    rig.print(0, 1, " ", 0x07, 0xB0000);
    const TextScreen screen = rig.vga.text();
    CHECK(screen.at(0, 0).underline);
    CHECK_FALSE(screen.at(1, 0).underline);
    CHECK(dots(rig.vga.pixels(), 13, 0, 18, black) == ".........#########");
    CHECK(dots(rig.vga.pixels(), 12, 0, 9, black) == "#########");
    rig.set_mode(mode_03);
    CHECK_FALSE(rig.vga.text().at(0, 0).underline);
}

TEST_CASE("the start address scrolls, and wraps within 32 KiB of text") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.print(0, 0, "first");
    rig.print(1, 0, "second");
    rig.print(25, 0, "below");
    rig.out_indexed(0x3D4, 0x0D, 80);
    CHECK(rig.vga.text().line(0) == "second");
    CHECK(rig.vga.text().line(24) == "below");
    rig.out_indexed(0x3D4, 0x0C, 0x3F);
    rig.out_indexed(0x3D4, 0x0D, 0xFE);
    rig.poke16(0xBFFFC, 0x0758);
    CHECK(rig.vga.text().at(0, 0).character == 'X');
}

TEST_CASE("the line compare splits the screen, and panning may stop there") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.out_indexed(0x3D4, 0x0A, 0x20);
    rig.set_glyph('A', {0x80});
    rig.set_glyph('B', {0xFF});
    rig.print(0, 0, "A");
    rig.print(25, 0, "BB");
    rig.out_indexed(0x3D4, 0x0C, 2000 >> 8);
    rig.out_indexed(0x3D4, 0x0D, 2000 & 0xFF);
    rig.out_indexed(0x3D4, 0x11, 0x0E);
    rig.out_indexed(0x3D4, 0x07, 0x0F);
    rig.out_indexed(0x3D4, 0x09, 0x0F);
    rig.out_indexed(0x3D4, 0x18, 159);
    const TextScreen screen = rig.vga.text();
    CHECK(screen.rows == 25);
    CHECK(screen.line(0) == "BB");
    CHECK(screen.line(10) == "A");
    CHECK(screen.line(11).empty());
    rig.attribute(0x13, 2);  // three dots to the left
    Image image = rig.vga.pixels();
    CHECK(dots(image, 0, 0, 18, grey) == "#####.########....");
    CHECK(dots(image, 160, 0, 9, grey) == ".........");
    rig.attribute(0x10, 0x2C);
    image = rig.vga.pixels();
    CHECK(dots(image, 0, 0, 9, grey) == "#####.###");
    CHECK(dots(image, 160, 0, 9, grey) == "#........");
}

TEST_CASE("the preset row scan and byte panning scroll smoothly") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.set_ega_colours();
    rig.out_indexed(0x3D4, 0x0A, 0x20);
    rig.set_glyph('A', {0x00, 0x00, 0xFF});
    rig.print(0, 2, "A");
    rig.print(1, 2, "A");
    rig.out_indexed(0x3D4, 0x08, 0x42);
    const Image image = rig.vga.pixels();
    CHECK(dots(image, 0, 0, 9, grey) == "########.");
    CHECK(dots(image, 16, 0, 9, grey) == "########.");
    CHECK(dots(image, 2, 0, 9, grey) == ".........");
    CHECK(rig.vga.text().line(0) == "A");
}

TEST_CASE("the picture is black while the guest has turned it off") {
    VgaRig rig;
    CHECK(rig.vga.text().blanked);
    rig.set_mode(mode_03);
    rig.colour(0, 0x3F, 0, 0);
    CHECK(rig.vga.pixels().at(0, 0) == Rgb{0xFF, 0, 0});
    const auto off = [&] { return rig.vga.text().blanked && rig.vga.pixels().at(0, 0) == black; };
    rig.out_indexed(0x3C4, 1, 0x20);
    CHECK(off());
    rig.out_indexed(0x3C4, 1, 0x00);
    CHECK_FALSE(off());
    rig.in(0x3DA);
    rig.out(0x3C0, 0x00);
    CHECK(off());
    rig.out(0x3C0, 0x00);
    rig.out(0x3C0, 0x20);
    CHECK_FALSE(off());
    rig.out_indexed(0x3D4, 0x17, 0x23);
    CHECK(off());
}

TEST_CASE("the colour select and the pixel mask change the DAC's address") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.attribute(0, 0x15);
    rig.colour(0x15, 1, 0, 0);
    rig.colour(0xD5, 2, 0, 0);
    rig.colour(0xE5, 3, 0, 0);
    rig.colour(0x05, 4, 0, 0);
    const auto red = [&] { return rig.vga.pixels().at(0, 0).red >> 2; };
    CHECK(red() == 1);
    rig.attribute(0x14, 0x0E);
    CHECK(red() == 2);
    rig.attribute(0x10, 0x8C);
    CHECK(red() == 3);
    rig.out(0x3C6, 0x0F);
    CHECK(red() == 4);
}

TEST_CASE("mode 12h shows sixteen colours of four maps, 640x480") {
    VgaRig rig;
    rig.set_mode(mode_12);
    rig.set_ega_colours();
    rig.out_indexed(0x3C4, 2, 0x09);
    rig.poke(0xA0000, 0x81);
    rig.poke(0xA0000 + 479 * 80 + 79, 0x01);
    rig.out_indexed(0x3C4, 2, 0x06);
    rig.poke(0xA0000, 0x80);
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 640);
    REQUIRE(image.height == 480);
    CHECK(image.at(0, 0) == white);
    CHECK(image.at(1, 0) == black);
    CHECK(image.at(7, 0) == Rgb{0x55, 0x55, 0xFF});
    CHECK(image.at(639, 479) == Rgb{0x55, 0x55, 0xFF});
    CHECK(rig.vga.text().kind == ScreenKind::graphics);
    CHECK(rig.vga.text().cells.empty());
    rig.attribute(0x12, 0x01);  // only map 0
    CHECK(rig.vga.pixels().at(0, 0) == blue);
    rig.attribute(0x12, 0x0F);
    rig.attribute(0x13, 7);
    CHECK(rig.vga.pixels().at(0, 0) == Rgb{0x55, 0x55, 0xFF});
}

TEST_CASE("blinking graphics change the intensity") {
    VgaRig rig;
    rig.set_mode(mode_12);
    rig.set_ega_colours();
    rig.out_indexed(0x3C4, 2, 0x01);
    rig.poke(0xA0000, 0x80);
    rig.attribute(0x10, 0x09);
    CHECK(rig.vga.pixels().at(0, 0) == blue);
    rig.clock.advance(Duration{17'000'000 * 16});
    CHECK(rig.vga.pixels().at(0, 0) == Rgb{0x55, 0x55, 0xFF});
}

TEST_CASE("mode 0Dh is 320x200 with dots and lines doubled") {
    VgaRig rig;
    rig.set_mode(mode_0d);
    rig.set_ega_colours();
    rig.out_indexed(0x3C4, 2, 0x01);
    rig.poke(0xA0000, 0x40);
    rig.poke(0xA0028, 0x80);
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 640);
    REQUIRE(image.height == 400);
    CHECK(dots(image, 0, 0, 6, blue) == "..##..");
    CHECK(dots(image, 1, 0, 6, blue) == "..##..");
    CHECK(dots(image, 2, 0, 6, blue) == "##....");
}

TEST_CASE("mode 13h has a byte a pixel, shown as 2x2 dots") {
    VgaRig rig;
    rig.set_mode(mode_13);
    for (unsigned i = 1; i < 256; ++i) rig.colour(static_cast<uint8_t>(i), static_cast<uint8_t>(i & 0x3F), 0, 0x3F);
    for (uint32_t i = 0; i < 64000; ++i) rig.poke(0xA0000 + i, static_cast<uint8_t>(i * 7 + i / 320));
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 640);
    REQUIRE(image.height == 400);
    unsigned wrong = 0;
    for (unsigned y = 0; y < 400; ++y) {
        for (unsigned x = 0; x < 640; ++x) {
            const unsigned at = y / 2 * 320 + x / 2;
            const unsigned pixel = (at * 7 + at / 320) & 0xFF;
            const unsigned level = pixel & 0x3F;
            const Rgb expected = pixel == 0 ? black : Rgb{static_cast<uint8_t>(level << 2 | level >> 4), 0, 0xFF};
            wrong += image.at(x, y) != expected;
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("mode X: 320x240 in unchained maps, with a page flip by the start address and panning by pixels") {
    VgaRig rig;
    rig.set_mode(mode_13);
    rig.out_indexed(0x3C4, 4, 0x06);
    rig.out(0x3C2, 0xE3);
    rig.out_indexed(0x3D4, 0x11, 0x00);
    const std::pair<uint8_t, uint8_t> changes[] = {{0x06, 0x0D}, {0x07, 0x3E}, {0x09, 0x41}, {0x10, 0xEA},
                                                   {0x12, 0xDF}, {0x14, 0x00}, {0x15, 0xE7}, {0x16, 0x06},
                                                   {0x17, 0xE3}, {0x11, 0xAC}};
    for (const auto& [index, value] : changes) rig.out_indexed(0x3D4, index, value);
    rig.colour(5, 0x3F, 0x3F, 0x3F);
    const auto plot = [&](unsigned x, unsigned y, unsigned page) {
        rig.out_indexed(0x3C4, 2, static_cast<uint8_t>(1u << (x & 3)));
        rig.poke(0xA0000 + page + y * 80 + x / 4, 5);
    };
    plot(1, 0, 0);
    plot(319, 239, 0);
    plot(6, 0, 19200);
    Image image = rig.vga.pixels();
    REQUIRE(image.width == 640);
    REQUIRE(image.height == 480);
    CHECK(dots(image, 0, 0, 8, white) == "..##....");
    CHECK(dots(image, 479, 634, 6, white) == "....##");
    rig.out_indexed(0x3D4, 0x0C, 19200 >> 8);
    rig.out_indexed(0x3D4, 0x0D, 19200 & 0xFF);
    CHECK(dots(rig.vga.pixels(), 1, 8, 8, white) == "....##..");
    rig.attribute(0x13, 4);  // two pixels
    CHECK(dots(rig.vga.pixels(), 1, 8, 8, white) == "##......");
}

TEST_CASE("mode 4: two bits a pixel, odd lines 8 KiB further") {
    VgaRig rig;
    rig.set_mode(mode_04);
    rig.set_ega_colours();
    rig.poke(0xB8000, 0x1B);  // pixels 0, 1, 2, 3
    rig.poke(0xB8001, 0xC0);
    rig.poke(0xBA000, 0x80);
    rig.poke(0xB8050, 0x40);
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 640);
    REQUIRE(image.height == 400);
    const std::array<Rgb, 4> colours = {black, image.at(2, 0), image.at(4, 0), image.at(6, 0)};
    // The palette of mode 4 is light cyan, light magenta and white (13h, 15h, 17h).
    CHECK(colours[1] == Rgb{0x00, 0xFF, 0xAA});
    CHECK(image.at(8, 0) == colours[3]);
    CHECK(image.at(0, 1) == black);
    CHECK(image.at(0, 2) == colours[2]);
    CHECK(image.at(0, 3) == colours[2]);
    CHECK(image.at(0, 4) == colours[1]);
}

TEST_CASE("mode 6: one bit a pixel, odd lines 8 KiB further") {
    VgaRig rig;
    rig.set_mode(mode_06);
    rig.set_ega_colours();
    rig.poke(0xB8000, 0x40);
    rig.poke(0xBA000, 0x80);
    rig.poke(0xB8050, 0x20);
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 640);
    REQUIRE(image.height == 400);
    CHECK(dots(image, 0, 0, 4, black) == "#.##");
    CHECK(dots(image, 2, 0, 4, black) == ".###");
    CHECK(dots(image, 4, 0, 4, black) == "##.#");
}

TEST_CASE("the picture of a frozen screen does not change with the screen") {
    VgaRig rig;
    rig.set_mode(mode_12);
    rig.colour(0, 0x3F, 0, 0);
    auto picture = rig.vga.freeze();
    rig.colour(0, 0, 0x3F, 0);
    CHECK(picture().at(0, 0) == Rgb{0xFF, 0, 0});
    CHECK(rig.vga.pixels().at(0, 0) == Rgb{0, 0xFF, 0});
}

TEST_CASE("no register value makes a picture without size, or one beyond the limit") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.out_indexed(0x3D4, 0x11, 0x00);
    for (const uint8_t value : std::array<uint8_t, 2>{0x00, 0xFF}) {
        for (uint8_t i = 0; i < 0x19; ++i) {
            if (i != 0x11 && i != 0x17) rig.out_indexed(0x3D4, i, value);
        }
        rig.out_indexed(0x3C4, 1, value & 0x08);
        const Image image = rig.vga.pixels();
        CHECK(image.width >= 9);
        CHECK(image.width <= 4608);
        CHECK(image.height >= 1);
        CHECK(image.height <= 1024);
        const TextScreen screen = rig.vga.text();
        CHECK(screen.cells.size() == size_t{screen.columns} * screen.rows);
    }
}

TEST_CASE("code page 437 has a character for every code, ASCII its own") {
    CHECK(code_page_437[0] == u' ');
    CHECK(code_page_437['A'] == u'A');
    CHECK(code_page_437[0x80] == u'\u00C7');
    CHECK(code_page_437[0xDB] == u'\u2588');
    CHECK(code_page_437[0xFE] == u'\u25A0');
    for (const char16_t character : code_page_437) CHECK(character >= u' ');
}

}  // namespace
}  // namespace viv
