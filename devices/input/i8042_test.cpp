#include "devices/input/i8042.hpp"

#include <string>
#include <vector>

#include "devices/input/input_rig.hpp"
#include "devices/test_board.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

using namespace viv;
using namespace viv::testing;

namespace {

struct Rig final : ContractRig {
    Rig() {
        device = &controller;
        windows = {{&controller.data_port(), 1}, {&controller.command_port(), 1}};
        pins = {&irq1, &irq12};
        controller.connect(IrqLine(irq1), IrqLine(irq12));
    }
    FakeSystem system;
    IrqPin irq1;
    IrqPin irq12;
    I8042 controller{clock, system, I8042::Aux::mouse};
};

}  // namespace

TEST_CASE("i8042 keeps the device contract") {
    check_device_contract([] { return std::make_unique<Rig>(); });
}

TEST_CASE("the controller's self-test answers 55h and sets the system flag") {
    InputRig rig;
    rig.command(0xAA);
    CHECK((rig.status() & 0x05) == 0x05);
    CHECK(rig.data() == 0x55);
    CHECK((rig.status() & 0x01) == 0);
    rig.command(0xAB);
    CHECK(rig.data() == 0x00);
    rig.command(0xA9);
    CHECK(rig.data() == 0x00);
}

TEST_CASE("both interfaces are off at power-on and the command byte reads back what was written") {
    InputRig rig;
    rig.command(0x20);
    CHECK(rig.data() == 0x30);
    rig.command(0x60);
    rig.write(0x47);
    rig.command(0x20);
    CHECK(rig.data() == 0x47);
    rig.command(0xAD);
    rig.command(0xA7);
    rig.command(0x20);
    CHECK(rig.data() == 0x77);
    rig.command(0xAE);
    rig.command(0xA8);
    rig.command(0x20);
    CHECK(rig.data() == 0x47);
}

TEST_CASE("the controller's RAM can be written and read") {
    InputRig rig;
    rig.command(0x7F);
    rig.write(0x5A);
    rig.command(0x3F);
    CHECK(rig.data() == 0x5A);
    rig.command(0x3E);
    CHECK(rig.data() == 0x00);
}

TEST_CASE("the status register tells a command from data") {
    InputRig rig;
    rig.command(0x20);
    CHECK((rig.status() & 0x08) != 0);
    rig.data();
    rig.write(0xEE);
    CHECK((rig.status() & 0x08) == 0);
}

TEST_CASE("a BIOS initialises controller and keyboard") {
    InputRig rig;
    rig.command(0xAA);
    REQUIRE(rig.data() == 0x55);
    rig.command(0xAB);
    REQUIRE(rig.data() == 0x00);
    rig.command(0x60);
    rig.write(0x61);  // interrupt, translation, mouse off
    rig.write(0xFF);
    CHECK(rig.take() == 0xFA);
    CHECK(rig.take() == 0xAA);
    rig.write(0xF5);
    CHECK(rig.take() == 0xFA);
    rig.write(0xF0);
    CHECK(rig.take() == 0xFA);
    rig.write(0x02);
    CHECK(rig.take() == 0xFA);
    rig.write(0xF4);
    CHECK(rig.take() == 0xFA);
    CHECK_FALSE(rig.irq1.level());
    rig.keyboard().press(Key::a);
    rig.settle();
    CHECK(rig.irq1.level());
    CHECK(rig.data() == 0x1E);
    CHECK_FALSE(rig.irq1.level());
}

TEST_CASE("IRQ 1 follows the output buffer and its enable bit") {
    InputRig rig;
    rig.enable(0x40);
    rig.keyboard().press(Key::a);
    rig.settle();
    CHECK_FALSE(rig.irq1.level());
    rig.command(0x60);
    rig.write(0x41);
    CHECK(rig.irq1.level());
    rig.data();
    CHECK_FALSE(rig.irq1.level());
}

