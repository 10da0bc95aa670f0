#include "devices/usb/usb_hid.hpp"

#include <algorithm>

#include "devices/input/port_choice.hpp"
#include "devices/input/typist.hpp"
#include "devices/usb/uhci_rig_test.hpp"
#include "devices/usb/usb_keyboard.hpp"
#include "devices/usb/usb_pointer.hpp"

using namespace viv;
using namespace viv::uhci;

namespace {

using Bytes = std::vector<uint8_t>;

/// A PS/2 keyboard and mouse that write down what they get.
struct FakeKeyboard final : KeyboardPort {
    bool press(Key key, Repeat) override { return pressed.push_back(key), true; }
    void release(Key key) override { released.push_back(key); }
    [[nodiscard]] bool idle() const override { return true; }
    void on_idle(std::move_only_function<void()>) override {}
    [[nodiscard]] uint64_t discarded() const override { return 0; }
    [[nodiscard]] KeyboardLeds leds() const override { return {.scroll_lock = true}; }
    std::vector<Key> pressed, released;
};
struct FakeMouse final : MousePort {
    void move(int dx, int, int) override { moved += dx; }
    void press(MouseButton) override { ++presses; }
    void release(MouseButton) override { ++releases; }
    [[nodiscard]] bool reporting() const override { return false; }
    int moved = 0, presses = 0, releases = 0;
};

template <class Port>
struct BoardOf : UhciBoard {
    explicit BoardOf(const char* kind) : UhciBoard({kind}) {
        start();
        configure(0);
    }
    Port& port = *services.find<Port>();
};
struct KeyboardBoard : BoardOf<KeyboardPort> {
    KeyboardBoard() : BoardOf("keyboard") {
        // As drivers do: reports only when a key moves.
        REQUIRE(succeeds(0, {0x21, 10, 0, 0, 0, 0, 0, 0}));
    }
};
struct MouseBoard : BoardOf<MousePort> {
    MouseBoard() : BoardOf("mouse") {}
};
struct TabletBoard : BoardOf<TabletPort> {
    TabletBoard() : BoardOf("tablet") {}
};

Bytes tablet_report(uint8_t buttons, unsigned x, unsigned y, int8_t wheel = 0) {
    return {buttons,
            static_cast<uint8_t>(x),
            static_cast<uint8_t>(x >> 8),
            static_cast<uint8_t>(y),
            static_cast<uint8_t>(y >> 8),
            static_cast<uint8_t>(wheel)};
}

}  // namespace

TEST_CASE("Each kind of USB device keeps the device contract") {
    const char* kind = GENERATE("tablet", "keyboard", "mouse");
    check_device_contract([kind] {
        auto board = std::make_unique<UhciBoard>(std::initializer_list<const char*>{kind});
        board->device->reset(ResetKind::power_on);
        return board;
    });
}

