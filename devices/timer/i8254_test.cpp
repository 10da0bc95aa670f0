#include "devices/timer/i8254.hpp"

#include <array>

#include "devices/interrupt/i8259.hpp"
#include "devices/interrupt/interrupt_controller.hpp"
#include "devices/test_board.hpp"
#include "devices/timer/speaker.hpp"

using namespace viv;

namespace {

constexpr uint64_t hertz = 1'193'182;
constexpr uint16_t control_word = 0x43;

enum class Pics { absent, present };

struct Pit : TestBoard {
    // The interrupt controllers come first, as on the board: what sees a wire outlives what drives it.
    explicit Pit(Pics pics = Pics::absent) {
        using enum DeviceRange::Space;
        if (pics == Pics::present) make(make_i8259, {{ports, 0x20, 2}, {ports, 0xA0, 2}, {ports, 0x4D0, 2}});
        make(make_i8254, {{ports, 0x40, 4}, {ports, 0x61, 1}}, {0});
        isa.pins[0].connect(wire, 0);
        wire.rises = 0;
    }
    /// Moves to exactly `count` ticks from the present tick.
    void ticks(uint64_t count) {
        tick += count;
        clock.advance(VirtualTime{ns_of_ticks(tick, hertz)} - clock.now());
    }
    void program(unsigned counter, uint8_t mode, uint16_t count) {
        out(control_word, static_cast<uint8_t>(counter << 6 | 0x30 | mode << 1));
        load(counter, count);
    }
    void load(unsigned counter, uint16_t count) {
        out(static_cast<uint16_t>(0x40 + counter), static_cast<uint8_t>(count));
        out(static_cast<uint16_t>(0x40 + counter), static_cast<uint8_t>(count >> 8));
    }
    uint16_t read(unsigned counter) {
        const auto port = static_cast<uint16_t>(0x40 + counter);
        const uint8_t low = in(port);
        return static_cast<uint16_t>(low | in(port) << 8);
    }
    uint16_t latched(unsigned counter) {
        out(control_word, static_cast<uint8_t>(counter << 6));
        return read(counter);
    }
    uint8_t status(unsigned counter) {
        out(control_word, static_cast<uint8_t>(0xE0 | 2u << counter));
        return in(static_cast<uint16_t>(0x40 + counter));
    }
    bool output(unsigned counter) { return status(counter) & 0x80; }
    std::string wave(unsigned counter, unsigned length) {
        std::string text;
        for (unsigned i = 0; i < length; ++i) {
            text += output(counter) ? '^' : '_';
            ticks(1);
        }
        return text;
    }
    void gate2(bool level) { out(0x61, level ? 1 : 0); }

    uint64_t tick = 0;
    Wire& wire = new_wire();
};

}  // namespace

TEST_CASE("8254 keeps the device contract") {
    check_device_contract([] { return std::make_unique<Pit>(); });
}

