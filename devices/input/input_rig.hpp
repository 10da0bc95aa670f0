#pragma once
// A bare keyboard controller with its devices, for unit tests.

#include <cstdint>
#include <string>
#include <vector>

#include "devices/input/i8042.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/system_control.hpp"

namespace viv::testing {

struct FakeSystem final : SystemControl {
    void request_reset(std::string_view) override {}
    void request_power_off(std::string_view) override {}
    void request_exit(uint8_t) override {}
    void set_a20(A20Gate gate, bool enabled) override {
        if (gate == A20Gate::keyboard_controller) keyboard_gate = enabled;
    }
    [[nodiscard]] bool a20() const override { return keyboard_gate; }
    void request_cpu_init(std::string_view source) override {
        ++resets;
        reset_source = source;
    }

    int resets = 0;
    std::string reset_source;
    bool keyboard_gate = false;
};

struct EdgeCounter final : IrqSink {
    explicit EdgeCounter(IrqPin& pin) { pin.connect(*this, 0); }
    void set_irq_level(unsigned, bool level) override { rising += level ? 1 : 0; }
    int rising = 0;
};

struct InputRig {
    explicit InputRig(I8042::Aux aux = I8042::Aux::mouse) : controller(clock, system, aux) {
        controller.connect(IrqLine(irq1), IrqLine(irq12));
    }
    KeyboardPort& keyboard() { return controller.keyboard(); }
    MousePort& mouse() { return controller.mouse(); }

    void command(unsigned value) { controller.command_port().write({0, 1}, value); }
    void write(unsigned value) { controller.data_port().write({0, 1}, value); }
    void mouse_write(unsigned value) {
        command(0xD4);
        write(value);
    }
    uint8_t status() { return static_cast<uint8_t>(controller.command_port().read({0, 1})); }
    uint8_t data() { return static_cast<uint8_t>(controller.data_port().read({0, 1})); }
    /// Long enough for one byte of a device to arrive, with its break prefix.
    void settle() { clock.advance(std::chrono::microseconds(2500)); }
    /// The next byte, as a guest polls for it; FFFFh when none comes.
    unsigned take() {
        if ((status() & 0x01) == 0) settle();
        return (status() & 0x01) != 0 ? data() : 0xFFFFU;
    }
    /// Everything that comes.
    std::vector<uint8_t> take_all() {
        std::vector<uint8_t> bytes;
        for (unsigned byte = take(); byte <= 0xFF && bytes.size() < 1000; byte = take()) {
            bytes.push_back(static_cast<uint8_t>(byte));
        }
        return bytes;
    }
    /// Sets the command byte: interfaces on unless its bits say otherwise.
    void enable(unsigned command_byte) {
        command(0x60);
        write(command_byte);
    }

    ManualClock clock;
    FakeSystem system;
    IrqPin irq1;
    IrqPin irq12;
    EdgeCounter edges{irq1};  // before the controller: what sees a wire outlives what drives it
    I8042 controller;
};

}  // namespace viv::testing
