#include "devices/video/vga.hpp"

#include "devices/video/vga_test_rig.hpp"
#include "devices/video/vga_timing.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

namespace viv {
namespace {
using namespace testing;

TEST_CASE("VGA fulfils the device contract") {
    struct Rig final : ContractRig {
        Rig() {
            device = &vga;
            windows = {{&vga.ports(), Vga::port_count}, {&vga.memory(), 0x20000}};
        }
        Vga vga{clock};
    };
    check_device_contract([] { return std::make_unique<Rig>(); });
}

TEST_CASE("registers read back what was written, without the bits that do not exist") {
    VgaRig rig;
    rig.out(0x3C2, 0x67);
    CHECK(rig.in(0x3CC) == 0x67);
    const std::array<uint8_t, 6> sequencer = {0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0x00};
    for (uint8_t i = 0; i < sequencer.size(); ++i) {
        rig.out_indexed(0x3C4, i, 0xFF);
        CHECK(rig.in_indexed(0x3C4, i) == sequencer[i]);
    }
    const std::array<uint8_t, 10> graphics = {0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF, 0x00};
    for (uint8_t i = 0; i < graphics.size(); ++i) {
        rig.out_indexed(0x3CE, i, 0xFF);
        CHECK(rig.in_indexed(0x3CE, i) == graphics[i]);
    }
    rig.out_indexed(0x3D4, 0x0A, 0x2D);
    CHECK(rig.in_indexed(0x3D4, 0x0A) == 0x2D);
    CHECK(rig.in_indexed(0x3D4, 0x19) == 0);
}

TEST_CASE("CRTC registers 0 to 7 are write-protected by bit 7 of register 11h, but for the line compare bit") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.out_indexed(0x3D4, 0x00, 0x12);
    CHECK(rig.in_indexed(0x3D4, 0x00) == 0x5F);
    rig.out_indexed(0x3D4, 0x07, 0x00);
    CHECK(rig.in_indexed(0x3D4, 0x07) == 0x0F);
    rig.out_indexed(0x3D4, 0x07, 0xFF);
    CHECK(rig.in_indexed(0x3D4, 0x07) == 0x1F);
    rig.out_indexed(0x3D4, 0x11, 0x0E);
    rig.out_indexed(0x3D4, 0x00, 0x12);
    CHECK(rig.in_indexed(0x3D4, 0x00) == 0x12);
}

TEST_CASE("the CRTC answers at 3Bxh or at 3Dxh, as bit 0 of the miscellaneous register says") {
    VgaRig rig;
    rig.out(0x3C2, 0x67);
    rig.out_indexed(0x3D4, 0x0F, 0x55);
    CHECK(rig.in(0x3B4) == 0xFF);
    CHECK(rig.in(0x3BA) == 0xFF);
    rig.out_indexed(0x3B4, 0x0F, 0xAA);
    CHECK(rig.in_indexed(0x3D4, 0x0F) == 0x55);
    rig.out(0x3C2, 0x66);
    CHECK(rig.in(0x3D5) == 0xFF);
    CHECK(rig.in_indexed(0x3B4, 0x0F) == 0x55);
}

TEST_CASE("a disabled subsystem answers at port 3C3h only") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.print(0, 0, "A");
    rig.out(0x3C3, 0);
    CHECK(rig.in(0x3C3) == 0);
    CHECK(rig.in(0x3CC) == 0xFF);
    CHECK(rig.peek(0xB8000) == 0xFF);
    rig.poke(0xB8000, 'B');
    rig.out(0x3C3, 1);
    CHECK(rig.in(0x3CC) == 0x67);
    CHECK(rig.peek(0xB8000) == 'A');
}