TEST_CASE("Descriptors say what a device is") {
    UhciBoard board({"tablet", "keyboard"});
    board.start();
    board.reset_port(0);
    CHECK(board.control(0, {0x80, 6, 0, 1, 0, 0, 18, 0}) ==
          Bytes{18, 1, 0x10, 1, 0, 0, 0, 8, 0x27, 6, 1, 0, 0, 1, 1, 2, 0, 1});
    const auto configuration = board.control(0, {0x80, 6, 0, 2, 0, 0, 255, 0});
    REQUIRE(configuration.has_value());
    REQUIRE(configuration->size() == 34);
    CHECK((*configuration)[2] == 34);
    CHECK((*configuration)[7] == 0xA0);
    CHECK(Bytes(configuration->begin() + 9, configuration->begin() + 18) == Bytes{9, 4, 0, 0, 1, 3, 0, 0, 0});
    CHECK(Bytes(configuration->begin() + 27, configuration->end()) == Bytes{7, 5, 0x81, 3, 8, 0, 8});
    // A request for less gets less, as drivers do first.
    CHECK(board.control(0, {0x80, 6, 0, 2, 0, 0, 9, 0})->size() == 9);
    CHECK(board.control(0, {0x80, 6, 0, 3, 0, 0, 255, 0}) == Bytes{4, 3, 9, 4});
    CHECK(board.control(0, {0x80, 6, 2, 3, 9, 4, 255, 0}) ==
          Bytes{22, 3, 'U', 0, 'S', 0, 'B', 0, ' ', 0, 'T', 0, 'a', 0, 'b', 0, 'l', 0, 'e', 0, 't', 0});
    CHECK_FALSE(board.succeeds(0, {0x80, 6, 3, 3, 9, 4, 255, 0}));
    CHECK_FALSE(board.succeeds(0, {0x80, 6, 0, 6, 0, 0, 10, 0}));  // no qualifier: it knows no high speed
    // The class descriptor tells the length of the report descriptor.
    const auto hid = board.control(0, {0x81, 6, 0, 0x21, 0, 0, 9, 0});
    REQUIRE(hid.has_value());
    const auto report = board.control(0, {0x81, 6, 0, 0x22, 0, 0, 255, 0});
    REQUIRE(report.has_value());
    CHECK((*hid)[7] == report->size());
    CHECK(report->back() == 0xC0);

    board.reset_port(1);
    board.set(board.port_at(0), 0);  // two devices at address 0 are one too many
    const auto keyboard = board.control(1, {0x80, 6, 0, 2, 0, 0, 255, 0});
    REQUIRE(keyboard.has_value());
    CHECK(Bytes(keyboard->begin() + 9, keyboard->begin() + 18) == Bytes{9, 4, 0, 0, 1, 3, 1, 1, 0});
}

TEST_CASE("A new address is for the next transfer, and a reset takes it back") {
    UhciBoard board({"tablet"});
    board.start();
    board.reset_port(0);
    CHECK(board.succeeds(0, {0, 5, 77, 0, 0, 0, 0, 0}));
    CHECK_FALSE(board.succeeds(0, {0x80, 6, 0, 1, 0, 0, 18, 0}));
    board.addresses[0] = 77;
    CHECK(board.succeeds(0, {0x80, 6, 0, 1, 0, 0, 18, 0}));
    CHECK_FALSE(board.succeeds(0, {0, 5, 128, 0, 0, 0, 0, 0}));
    board.reset_port(0);
    board.addresses[0] = 0;
    CHECK(board.succeeds(0, {0x80, 6, 0, 1, 0, 0, 18, 0}));
}

TEST_CASE("Configuration, interface, features and status are kept and told") {
    UhciBoard board({"tablet"});
    board.start();
    board.reset_port(0);
    CHECK(board.control(0, {0x80, 8, 0, 0, 0, 0, 1, 0}) == Bytes{0});
    CHECK_FALSE(board.succeeds(0, {0x81, 10, 0, 0, 0, 0, 1, 0}));
    CHECK_FALSE(board.succeeds(0, {0, 9, 2, 0, 0, 0, 0, 0}));
    CHECK(board.succeeds(0, {0, 9, 1, 0, 0, 0, 0, 0}));
    CHECK(board.control(0, {0x80, 8, 0, 0, 0, 0, 1, 0}) == Bytes{1});
    CHECK(board.control(0, {0x81, 10, 0, 0, 0, 0, 1, 0}) == Bytes{0});
    CHECK(board.succeeds(0, {1, 11, 0, 0, 0, 0, 0, 0}));
    CHECK_FALSE(board.succeeds(0, {1, 11, 1, 0, 0, 0, 0, 0}));
    CHECK(board.control(0, {0x80, 0, 0, 0, 0, 0, 2, 0}) == Bytes{0, 0});
    CHECK(board.succeeds(0, {0, 3, 1, 0, 0, 0, 0, 0}));
    CHECK(board.control(0, {0x80, 0, 0, 0, 0, 0, 2, 0}) == Bytes{2, 0});
    CHECK(board.succeeds(0, {0, 1, 1, 0, 0, 0, 0, 0}));
    CHECK(board.control(0, {0x80, 0, 0, 0, 0, 0, 2, 0}) == Bytes{0, 0});
    CHECK_FALSE(board.succeeds(0, {0x40, 1, 0, 0, 0, 0, 0, 0}));
    CHECK_FALSE(board.succeeds(0, {0, 7, 0, 1, 0, 0, 18, 0}, Bytes(18)));
}

