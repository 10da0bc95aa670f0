#include "vmm/machine/screen_reader.hpp"
#include "devices/video/test_font.hpp"

#include "devices/video/vga_test_rig.hpp"
#include "vmm/core/catch.hpp"

namespace viv {
namespace {
using namespace testing;

// What a BIOS does in mode 13h: characters of 8 by 8 dots, which the monitor shows doubled.
TEST_CASE("the reader reads graphics with a font in the guest's memory") {
    VgaRig rig;
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM"));
    const auto font = make_font(8);
    REQUIRE(memory.write(Gpa{0x12345}, font));
    rig.set_mode(mode_13);
    rig.colour(9, 0, 0x3F, 0);
    const std::string_view text = "C:\\>";
    for (unsigned i = 0; i < text.size(); ++i) {
        for (unsigned y = 0; y < 8; ++y) {
            const auto row = std::to_integer<unsigned>(font[static_cast<uint8_t>(text[i]) * 8u + y]);
            for (unsigned x = 0; x < 8; ++x) {
                if (row & 0x80u >> x) rig.poke(0xA0000 + (24 + y) * 320 + (2 + i) * 8 + x, 9);
            }
        }
    }
    ScreenReader reader(rig.vga, memory);
    CHECK(reader.read().kind == ScreenKind::graphics);
    CHECK(reader.read().line(3) == "  C:\\>");
    CHECK(reader.read().columns == 40);
    rig.set_mode(mode_03);
    rig.print(0, 0, "text again");
    CHECK(reader.read().line(0) == "text again");
}

TEST_CASE("the reader knows the font that the guest has loaded for text modes") {
    VgaRig rig(Vga::linear_unit * 4);
    GuestMemory memory;
    rig.set_mode(mode_03);
    const auto font = make_font(14);
    for (unsigned character = 0; character < 256; ++character) {
        rig.out_indexed(0x3C4, 2, 4);
        rig.out_indexed(0x3C4, 4, 6);
        rig.out_indexed(0x3CE, 5, 0);
        rig.out_indexed(0x3CE, 6, 4);
        for (unsigned y = 0; y < 14; ++y) {
            rig.poke(0xA4000 + character * 32 + y, std::to_integer<uint8_t>(font[character * 14 + y]));
        }
    }
    rig.set_linear(640, 350, 32);
    const std::string_view text = "linear";
    const auto width = static_cast<unsigned>(text.size() * 8);
    for (unsigned i = 0; i < width * 14; ++i) {
        const unsigned x = i % width, y = i / width;
        const auto row = std::to_integer<unsigned>(font[static_cast<uint8_t>(text[x / 8]) * 14u + y]);
        if (row & 0x80u >> x % 8) rig.linear[((14 + y) * 640 + x) * 4] = std::byte{0xFF};
    }
    ScreenReader reader(rig.vga, memory);
    CHECK(reader.read().line(1) == "linear");
}

}  // namespace
}  // namespace viv