TEST_CASE("the attribute port takes index and data in turns, and input status 1 begins again") {
    VgaRig rig;
    rig.out(0x3C2, 0x67);
    rig.in(0x3DA);
    rig.out(0x3C0, 0x10);
    rig.out(0x3C0, 0xFF);
    CHECK(rig.in(0x3C0) == 0x10);
    CHECK(rig.in(0x3C1) == 0xEF);
    rig.out(0x3C0, 0x33);
    rig.in(0x3DA);
    rig.out(0x3C0, 0x12);
    CHECK(rig.in(0x3C0) == 0x12);
    rig.out(0x3C0, 0xFF);
    CHECK(rig.in(0x3C1) == 0x3F);
    rig.out(0x3C0, 0x1F);
    rig.out(0x3C0, 0xFF);
    CHECK(rig.in(0x3C1) == 0);
}

TEST_CASE("a DAC colour changes with its third component, and reading advances as writing does") {
    VgaRig rig;
    rig.out(0x3C8, 5);
    rig.out(0x3C9, 0xFF);
    rig.out(0x3C9, 2);
    CHECK(rig.in(0x3C7) == 0);
    rig.out(0x3C7, 5);
    CHECK(rig.in(0x3C7) == 3);
    CHECK(rig.in(0x3C9) == 0);
    rig.colour(5, 0xFF, 2, 3);
    CHECK(rig.in(0x3C8) == 6);
    rig.out(0x3C7, 4);
    for (const int expected : {0, 0, 0, 0x3F, 2, 3, 0}) CHECK(rig.in(0x3C9) == expected);
    rig.out(0x3C6, 0x0F);
    CHECK(rig.in(0x3C6) == 0x0F);
}

TEST_CASE("input status 1 follows the programmed timing") {
    VgaRig rig;
    rig.set_mode(mode_03);
    // 900 dots of 28.322 MHz a line, 449 lines: 31.777 us and 14.268 ms. Retrace at lines 412 and 413.
    const auto at_line = [&](int line, int dot) {
        const int64_t target = ns_of_ticks(uint64_t(line * 900 + dot), 28'322'000);
        VgaRig other;
        other.set_mode(mode_03);
        other.clock.advance(Duration{target});
        return other.in(0x3DA);
    };
    CHECK(at_line(0, 0) == 0x00);
    CHECK(at_line(0, 719) == 0x00);
    CHECK(at_line(0, 720) == 0x01);
    CHECK(at_line(399, 100) == 0x00);
    CHECK(at_line(400, 100) == 0x01);
    CHECK(at_line(411, 899) == 0x01);
    CHECK(at_line(412, 0) == 0x09);
    CHECK(at_line(413, 899) == 0x09);
    CHECK(at_line(414, 0) == 0x01);
    CHECK(at_line(449, 0) == 0x00);
}

TEST_CASE("an unprogrammed raster has lines and frames all the same") {
    const VgaTiming timing = vga_timing(VgaState{});
    CHECK(timing.characters == 5);
    CHECK(timing.lines == 2);
    CHECK(timing.shown_characters == 1);
    CHECK(timing.shown_lines == 1);
    CHECK(timing.retrace_lines == 16);
    CHECK(vga_beam(timing, {0}).frame == 0);
}

TEST_CASE("text memory: even bytes are characters in map 0, odd ones attributes in map 1") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.poke16(0xB8000, 0x1F41);
    CHECK(rig.vga.state().memory[0] == 0x00001F41);
    CHECK(rig.vga.state().memory[1] == 0);
    CHECK(rig.peek(0xB8000) == 0x41);
    CHECK(rig.peek(0xB8001) == 0x1F);
    CHECK(rig.peek(0xA0000) == 0xFF);
    CHECK(rig.peek(0xB0000) == 0xFF);
}

TEST_CASE("the memory map select places the window") {
    VgaRig rig;
    rig.set_mode(mode_12);
    const auto answers = [&](uint8_t select) {
        rig.out_indexed(0x3CE, 6, static_cast<uint8_t>(1 | select << 2));
        std::string places;
        for (const uint32_t address : {0xA0000u, 0xAFFFFu, 0xB0000u, 0xB7FFFu, 0xB8000u, 0xBFFFFu}) {
            places += rig.peek(address) == 0xFF ? '-' : '+';
        }
        return places;
    };
    CHECK(answers(0) == "++++++");
    CHECK(answers(1) == "++----");
    CHECK(answers(2) == "--++--");
    CHECK(answers(3) == "----++");
    rig.out(0x3C2, 0xE1);
    CHECK(answers(0) == "------");
}