TEST_CASE("A halted endpoint stalls until the feature is cleared") {
    TabletBoard board;
    board.port.move_to(1, 1);
    CHECK(board.succeeds(0, {2, 3, 0, 0, 0x81, 0, 0, 0}));
    CHECK(board.control(0, {0x82, 0, 0, 0, 0x81, 0, 2, 0}) == Bytes{1, 0});
    board.put({{.address = 5, .endpoint = 1, .length = 8, .buffer = board.buffer}});
    board.wait_ms(2);
    CHECK(board.status() & STALLED);
    CHECK(board.succeeds(0, {2, 1, 0, 0, 0x81, 0, 0, 0}));
    CHECK(board.control(0, {0x82, 0, 0, 0, 0x81, 0, 2, 0}) == Bytes{0, 0});
    CHECK(board.poll(0) == tablet_report(0, 1, 1));
}

TEST_CASE("A tablet says where it is, and clicks keep their places") {
    TabletBoard board;
    CHECK_FALSE(board.poll(0).has_value());
    board.port.move_to(100, 200);
    board.port.move_to(16384, 32767);
    CHECK_FALSE(board.port.idle());
    board.port.press(MouseButton::left);
    board.port.move_to(99999, -5);
    board.port.release(MouseButton::left);
    board.port.scroll(2);
    CHECK(board.poll(0) == tablet_report(0, 16384, 32767));
    CHECK(board.poll(0) == tablet_report(1, 16384, 32767));
    CHECK(board.poll(0) == tablet_report(1, 32767, 0));
    CHECK(board.poll(0) == tablet_report(0, 32767, 0));
    CHECK(board.poll(0) == tablet_report(0, 32767, 0, -2));
    CHECK_FALSE(board.poll(0).has_value());
    CHECK(board.port.idle());
    CHECK(board.control(0, {0xA1, 1, 0, 1, 0, 0, 8, 0})->size() == 6);
}

TEST_CASE("What a tablet is told before anybody asks is one place") {
    UhciBoard board({"tablet"});
    TabletPort& tablet = *board.services.find<TabletPort>();
    CHECK_FALSE(tablet.reporting());
    tablet.move_to(500, 600);
    tablet.press(MouseButton::left);
    tablet.release(MouseButton::left);
    board.start();
    board.configure(0);
    CHECK(tablet.reporting());
    CHECK_FALSE(board.poll(0).has_value());
    tablet.press(MouseButton::right);
    CHECK(board.poll(0) == tablet_report(2, 500, 600));
}

TEST_CASE("Clicks without end leave the last state") {
    TabletBoard board;
    for (int i = 0; i < 1001; ++i) {
        board.port.press(MouseButton::left);
        board.port.release(MouseButton::left);
        board.port.move_to(i, i);
    }
    Bytes last;
    unsigned reports = 0;
    while (const auto report = board.poll(0)) {
        last = *report;
        ++reports;
    }
    CHECK(reports == UsbHid::most_events);
    CHECK(last == tablet_report(0, 1000, 1000));
}

TEST_CASE("A mouse tells ways in steps of 127, and its boot protocol has no wheel") {
    MouseBoard board;
    board.port.move(200, -3, 1);
    CHECK(board.poll(0) == Bytes{0, 127, 0xFD, 0xFF});
    CHECK(board.poll(0) == Bytes{0, 73, 0, 0});
    CHECK_FALSE(board.poll(0).has_value());
    board.port.press(MouseButton::middle);
    board.port.move(1, 1, 0);
    CHECK(board.poll(0) == Bytes{4, 0, 0, 0});
    CHECK(board.poll(0) == Bytes{4, 1, 1, 0});
    CHECK(board.control(0, {0xA1, 3, 0, 0, 0, 0, 1, 0}) == Bytes{1});
    CHECK(board.succeeds(0, {0x21, 11, 0, 0, 0, 0, 0, 0}));
    board.port.move(5, 0, 3);
    CHECK(board.poll(0) == Bytes{4, 5, 0});
}

