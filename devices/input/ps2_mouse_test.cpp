#include "devices/input/ps2_mouse.hpp"

#include <vector>

#include "devices/input/input_rig.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::testing;

namespace {

using Bytes = std::vector<uint8_t>;

struct MouseRig : InputRig {
    MouseRig() { enable(0x02); }
    Bytes answer(unsigned byte) {
        mouse_write(byte);
        return take_all();
    }
    /// All reports that come within a second.
    Bytes reports() {
        Bytes bytes;
        for (int i = 0; i < 1000; ++i) {
            if ((status() & 0x01) != 0) {
                CHECK((status() & 0x20) != 0);
                CHECK(irq12.level());
                bytes.push_back(data());
            }
            clock.advance(std::chrono::milliseconds(1));
        }
        return bytes;
    }
    void rates(std::initializer_list<unsigned> values) {
        for (const unsigned value : values) {
            CHECK(answer(0xF3) == Bytes{0xFA});
            CHECK(answer(value) == Bytes{0xFA});
        }
    }
};

}  // namespace

TEST_CASE("the mouse resets, passes its test and says that it is standard") {
    MouseRig rig;
    CHECK(rig.answer(0xFF) == Bytes{0xFA, 0xAA, 0x00});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x00, 0x02, 100});
}

TEST_CASE("a fresh mouse reports nothing until it is enabled") {
    MouseRig rig;
    CHECK_FALSE(rig.mouse().reporting());
    rig.mouse().move(5, 5, 0);
    CHECK(rig.reports().empty());
    rig.answer(0xF4);
    CHECK(rig.mouse().reporting());
    rig.mouse().move(5, 0, 0);
    CHECK(rig.reports() == Bytes{0x08, 0x05, 0x00});
}

TEST_CASE("reports have signs: right and up are positive") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().move(3, 4, 0);
    CHECK(rig.reports() == Bytes{0x28, 0x03, 0xFC});
    rig.mouse().move(-3, -4, 0);
    CHECK(rig.reports() == Bytes{0x18, 0xFD, 0x04});
}

TEST_CASE("buttons report when they go down and up") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().press(MouseButton::left);
    CHECK(rig.reports() == Bytes{0x09, 0x00, 0x00});
    rig.mouse().press(MouseButton::right);
    rig.mouse().press(MouseButton::middle);
    CHECK(rig.reports() == Bytes{0x0B, 0x00, 0x00, 0x0F, 0x00, 0x00});
    rig.mouse().release(MouseButton::left);
    CHECK(rig.reports() == Bytes{0x0E, 0x00, 0x00});
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x23, 0x02, 100});
}

TEST_CASE("a click shorter than the sample period is not lost") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().move(1, 0, 0);
    rig.mouse().press(MouseButton::left);
    rig.mouse().release(MouseButton::left);
    CHECK(rig.reports() == Bytes{0x08, 0x01, 0x00, 0x09, 0x00, 0x00, 0x08, 0x00, 0x00});
}

TEST_CASE("motion that does not fit into one report goes into the next ones") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().move(600, 0, 0);
    CHECK(rig.reports() == Bytes{0x08, 0xFF, 0x00, 0x08, 0xFF, 0x00, 0x08, 90, 0x00});
}

TEST_CASE("motion beyond the counters sets the overflow bit and stops there") {
    MouseRig rig;
    rig.answer(0xF0);
    rig.mouse().move(0, -2'000'000'000, 0);
    rig.mouse().move(0, -2'000'000'000, 0);
    CHECK(rig.answer(0xEB) == Bytes{0xFA, 0x88, 0x00, 0xFF});
    unsigned moved = 255;
    while (true) {
        const Bytes report = rig.answer(0xEB);
        REQUIRE(report.size() == 4);
        CHECK(report[1] == 0x08);
        if (report[3] == 0) break;
        moved += report[3];
    }
    CHECK(moved == Ps2Mouse::counter_limit);
}

TEST_CASE("reports come no faster than the sample rate, and motion between them adds up") {
    MouseRig rig;
    rig.rates({10});
    rig.answer(0xF4);
    Bytes bytes;
    for (int i = 0; i < 1000; ++i) {
        rig.mouse().move(1, 0, 0);
        if ((rig.status() & 0x01) != 0) bytes.push_back(rig.data());
        rig.clock.advance(std::chrono::milliseconds(1));
    }
    CHECK(bytes.size() == 30);
    unsigned moved = 0;
    for (size_t i = 1; i < bytes.size(); i += 3) moved += bytes[i];
    CHECK(moved >= 900);
    CHECK(moved <= 1000);
}

TEST_CASE("the wheel appears after the sample rates 200, 100, 80") {
    MouseRig rig;
    rig.rates({200, 100, 80});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x03});
    rig.rates({100});
    rig.answer(0xF4);
    rig.mouse().move(1, 0, 1);
    CHECK(rig.reports() == Bytes{0x08, 0x01, 0x00, 0x01});
    rig.mouse().move(0, 0, -1);
    CHECK(rig.reports() == Bytes{0x08, 0x00, 0x00, 0xFF});
    rig.mouse().move(0, 0, 10);
    CHECK(rig.reports() == Bytes{0x08, 0x00, 0x00, 0x07, 0x08, 0x00, 0x00, 0x03});
    CHECK(rig.answer(0xFF) == Bytes{0xFA, 0xAA, 0x00});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
}

