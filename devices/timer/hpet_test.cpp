#include "devices/timer/hpet.hpp"

#include "devices/interrupt/ioapic.hpp"
#include "devices/interrupt/ioapic_control.hpp"
#include "devices/test_board.hpp"
#include "devices/timer/i8254.hpp"

using namespace viv;

namespace {

constexpr uint64_t base = 0xFED0'0000;
constexpr uint64_t GCAP_ID = 0x00, GEN_CONF = 0x10, GINTR_STA = 0x20, MAIN_CNT = 0xF0;
constexpr uint64_t conf(unsigned timer) {
    return 0x100 + 0x20 * timer;
}
constexpr uint64_t comp(unsigned timer) {
    return 0x108 + 0x20 * timer;
}
constexpr uint64_t LEVEL = 0x02, INT_ENB = 0x04, PERIODIC = 0x08, VAL_SET = 0x40, MODE32 = 0x100;
constexpr uint64_t capable = uint64_t{0x00F0'0000} << 32 | 0x30;
constexpr uint64_t route(unsigned pin) {
    return uint64_t{pin} << 9;
}

struct Hpet : TestBoard {
    struct Messages final : MsiSink {
        void send(uint64_t, uint32_t data) override { vectors.push_back(static_cast<uint8_t>(data)); }
        std::vector<uint8_t> vectors;
    };

    Hpet() {
        make(make_ioapic, {{DeviceRange::Space::memory, 0xFEC0'0000, 0x1000}});
        device = nullptr;  // it is not under test
        services.find<IoApicControl>()->connect(messages);
        make(make_hpet, {{DeviceRange::Space::memory, base, 0x400}}, {0, 8});
        windows.erase(windows.begin());  // nor is the IOAPIC's window
        isa.pins[0].connect(irq0, 0);
        isa.pins[8].connect(irq8, 0);
        inputs = services.find<LegacyTimerInputs>();
    }
    uint64_t get(uint64_t at, uint8_t size = 8) { return memory_bus.read(base + at, size); }
    void set(uint64_t at, uint64_t value, uint8_t size = 8) { memory_bus.write(base + at, size, value); }
    void open_pin(unsigned pin, uint8_t vector, uint32_t trigger = 0) {
        memory_bus.write(0xFEC0'0000, 4, 0x10 + 2 * pin);
        memory_bus.write(0xFEC0'0010, 4, trigger | vector);
    }
    void wait_ticks(int64_t ticks) { clock.advance(Duration{ticks * 10}); }

    Messages messages;
    Wire& irq0 = new_wire();
    Wire& irq8 = new_wire();
    LegacyTimerInputs* inputs = nullptr;
};

}  // namespace

TEST_CASE("HPET keeps the device contract") {
    check_device_contract([] { return std::make_unique<Hpet>(); });
}

TEST_CASE("HPET tells what it can, and starts halted at zero") {
    Hpet board;
    CHECK(board.get(GCAP_ID) == 0x00989680'8086A201);
    CHECK(board.get(4, 4) == 10'000'000);
    CHECK(board.get(GEN_CONF) == 0);
    for (unsigned i = 0; i < 3; ++i) {
        CHECK(board.get(conf(i)) == capable);
        CHECK(board.get(comp(i)) == ~uint64_t{0});
        CHECK(board.get(comp(i) + 8) == 0);
    }
    board.wait_ticks(1000);
    CHECK(board.get(MAIN_CNT) == 0);
    board.set(GCAP_ID, 0);
    board.set(GEN_CONF, ~uint64_t{0});
    CHECK(board.get(GCAP_ID) == 0x00989680'8086A201);
    CHECK(board.get(GEN_CONF) == 3);
}

TEST_CASE("HPET's counter runs at 100 MHz while it is enabled, and can be set") {
    Hpet board;
    board.set(GEN_CONF, 1);
    board.wait_ticks(123'456);
    CHECK(board.get(MAIN_CNT) == 123'456);
    board.set(GEN_CONF, 0);
    board.wait_ticks(10);
    CHECK(board.get(MAIN_CNT) == 123'456);
    board.set(MAIN_CNT + 4, 7, 4);
    board.set(MAIN_CNT, 0xFFFF'FFFF, 4);
    board.set(GEN_CONF, 1);
    board.wait_ticks(2);
    CHECK(board.get(MAIN_CNT) == 0x8'0000'0001);
    CHECK(board.get(MAIN_CNT + 4, 4) == 8);
    CHECK(board.get(MAIN_CNT + 1, 8) == 0x0008'0000'00);
}

TEST_CASE("HPET's one-shot comparator interrupts once, when the counter comes to it") {
    Hpet board;
    board.open_pin(20, 0x41);
    board.set(comp(2), 500);
    board.set(conf(2), INT_ENB | route(20));
    board.set(GEN_CONF, 1);
    board.wait_ticks(499);
    CHECK(board.messages.vectors.empty());
    board.wait_ticks(1);
    CHECK(board.messages.vectors == std::vector<uint8_t>{0x41});
    CHECK(board.get(GINTR_STA) == 0);
    board.wait_ticks(1'000'000);
    CHECK(board.messages.vectors.size() == 1);

    SECTION("and again when it is set again") {
        board.set(comp(2), board.get(MAIN_CNT) + 300);
        board.wait_ticks(300);
        CHECK(board.messages.vectors.size() == 2);
    }
    SECTION("but not at a time that has passed") {
        board.set(comp(2), board.get(MAIN_CNT) - 1);
        board.wait_ticks(1'000'000);
        CHECK(board.messages.vectors.size() == 1);
    }
    SECTION("in 32-bit mode each time that the counter wraps around") {
        board.set(conf(2), INT_ENB | route(20) | MODE32);
        board.wait_ticks(int64_t{1} << 32);
        CHECK(board.messages.vectors.size() == 2);
    }
}

TEST_CASE("HPET's periodic comparator is set up as systems do it and interrupts without end") {
    Hpet board;
    board.set(GEN_CONF, 3);
    board.wait_ticks(100);
    board.set(conf(0), INT_ENB | PERIODIC | VAL_SET | MODE32);
    CHECK(board.get(conf(0)) == (capable | INT_ENB | PERIODIC | VAL_SET | MODE32));
    board.set(comp(0), 40'100, 4);
    CHECK(board.get(conf(0)) == (capable | INT_ENB | PERIODIC | MODE32));
    board.set(comp(0), 50'000, 4);
    CHECK(board.get(comp(0)) == 40'100);
    board.wait_ticks(39'999);
    CHECK(board.irq0.rises == 0);
    board.wait_ticks(1);
    CHECK(board.irq0.rises == 1);
    CHECK(board.get(comp(0)) == 90'100);
    board.wait_ticks(500'000);
    CHECK(board.irq0.rises == 11);
    CHECK(board.get(comp(0)) == 590'100);
    board.set(conf(0), PERIODIC | MODE32);
    CHECK_FALSE(board.irq0.level);
    board.wait_ticks(500'000);
    CHECK(board.irq0.rises == 11);
    CHECK(board.get(comp(0)) == 1'090'100);
}

TEST_CASE("HPET's level-triggered interrupt stays until its status is cleared") {
    Hpet board;
    constexpr uint32_t level_triggered = 1u << 15;
    board.open_pin(23, 0x52, level_triggered);
    board.set(conf(1), LEVEL | INT_ENB | PERIODIC | VAL_SET | route(23));
    board.set(comp(1), 10'000);
    board.set(GEN_CONF, 1);
    board.wait_ticks(35'000);
    CHECK(board.get(GINTR_STA) == 2);
    CHECK(board.messages.vectors == std::vector<uint8_t>{0x52});
    board.services.find<IoApicControl>()->end_of_interrupt(0x52);
    CHECK(board.messages.vectors.size() == 2);
    board.set(GINTR_STA, 2, 1);
    board.services.find<IoApicControl>()->end_of_interrupt(0x52);
    CHECK(board.messages.vectors.size() == 2);
    board.wait_ticks(5'000);
    CHECK(board.messages.vectors.size() == 3);
}

TEST_CASE("HPET's status is kept also while the interrupt is off") {
    Hpet board;
    board.set(conf(0), LEVEL);
    board.set(comp(0), 100);
    board.set(GEN_CONF, 3);
    board.wait_ticks(100);
    CHECK(board.get(GINTR_STA) == 1);
    CHECK_FALSE(board.irq0.level);
    board.set(conf(0), LEVEL | INT_ENB);
    CHECK(board.irq0.level);
    board.set(GEN_CONF, 2);
    CHECK_FALSE(board.irq0.level);
}

TEST_CASE("HPET takes IRQ 0 and IRQ 8 from the 8254 and the RTC, and gives them back") {
    Hpet board;
    IrqLine timer(board.inputs->timer), rtc(board.inputs->rtc);
    timer.set(true);
    rtc.set(true);
    CHECK(board.irq0.rises == 1);
    CHECK(board.irq8.rises == 1);
    board.set(GEN_CONF, 3);
    CHECK_FALSE(board.irq0.level);
    CHECK_FALSE(board.irq8.level);
    timer.set(false);
    timer.set(true);
    CHECK(board.irq0.rises == 1);
    board.set(conf(1), INT_ENB);
    board.set(comp(1), 50);
    board.wait_ticks(50);
    CHECK(board.irq8.rises == 2);
    CHECK(board.irq0.rises == 1);
    board.set(GEN_CONF, 1);
    CHECK(board.irq0.rises == 2);
    CHECK(board.irq8.level);
    rtc.set(false);
    CHECK_FALSE(board.irq8.level);
}

TEST_CASE("HPET stands between the 8254 and IRQ 0") {
    Hpet board;
    auto pit =
        board.try_make(make_i8254, {{DeviceRange::Space::ports, 0x40, 4}, {DeviceRange::Space::ports, 0x61, 1}}, {0});
    REQUIRE(pit.has_value());
    board.out(0x43, 0x34);
    board.out(0x40, 0xA9);
    board.out(0x40, 0x04);  // 1 kHz
    board.clock.advance(std::chrono::milliseconds(100));
    const unsigned before = board.irq0.rises;
    CHECK(before > 90);
    board.set(GEN_CONF, 3);
    board.clock.advance(std::chrono::milliseconds(100));
    CHECK(board.irq0.rises == before);
}

TEST_CASE("HPET routes to the pins that it names, and to no others") {
    Hpet board;
    board.set(conf(0), route(21));
    CHECK(board.get(conf(0)) == (capable | route(21)));
    board.set(conf(0), INT_ENB | route(9));
    CHECK(board.get(conf(0)) == (capable | INT_ENB | route(21)));
    board.set(conf(0), route(0));
    CHECK(board.get(conf(0)) == capable);
}

TEST_CASE("HPET's period of one tick interrupts at most every ten microseconds") {
    Hpet board;
    board.set(conf(0), INT_ENB | PERIODIC | VAL_SET);
    board.set(comp(0), 1);
    board.set(GEN_CONF, 3);
    board.wait_ticks(1'000'000);
    CHECK(board.irq0.rises <= 1000);
    CHECK(board.irq0.rises >= 900);
    CHECK(board.get(comp(0)) == 1'000'001);
}

TEST_CASE("HPET wakes nobody for comparators that interrupt nobody") {
    Hpet board;
    board.set(conf(0), PERIODIC | VAL_SET);
    board.set(comp(0), 1);
    board.set(conf(1), INT_ENB);
    board.set(comp(1), uint64_t{1} << 63);
    board.set(GEN_CONF, 3);
    CHECK_FALSE(board.clock.next_deadline().has_value());
}

TEST_CASE("HPET goes on after a load where it was") {
    Hpet board;
    board.set(conf(0), INT_ENB | PERIODIC | VAL_SET);
    board.set(comp(0), 5000);
    board.set(GEN_CONF, 3);
    board.wait_ticks(7000);
    const TreeNode saved = board.device->save();
    board.device->reset(ResetKind::hard);
    CHECK(board.get(GEN_CONF) == 0);
    auto commit = board.device->prepare_load(saved);
    REQUIRE(commit.has_value());
    (*commit)();
    const unsigned before = board.irq0.rises;
    board.wait_ticks(3000);
    CHECK(board.get(MAIN_CNT) == 10'000);
    CHECK(board.irq0.rises == before + 1);
}