TEST_CASE("An idle rate repeats what is known, without motion") {
    MouseBoard board;
    CHECK(board.succeeds(0, {0x21, 10, 0, 5, 0, 0, 0, 0}));  // 20 ms
    CHECK(board.control(0, {0xA1, 2, 0, 0, 0, 0, 1, 0}) == Bytes{5});
    board.port.move(9, 9, 0);
    board.port.press(MouseButton::left);
    CHECK(board.poll(0) == Bytes{0, 9, 9, 0});
    CHECK(board.poll(0) == Bytes{1, 0, 0, 0});
    CHECK_FALSE(board.poll(0).has_value());
    board.wait_ms(20);
    CHECK(board.poll(0) == Bytes{1, 0, 0, 0});
    CHECK(board.succeeds(0, {0x21, 10, 0, 0, 0, 0, 0, 0}));
    board.wait_ms(2000);
    CHECK_FALSE(board.poll(0).has_value());
}

TEST_CASE("A keyboard tells keys and modifiers one change at a time") {
    KeyboardBoard board;
    CHECK(board.port.press(Key::left_shift));
    CHECK(board.port.press(Key::a));
    board.port.release(Key::a);
    CHECK_FALSE(board.port.idle());
    CHECK(board.poll(0) == Bytes{2, 0, 0, 0, 0, 0, 0, 0});
    CHECK(board.poll(0) == Bytes{2, 0, 4, 0, 0, 0, 0, 0});
    CHECK(board.poll(0) == Bytes{2, 0, 0, 0, 0, 0, 0, 0});
    CHECK(board.port.idle());
    board.port.release(Key::left_shift);
    CHECK(board.poll(0) == Bytes(8));
    CHECK_FALSE(board.poll(0).has_value());
}

TEST_CASE("More than six keys are a rollover error") {
    KeyboardBoard board;
    Bytes last;
    for (unsigned i = 0; i < 7; ++i) {
        CHECK(board.port.press(static_cast<Key>(0x04 + i)));
        last = board.poll(0).value_or(Bytes{});
    }
    CHECK(last == Bytes{0, 0, 1, 1, 1, 1, 1, 1});
    board.port.release(Key::a);
    CHECK(board.poll(0) == Bytes{0, 0, 5, 6, 7, 8, 9, 10});
}

TEST_CASE("A full keyboard refuses presses, and loses no release") {
    KeyboardBoard board;
    unsigned taken = 0;
    for (unsigned i = 0; i < 60; ++i) taken += board.port.press(static_cast<Key>(0x04 + i));
    CHECK(taken == 24);
    for (unsigned i = 0; i < 60; ++i) board.port.release(static_cast<Key>(0x04 + i));
    Bytes last;
    while (const auto report = board.poll(0)) last = *report;
    CHECK(last == Bytes(8));
    CHECK(board.port.idle());
}

TEST_CASE("The guest lights the keyboard's lamps") {
    KeyboardBoard board;
    CHECK(board.succeeds(0, {0x21, 9, 0, 2, 0, 0, 1, 0}, {0x02}));
    CHECK(board.port.leds() == KeyboardLeds{.caps_lock = true});
    CHECK(board.control(0, {0xA1, 1, 0, 2, 0, 0, 1, 0}) == Bytes{2});
    CHECK_FALSE(board.succeeds(0, {0x21, 9, 0, 3, 0, 0, 1, 0}, {0x02}));
    CHECK_FALSE(board.succeeds(0, {0x21, 9, 0, 2, 0, 0, 0, 0}));
    CHECK_FALSE(board.succeeds(0, {0x21, 9, 0, 2, 0, 0, 0xFF, 0x0F}));
}

TEST_CASE("Keys that a reset sweeps away are counted") {
    KeyboardBoard board;
    board.port.press(Key::x);
    board.port.release(Key::x);
    CHECK(board.port.discarded() == 0);
    board.reset_port(0);
    CHECK(board.port.discarded() == 2);
}

