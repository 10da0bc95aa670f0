#include "devices/virtio/virtio_input.hpp"

#include <string>

#include "devices/input/port_choice.hpp"
#include "devices/input/typist.hpp"
#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

constexpr uint64_t buffer = VirtioBoard::buffer;

template <class Input>
struct InputOf {
    Input* input = nullptr;
};

template <class Input>
struct Board : InputOf<Input>, VirtioBoard {
    Board()
        : VirtioBoard([this] {
              auto made = std::make_unique<Input>();
              this->input = made.get();
              return made;
          }) {}
    /// Gives the device so many buffers for events.
    void give(unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            const uint16_t id = rings.at(0).add({{buffer + 16 * next_, 8, true}});
            places_[id] = buffer + 16 * next_++;
        }
        tell(0);
    }
    /// The events that have come, as "type:code:value".
    std::vector<std::string> events() {
        std::vector<std::string> all;
        while (const auto used = rings.at(0).take()) {
            REQUIRE(used->written == 8);
            const uint64_t place = places_.at(used->id);
            all.push_back(std::to_string(memory.load<uint16_t>(Gpa{place})) + ":" +
                          std::to_string(memory.load<uint16_t>(Gpa{place + 2})) + ":" +
                          std::to_string(memory.load<int32_t>(Gpa{place + 4})));
        }
        return all;
    }
    /// What the configuration answers.
    std::vector<uint8_t> answer(uint8_t select, uint8_t subselect) {
        set(VirtioPci::configuration, 1, select);
        set(VirtioPci::configuration + 1, 1, subselect);
        std::vector<uint8_t> bytes;
        const auto size = static_cast<unsigned>(configuration(2, 1));
        for (unsigned i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(configuration(8 + i, 1)));
        return bytes;
    }
    bool has_code(uint8_t type, unsigned code) {
        const auto bits = answer(0x11, type);
        return code / 8 < bits.size() && (bits[code / 8] >> (code % 8) & 1);
    }

  private:
    uint64_t next_ = 0;
    std::map<uint16_t, uint64_t> places_;
};
using KeyboardBoard = Board<VirtioKeyboard>;
using MouseBoard = Board<VirtioMouse>;
using TabletBoard = Board<VirtioTablet>;
using Events = std::vector<std::string>;
constexpr auto none = KeyboardPort::Repeat::none;

struct OtherKeyboard final : KeyboardPort {
    bool press(Key key, Repeat) override { return pressed.push_back(key), true; }
    void release(Key) override {}
    [[nodiscard]] bool idle() const override { return true; }
    void on_idle(std::move_only_function<void()>) override {}
    [[nodiscard]] uint64_t discarded() const override { return 0; }
    [[nodiscard]] KeyboardLeds leds() const override { return {}; }
    std::vector<Key> pressed;
};

}  // namespace

TEST_CASE("Each kind of virtio input device keeps the device contract") {
    check_device_contract(VirtioBoard::closed<KeyboardBoard>);
    check_device_contract(VirtioBoard::closed<MouseBoard>);
    check_device_contract(VirtioBoard::closed<TabletBoard>);
}

TEST_CASE("The configuration says what an input device is and has") {
    KeyboardBoard keyboard;
    const auto name = keyboard.answer(1, 0);
    CHECK(std::string(name.begin(), name.end()) == "Vivarium Virtio Keyboard");
    CHECK(keyboard.answer(1, 1).empty());
    CHECK(keyboard.answer(3, 0) == std::vector<uint8_t>{6, 0, 0xF4, 0x1A, 1, 0, 1, 0});
    CHECK(keyboard.has_code(1, 30));   // A
    CHECK(keyboard.has_code(1, 126));  // right GUI
    CHECK(keyboard.has_code(1, 127));  // menu
    CHECK_FALSE(keyboard.has_code(1, 0));
    CHECK(keyboard.has_code(0x11, 2));  // Scroll Lock
    CHECK(keyboard.has_code(0x14, 0));  // the system repeats
    CHECK(keyboard.answer(0x11, 3).empty());
    CHECK(keyboard.answer(0x12, 0).empty());
    CHECK(keyboard.answer(0x77, 0).empty());
    // Only what selects can be written.
    keyboard.set(VirtioPci::configuration + 2, 1, 99);
    keyboard.set(VirtioPci::configuration + 8, 1, 99);
    CHECK(keyboard.configuration(2, 1) == 0);

    MouseBoard mouse;
    CHECK(mouse.answer(3, 0).at(4) == 2);
    CHECK(mouse.has_code(2, 0));
    CHECK(mouse.has_code(2, 1));
    CHECK(mouse.has_code(2, 8));
    CHECK(mouse.has_code(1, 0x112));
    CHECK_FALSE(mouse.has_code(3, 0));

    TabletBoard tablet;
    CHECK(tablet.has_code(3, 0));
    CHECK(tablet.has_code(3, 1));
    CHECK_FALSE(tablet.has_code(2, 0));
    CHECK(tablet.has_code(2, 8));
    const auto axis = tablet.answer(0x12, 1);
    REQUIRE(axis.size() == 20);
    CHECK((axis[0] | axis[1]) == 0);
    CHECK((axis[4] | axis[5] << 8 | axis[6] << 16) == TabletPort::limit);
    CHECK(tablet.answer(0x12, 2).empty());
}