TEST_CASE("two more buttons appear after the sample rates 200, 200, 80") {
    MouseRig rig;
    rig.rates({200, 100, 80});
    rig.rates({200, 200, 80});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x04});
    rig.answer(0xF4);
    rig.mouse().press(MouseButton::side);
    CHECK(rig.reports() == Bytes{0x08, 0x00, 0x00, 0x10});
    rig.mouse().press(MouseButton::extra);
    rig.mouse().move(0, 0, -1);
    CHECK(rig.reports() == Bytes{0x08, 0x00, 0x00, 0x30, 0x08, 0x00, 0x00, 0x3F});
}

TEST_CASE("a standard mouse does not report the buttons and the wheel it has not") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().press(MouseButton::side);
    rig.mouse().move(0, 0, 3);
    CHECK(rig.reports().empty());
}

TEST_CASE("in remote mode the mouse reports only when read") {
    MouseRig rig;
    CHECK(rig.answer(0xF0) == Bytes{0xFA});
    rig.answer(0xF4);
    rig.mouse().move(7, 0, 0);
    CHECK(rig.reports().empty());
    CHECK(rig.answer(0xEB) == Bytes{0xFA, 0x08, 0x07, 0x00});
    CHECK(rig.answer(0xEB) == Bytes{0xFA, 0x08, 0x00, 0x00});
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x60, 0x02, 100});
    CHECK(rig.answer(0xEA) == Bytes{0xFA});
    rig.mouse().move(1, 0, 0);
    CHECK(rig.reports() == Bytes{0x08, 0x01, 0x00});
}

TEST_CASE("in wrap mode the mouse echoes everything but reset and leaving it") {
    MouseRig rig;
    CHECK(rig.answer(0xEE) == Bytes{0xFA});
    CHECK(rig.answer(0x55) == Bytes{0x55});
    CHECK(rig.answer(0xF4) == Bytes{0xF4});
    CHECK(rig.answer(0xEC) == Bytes{0xFA});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
    rig.answer(0xEE);
    CHECK(rig.answer(0xFF) == Bytes{0xFA, 0xAA, 0x00});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
}

TEST_CASE("2:1 scaling speeds up reports of stream mode only") {
    MouseRig rig;
    CHECK(rig.answer(0xE7) == Bytes{0xFA});
    rig.answer(0xF4);
    const int moves[] = {1, 2, 3, 4, 5, 6, 7};
    const unsigned scaled[] = {1, 1, 3, 6, 9, 12, 14};
    for (size_t i = 0; i < std::size(moves); ++i) {
        rig.mouse().move(moves[i], 0, 0);
        CHECK(rig.reports() == Bytes{0x08, static_cast<uint8_t>(scaled[i]), 0x00});
    }
    rig.answer(0xF0);
    rig.mouse().move(5, 0, 0);
    CHECK(rig.answer(0xEB) == Bytes{0xFA, 0x08, 0x05, 0x00});
    rig.answer(0xE6);
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x60, 0x02, 100});
}

TEST_CASE("resolution and sample rate show in the status, and defaults restore them") {
    MouseRig rig;
    CHECK(rig.answer(0xE8) == Bytes{0xFA});
    CHECK(rig.answer(0x03) == Bytes{0xFA});
    rig.rates({40});
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x00, 0x03, 40});
    CHECK(rig.answer(0xF6) == Bytes{0xFA});
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x00, 0x02, 100});
}