TEST_CASE("each byte raises an edge of its own on IRQ 1") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::home);
    rig.settle();
    CHECK(rig.data() == 0xE0);
    CHECK_FALSE(rig.irq1.level());
    rig.settle();
    CHECK(rig.data() == 0x47);
    CHECK(rig.edges.rising == 2);
}

TEST_CASE("a key's byte stays readable until the next one arrives a millisecond later") {
    // A hook of INT 09h reads port 60h and chains to the BIOS, which reads it again.
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::a);
    rig.keyboard().press(Key::b);
    rig.settle();
    CHECK(rig.data() == 0x1E);
    CHECK(rig.data() == 0x1E);
    rig.clock.advance(std::chrono::microseconds(900));
    CHECK(rig.data() == 0x1E);
    rig.clock.advance(std::chrono::microseconds(100));
    CHECK(rig.data() == 0x30);
}

TEST_CASE("a full output buffer holds the keyboard back") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::a);
    rig.keyboard().press(Key::b);
    rig.settle();
    rig.settle();
    CHECK(rig.take() == 0x1E);
    CHECK(rig.take() == 0x30);
    CHECK((rig.status() & 0x01) == 0);
}

TEST_CASE("a disabled keyboard interface keeps the keys until it is enabled") {
    InputRig rig;
    rig.enable(0x41);
    rig.command(0xAD);
    rig.keyboard().press(Key::a);
    rig.settle();
    CHECK((rig.status() & 0x01) == 0);
    rig.command(0xAE);
    rig.settle();
    CHECK(rig.take() == 0x1E);
}

TEST_CASE("disabling the interface under a byte on the wire starts it again later") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::a);
    rig.clock.advance(std::chrono::microseconds(999));
    rig.command(0xAD);
    rig.settle();
    CHECK((rig.status() & 0x01) == 0);
    rig.command(0xAE);
    rig.clock.advance(std::chrono::microseconds(999));
    CHECK((rig.status() & 0x01) == 0);
    rig.clock.advance(std::chrono::microseconds(1));
    CHECK(rig.data() == 0x1E);
}

TEST_CASE("sending a byte to a device switches its interface on") {
    InputRig rig;
    rig.write(0xEE);
    CHECK(rig.take() == 0xEE);
    rig.command(0x20);
    CHECK(rig.data() == 0x20);
    rig.mouse_write(0xF6);
    CHECK(rig.take() == 0xFA);
    rig.command(0x20);
    CHECK(rig.data() == 0x00);
}

TEST_CASE("the controller's own answer waits for the byte that is in the output buffer") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::a);
    rig.keyboard().press(Key::b);
    rig.settle();
    rig.command(0x20);
    CHECK(rig.data() == 0x1E);
    CHECK((rig.status() & 0x01) != 0);
    CHECK(rig.data() == 0x41);
    CHECK(rig.take() == 0x30);
}

TEST_CASE("the output port's bit 1, DDh and DFh gate A20") {
    InputRig rig;
    CHECK(rig.system.keyboard_gate);
    rig.command(0xD1);
    rig.write(0xDD);
    CHECK_FALSE(rig.system.keyboard_gate);
    rig.command(0xD0);
    CHECK((rig.data() & 0x03) == 0x01);
    rig.command(0xD1);
    rig.write(0xDF);
    CHECK(rig.system.keyboard_gate);
    rig.command(0xD0);
    CHECK((rig.data() & 0x03) == 0x03);
    rig.command(0xDD);
    CHECK_FALSE(rig.system.keyboard_gate);
    rig.command(0xDF);
    CHECK(rig.system.keyboard_gate);
    CHECK(rig.system.resets == 0);
}

TEST_CASE("HIMEM switches A20 with the wait loops of the AT") {
    InputRig rig;
    rig.enable(0x45);
    const auto wait_input = [&] { REQUIRE((rig.status() & 0x02) == 0); };
    wait_input();
    rig.command(0xD1);
    wait_input();
    rig.write(0xDD);
    wait_input();
    rig.command(0xFF);  // a pulse of nothing, as a delay
    wait_input();
    CHECK_FALSE(rig.system.keyboard_gate);
    CHECK(rig.system.resets == 0);
}