TEST_CASE("Keys reach the driver as events, each with its end") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        KeyboardBoard board;
        CHECK_FALSE(board.input->in_use());
        CHECK_FALSE(board.input->press(Key::a, none));
        board.start(layout);
        CHECK(board.input->in_use());
        board.give(8);
        CHECK(board.input->press(Key::a, none));
        CHECK(board.input->press(Key::a, none));
        CHECK(board.input->idle());
        board.input->release(Key::a);
        board.input->release(Key::a);
        CHECK(board.events() == Events{"1:30:1", "0:0:0", "1:30:0", "0:0:0"});
    }
}

TEST_CASE("Keys wait for buffers, and a release is never lost") {
    KeyboardBoard board;
    board.start(0);
    unsigned pressed = 0;
    for (unsigned usage = 4; usage < 0x50 && board.input->press(static_cast<Key>(usage), none); ++usage) ++pressed;
    CHECK(pressed == 24);
    CHECK_FALSE(board.input->idle());
    for (unsigned usage = 4; usage < 4 + pressed; ++usage) board.input->release(static_cast<Key>(usage));
    unsigned idle = 0;
    board.input->on_idle([&] { ++idle; });
    board.save_and_load();
    std::map<std::string, int> down;
    for (int round = 0; round < 20; ++round) {
        board.give(8);
        for (const std::string& event : board.events()) {
            if (event[0] == '1') down[event.substr(2, event.size() - 4)] += event.back() == '1' ? 1 : -1;
        }
    }
    CHECK(down.size() == pressed);
    for (const auto& [code, count] : down) CHECK(count == 0);
    CHECK(board.input->idle());
    CHECK(idle == 1);
}

TEST_CASE("A key that was let go while there was no room can be pressed again") {
    KeyboardBoard board;
    board.start(0, 64);
    unsigned usage = 4;
    while (board.input->press(static_cast<Key>(usage), none)) ++usage;
    for (unsigned i = 4; i < 4 + 6; ++i) board.input->release(static_cast<Key>(i));  // takes what room there is
    board.input->release(Key::j);
    board.give(30);
    board.events();
    CHECK(board.input->press(Key::j, none));
    board.give(34);
    const auto events = board.events();
    const auto again = std::ranges::find(events, "1:36:0");
    REQUIRE(again != events.end());
    CHECK(std::find(again, events.end(), "1:36:1") != events.end());
}

TEST_CASE("The driver switches lamps by the status queue") {
    KeyboardBoard board;
    board.start(0);
    const auto lamp = [&](uint16_t code, uint32_t on) {
        board.memory.store(Gpa{buffer}, uint16_t{0x11});
        board.memory.store(Gpa{buffer + 2}, code);
        board.memory.store(Gpa{buffer + 4}, on);
        CHECK(board.run(1, {{buffer, 8, false}})->written == 0);
    };
    lamp(1, 1);
    CHECK(board.input->leds() == KeyboardLeds{.caps_lock = true});
    lamp(0, 1);
    lamp(1, 0);
    CHECK(board.input->leds() == KeyboardLeds{.num_lock = true});
    lamp(3, 1);
    lamp(0xFFFF, 1);
    CHECK(board.input->leds() == KeyboardLeds{.num_lock = true});
    // What is no event, or too short for one.
    board.memory.store(Gpa{buffer}, uint16_t{0x14});
    CHECK(board.run(1, {{buffer, 8, false}}));
    CHECK(board.run(1, {{buffer, 7, false}}));
    CHECK(board.run(1, {{buffer, 8, true}}));
    CHECK(board.input->leds() == KeyboardLeds{.num_lock = true});
    board.set_status(0);
    CHECK(board.input->leds() == KeyboardLeds{});
}

TEST_CASE("A driver that resets the keyboard sets fingers free, and what it left counts as discarded") {
    KeyboardBoard board;
    board.start(0);
    board.input->press(Key::a, none);
    unsigned idle = 0;
    board.input->on_idle([&] { ++idle; });
    board.set_status(0);
    CHECK(board.input->discarded() == 2);
    CHECK(board.input->idle());
    CHECK(idle == 1);
}