TEST_CASE("the 128 KiB window with odd/even chaining reaches odd cells by address bit 16") {
    VgaRig rig;
    rig.set_mode(mode_03);
    rig.out_indexed(0x3CE, 6, 0x02);
    rig.poke(0xA0000, 0x11);
    rig.poke(0xB0000, 0x22);
    CHECK(rig.vga.state().memory[0] == 0x11);
    CHECK(rig.vga.state().memory[1] == 0x22);
    CHECK(rig.peek(0xB0000) == 0x22);
}

TEST_CASE("write mode 0 rotates, sets and resets, combines with the latches, and masks bits and maps") {
    VgaRig rig;
    rig.set_mode(mode_12);
    rig.poke(0xA0000, 0xA5);
    CHECK(rig.vga.state().memory[0] == 0xA5A5A5A5);

    rig.out_indexed(0x3C4, 2, 0x05);  // maps 0 and 2
    rig.poke(0xA0000, 0x0F);
    CHECK(rig.vga.state().memory[0] == 0xA50FA50F);
    rig.out_indexed(0x3C4, 2, 0x0F);

    rig.out_indexed(0x3CE, 3, 4);  // rotate right by 4
    rig.poke(0xA0001, 0x12);
    CHECK(rig.vga.state().memory[1] == 0x21212121);
    rig.out_indexed(0x3CE, 3, 0);

    rig.out_indexed(0x3CE, 0, 0x02);  // set/reset: map 1 set
    rig.out_indexed(0x3CE, 1, 0x03);  // for maps 0 and 1
    rig.poke(0xA0002, 0x77);
    CHECK(rig.vga.state().memory[2] == 0x7777FF00);
    rig.out_indexed(0x3CE, 1, 0);

    rig.peek(0xA0000);                // latches A50FA50F
    rig.out_indexed(0x3CE, 8, 0xF0);  // only the high bits
    rig.poke(0xA0003, 0x33);
    CHECK(rig.vga.state().memory[3] == 0x353F353F);
    rig.out_indexed(0x3CE, 8, 0xFF);

    const std::array<uint32_t, 4> results = {0x3C3C3C3C, 0x240C240C, 0xBD3FBD3F, 0x99339933};
    for (uint8_t function = 0; function < 4; ++function) {
        rig.out_indexed(0x3CE, 3, static_cast<uint8_t>(function << 3));
        rig.poke(0xA0004, 0x3C);
        CHECK(rig.vga.state().memory[4] == results[function]);
    }
}

TEST_CASE("write mode 1 copies the latches") {
    VgaRig rig;
    rig.set_mode(mode_12);
    for (uint8_t map = 0; map < 4; ++map) {
        rig.out_indexed(0x3C4, 2, static_cast<uint8_t>(1u << map));
        rig.poke(0xA0000, static_cast<uint8_t>(0x11 * (map + 1)));
    }
    rig.out_indexed(0x3C4, 2, 0x0F);
    rig.out_indexed(0x3CE, 5, 1);
    rig.peek(0xA0000);
    rig.poke(0xA1234, 0xEE);
    CHECK(rig.vga.state().memory[0x1234] == 0x44332211);
}

TEST_CASE("write mode 2 writes a colour through the bit mask") {
    VgaRig rig;
    rig.set_mode(mode_12);
    rig.out_indexed(0x3CE, 5, 2);
    rig.out_indexed(0x3CE, 8, 0x80);
    rig.peek(0xA0000);
    rig.poke(0xA0000, 0x0A);
    CHECK(rig.vga.state().memory[0] == 0x80008000);
}