TEST_CASE("a pulse of bit 0 resets the processor, other pulses do nothing") {
    InputRig rig;
    for (const unsigned quiet : {0xFF, 0xFD, 0xFB, 0xF7, 0xF1}) rig.command(quiet);
    CHECK(rig.system.resets == 0);
    rig.command(0xFE);
    CHECK(rig.system.resets == 1);
    CHECK(rig.system.reset_source == "keyboard controller");
    rig.command(0xF0);
    CHECK(rig.system.resets == 2);
    CHECK(rig.system.keyboard_gate);
}

TEST_CASE("clearing bit 0 of the output port resets the processor") {
    InputRig rig;
    rig.command(0xD1);
    rig.write(0xFE);
    CHECK(rig.system.resets == 1);
}

TEST_CASE("a reset switches A20 on and both interfaces off") {
    InputRig rig;
    rig.enable(0x47);
    rig.command(0xDD);
    rig.controller.reset(ResetKind::hard);
    CHECK(rig.system.keyboard_gate);
    rig.command(0x20);
    CHECK(rig.data() == 0x30);
}

TEST_CASE("D2h puts a byte into the output buffer as if from the keyboard, untranslated") {
    InputRig rig;
    rig.enable(0x41);
    rig.command(0xD2);
    rig.write(0x1C);
    CHECK((rig.status() & 0x21) == 0x01);
    CHECK(rig.irq1.level());
    CHECK(rig.data() == 0x1C);
}

TEST_CASE("D3h puts a byte into the output buffer as if from the mouse") {
    InputRig rig;
    rig.enable(0x03);
    rig.command(0xD3);
    rig.write(0x5A);
    CHECK((rig.status() & 0x21) == 0x21);
    CHECK(rig.irq12.level());
    CHECK_FALSE(rig.irq1.level());
    CHECK(rig.data() == 0x5A);
    CHECK_FALSE(rig.irq12.level());
}

TEST_CASE("Linux probes the mouse port by looping a byte back and toggling its interface") {
    InputRig rig;
    rig.command(0xD3);
    rig.write(0xA5);
    CHECK((rig.status() & 0x20) != 0);
    CHECK(rig.data() == 0xA5);
    rig.command(0xA7);
    rig.command(0x20);
    CHECK((rig.data() & 0x20) != 0);
    rig.command(0xA8);
    rig.command(0x20);
    CHECK((rig.data() & 0x20) == 0);
    // A multiplexing controller would answer with its version; this one loops back.
    for (const unsigned byte : {0xF0, 0x56, 0xA4}) {
        rig.command(0xD3);
        rig.write(byte);
        CHECK(rig.data() == byte);
    }
}

TEST_CASE("without a mouse, a byte to it times out") {
    InputRig rig(I8042::Aux::none);
    rig.mouse_write(0xFF);
    CHECK((rig.status() & 0x61) == 0x61);
    CHECK(rig.data() == 0xFE);
    CHECK((rig.status() & 0x40) == 0);
    rig.command(0xA9);
    CHECK(rig.data() != 0x00);
}

TEST_CASE("the input port shows in the answer to C0h and, polled, in the status") {
    InputRig rig;
    rig.command(0xC0);
    CHECK(rig.data() == 0xB0);
    rig.command(0xC2);
    CHECK((rig.status() & 0xF0) == 0xB0);
    rig.command(0xC1);
    CHECK((rig.status() & 0xF0) == 0x00);
    rig.command(0x20);
    rig.data();
    CHECK((rig.status() & 0xF0) == 0x10);
}

TEST_CASE("the test inputs are the two clock lines") {
    InputRig rig;
    rig.command(0xE0);
    CHECK(rig.data() == 0x00);
    rig.enable(0x00);
    rig.command(0xE0);
    CHECK(rig.data() == 0x03);
}

