#include "devices/video/dispi.hpp"

#include <cstring>

#include "bios/video/edid.hpp"
#include "devices/video/vga_test_rig.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

namespace viv {
namespace {
using namespace testing;

constexpr size_t mib = 1 << 20;

TEST_CASE("VGA with linear memory fulfils the device contract") {
    struct Rig final : ContractRig {
        Rig() {
            device = &vga;
            windows = {{&vga.ports(), Vga::port_count},
                       {&vga.memory(), 0x20000},
                       {&vga.dispi_ports(), Vga::dispi_port_count},
                       {&vga.registers(), Vga::registers_size}};
        }
        std::vector<std::byte> linear = std::vector<std::byte>(Vga::linear_unit);
        Vga vga{clock, linear};
    };
    check_device_contract([] { return std::make_unique<Rig>(); });
}

TEST_CASE("a driver finds the DISPI registers by their version, and what they can do") {
    VgaRig rig(16 * mib);
    CHECK(rig.dispi(Dispi::id) == 0xB0C5);
    for (const uint16_t id : {uint16_t{0xB0C0}, uint16_t{0xB0C4}}) {
        rig.dispi(Dispi::id, id);
        CHECK(rig.dispi(Dispi::id) == id);
    }
    rig.dispi(Dispi::id, 0xB0C6);
    CHECK(rig.dispi(Dispi::id) == 0xB0C4);
    CHECK(rig.dispi(Dispi::video_memory_64k) == 256);
    rig.dispi(Dispi::enable, dispi_get_capabilities);
    CHECK(rig.dispi(Dispi::x_resolution) == 2560);
    CHECK(rig.dispi(Dispi::y_resolution) == 1600);
    CHECK(rig.dispi(Dispi::bits_per_pixel) == 32);
    rig.vga.dispi_ports().write({0, 2}, 0x0B);
    CHECK(rig.vga.dispi_ports().read({1, 2}) == 0);
}

TEST_CASE("a plain VGA has no DISPI registers") {
    VgaRig rig;
    CHECK((rig.vga.dispi_ports().read({1, 2}) & 0xFFFF) == 0xFFFF);
    rig.dispi(Dispi::enable, dispi_enabled);
    CHECK_FALSE(rig.vga.state().dispi.enabled());
}

struct Depth {
    uint16_t bits;
    std::vector<uint8_t> red, green, blue, grey;  // one pixel each
};

TEST_CASE("linear pixels of each depth have their colours") {
    const auto depth = GENERATE(Depth{15, {0x00, 0x7C}, {0xE0, 0x03}, {0x1F, 0x00}, {0x10, 0x42}},
                                Depth{16, {0x00, 0xF8}, {0xE0, 0x07}, {0x1F, 0x00}, {0x10, 0x84}},
                                Depth{24, {0, 0, 0xFF}, {0, 0xFF, 0}, {0xFF, 0, 0}, {0x84, 0x84, 0x84}},
                                Depth{32, {0, 0, 0xFF, 9}, {0, 0xFF, 0, 9}, {0xFF, 0, 0, 9}, {0x84, 0x84, 0x84, 9}});
    CAPTURE(depth.bits);
    VgaRig rig(mib);
    rig.set_linear(64, 48, depth.bits);
    const size_t bytes = depth.red.size();
    const auto put = [&](unsigned x, unsigned y, const std::vector<uint8_t>& pixel) {
        std::memcpy(&rig.linear[(y * 64 + x) * bytes], pixel.data(), bytes);
    };
    put(0, 0, depth.red);
    put(1, 0, depth.green);
    put(62, 47, depth.blue);
    put(63, 47, depth.grey);
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 64);
    REQUIRE(image.height == 48);
    CHECK(image.at(0, 0) == Rgb{0xFF, 0, 0});
    CHECK(image.at(1, 0) == Rgb{0, 0xFF, 0});
    CHECK(image.at(62, 47) == Rgb{0, 0, 0xFF});
    CHECK(image.at(63, 47) == Rgb{0x84, static_cast<uint8_t>(depth.bits == 16 ? 0x82 : 0x84), 0x84});
    CHECK(image.at(2, 0) == Rgb{});
    CHECK(image.at(0, 1) == Rgb{});
    CHECK(rig.vga.text().kind == ScreenKind::graphics);
}

TEST_CASE("linear pixels of 8 bits are the DAC's, with 6 or 8 bits a colour") {
    VgaRig rig(mib);
    rig.set_linear(64, 48, 8);
    rig.colour(5, 0x3F, 0x20, 0x01);
    rig.linear[64 * 2 + 3] = std::byte{5};
    CHECK(rig.vga.pixels().at(3, 2) == Rgb{0xFF, 0x82, 0x04});
    rig.dispi(Dispi::enable, dispi_enabled | dispi_8_bit_dac);
    CHECK(rig.vga.pixels().at(3, 2) == Rgb{0xFF, 0x82, 0x04});
    rig.colour(5, 0xFE, 0x81, 0x03);
    CHECK(rig.vga.pixels().at(3, 2) == Rgb{0xFE, 0x81, 0x03});
    rig.out(0x3C7, 5);
    CHECK(rig.in(0x3C9) == 0xFE);
    rig.dispi(Dispi::enable, 0);
    rig.out(0x3C7, 5);
    CHECK(rig.in(0x3C9) == 0x3F);
}

TEST_CASE("pixels of 4 bits are written in four maps by the graphics controller, beyond 64 KiB of each") {
    VgaRig rig(16 * mib);
    rig.set_mode(mode_12);
    rig.set_ega_colours();
    rig.set_linear(1024, 768, 4);
    const auto plot = [&](unsigned x, unsigned y, uint8_t colour) {
        const uint32_t cell = y * 128 + x / 8;
        rig.dispi(Dispi::bank, static_cast<uint16_t>(cell >> 16));
        rig.out_indexed(0x3CE, 0, colour);
        rig.out_indexed(0x3CE, 1, 0x0F);
        rig.out_indexed(0x3CE, 8, static_cast<uint8_t>(0x80 >> x % 8));
        rig.peek(0xA0000 + (cell & 0xFFFF));
        rig.poke(0xA0000 + (cell & 0xFFFF), 0);
    };
    plot(0, 0, 4);
    plot(1, 0, 2);
    plot(1023, 767, 14);
    const Image image = rig.vga.pixels();
    REQUIRE(image.width == 1024);
    REQUIRE(image.height == 768);
    CHECK(image.at(0, 0) == Rgb{0xAA, 0, 0});
    CHECK(image.at(1, 0) == Rgb{0, 0xAA, 0});
    CHECK(image.at(2, 0) == Rgb{});
    CHECK(image.at(1023, 767) == Rgb{0xFF, 0xFF, 0x55});
    CHECK(rig.vga.state().memory[0] == 0);
}

TEST_CASE("the window at A0000h shows the bank of linear memory that was chosen") {
    VgaRig rig(mib);
    rig.set_mode(mode_12);
    rig.set_linear(640, 480, 8);
    rig.poke(0xA0000, 0x11);
    rig.dispi(Dispi::bank, 3);
    rig.poke16(0xA0100, 0x3322);
    CHECK(rig.linear[0] == std::byte{0x11});
    CHECK(rig.linear[0x30100] == std::byte{0x22});
    CHECK(rig.linear[0x30101] == std::byte{0x33});
    CHECK(rig.peek(0xA0101) == 0x33);
    CHECK(rig.peek(0xB0000) == 0xFF);
    rig.dispi(Dispi::bank, 16 + 3);  // there are 16
    CHECK(rig.dispi(Dispi::bank) == 3);
    rig.dispi(Dispi::enable, 0);
    CHECK(rig.peek(0xA0000) == 0x00);
}

TEST_CASE("a virtual screen that is larger than the picture pans") {
    VgaRig rig(mib);
    rig.set_linear(64, 48, 8);
    rig.colour(1, 0x3F, 0, 0);
    CHECK(rig.dispi(Dispi::virtual_width) == 64);
    CHECK(rig.dispi(Dispi::virtual_height) == 16384);
    rig.dispi(Dispi::virtual_width, 128);
    CHECK(rig.dispi(Dispi::virtual_height) == 8192);
    rig.linear[128 * 10 + 7] = std::byte{1};
    CHECK(rig.vga.pixels().at(7, 10) == Rgb{0xFF, 0, 0});
    rig.dispi(Dispi::x_offset, 5);
    rig.dispi(Dispi::y_offset, 8);
    CHECK(rig.vga.pixels().at(2, 2) == Rgb{0xFF, 0, 0});
    rig.dispi(Dispi::x_offset, 100);
    CHECK(rig.dispi(Dispi::x_offset) == 64);
    rig.dispi(Dispi::y_offset, 9000);
    CHECK(rig.dispi(Dispi::y_offset) == 8192 - 48);
}

TEST_CASE("sizes that do not fit become ones that do") {
    VgaRig rig(mib);
    rig.set_linear(1023, 65535, 32);
    CHECK(rig.dispi(Dispi::x_resolution) == 1016);
    CHECK(rig.dispi(Dispi::y_resolution) == 1048576 / (1016 * 4));
    rig.set_linear(65535, 1, 77);
    CHECK(rig.dispi(Dispi::x_resolution) == 2560);
    CHECK(rig.dispi(Dispi::bits_per_pixel) == 8);
    rig.set_linear(0, 0, 8);
    CHECK(rig.dispi(Dispi::x_resolution) == 8);
    CHECK(rig.dispi(Dispi::y_resolution) == 1);
}

TEST_CASE("switching on clears the picture, unless it is asked to keep it") {
    VgaRig rig(mib);
    rig.linear[70] = std::byte{7};
    rig.set_linear(64, 48, 8, dispi_keep_memory);
    CHECK(rig.linear[70] == std::byte{7});
    rig.dispi(Dispi::enable, dispi_enabled);  // it is on already
    CHECK(rig.linear[70] == std::byte{7});
    rig.set_linear(64, 48, 8);
    CHECK(rig.linear[70] == std::byte{0});
}

TEST_CASE("a linear picture is dark while the attribute controller or the sequencer hides the screen") {
    VgaRig rig(mib);
    rig.set_linear(64, 48, 32);
    rig.linear[0] = std::byte{0xFF};
    CHECK(rig.vga.pixels().at(0, 0) == Rgb{0, 0, 0xFF});
    rig.in(0x3DA);
    rig.in(0x3BA);
    rig.out(0x3C0, 0);
    CHECK(rig.vga.pixels().at(0, 0) == Rgb{});
    CHECK(rig.vga.text().blanked);
    rig.out(0x3C0, 0);
    rig.out(0x3C0, 0x20);
    rig.out_indexed(0x3C4, 1, 0x21);
    CHECK(rig.vga.pixels().at(0, 0) == Rgb{});
}

TEST_CASE("the generation follows what the guest writes into linear memory past the device") {
    VgaRig rig(mib);
    rig.set_linear(64, 48, 32);
    const uint64_t before = rig.vga.generation();
    CHECK(rig.vga.generation() == before);
    rig.linear[64 * 48 * 4 - 1] = std::byte{1};
    const uint64_t after = rig.vga.generation();
    CHECK(after != before);
    CHECK(rig.vga.generation() == after);
    rig.linear[64 * 48 * 4] = std::byte{1};  // below the picture
    CHECK(rig.vga.generation() == after);
}

TEST_CASE("all registers are in memory too, with the monitor's EDID") {
    VgaRig rig(mib);
    BusDevice& registers = rig.vga.registers();
    const auto dispi_at = [](Dispi index) { return uint64_t{0x500} + 2u * std::to_underlying(index); };
    CHECK(registers.read({dispi_at(Dispi::id), 2}) == 0xB0C5);
    registers.write({dispi_at(Dispi::x_resolution), 2}, 320);
    registers.write({dispi_at(Dispi::y_resolution), 2}, 200);
    registers.write({dispi_at(Dispi::bits_per_pixel), 2}, 16);
    registers.write({dispi_at(Dispi::enable), 2}, dispi_enabled);
    registers.write({0x400, 1}, 0x20);  // port 3C0h
    CHECK(registers.read({0x400, 1}) == 0x20);
    const Image image = rig.vga.pixels();
    CHECK(image.width == 320);
    CHECK(image.height == 200);
    CHECK(registers.read({0, 8}) == 0x00FF'FFFF'FFFF'FF00);
    uint8_t sum = 0;
    for (uint64_t i = 0; i < Edid::size; ++i) sum = static_cast<uint8_t>(sum + registers.read({i, 1}));
    CHECK(sum == 0);
    CHECK(registers.read({0x80, 4}) == 0);
    CHECK(registers.read({0x600, 4}) == 8);
    CHECK(registers.read({0x604, 4}) == 0x1E1E1E1E);
    CHECK(registers.read({0x700, 4}) == 0xFFFFFFFF);
}

TEST_CASE("a saved picture that leaves the memory is refused") {
    VgaRig large(2 * mib);
    large.set_linear(800, 600, 32);
    const TreeNode saved = large.vga.save();
    CHECK(large.vga.prepare_load(saved).has_value());
    VgaRig small(mib);
    CHECK_FALSE(small.vga.prepare_load(saved).has_value());
    VgaRig plain;
    CHECK_FALSE(plain.vga.prepare_load(saved).has_value());
}

}  // namespace
}  // namespace viv