TEST_CASE("Keys go to the USB keyboard while the guest uses it, else to the other one") {
    FakeKeyboard other;
    struct Board : UhciBoard {
        Board() : UhciBoard({}) {}
    } board;
    Uhci controller(board.clock);
    auto made = std::make_unique<UsbKeyboard>(controller.device_state(0), board.clock);
    UsbKeyboard& keyboard = *made;
    controller.attach(0, std::move(made));
    KeyboardChoice choice(keyboard, other);
    choice.press(Key::a, KeyboardPort::Repeat::none);
    CHECK(other.pressed == std::vector{Key::a});
    CHECK(choice.leds().scroll_lock);
    CHECK_FALSE(keyboard.press(Key::b, KeyboardPort::Repeat::none));
    // Enabled, running, configured.
    controller.write({PORTSC1, 2}, PED);
    controller.write({USBCMD, 2}, RS);
    const std::array<uint8_t, 8> configure{0, 9, 1, 0, 0, 0, 0, 0};
    std::array<uint8_t, usb_largest_packet> packet{};
    keyboard.setup(0, configure);
    CHECK(keyboard.in(0, packet).answer == UsbAnswer::ack);
    CHECK(choice.press(Key::b, KeyboardPort::Repeat::none));
    CHECK(other.pressed == std::vector{Key::a});
    CHECK_FALSE(choice.idle());
    CHECK_FALSE(choice.leds().scroll_lock);
    choice.release(Key::a);
    CHECK(other.released == std::vector{Key::a});
    controller.write({USBCMD, 2}, 0);
    choice.press(Key::c, KeyboardPort::Repeat::none);
    CHECK(other.pressed == std::vector{Key::a, Key::c});
}

TEST_CASE("Keys that the guest leaves when it stops are typed again on the other keyboard") {
    FakeKeyboard other;
    UhciBoard board({});
    Uhci controller(board.clock);
    auto made = std::make_unique<UsbKeyboard>(controller.device_state(0), board.clock);
    UsbKeyboard& keyboard = *made;
    controller.attach(0, std::move(made));
    KeyboardChoice choice(keyboard, other);
    controller.write({PORTSC1, 2}, PED);
    controller.write({USBCMD, 2}, RS);
    std::array<uint8_t, usb_largest_packet> packet{};
    keyboard.setup(0, std::array<uint8_t, 8>{0, 9, 1, 0, 0, 0, 0, 0});
    CHECK(keyboard.in(0, packet).answer == UsbAnswer::ack);
    Typist typist(board.clock, choice);
    REQUIRE(typist.type("a").has_value());
    board.wait_ms(10);
    CHECK(other.pressed.empty());
    CHECK_FALSE(typist.done());
    controller.write({USBCMD, 2}, 0);
    board.wait_ms(100);
    CHECK(other.pressed == std::vector{Key::a});
    CHECK(typist.done());
    CHECK(keyboard.discarded() == 1);
}

TEST_CASE("Motion goes to the USB mouse while the guest uses it, else to the other one") {
    FakeMouse other;
    UhciBoard board({});
    Uhci controller(board.clock);
    auto made = std::make_unique<UsbMouse>(controller.device_state(0), board.clock);
    UsbMouse& mouse = *made;
    controller.attach(0, std::move(made));
    MouseChoice choice(mouse, other);
    choice.move(3, 0, 0);
    choice.press(MouseButton::left);
    CHECK(other.moved == 3);
    CHECK_FALSE(choice.reporting());
    controller.write({PORTSC1, 2}, PED);
    controller.write({USBCMD, 2}, RS);
    std::array<uint8_t, usb_largest_packet> packet{};
    mouse.setup(0, std::array<uint8_t, 8>{0, 9, 1, 0, 0, 0, 0, 0});
    CHECK(mouse.in(0, packet).answer == UsbAnswer::ack);
    choice.move(4, 0, 0);
    choice.release(MouseButton::left);
    CHECK(other.moved == 3);
    CHECK(other.releases == 1);
    CHECK(choice.reporting());
    CHECK(mouse.in(1, packet).answer == UsbAnswer::ack);
    CHECK(packet[1] == 4);
}

TEST_CASE("The typist types on a USB keyboard") {
    KeyboardBoard board;
    Typist typist(board.clock, board.port);
    REQUIRE(typist.type("Hi").has_value());
    Bytes keys;
    for (unsigned i = 0; i < 40 && !typist.done(); ++i) {
        const auto report = board.poll(0);
        if (report && (*report)[2] != 0) keys.push_back(static_cast<uint8_t>((*report)[2] + (*report)[0]));
    }
    CHECK(typist.done());
    CHECK(keys == Bytes{0x0B + 2, 0x0C});
}