TEST_CASE("there is no password, and a loaded one is swallowed up to its zero byte") {
    InputRig rig;
    rig.command(0xA4);
    CHECK(rig.data() == 0xF1);
    rig.command(0xA5);
    for (const unsigned byte : {0x10, 0x20, 0x00}) rig.write(byte);
    rig.settle();
    CHECK((rig.status() & 0x01) == 0);
    rig.write(0xEE);
    CHECK(rig.take() == 0xEE);
}

TEST_CASE("a new command takes the place of one that waits for its data") {
    InputRig rig;
    rig.command(0xD1);
    rig.command(0x60);
    rig.write(0x04);
    CHECK(rig.system.keyboard_gate);
    rig.command(0x20);
    CHECK(rig.data() == 0x04);
}

TEST_CASE("keyboard and mouse take turns") {
    InputRig rig;
    rig.enable(0x43);
    rig.mouse_write(0xF4);
    CHECK(rig.take() == 0xFA);
    rig.keyboard().press(Key::a);
    rig.mouse().move(1, 0, 0);
    std::string order;
    for (int i = 0; i < 4; ++i) {
        rig.settle();
        order += (rig.status() & 0x20) != 0 ? 'm' : 'k';
        rig.data();
    }
    CHECK(order == "kmmm");
    rig.settle();
    CHECK((rig.status() & 0x01) == 0);
}

TEST_CASE("a break prefix survives a command between it and its code") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::a);
    CHECK(rig.take() == 0x1E);
    rig.keyboard().release(Key::a);
    rig.clock.advance(std::chrono::microseconds(1500));  // F0h is in the controller, 1Ch on the wire
    rig.write(0xEE);
    CHECK(rig.take() == 0xEE);
    CHECK(rig.take() == 0x9E);
}

TEST_CASE("the keyboard port is idle only when the guest has every byte") {
    InputRig rig;
    rig.enable(0x41);
    int calls = 0;
    rig.keyboard().on_idle([&] { ++calls; });
    CHECK(rig.keyboard().idle());
    rig.keyboard().press(Key::home);
    CHECK_FALSE(rig.keyboard().idle());
    rig.settle();
    rig.data();
    CHECK_FALSE(rig.keyboard().idle());
    rig.settle();
    CHECK_FALSE(rig.keyboard().idle());
    CHECK(calls == 0);
    rig.data();
    CHECK(rig.keyboard().idle());
    CHECK(calls == 1);
}

TEST_CASE("a saved controller goes on with the byte on the wire and the held key's repeats") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::a);
    rig.clock.advance(std::chrono::microseconds(400));
    const TreeNode saved = rig.controller.save();
    InputRig other;
    other.clock.advance(rig.clock.now() - VirtualTime{});
    auto commit = other.controller.prepare_load(saved);
    REQUIRE(commit.has_value());
    (*commit)();
    CHECK((other.status() & 0x01) == 0);
    other.clock.advance(std::chrono::microseconds(600));
    CHECK(other.irq1.level());
    CHECK(other.data() == 0x1E);
    other.clock.advance(std::chrono::milliseconds(510));
    CHECK(other.data() == 0x1E);
    CHECK_FALSE((other.status() & 0x01) != 0);
}

TEST_CASE("a state that no controller can have is refused") {
    InputRig rig;
    TreeNode saved = rig.controller.save();
    TreeNode* keyboard = saved.child("keyboard");
    REQUIRE(keyboard);
    keyboard->child("codes")->set("size", {std::byte{200}});
    CHECK_FALSE(rig.controller.prepare_load(saved).has_value());
    saved = rig.controller.save();
    saved.child("mouse")->set("sample-rate", {std::byte{0}});
    CHECK_FALSE(rig.controller.prepare_load(saved).has_value());
    saved = rig.controller.save();
    saved.set("wire", {std::byte{9}});
    CHECK_FALSE(rig.controller.prepare_load(saved).has_value());
}

