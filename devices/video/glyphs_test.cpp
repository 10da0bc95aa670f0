#include "devices/video/glyphs.hpp"
#include "devices/video/test_font.hpp"

#include "vmm/core/catch.hpp"

namespace viv {
namespace {
using namespace testing;
constexpr Rgb black = {0, 0, 0};
constexpr Rgb white = {0xFF, 0xFF, 0xFF};
constexpr Rgb blue = {0, 0, 0xAA};

void draw(Image& image, const std::vector<std::byte>& font, unsigned left, unsigned top, std::string_view text,
          Rgb foreground, Rgb background) {
    const auto height = static_cast<unsigned>(font.size() / 256);
    for (const char character : text) {
        for (unsigned y = 0; y < height; ++y) {
            const auto row = std::to_integer<unsigned>(font[static_cast<uint8_t>(character) * height + y]);
            for (unsigned x = 0; x < 8; ++x) {
                image.pixels[(top + y) * image.width + left + x] = row & 0x80u >> x ? foreground : background;
            }
        }
        left += 8;
    }
}

Image blank(unsigned width, unsigned height, Rgb colour = black) {
    return {width, height, std::vector<Rgb>(size_t{width} * height, colour)};
}

TEST_CASE("fonts of the usual heights are found wherever they lie") {
    for (const unsigned height : {8u, 14u, 16u}) {
        std::vector<std::byte> memory(100'003, std::byte{0xF0});
        const auto font = make_font(height);
        std::ranges::copy(font, memory.begin() + 54'321);
        const auto found = find_fonts(memory);
        REQUIRE(found.size() == 1);
        CHECK(found[0].height == height);
        CHECK(found[0].rows['A'][1] == 'A');
    }
}

TEST_CASE("no font is found where a part of it is missing") {
    const auto font = make_font(16);
    CHECK(find_fonts(std::span(font).first(font.size() - 1)).empty());
    CHECK(find_fonts(std::span(font).subspan(1)).empty());
    CHECK(find_fonts({}).empty());
    auto damaged = font;
    damaged[0xDF * 16 + 15] = std::byte{0xFF};
    CHECK(find_fonts(damaged).empty());
}

TEST_CASE("text is read from pictures in any two colours, and other cells are blanks") {
    for (const unsigned height : {8u, 14u, 16u}) {
        const auto font = make_font(height);
        const auto fonts = find_fonts(font);
        Image image = blank(640, 480, blue);
        draw(image, font, 0, 0, "Hello", white, blue);
        draw(image, font, 16, height, "inverse \xDB\xDC\xDD", blue, white);
        draw(image, font, 0, 2 * height, "spoilt", white, blue);
        image.pixels[2 * height * 640 + 9] = white;
        const TextScreen screen = recognise_text(image, fonts);
        CHECK(screen.kind == ScreenKind::graphics);
        CHECK(screen.columns == 80);
        CHECK(screen.rows == 480 / height);
        CHECK(screen.line(0) == "Hello");
        CHECK(screen.line(1).starts_with("  inverse"));
        CHECK(screen.line(2) == "s oilt");
        CHECK(screen.at(0, 0).foreground == white);
        CHECK(screen.at(0, 0).background == blue);
    }
}

TEST_CASE("text over a picture is read by its colour") {
    const auto font = make_font(16);
    Image image = blank(640, 480);
    for (unsigned i = 0; i < image.pixels.size(); ++i) image.pixels[i].blue = static_cast<uint8_t>(i % 640 / 3);
    Image text = blank(640, 480);
    draw(text, font, 80, 160, "over a picture", white, black);
    for (unsigned i = 0; i < image.pixels.size(); ++i) {
        if (text.pixels[i] == white) image.pixels[i] = white;
    }
    const auto fonts = find_fonts(font);
    CHECK(recognise_text(image, fonts).line(10) == "          over a picture");
    // Also where something else happens to look like two characters.
    draw(image, font, 0, 3, "ab", white, black);
    draw(image, font, 0, 24, "ab", white, black);
    CHECK(recognise_text(image, fonts).line(10) == "          over a picture");
}

TEST_CASE("text that was blended into a picture is read by its brightness or by a colour") {
    // As the graphical menus of installers draw it: shades of the background show through, and there is a shadow.
    const auto font = make_font(16);
    const auto fonts = find_fonts(font);
    const auto shade = [](unsigned x, unsigned y) { return static_cast<uint8_t>(0x50 + (x + 2 * y) % 0x30); };
    Image image = blank(640, 480);
    for (unsigned y = 0; y < image.height; ++y) {
        for (unsigned x = 0; x < image.width; ++x) {
            image.pixels[size_t{y} * image.width + x] = {shade(x, y), shade(x, y), shade(x, y)};
        }
    }
    const Image background = image;
    CHECK(recognise_text(background, fonts).cells.empty());
    Image letters = blank(640, 480);
    draw(letters, font, 80, 160, "bright with a shadow", white, black);
    Image coloured = blank(640, 480);
    draw(coloured, font, 80, 192, "as bright as the rest", white, black);
    for (unsigned y = 1; y < image.height; ++y) {
        for (unsigned x = 1; x < image.width; ++x) {
            Rgb& dot = image.pixels[size_t{y} * image.width + x];
            const auto part = static_cast<uint8_t>(shade(x, y) / 8);
            if (letters.at(x, y) == white) {
                dot = {static_cast<uint8_t>(0xD0 + part), static_cast<uint8_t>(0xD0 + part), 0xE0};
            } else if (letters.at(x - 1, y - 1) == white) {
                dot = {part, part, part};
            } else if (coloured.at(x, y) == white) {
                dot = {static_cast<uint8_t>(part / 2), static_cast<uint8_t>(0x50 + 2 * part), 0xF0};
            }
        }
    }
    CHECK(recognise_text(image, fonts).line(10) == "          bright with a shadow");
    CHECK(recognise_text(image, fonts).line(12) == "          as bright as the rest");
}

TEST_CASE("the font that explains most wins") {
    auto both = make_font(16);
    const auto other = make_font(16, 3);
    both.insert(both.end(), other.begin(), other.end());
    const auto fonts = find_fonts(both);
    REQUIRE(fonts.size() == 2);
    Image image = blank(800, 600);
    draw(image, other, 0, 0, "made with the other one", white, black);
    CHECK(recognise_text(image, fonts).line(0) == "made with the other one");
}

TEST_CASE("a screen of 80 columns in the middle of a larger picture is found, and what is in line with it") {
    const auto font = make_font(16);
    Image image = blank(1024, 768);
    draw(image, font, (1024 - 640) / 2, (768 - 400) / 2 + 16, "centred", white, black);
    draw(image, font, 8, (768 - 400) / 2 - 2 * 16, "above", white, black);
    const TextScreen screen = recognise_text(image, find_fonts(font));
    CHECK(screen.columns == 128);
    CHECK(screen.rows == 47);
    CHECK(screen.line(12) == std::string(24, ' ') + "centred");
    CHECK(screen.line(9) == " above");
}

TEST_CASE("a picture without text has no cells") {
    const auto font = make_font(16);
    const auto fonts = find_fonts(font);
    Image drawing = blank(640, 480);
    draw(drawing, font, 80, 160, "\xDB\xDC\xDD\xDE\xDFx", white, black);
    CHECK(recognise_text(drawing, fonts).cells.empty());
    CHECK(recognise_text(blank(640, 480), fonts).cells.empty());
    CHECK(recognise_text(Image{}, fonts).cells.empty());
    CHECK(recognise_text(blank(640, 480), {}).cells.empty());
}

}  // namespace
}  // namespace viv
