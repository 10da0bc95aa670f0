#include "vmm/cli/display/terminal_picture.hpp"

#include "vmm/core/catch.hpp"

namespace viv {
namespace {

constexpr Rgb red = {255, 0, 0};
constexpr Rgb blue = {0, 0, 255};

TEST_CASE("a VGA's picture fills 4:3, a larger one has its own shape") {
    const Image vga{640, 400, {}};
    CHECK(place_picture(vga, {80, 25}, {8, 16}) == PicturePlace{8, 0, 64, 24});
    const Image wide{1920, 1080, {}};
    CHECK(place_picture(wide, {80, 25}, {8, 16}) == PicturePlace{0, 1, 80, 22});
    CHECK(place_picture(vga, {1, 1}, {8, 16}) == PicturePlace{0, 0, 1, 1});
}

TEST_CASE("sixels are bands of six lines, a colour after the other, with runs") {
    Image image{8, 7, std::vector<Rgb>(56, red)};
    image.pixels[7] = blue;
    const std::string drawn = sixel_picture(image, {2, 1, 1, 1}, {8, 7});
    CHECK(drawn ==
          "\x1B[2;3H\x1BP0;1q\"1;1;8;7#0;2;100;0;0#1;2;0;0;100"
          "#0!7~}$#1!7?@$-"
          "#0!8@$-\x1B\\");
}

TEST_CASE("pictures of many colours are reduced to those a sixel terminal has") {
    Image image{64, 64, {}};
    for (unsigned i = 0; i < 64 * 64; ++i) {
        image.pixels.push_back({static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 4), static_cast<uint8_t>(i >> 6)});
    }
    const std::string drawn = sixel_picture(image, {0, 0, 8, 4}, {8, 16});
    CHECK(drawn.find("#251;2;100;100;100") != std::string::npos);
    CHECK(drawn.find("#252") == std::string::npos);
}

TEST_CASE("kitty gets a PNG in pieces of base64, each of which says whether more follows") {
    Image image{300, 300, {}};
    uint32_t noise = 1;
    for (unsigned i = 0; i < 300 * 300; ++i) {
        noise = noise * 1664525 + 1013904223;
        image.pixels.push_back({static_cast<uint8_t>(noise >> 24), static_cast<uint8_t>(noise >> 16), 0});
    }
    const std::string drawn = kitty_picture(image, {5, 2, 40, 20});
    CHECK(drawn.starts_with("\x1B[3;6H\x1B_Ga=T,f=100,i=1,p=1,q=2,C=1,c=40,r=20,m=1;iVBORw0KGgo"));
    size_t pieces = 0, last = 0;
    for (size_t at = 0; (at = drawn.find("\x1B_G", at)) != std::string::npos; ++at) {
        const size_t end = drawn.find("\x1B\\", at);
        const size_t data = drawn.find(';', at);
        REQUIRE(end != std::string::npos);
        CHECK(end - data - 1 <= 4096);
        ++pieces;
        last = at;
    }
    CHECK(pieces > 10);
    CHECK(drawn.substr(last).starts_with("\x1B_Gm=0;"));
    CHECK(kitty_picture(Image{}, {}).empty());
}

}  // namespace
}  // namespace viv