TEST_CASE("the board's node makes a controller at its ports, with its wires and services") {
    TestBoard board;
    using Space = DeviceRange::Space;
    board.make(make_i8042, {{Space::ports, 0x60, 1}, {Space::ports, 0x64, 1}}, {1, 12});
    CHECK(board.system.a20());
    board.out(0x64, 0x60);
    board.out(0x60, 0x43);
    auto* keyboard = board.services.find<KeyboardPort>();
    REQUIRE(keyboard);
    REQUIRE(board.services.find<MousePort>());
    keyboard->press(Key::a);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.isa.pins[1].level());
    CHECK(board.in(0x60) == 0x1E);
    board.out(0x64, 0xD4);
    board.out(0x60, 0xF4);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.isa.pins[12].level());
    board.out(0x64, 0xFE);
    CHECK(board.system.log == std::vector<std::string>{"init by keyboard controller"});
}

TEST_CASE("a board without a mouse says so, and one without wires is refused") {
    using Space = DeviceRange::Space;
    TestBoard board;
    board.node.set_flag("viv,no-mouse");
    board.make(make_i8042, {{Space::ports, 0x60, 1}, {Space::ports, 0x64, 1}}, {1, 12});
    CHECK_FALSE(board.services.find<MousePort>());
    TestBoard broken;
    const auto made = broken.try_make(make_i8042, {{Space::ports, 0x60, 1}, {Space::ports, 0x64, 1}}, {1});
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().message.find("/test") != std::string::npos);
}

TEST_CASE("a BIOS's INT 09h switches the keyboard off, reads, and switches it on again for each byte") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::left_shift);
    rig.keyboard().press(Key::a);
    rig.keyboard().release(Key::a);
    rig.keyboard().release(Key::left_shift);
    std::vector<uint8_t> codes;
    for (int ms = 0; ms < 20; ++ms) {
        rig.clock.advance(std::chrono::milliseconds(1));
        if (!rig.irq1.level()) continue;
        rig.command(0xAD);
        codes.push_back(rig.data());
        rig.clock.advance(std::chrono::microseconds(300));
        CHECK_FALSE(rig.irq1.level());
        rig.command(0xAE);
    }
    CHECK(codes == std::vector<uint8_t>{0x2A, 0x1E, 0x9E, 0xAA});
}

TEST_CASE("a driver sets the lamps from inside its interrupt handler, each answer an interrupt") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::caps_lock);
    rig.settle();
    REQUIRE(rig.irq1.level());
    CHECK(rig.data() == 0x3A);
    rig.write(0xED);
    CHECK_FALSE(rig.irq1.level());
    rig.settle();
    REQUIRE(rig.irq1.level());
    CHECK(rig.data() == 0xFA);
    rig.write(0x04);
    rig.settle();
    REQUIRE(rig.irq1.level());
    CHECK(rig.data() == 0xFA);
    CHECK(rig.keyboard().leds().caps_lock);
    rig.keyboard().release(Key::caps_lock);
    rig.settle();
    CHECK(rig.data() == 0xBA);
}

TEST_CASE("a key pressed while a driver waits for an answer comes after the answer") {
    InputRig rig;
    rig.enable(0x41);
    rig.write(0xED);
    rig.keyboard().press(Key::x);
    CHECK(rig.take() == 0xFA);
    rig.write(0x00);
    CHECK(rig.take() == 0xFA);
    CHECK(rig.take() == 0x2D);
}

TEST_CASE("a kernel resets the board's processor through the controller's pulse after draining it") {
    InputRig rig;
    rig.enable(0x41);
    rig.keyboard().press(Key::a);
    rig.settle();
    for (int i = 0; i < 10 && (rig.status() & 0x01) != 0; ++i) rig.data();
    rig.command(0x60);
    rig.write(0x14);  // the system flag, keyboard off
    rig.command(0xFE);
    CHECK(rig.system.resets == 1);
}