TEST_CASE("8254 mode 2 ticks IRQ 0 once a period") {
    Pit board;
    board.program(0, 2, 1000);
    const unsigned before = board.wire.rises;
    board.ticks(1 + 1000);
    CHECK(board.wire.rises == before + 1);
    board.ticks(999);
    CHECK(board.wire.rises == before + 1);
    board.ticks(1);
    CHECK(board.wire.rises == before + 2);
    board.ticks(100'000);
    CHECK(board.wire.rises == before + 102);
}

TEST_CASE("8254 mode 3 with count 0 is the 18.2 Hz of a BIOS, and never drifts") {
    Pit board;
    board.program(0, 3, 0);
    const unsigned before = board.wire.rises;
    board.clock.advance(std::chrono::hours(24));
    // 24 hours * 1193182 / 65536: the number that a BIOS calls 1800B0h, within the clock's own error.
    CHECK(board.wire.rises - before == 86400ull * hertz / 65536);
}

TEST_CASE("8254 mode 3 wire is high for the first half of a period") {
    Pit board;
    board.program(0, 3, 1000);
    board.ticks(1);
    CHECK(board.wire.level);
    board.ticks(499);
    CHECK(board.wire.level);
    board.ticks(1);
    CHECK_FALSE(board.wire.level);
    board.ticks(499);
    CHECK_FALSE(board.wire.level);
    board.ticks(1);
    CHECK(board.wire.level);
}

TEST_CASE("8254 mode 0 counts down once, raises OUT and goes on counting") {
    Pit board;
    board.program(0, 0, 5);
    CHECK_FALSE(board.output(0));
    CHECK(board.status(0) == 0x70);  // low, count not loaded yet
    board.ticks(1);
    CHECK(board.status(0) == 0x30);
    CHECK(board.latched(0) == 5);
    board.ticks(4);
    CHECK(board.latched(0) == 1);
    CHECK_FALSE(board.wire.level);
    board.ticks(1);
    CHECK(board.latched(0) == 0);
    CHECK(board.wire.level);
    CHECK(board.output(0));
    board.ticks(1);
    CHECK(board.latched(0) == 0xFFFF);
    CHECK(board.wire.rises == 1);
    board.load(0, 3);  // starts over; OUT falls
    CHECK_FALSE(board.wire.level);
    board.ticks(4);
    CHECK(board.wire.rises == 2);
}

TEST_CASE("8254 mode 0 first byte of a new count stops counting and lowers OUT") {
    Pit board;
    board.program(0, 0, 100);
    board.ticks(1 + 150);
    CHECK(board.output(0));
    board.out(0x40, 0x20);
    CHECK_FALSE(board.output(0));
    const uint16_t stopped = board.latched(0);
    board.ticks(50);
    CHECK(board.latched(0) == stopped);
    board.out(0x40, 0x00);
    board.ticks(1);
    CHECK(board.latched(0) == 0x20);
}

TEST_CASE("8254 mode 0 pauses while the gate is low") {
    Pit board;
    board.gate2(true);
    board.program(2, 0, 10);
    board.ticks(1 + 4);
    board.gate2(false);
    board.ticks(1000);
    CHECK(board.latched(2) == 6);
    board.gate2(true);
    board.ticks(5);
    CHECK_FALSE(board.in(0x61) & 0x20);
    board.ticks(1);
    CHECK(board.in(0x61) & 0x20);
}

TEST_CASE("8254 mode 1 is a one-shot that the gate triggers and retriggers") {
    Pit board;
    board.program(2, 1, 4);
    CHECK(board.output(2));
    board.ticks(20);
    CHECK(board.output(2));
    board.gate2(true);
    CHECK(board.wave(2, 7) == "^____^^");
    board.gate2(false);
    board.gate2(true);
    board.ticks(3);
    board.gate2(false);
    board.gate2(true);  // again before it ended
    CHECK(board.wave(2, 7) == "_____^^");
}

TEST_CASE("8254 mode 2 is low for the last tick of each period") {
    Pit board;
    board.gate2(true);
    board.program(2, 2, 4);
    CHECK(board.wave(2, 10) == "^^^^_^^^_^");
    CHECK(board.latched(2) == 3);
    board.gate2(false);
    CHECK(board.output(2));
    board.ticks(99);
    CHECK(board.latched(2) == 3);
    board.gate2(true);  // reloads
    board.ticks(1);
    CHECK(board.latched(2) == 4);
}

TEST_CASE("8254 mode 2 takes a new count at the end of the period") {
    Pit board;
    board.gate2(true);
    board.program(2, 2, 10);
    board.ticks(1 + 3);
    board.load(2, 4);
    CHECK(board.status(2) == (0x80 | 0x40 | 0x34));
    CHECK(board.latched(2) == 7);
    board.ticks(6);
    CHECK(board.latched(2) == 1);
    board.ticks(1);
    CHECK(board.latched(2) == 4);
    CHECK_FALSE(board.status(2) & 0x40);
}

TEST_CASE("8254 mode 2 keeps a new count for the gate's rise when the gate has fallen") {
    Pit board;
    for (const bool gate_falls_first : {false, true}) {
        board.gate2(true);
        board.program(2, 2, 10);
        board.ticks(1 + 3);
        if (gate_falls_first) board.gate2(false);
        board.load(2, 4);
        board.gate2(false);
        board.ticks(50);
        CHECK(board.latched(2) == 7);
        CHECK((board.status(2) & 0x40));
        board.gate2(true);
        board.ticks(1);
        CHECK(board.latched(2) == 4);
        CHECK_FALSE((board.status(2) & 0x40));
    }
}

TEST_CASE("8254 mode 3 divides odd counts into halves that differ by one, counting by two") {
    Pit board;
    board.gate2(true);
    board.program(2, 3, 5);
    board.ticks(1);
    std::string counts;
    for (int i = 0; i < 10; ++i) {
        counts += std::to_string(board.latched(2));
        board.ticks(1);
    }
    CHECK(counts == "4204242042");
    CHECK(board.wave(2, 10) == "^^^__^^^__");
    board.program(2, 3, 6);
    board.ticks(1);
    CHECK(board.wave(2, 12) == "^^^___^^^___");
}

TEST_CASE("8254 mode 3 takes a new count at the end of the half period") {
    Pit board;
    board.gate2(true);
    board.program(2, 3, 8);
    board.ticks(1 + 1);
    board.load(2, 4);
    CHECK(board.wave(2, 9) == "^^^__^^__");
}

TEST_CASE("8254 mode 3 OUT goes high at once when the gate falls") {
    Pit board;
    board.gate2(true);
    board.program(2, 3, 8);
    board.ticks(1 + 5);
    CHECK_FALSE(board.output(2));
    board.gate2(false);
    CHECK(board.output(2));
    board.ticks(3);
    board.gate2(true);
    board.ticks(1);
    CHECK(board.wave(2, 8) == "^^^^____");
}

TEST_CASE("8254 mode 4 strobes once for one tick after its count") {
    Pit board;
    board.gate2(true);
    board.program(2, 4, 3);
    CHECK(board.wave(2, 7) == "^^^^_^^");
    board.load(2, 2);
    CHECK(board.wave(2, 5) == "^^^_^");
    board.program(0, 4, 3);
    const unsigned before = board.wire.rises;
    board.ticks(5);
    CHECK(board.wire.rises == before + 1);
}

TEST_CASE("8254 mode 5 strobes after the gate's rise") {
    Pit board;
    board.program(2, 5, 3);
    board.ticks(10);
    CHECK(board.output(2));
    board.gate2(true);
    CHECK(board.wave(2, 6) == "^^^^_^");
    board.ticks(100);
    CHECK(board.output(2));
}

TEST_CASE("8254 counts in BCD") {
    Pit board;
    board.out(control_word, 0x31);
    board.load(0, 0x1000);
    board.ticks(2);
    CHECK(board.latched(0) == 0x0999);
    board.ticks(999);
    CHECK(board.latched(0) == 0x0000);
    board.ticks(1);
    CHECK(board.latched(0) == 0x9999);
    board.out(control_word, 0x35);
    board.load(0, 0);  // 10000
    board.ticks(1);
    CHECK(board.latched(0) == 0x0000);
    board.ticks(1);
    CHECK(board.latched(0) == 0x9999);
}

TEST_CASE("8254 reads and writes single bytes as the control word says") {
    Pit board;
    board.out(control_word, 0x14);  // counter 0, least significant byte, mode 2
    board.out(0x40, 0x80);
    board.ticks(1);
    CHECK(board.in(0x40) == 0x80);
    board.ticks(1);
    CHECK(board.in(0x40) == 0x7F);
    board.out(control_word, 0x24);  // most significant byte
    board.out(0x40, 0x12);
    board.ticks(1);
    CHECK(board.in(0x40) == 0x12);
    board.ticks(1);
    CHECK(board.in(0x40) == 0x11);
}

TEST_CASE("8254 latch holds the count until it is read, and a second latch changes nothing") {
    Pit board;
    board.program(0, 2, 1000);
    board.ticks(1 + 100);
    board.out(control_word, 0x00);
    board.ticks(100);
    board.out(control_word, 0x00);
    CHECK(board.read(0) == 900);
    CHECK(board.read(0) == 800);  // live again
    board.out(control_word, 0x00);
    board.ticks(10);
    board.program(0, 2, 77);  // reprogramming drops the latch
    board.ticks(1);
    CHECK(board.read(0) == 77);
}

TEST_CASE("8254 read-back latches status and count of several counters") {
    Pit board;
    board.gate2(true);
    board.program(0, 3, 100);
    board.program(2, 2, 50);
    board.ticks(1 + 10);
    board.out(control_word, 0xCA);  // both of counters 0 and 2
    board.ticks(5);
    CHECK(board.in(0x40) == 0xB6);
    CHECK(board.read(0) == 80);
    CHECK(board.in(0x42) == 0xB4);
    CHECK(board.read(2) == 40);
    board.out(control_word, 0xD2);  // count only of counter 0
    CHECK(board.read(0) == 70);
    board.out(control_word, 0xF2);  // neither
    board.ticks(1);
    CHECK(board.read(0) == 68);
    board.out(control_word, 0xE2);
    board.ticks(50);
    board.out(control_word, 0xE2);  // the first status stays
    CHECK(board.in(0x40) == 0xB6);
}

TEST_CASE("8254 modes 6 and 7 are modes 2 and 3") {
    Pit board;
    board.gate2(true);
    board.out(control_word, 0xBC);
    board.load(2, 4);
    CHECK(board.wave(2, 6) == "^^^^_^");
    CHECK(board.status(2) == (0x80 | 0x3C));
    board.out(control_word, 0xBE);
    board.load(2, 4);
    CHECK(board.wave(2, 6) == "^^^__^");
}

TEST_CASE("8254 counts of 1 in the periodic modes keep OUT high and cost no time") {
    Pit board;
    for (const uint8_t mode : {uint8_t{2}, uint8_t{3}}) {
        board.program(0, mode, 1);
        const unsigned before = board.wire.rises;
        board.clock.advance(std::chrono::seconds(1));
        CHECK(board.output(0));
        CHECK(board.wire.rises == before);
        board.tick = ticks_in(board.clock.now().ns, hertz);
        board.load(0, 20);
        board.ticks(1 + 200);
        CHECK(board.wire.rises == before + 10);
    }
}

TEST_CASE("8254 interrupts at most every ten microseconds, however short the period") {
    for (const unsigned mode : {2u, 3u}) {
        Pit board;
        board.gate2(true);
        board.program(0, static_cast<uint8_t>(mode), 2);
        board.program(2, static_cast<uint8_t>(mode), 2);
        board.ticks(1);
        const unsigned before = board.wire.rises;
        board.ticks(120'000);
        CHECK(board.wire.rises - before <= 10'000);
        CHECK(board.wire.rises - before >= 5'000);
        CHECK(board.wave(2, 6) == "^_^_^_");  // the count itself is exact
    }
}

TEST_CASE("8254 control word port reads as a floating bus") {
    Pit board;
    CHECK(board.in(control_word) == 0xFF);
}

TEST_CASE("8254 changing the mode moves OUT at once: low for mode 0, an edge for the others") {
    Pit board;
    board.program(0, 2, 100);
    CHECK(board.wire.level);
    board.out(control_word, 0x30);
    CHECK_FALSE(board.wire.level);
    const unsigned before = board.wire.rises;
    board.out(control_word, 0x34);
    CHECK(board.wire.level);
    CHECK(board.wire.rises == before + 1);
}

TEST_CASE("8254 an expired fast timer that the host serves late still interrupts, once") {
    // A clock that jumps, as a busy host's does.
    struct JumpingClock final : Clock {
        [[nodiscard]] VirtualTime now() const override { return time; }
        VirtualTime time;
    };
    TestBoard board;
    JumpingClock clock;
    TestBoard::Wire wire;
    board.isa.pins[0].connect(wire, 0);
    DeviceContext context{board.node,   "/pit", {},         {&board.isa.pins[0]}, board.ports,  board.memory_bus,
                          board.memory, clock,  board.loop, board.services,       board.system, 0};
    context.ranges = {{DeviceRange::Space::ports, 0x40, 4}, {DeviceRange::Space::ports, 0x61, 1}};
    const auto device = make_i8254(context);
    REQUIRE(device.has_value());
    board.out(control_word, 0x36);
    board.out(0x40, 0xE8);
    board.out(0x40, 0x03);  // 1000 ticks
    clock.time = {ns_of_ticks(1, hertz)};
    clock.run_due();
    const unsigned before = wire.rises;

    clock.time = {ns_of_ticks(1 + 1700, hertz)};  // one period and its high half have passed
    CHECK(clock.run_due());
    CHECK(wire.rises == before + 1);
    CHECK(wire.level);  // the processor gets its time to see it
    clock.time = {ns_of_ticks(1 + 1900, hertz)};
    CHECK(clock.run_due());
    CHECK(wire.level);
    CHECK_FALSE(board.in(0x61) & 0x20);
    clock.time = {ns_of_ticks(1 + 2000, hertz)};
    CHECK(clock.run_due());
    CHECK(wire.rises == before + 2);

    clock.time = {ns_of_ticks(1 + 1'000'000, hertz)};  // a thousand periods: one call, one edge
    CHECK(clock.run_due(3));
    CHECK(wire.rises == before + 3);
    clock.time = {ns_of_ticks(1 + 1'000'500, hertz)};
    CHECK(clock.run_due());
    CHECK_FALSE(wire.level);  // on time again
    clock.time = {ns_of_ticks(1 + 1'001'000, hertz)};
    CHECK(clock.run_due());
    CHECK(wire.rises == before + 4);

    clock.time = {ns_of_ticks(1 + 1'002'400, hertz)};  // late again, and now the guest wants a short period
    CHECK(clock.run_due());
    board.out(control_word, 0x36);
    board.out(0x40, 100);
    board.out(0x40, 0);
    for (const uint64_t tick : {2'401, 2'451}) {
        clock.time = {ns_of_ticks(1'000'001 + tick, hertz)};
        CHECK(clock.run_due());
    }
    CHECK_FALSE(wire.level);
}

TEST_CASE("8254 and 8259A: of a fast timer a busy CPU loses the ticks that found one pending") {
    Pit board(Pics::present);
    auto* pic = board.services.find<InterruptController>();
    for (const auto& [port, value] : {std::pair{0x20, 0x11}, {0x21, 8}, {0x21, 4}, {0x21, 1}, {0x21, 0xFE}}) {
        board.out(static_cast<uint16_t>(port), static_cast<uint8_t>(value));
    }
    board.program(0, 2, 1000);
    board.ticks(1);
    for (int i = 0; i < 5; ++i) {
        board.ticks(1000);
        REQUIRE(pic->intr());
        CHECK(pic->acknowledge() == 0x08);
        CHECK_FALSE(pic->intr());
        board.out(0x20, 0x20);
    }
    board.ticks(3500);  // not acknowledged for three periods
    CHECK(pic->acknowledge() == 0x08);
    board.out(0x20, 0x20);
    CHECK_FALSE(pic->intr());
    board.ticks(500);
    CHECK(pic->intr());
}

TEST_CASE("8254 and 8259A: ticks that a busy CPU could not take come after it did, none when they are masked") {
    for (const uint8_t mode : std::array<uint8_t, 2>{2, 3}) {
        CAPTURE(mode);
        Pit board(Pics::present);
        auto* pic = board.services.find<InterruptController>();
        for (const auto& [port, value] : {std::pair{0x20, 0x11}, {0x21, 8}, {0x21, 4}, {0x21, 1}, {0x21, 0xFE}}) {
            board.out(static_cast<uint16_t>(port), static_cast<uint8_t>(value));
        }
        const auto take_all = [&](uint64_t ticks) {
            unsigned taken = 0;
            for (uint64_t i = 0; i < ticks; i += 100) {
                board.ticks(100);
                if (!pic->intr()) continue;
                CHECK(pic->acknowledge() == 0x08);
                board.out(0x20, 0x20);
                ++taken;
            }
            return taken;
        };
        board.program(0, mode, 4000);
        take_all(100);
        CHECK(take_all(40'000) == 10);
        board.ticks(5 * 4000);
        CHECK(pic->intr());
        CHECK(take_all(5 * 4000) == 10);
        board.out(0x21, 0xFF);
        board.ticks(5 * 4000);
        board.out(0x21, 0xFE);
        CHECK(take_all(8000) <= 3);
        // Nor does looking at the counter swallow one.
        unsigned seen = 0;
        for (int i = 0; i < 40'000; i += 10) {
            board.ticks(10);
            board.latched(0);
            if (!pic->intr()) continue;
            pic->acknowledge();
            board.out(0x20, 0x20);
            ++seen;
        }
        CHECK(seen == 10);
        board.ticks(5 * 4000);
        board.program(0, mode, 4000);  // a new count owes nothing
        take_all(100);
        CHECK(take_all(8000) == 2);
    }
}

TEST_CASE("Port 61h reads back its enables, the refresh toggle and OUT of counter 2") {
    Pit board;
    board.out(0x61, 0xFF);
    CHECK((board.in(0x61) & 0xCF) == 0x0F);
    board.out(0x61, 0x00);
    CHECK((board.in(0x61) & 0xCF) == 0x00);
    unsigned toggles = 0;
    uint8_t last = board.in(0x61) & 0x10;
    for (unsigned i = 0; i < 1800; ++i) {
        board.ticks(1);
        const uint8_t now = board.in(0x61) & 0x10;
        toggles += now != last;
        last = now;
    }
    CHECK(toggles == 100);  // every 15 microseconds
}

TEST_CASE("A kernel calibrates its processor clock with counter 2 in mode 0") {
    Pit board;
    board.out(0x61, static_cast<uint8_t>((board.in(0x61) & ~0x02) | 0x01));
    board.out(control_word, 0xB0);
    constexpr uint16_t latch = hertz / 20;  // 50 ms
    board.load(2, latch);
    const VirtualTime start = board.clock.now();
    while (!(board.in(0x61) & 0x20)) board.clock.advance(std::chrono::microseconds(1));
    const auto waited = std::chrono::duration<double, std::milli>(board.clock.now() - start).count();
    CHECK(waited > 49.99);
    CHECK(waited < 50.01);
}

TEST_CASE("A kernel calibrates by the high byte of counter 2, and sees the first count at once") {
    Pit board;
    board.out(0x61, 0x01);
    board.out(control_word, 0xB0);
    board.out(0x42, 0xFF);
    board.out(0x42, 0xFF);
    const auto high_byte = [&] { return static_cast<uint8_t>(board.read(2) >> 8); };
    for (unsigned expected = 0xFF; expected > 0xE0; --expected) {
        unsigned seen = 0;
        while (high_byte() == expected) {
            board.ticks(4);
            ++seen;
        }
        CHECK(seen >= 63);
        CHECK(seen <= 65);
    }
}

TEST_CASE("A kernel uses counter 0 in mode 4 as a one-shot clock event and moves it before it expires") {
    Pit board;
    board.out(control_word, 0x38);
    const unsigned before = board.wire.rises;
    board.load(0, 1000);
    board.ticks(900);
    board.load(0, 1000);
    board.ticks(1000);
    CHECK(board.wire.rises == before);
    board.ticks(2);
    CHECK(board.wire.rises == before + 1);
    board.ticks(200'000);
    CHECK(board.wire.rises == before + 1);
    board.load(0, 500);
    board.ticks(502);
    CHECK(board.wire.rises == before + 2);
}

TEST_CASE("A DOS program speeds the timer up and gives it back") {
    Pit board;
    board.program(0, 3, 0);
    board.ticks(100'000);
    board.program(0, 3, 0x1000);
    const unsigned before = board.wire.rises;
    board.ticks(1 + 16 * 0x1000);
    CHECK(board.wire.rises == before + 16);
    board.load(0, 0);  // the count alone: at the end of the half period
    board.ticks(0x800);
    const unsigned slow = board.wire.rises;
    board.ticks(3 * 65536);
    CHECK(board.wire.rises == slow + 3);
}

TEST_CASE("The speaker sounds when connected to an audible square wave") {
    Pit board;
    auto* speaker = board.services.find<Speaker>();
    REQUIRE(speaker);
    CHECK_FALSE(speaker->on());
    board.program(2, 3, 1193);
    CHECK_FALSE(speaker->on());
    board.out(0x61, 0x03);
    board.ticks(2);
    CHECK(speaker->on());
    CHECK(speaker->frequency() == 1000);
    board.out(0x61, 0x01);
    CHECK_FALSE(speaker->on());
    board.out(0x61, 0x03);
    board.program(2, 3, 20);
    board.ticks(2);
    CHECK(speaker->frequency() == 0);  // beyond hearing
}

TEST_CASE("8254 goes on at the same count and with the same edges after a load") {
    Pit board;
    board.program(0, 3, 5000);
    board.ticks(1 + 1234);
    const TreeNode saved = board.device->save();
    Pit other;
    other.ticks(board.tick);
    auto commit = other.device->prepare_load(saved);
    REQUIRE(commit.has_value());
    (*commit)();
    CHECK(other.latched(0) == board.latched(0));
    const unsigned before = other.wire.rises;
    other.ticks(5000 - 1234 - 1);
    CHECK(other.wire.rises == before);
    other.ticks(1);
    CHECK(other.wire.rises == before + 1);
}

TEST_CASE("8254 refuses a state that no counter can be in") {
    Pit board;
    board.program(0, 2, 100);
    const TreeNode good = board.device->save();
    CHECK(board.device->prepare_load(good).has_value());
    for (const char* key : {"control", "latched_bytes", "gate", "start", "seen", "load_at", "period"}) {
        TreeNode bad = good;
        TreeNode* counter = bad.child("counters")->child("0");
        auto bytes = *counter->property(key);
        const bool is_flag = std::string_view(key) == "gate";
        for (auto& byte : bytes) byte = is_flag ? std::byte{0} : std::byte{0xFF};
        counter->set(key, bytes);
        CAPTURE(key);
        CHECK_FALSE(board.device->prepare_load(bad).has_value());
    }
}