TEST_CASE("Keys go to the virtio keyboard while there is a driver, else to the other one") {
    KeyboardBoard board;
    OtherKeyboard other;
    KeyboardChoice choice(*board.input, other);
    CHECK(choice.press(Key::a, none));
    CHECK(other.pressed == std::vector{Key::a});
    board.start(0);
    board.give(8);
    Typist typist(board.clock, choice);
    REQUIRE(typist.type("H").has_value());
    CHECK(typist.done());
    CHECK(board.events() == Events{"1:42:1", "0:0:0", "1:35:1", "0:0:0", "1:35:0", "0:0:0", "1:42:0", "0:0:0"});
    CHECK(other.pressed == std::vector{Key::a});
    // What a driver leaves when it goes is typed again on the other one.
    REQUIRE(typist.type("i").has_value());
    CHECK_FALSE(typist.done());
    board.set_status(0);
    board.clock.advance(std::chrono::milliseconds(100));
    CHECK(typist.done());
    CHECK(other.pressed == std::vector{Key::a, Key::i});
}

TEST_CASE("Motion of a mouse adds up until there is a buffer, and clicks keep their place") {
    MouseBoard board;
    board.start(0);
    board.input->move(3, -2, 0);
    board.input->move(4, 0, 0);
    board.input->press(MouseButton::left);
    board.input->move(0, 9, 1);
    board.input->release(MouseButton::left);
    board.give(12);
    CHECK(board.events() ==
          Events{"2:0:7", "2:1:-2", "0:0:0", "1:272:1", "0:0:0", "2:1:9", "2:8:-1", "0:0:0", "1:272:0", "0:0:0"});
    for (int i = 0; i < 3; ++i) board.input->move(30000, 0, 0);
    CHECK(board.events() == Events{"2:0:30000", "0:0:0"});
    board.give(2);
    CHECK(board.events() == Events{"2:0:32767", "0:0:0"});
}

TEST_CASE("Clicks without end end as things are") {
    MouseBoard board;
    board.start(0, 64);
    for (int i = 0; i < 1000; ++i) {
        board.input->press(MouseButton::right);
        board.input->release(MouseButton::right);
    }
    board.input->press(MouseButton::middle);
    Events events;
    for (int i = 0; i < 10; ++i) {
        board.give(16);
        for (auto& event : board.events()) events.push_back(event);
    }
    CHECK(events.size() <= VirtioInput::most_events + 8);
    CHECK(std::ranges::count(events, "1:273:1") == std::ranges::count(events, "1:273:0"));
    CHECK(std::ranges::count(events, "1:274:1") == 1);
}

TEST_CASE("A tablet tells places") {
    TabletBoard board;
    board.input->move_to(5, 5);
    CHECK_FALSE(board.input->reporting());
    board.start(0);
    CHECK(board.input->reporting());
    board.input->move_to(-1, 99999);
    CHECK_FALSE(board.input->idle());
    board.input->press(MouseButton::extra);
    board.input->scroll(2);
    board.give(9);
    CHECK(board.events() ==
          Events{"3:0:0", "3:1:32767", "0:0:0", "1:276:1", "0:0:0", "3:0:0", "3:1:32767", "2:8:-2", "0:0:0"});
    CHECK(board.input->idle());
    board.input->move_to(0, 32767);
    CHECK(board.input->idle());
}

TEST_CASE("Buffers too small for an event come back empty") {
    TabletBoard board;
    board.start(0);
    board.rings.at(0).add({{buffer, 7, true}});
    board.rings.at(0).add({{buffer, 8, false}});
    board.input->move_to(1, 1);
    CHECK(board.rings.at(0).take()->written == 0);
    CHECK(board.rings.at(0).take()->written == 0);
    board.give(3);
    CHECK(board.events() == Events{"3:0:1", "3:1:1", "0:0:0"});
}

TEST_CASE("A state that no input device has is refused") {
    KeyboardBoard board;
    for (const auto& [key, value] : {std::pair{"leds", 8u}, {"buttons", 0x20u}}) {
        TreeNode node = board.device->save();
        for (TreeNode& child : node.children) {
            if (child.name == "function") child.set(key, {static_cast<std::byte>(value)});
        }
        CHECK_FALSE(board.device->prepare_load(node));
    }
}

TEST_CASE("Nodes of input devices provide the ports of hands, in front of earlier ones") {
    PciBoard board;
    OtherKeyboard other;
    board.services.provide<KeyboardPort>(other);
    board.node.set_cells("reg", std::array<uint32_t, 2>{5, 0});
    board.node.set_string("viv,function", "keyboard");
    const auto made = board.try_make(make_virtio_pci, {});
    REQUIRE(made);
    KeyboardPort* keyboard = board.services.find<KeyboardPort>();
    REQUIRE(keyboard != &other);
    CHECK(keyboard->press(Key::z, none));
    CHECK(other.pressed == std::vector{Key::z});
}