TEST_CASE("write mode 3 writes the set/reset colour where rotated data and bit mask are set") {
    VgaRig rig;
    rig.set_mode(mode_12);
    rig.poke(0xA0000, 0xFF);
    rig.out_indexed(0x3CE, 5, 3);
    rig.out_indexed(0x3CE, 0, 0x06);
    rig.out_indexed(0x3CE, 3, 4);
    rig.out_indexed(0x3CE, 8, 0x3F);
    rig.peek(0xA0000);
    rig.poke(0xA0000, 0x0F);
    CHECK(rig.vga.state().memory[0] == 0xCFFFFFCF);
}

TEST_CASE("read mode 1 finds a colour, in the maps that matter") {
    VgaRig rig;
    rig.set_mode(mode_12);
    rig.out_indexed(0x3CE, 5, 2);
    for (uint8_t bit = 0; bit < 8; ++bit) {
        rig.out_indexed(0x3CE, 8, static_cast<uint8_t>(0x80u >> bit));
        rig.peek(0xA0000);
        rig.poke(0xA0000, bit);  // pixel n has colour n
    }
    rig.out_indexed(0x3CE, 5, 8);
    rig.out_indexed(0x3CE, 2, 5);
    rig.out_indexed(0x3CE, 7, 0x0F);
    CHECK(rig.peek(0xA0000) == 0x04);
    rig.out_indexed(0x3CE, 7, 0x0B);
    CHECK(rig.peek(0xA0000) == 0x44);
    rig.out_indexed(0x3CE, 7, 0x00);
    CHECK(rig.peek(0xA0000) == 0xFF);
}

TEST_CASE("the read map select chooses the map of read mode 0") {
    VgaRig rig;
    rig.set_mode(mode_12);
    for (uint8_t map = 0; map < 4; ++map) {
        rig.out_indexed(0x3C4, 2, static_cast<uint8_t>(1u << map));
        rig.poke(0xA0010, static_cast<uint8_t>(0x10 + map));
        rig.out_indexed(0x3CE, 4, map);
        CHECK(rig.peek(0xA0010) == 0x10 + map);
    }
}

TEST_CASE("chain 4 spreads addresses over the maps") {
    VgaRig rig;
    rig.set_mode(mode_13);
    for (uint32_t i = 0; i < 8; ++i) rig.poke(0xA0000 + i, static_cast<uint8_t>(0x10 + i));
    CHECK(rig.vga.state().memory[0] == 0x13121110);
    CHECK(rig.vga.state().memory[1] == 0);
    CHECK(rig.vga.state().memory[4] == 0x17161514);
    CHECK(rig.peek(0xA0006) == 0x16);
    rig.out_indexed(0x3C4, 2, 0x0E);
    rig.poke(0xA0000, 0xEE);
    CHECK(rig.peek(0xA0000) == 0x10);
}

TEST_CASE("wide accesses do what their bytes do, whatever is programmed") {
    VgaRig wide;
    VgaRig narrow;
    uint32_t seed = 1;
    const auto next = [&seed] { return (seed = seed * 1664525 + 1013904223) >> 8; };
    const auto both = [&](auto work) {
        work(wide);
        work(narrow);
    };
    for (int round = 0; round < 400; ++round) {
        const VgaMode& mode = round % 2 == 0 ? mode_03 : mode_13;
        if (round % 4 < 2) both([&](VgaRig& rig) { rig.set_mode(mode); });
        // Now and then one register more that may take the fast path away.
        if (round % 3 == 0) {
            const uint16_t port = next() % 2 == 0 ? 0x3C4 : 0x3CE;
            const auto index = static_cast<uint8_t>(next() % 9);
            const auto value = static_cast<uint8_t>(next());
            both([&](VgaRig& rig) { rig.out_indexed(port, index, value); });
        }
        for (int i = 0; i < 50; ++i) {
            const uint8_t size = static_cast<uint8_t>(1u << next() % 4);
            const uint64_t offset = (next() % 2 == 0 ? 0x18000 : 0) + next() % 64;
            const uint64_t value = (uint64_t{next()} << 32 | next()) * 0x10001 >> (64 - 8 * size);
            if (next() % 2 == 0) {
                wide.vga.memory().write({offset, size}, value);
                for (unsigned byte = 0; byte < size; ++byte) {
                    narrow.vga.memory().write({offset + byte, 1}, (value >> (8 * byte)) & 0xFF);
                }
            } else {
                uint64_t bytes = 0;
                for (unsigned byte = 0; byte < size; ++byte) {
                    bytes |= narrow.vga.memory().read({offset + byte, 1}) << (8 * byte);
                }
                REQUIRE(wide.vga.memory().read({offset, size}) == bytes);
            }
        }
        REQUIRE(wide.vga.state() == narrow.vga.state());
    }
}