TEST_CASE("a wrong argument may be sent once more") {
    MouseRig rig;
    rig.answer(0xF3);
    CHECK(rig.answer(33) == Bytes{0xFE});
    CHECK(rig.answer(40) == Bytes{0xFA});
    rig.answer(0xE8);
    CHECK(rig.answer(9) == Bytes{0xFE});
    CHECK(rig.answer(9) == Bytes{0xFC});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
}

TEST_CASE("unknown commands are refused, the second time with FCh") {
    MouseRig rig;
    CHECK(rig.answer(0x12) == Bytes{0xFE});
    CHECK(rig.answer(0x12) == Bytes{0xFC});
    CHECK(rig.answer(0x12) == Bytes{0xFE});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
}

TEST_CASE("resend repeats the last report whole, or the last answer") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().move(2, 0, 0);
    CHECK(rig.reports() == Bytes{0x08, 0x02, 0x00});
    CHECK(rig.answer(0xFE) == Bytes{0x08, 0x02, 0x00});
    rig.answer(0xF2);
    CHECK(rig.answer(0xFE) == Bytes{0x00});
}

TEST_CASE("Linux's psmouse finds an Explorer mouse and enables it") {
    MouseRig rig;
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
    CHECK(rig.answer(0xF6) == Bytes{0xFA});
    // Extensions are asked for through resolutions and the status; a mouse without them answers plainly.
    for (const unsigned value : {0U, 0U, 0U, 0U}) {
        rig.answer(0xE8);
        CHECK(rig.answer(value) == Bytes{0xFA});
    }
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x00, 0x00, 100});
    CHECK(rig.answer(0xFF) == Bytes{0xFA, 0xAA, 0x00});
    rig.rates({200, 100, 80});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x03});
    rig.rates({200, 200, 80});
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x04});
    rig.rates({100});
    rig.answer(0xE8);
    rig.answer(0x03);
    CHECK(rig.answer(0xE6) == Bytes{0xFA});
    CHECK(rig.answer(0xF4) == Bytes{0xFA});
    rig.mouse().move(1, -1, 0);
    CHECK(rig.reports() == Bytes{0x08, 0x01, 0x01, 0x00});
}

TEST_CASE("a BIOS's INT 15h AH=C2h initialises the mouse with polled answers") {
    MouseRig rig;
    rig.enable(0x47);
    CHECK(rig.answer(0xFF) == Bytes{0xFA, 0xAA, 0x00});
    rig.answer(0xE8);
    CHECK(rig.answer(0x03) == Bytes{0xFA});
    rig.rates({100});
    CHECK(rig.answer(0xE6) == Bytes{0xFA});
    CHECK(rig.answer(0xF4) == Bytes{0xFA});
    CHECK(rig.answer(0xE9) == Bytes{0xFA, 0x20, 0x03, 100});
    rig.mouse().press(MouseButton::left);
    CHECK(rig.reports() == Bytes{0x09, 0x00, 0x00});
    CHECK(rig.answer(0xF5) == Bytes{0xFA});
    rig.mouse().move(9, 9, 0);
    CHECK(rig.reports().empty());
}

TEST_CASE("a command in the middle of a report ends the report") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().move(1, 2, 0);
    CHECK(rig.take() == 0x28);
    CHECK(rig.answer(0xF2) == Bytes{0xFA, 0x00});
    rig.mouse().move(3, 0, 0);
    CHECK(rig.reports() == Bytes{0x08, 0x03, 0x00});
}

TEST_CASE("a burst of clicks ends as the buttons are") {
    MouseRig rig;
    rig.answer(0xF4);
    for (int i = 0; i < 50; ++i) {
        rig.mouse().press(MouseButton::left);
        rig.mouse().release(MouseButton::left);
    }
    const Bytes bytes = rig.reports();
    REQUIRE(bytes.size() >= 3);
    CHECK(bytes.size() <= 10 * 3);
    CHECK(bytes[bytes.size() - 3] == 0x08);
}

TEST_CASE("a saved mouse goes on in the middle of a report") {
    MouseRig rig;
    rig.answer(0xF4);
    rig.mouse().move(300, 0, 0);
    CHECK(rig.take() == 0x08);
    MouseRig other;
    other.clock.advance(rig.clock.now() - other.clock.now());
    auto commit = other.controller.prepare_load(rig.controller.save());
    REQUIRE(commit.has_value());
    (*commit)();
    CHECK(other.reports() == Bytes{0xFF, 0x00, 0x08, 45, 0x00});
}
