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

}  // namespace
}  // namespace viv
