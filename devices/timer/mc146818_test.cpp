#include "devices/timer/mc146818.hpp"

#include "devices/system/nvram.hpp"
#include "devices/test_board.hpp"

using namespace viv;
using namespace std::chrono_literals;

namespace {

constexpr int64_t leap_eve = 951'782'399;  // Monday, 2000-02-28 23:59:59 UTC

struct Rtc : TestBoard {
    explicit Rtc(int64_t time = leap_eve) {
        wall_time = time;
        make(make_mc146818, {{DeviceRange::Space::ports, 0x70, 4}}, {8});
        isa.pins[8].connect(wire, 8);
    }
    uint8_t get(uint8_t index) {
        out(0x70, index);
        return in(0x71);
    }
    void set(uint8_t index, uint8_t value) {
        out(0x70, index);
        out(0x71, value);
    }
    std::string time() {
        std::string text;
        for (const int index : {0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00}) {
            const uint8_t byte = get(static_cast<uint8_t>(index));
            text += fmt_hex(byte);
        }
        return text;
    }
    static std::string fmt_hex(uint8_t byte) {
        constexpr std::string_view digits = "0123456789ABCDEF";
        return {digits[byte >> 4], digits[byte & 15]};
    }
    Wire& wire = new_wire();
};

}  // namespace

TEST_CASE("MC146818 keeps the device contract") {
    check_device_contract([] { return std::make_unique<Rtc>(); });
}

TEST_CASE("MC146818 starts with the wall time in BCD and 24 hours") {
    Rtc board;
    CHECK(board.time() == "20000228235959");
    CHECK(board.get(0x06) == 2);
    CHECK(board.get(0x0A) == 0x26);
    CHECK(board.get(0x0B) == 0x02);
    CHECK(board.get(0x0C) == 0x00);
    CHECK(board.get(0x0D) == 0x80);
}