TEST_CASE("text and chain 4 have a fast path, other modes have none") {
    VgaRig rig;
    rig.set_mode(mode_03);
    CHECK(vga_fast_path(rig.vga.state()).takes(0x18000, 2));
    CHECK_FALSE(vga_fast_path(rig.vga.state()).takes(0x18001, 2));
    CHECK_FALSE(vga_fast_path(rig.vga.state()).takes(0x1FFFE, 4));
    CHECK_FALSE(vga_fast_path(rig.vga.state()).takes(0, 2));
    rig.set_mode(mode_13);
    CHECK(vga_fast_path(rig.vga.state()).takes(0, 4));
    CHECK_FALSE(vga_fast_path(rig.vga.state()).takes(0, 2));
    rig.set_mode(mode_12);
    CHECK_FALSE(vga_fast_path(rig.vga.state()).takes(0, 4));
}

TEST_CASE("who watches the picture is called each time it has changed so often") {
    VgaRig rig;
    rig.set_mode(mode_03);
    unsigned calls = 0;
    rig.vga.on_changes(10, [&] { ++calls; });
    const uint64_t before = rig.vga.generation();
    for (int i = 0; i < 13; ++i) rig.print(0, 0, i % 2 ? "A" : "B");
    CHECK(calls == (rig.vga.generation() - before) / 10);
    CHECK(calls > 0);
    rig.vga.on_changes(0, {});
    const unsigned seen = calls;
    for (int i = 0; i < 13; ++i) rig.print(0, 0, i % 2 ? "A" : "B");
    CHECK(calls == seen);
}

TEST_CASE("the generation moves with what changes the picture, and only then") {
    VgaRig rig;
    rig.set_mode(mode_03);
    uint64_t last = rig.vga.generation();
    const auto moved = [&] { return std::exchange(last, rig.vga.generation()) != last; };
    rig.print(0, 0, "A");
    CHECK(moved());
    rig.print(0, 0, "A");
    CHECK_FALSE(moved());
    rig.in(0x3DA);
    rig.out(0x3D4, 0x0E);
    CHECK_FALSE(moved());
    rig.out(0x3D5, 1);
    CHECK(moved());
    rig.colour(7, 1, 2, 3);
    CHECK(moved());
}

TEST_CASE("a state with bits or sizes that no VGA has is refused") {
    VgaRig rig;
    rig.set_mode(mode_03);
    const auto refuses = [&](auto change) {
        VgaState state = rig.vga.state();
        change(state);
        return !rig.vga.prepare_load(write_state("state", state)).has_value();
    };
    CHECK_FALSE(refuses([](VgaState&) {}));
    CHECK(refuses([](VgaState& state) { state.memory.resize(100); }));
    CHECK(refuses([](VgaState& state) { state.dac_component = 3; }));
    CHECK(refuses([](VgaState& state) { state.dac_mode = DacMode{1}; }));
    CHECK(refuses([](VgaState& state) { state.dac[0] = 0x40; }));
    CHECK(refuses([](VgaState& state) { state.attribute[0] = 0x40; }));
    CHECK(refuses([](VgaState& state) { state.graphics[4] = 0x04; }));
    CHECK(refuses([](VgaState& state) { state.sequencer[2] = 0x10; }));
}

}  // namespace
}  // namespace viv