TEST_CASE("MC146818 counts on through the end of a day, a leap day and a century") {
    Rtc board;
    board.clock.advance(1s);
    CHECK(board.time() == "20000229000000");
    CHECK(board.get(0x06) == 3);
    board.clock.advance(24h);
    CHECK(board.time() == "20000301000000");
    CHECK(board.get(0x06) == 4);
    Rtc turn(946'684'799);  // 1999-12-31 23:59:59
    CHECK(turn.time() == "19991231235959");
    turn.clock.advance(1s);
    CHECK(turn.time() == "20000101000000");
    CHECK(turn.get(0x06) == 7);
    Rtc later(4'102'444'799);  // 2099-12-31 23:59:59
    later.clock.advance(1s + 59 * 24h);
    CHECK(later.time() == "21000301000000");  // 2100 has no leap day
}

TEST_CASE("MC146818 shows UIP for 244 microseconds before each update") {
    Rtc board;
    board.clock.advance(1s - 245us);
    CHECK(board.get(0x0A) == 0x26);
    board.clock.advance(1us);
    CHECK(board.get(0x0A) == 0xA6);
    CHECK(board.get(0x00) == 0x59);
    board.clock.advance(243us);
    CHECK(board.get(0x0A) == 0xA6);
    board.clock.advance(1us);
    CHECK(board.get(0x0A) == 0x26);
    CHECK(board.get(0x00) == 0x00);
}

TEST_CASE("MC146818 SET stops updates, UIP and the update interrupt") {
    Rtc board;
    board.set(0x0B, 0x12);
    board.set(0x0B, 0x92);
    CHECK(board.get(0x0B) == 0x82);
    board.clock.advance(10s - 100us);
    CHECK(board.get(0x0A) == 0x26);
    CHECK(board.time() == "20000228235959");
    CHECK_FALSE(board.wire.level);
    board.set(0x00, 0x30);
    board.set(0x0B, 0x02);
    board.clock.advance(100us);
    CHECK(board.get(0x00) == 0x31);
}

TEST_CASE("A driver sets the time: SET, divider reset, write, run; the next update comes half a second later") {
    Rtc board;
    board.clock.advance(300ms);
    board.set(0x0B, 0x82);
    board.set(0x0A, 0x76);
    board.clock.advance(5s);
    for (const auto& [index, value] :
         {std::pair{0x00, 0x05}, {0x02, 0x04}, {0x04, 0x03}, {0x07, 0x02}, {0x08, 0x01}, {0x09, 0x24}, {0x32, 0x20}}) {
        board.set(static_cast<uint8_t>(index), static_cast<uint8_t>(value));
    }
    board.set(0x0B, 0x02);
    board.get(0x0C);
    board.set(0x0A, 0x26);
    CHECK(board.get(0x0C) == 0x00);
    board.clock.advance(499ms);
    CHECK(board.time() == "20240102030405");
    board.clock.advance(1ms);
    CHECK(board.time() == "20240102030406");
    board.clock.advance(999ms);
    CHECK(board.get(0x00) == 0x06);
    board.clock.advance(1ms);
    CHECK(board.get(0x00) == 0x07);
}

TEST_CASE("MC146818 keeps binary and 12-hour time as register B says") {
    Rtc board;
    board.set(0x0B, 0x84);
    for (const auto& [index, value] :
         {std::pair{0x00, 59}, {0x02, 59}, {0x04, 0x80 | 11}, {0x07, 31}, {0x08, 12}, {0x09, 99}, {0x32, 19}}) {
        board.set(static_cast<uint8_t>(index), static_cast<uint8_t>(value));
    }
    board.set(0x0B, 0x04);
    board.clock.advance(1s);
    CHECK(board.get(0x04) == 12);  // 12 AM
    CHECK(board.get(0x09) == 0);
    CHECK(board.get(0x32) == 20);
    CHECK(board.get(0x08) == 1);
    board.clock.advance(12h);
    CHECK(board.get(0x04) == (0x80 | 12));
    board.clock.advance(1h);
    CHECK(board.get(0x04) == (0x80 | 1));
}

TEST_CASE("MC146818 update-ended interrupt comes with each update until register C is read") {
    Rtc board(1000);  // not midnight, which the alarm's zeros match
    board.set(0x0B, 0x12);
    board.clock.advance(999ms);
    CHECK_FALSE(board.wire.level);
    board.clock.advance(1ms);
    CHECK(board.wire.level);
    board.clock.advance(3s);
    CHECK(board.wire.rises == 1);
    CHECK(board.get(0x0C) == 0xD0);  // PF too: it is set whether enabled or not
    CHECK_FALSE(board.wire.level);
    CHECK(board.get(0x0C) == 0x00);
    board.clock.advance(1s);
    CHECK(board.wire.rises == 2);
}

TEST_CASE("MC146818 periodic interrupt has all its rates, and none at 0") {
    for (const auto& [rate, hertz] : {std::pair{1, 256u}, {2, 128u}, {3, 8192u}, {6, 1024u}, {15, 2u}}) {
        Rtc board;
        board.set(0x0A, static_cast<uint8_t>(0x20 | rate));
        board.set(0x0B, 0x42);
        unsigned seen = 0;
        while (board.clock.now() < VirtualTime{2'000'000'000}) {
            const auto next = board.clock.next_deadline();
            REQUIRE(next.has_value());
            board.clock.advance(*next - board.clock.now());
            REQUIRE(board.wire.level);
            CHECK((board.get(0x0C) & 0xC0) == 0xC0);
            ++seen;
        }
        CHECK(seen == 2 * hertz);
    }
    Rtc board;
    board.set(0x0A, 0x20);
    board.set(0x0B, 0x42);
    board.clock.advance(2s);
    CHECK(board.wire.rises == 0);
    CHECK((board.get(0x0C) & 0x40) == 0);
}

TEST_CASE("MC146818 periodic interrupt has an edge each time, also if a period ends while register C is read") {
    Rtc board;
    board.set(0x0B, 0x42);  // PIE, 1024 Hz
    board.clock.advance(2ms);
    REQUIRE(board.wire.level);
    for (int i = 0; i < 50; ++i) {
        const unsigned rises = board.wire.rises;
        board.clock.move_when_looked_at(1ms);
        CHECK(board.get(0x0C) == 0xC0);
        board.clock.move_when_looked_at(0ms);
        board.clock.advance(2ms);
        CHECK(board.wire.rises == rises + 1);
    }
}

TEST_CASE("MC146818 alarm interrupts at its time of day") {
    Rtc board;  // 23:59:59
    board.set(0x05, 0x00);
    board.set(0x03, 0x01);
    board.set(0x01, 0x30);
    board.set(0x0B, 0x22);
    board.clock.advance(90s);
    CHECK_FALSE(board.wire.level);
    board.clock.advance(1s);
    CHECK(board.wire.level);
    CHECK((board.get(0x0C) & 0xB0) == 0xB0);
    board.clock.advance(24h - 1s);
    CHECK_FALSE(board.wire.level);
    board.clock.advance(1s);
    CHECK(board.wire.level);
}

TEST_CASE("MC146818 alarm wildcards match every second, minute or hour") {
    Rtc board;
    board.set(0x05, 0xC0);
    board.set(0x03, 0xFF);
    board.set(0x01, 0xC5);
    board.set(0x0B, 0x22);
    for (unsigned i = 1; i <= 3; ++i) {
        board.clock.advance(1s);
        CHECK(board.wire.rises == i);
        board.get(0x0C);
    }
    board.set(0x01, 0x10);  // second 10 of every minute; now it is 00:00:02
    board.clock.advance(7s);
    CHECK(board.wire.rises == 3);
    board.clock.advance(1s);
    CHECK(board.wire.rises == 4);
    board.get(0x0C);
    board.clock.advance(60s);
    CHECK(board.wire.rises == 5);
}

TEST_CASE("MC146818 alarm flag can be polled, and an impossible alarm never comes") {
    Rtc board;
    board.set(0x05, 0x12);
    board.set(0x03, 0x00);
    board.set(0x01, 0x00);
    board.clock.advance(11h + 59min);
    CHECK((board.get(0x0C) & 0x20) == 0);
    board.clock.advance(10min);
    CHECK((board.get(0x0C) & 0x20) == 0x20);
    board.set(0x0B, 0x22);
    for (const int bad : {0x05, 0x03, 0x01}) {
        for (const int alarm : {0x05, 0x03, 0x01}) board.set(static_cast<uint8_t>(alarm), 0xFF);
        board.set(static_cast<uint8_t>(bad), 0x7A);
        CHECK_FALSE(board.clock.next_deadline().has_value());
        board.clock.advance(48h);
        CHECK(board.wire.rises == 0);
    }
}

TEST_CASE("MC146818 alarm respects the PM bit") {
    Rtc board(0);  // 1970-01-01 00:00:00
    board.set(0x0B, 0x80);
    board.set(0x04, 0x12);  // 12 AM
    board.set(0x05, 0x83);  // 3 PM
    board.set(0x03, 0x00);
    board.set(0x01, 0x00);
    board.set(0x0B, 0x20);
    board.clock.advance(3h);
    CHECK_FALSE(board.wire.level);
    board.clock.advance(12h);
    CHECK(board.wire.level);
}

TEST_CASE("MC146818 stops with its divider") {
    Rtc board;
    board.set(0x0B, 0x72);
    board.set(0x0A, 0x66);
    board.clock.advance(60s);
    CHECK(board.time() == "20000228235959");
    CHECK(board.get(0x0C) == 0x00);
    CHECK(board.wire.rises == 0);
}

TEST_CASE("MC146818 RESET clears enables and flags and keeps time and memory") {
    Rtc board;
    board.set(0x0B, 0x7A);
    board.set(0x40, 0x55);
    board.out(0x72, 0x12);
    board.out(0x73, 0xAA);
    board.clock.advance(61s);
    CHECK(board.wire.level);
    board.device->reset(ResetKind::hard);
    CHECK_FALSE(board.wire.level);
    CHECK(board.get(0x0B) == 0x02);
    CHECK(board.get(0x0C) == 0x00);
    CHECK(board.time() == "20000229000100");
    CHECK(board.get(0x40) == 0x55);
    board.out(0x72, 0x12);
    CHECK(board.in(0x73) == 0xAA);
    board.device->reset(ResetKind::power_on);
    CHECK(board.get(0x40) == 0x00);
    CHECK(board.time() == "20000229000100");  // as new, at the wall time of now
}

TEST_CASE("MC146818 keeps two banks of memory behind write-only index ports") {
    Rtc board;
    for (unsigned i = 0x0E; i < 0x80; ++i) {
        if (i != 0x32) board.set(static_cast<uint8_t>(i), static_cast<uint8_t>(i ^ 0xFF));
    }
    for (unsigned i = 0; i < 0x80; ++i) {
        board.out(0x72, static_cast<uint8_t>(i));
        board.out(0x73, static_cast<uint8_t>(i + 1));
    }
    for (unsigned i = 0x0E; i < 0x80; ++i) {
        if (i != 0x32) CHECK(board.get(static_cast<uint8_t>(i | 0x80)) == (i ^ 0xFF));  // with NMI masked
    }
    for (unsigned i = 0; i < 0x80; ++i) {
        board.out(0x72, static_cast<uint8_t>(i | 0x80));
        CHECK(board.in(0x73) == i + 1);
    }
    CHECK(board.in(0x70) == 0xFF);
    CHECK(board.in(0x72) == 0xFF);
}

TEST_CASE("MC146818 status registers ignore writes") {
    Rtc board;
    board.set(0x0C, 0xFF);
    board.set(0x0D, 0x00);
    board.set(0x0A, 0xA6);
    board.set(0x00, 0xB0);  // bit 7 of the seconds too
    CHECK(board.get(0x00) == 0x30);
    CHECK(board.get(0x0C) == 0x00);
    CHECK(board.get(0x0D) == 0x80);
    CHECK(board.get(0x0A) == 0x26);
}

TEST_CASE("Nvram shows what a guest reads and clears nothing") {
    Rtc board(1000);
    auto* nvram = board.services.find<Nvram>();
    REQUIRE(nvram);
    nvram->set_cmos(0x10, 0x44);
    nvram->set_cmos(0x95, 0x66);
    CHECK(board.get(0x10) == 0x44);
    board.out(0x72, 0x15);
    CHECK(board.in(0x73) == 0x66);
    CHECK(nvram->cmos(0x95) == 0x66);
    board.clock.advance(1s);
    CHECK(nvram->cmos(0x00) == 0x41);
    CHECK(nvram->cmos(0x0C) == 0x50);
    CHECK(nvram->cmos(0x0C) == 0x50);
    CHECK(board.get(0x0C) == 0x50);
    CHECK(nvram->cmos(0x0C) == 0x00);
}

TEST_CASE("MC146818 survives senseless time bytes") {
    Rtc board;
    for (uint8_t i = 0; i < 0x0A; ++i) board.set(i, 0xFF);
    board.set(0x32, 0xFF);
    board.clock.advance(1s);
    board.set(0x0B, 0x00);
    for (uint8_t i = 0; i < 0x0A; ++i) board.set(i, 0x00);
    board.clock.advance(25h);
    CHECK(board.get(0x08) >= 1);
    CHECK(board.get(0x07) >= 1);
}
