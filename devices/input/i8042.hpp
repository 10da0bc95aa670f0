#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "devices/input/keyboard_port.hpp"
#include "devices/input/ps2_keyboard.hpp"
#include "devices/input/ps2_mouse.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/system_control.hpp"
#include "vmm/core/types.hpp"

namespace viv {

struct I8042State {
    enum class Source : uint8_t { controller, keyboard, mouse };

    // Status register.
    bool output_full = false;
    bool output_aux = false;  // the byte in the output buffer is marked as the mouse's
    bool timeout = false;     // no device answered
    bool last_was_command = false;
    uint8_t output = 0;  // the output buffer keeps its byte after it is read
    Source output_from = Source::controller;
    // Controller.
    std::array<uint8_t, 32> ram = {0x30};  // byte 0 is the command byte: both interfaces off
    uint8_t pending_command = 0;           // the command whose data byte comes next at port 60h
    uint8_t output_port = 0x02;            // the latched bits; only A20 is not derived
    uint8_t input_poll = 0;                // C1h or C2h: status bits 7:4 show the input port
    bool reply_ready = false;              // the controller's own byte waits for the output buffer
    bool reply_aux = false;
    uint8_t reply = 0;
    bool translating_break = false;  // F0h has come from the keyboard
    // The byte on a wire.
    Source wire = Source::controller;  // controller: nothing is on a wire
    std::optional<VirtualTime> wire_due;
    Source last_served = Source::mouse;  // whose turn it is when both devices have bytes
    Ps2Keyboard::State keyboard;
    Ps2Mouse::State mouse;

    static void fields(auto& self, auto&& visit) {
        visit("output-full", self.output_full);
        visit("output-aux", self.output_aux);
        visit("timeout", self.timeout);
        visit("last-was-command", self.last_was_command);
        visit("output", self.output);
        visit("output-from", self.output_from);
        visit("ram", self.ram);
        visit("pending-command", self.pending_command);
        visit("output-port", self.output_port);
        visit("input-poll", self.input_poll);
        visit("reply-ready", self.reply_ready);
        visit("reply-aux", self.reply_aux);
        visit("reply", self.reply);
        visit("translating-break", self.translating_break);
        visit("wire", self.wire);
        visit("wire-due", self.wire_due);
        visit("last-served", self.last_served);
        visit("keyboard", self.keyboard);
        visit("mouse", self.mouse);
    }
    bool operator==(const I8042State&) const = default;
};

/// The keyboard controller of a PS/2-style board with a keyboard and, unless told otherwise, a mouse.
class I8042 final : public StatefulDevice<I8042State> {
  public:
    enum class Aux { mouse, none };

    I8042(Clock& clock, SystemControl& system, Aux aux);

    /// Port 60h.
    [[nodiscard]] BusDevice& data_port() { return data_port_; }
    /// Port 64h.
    [[nodiscard]] BusDevice& command_port() { return command_port_; }
    void connect(IrqLine keyboard_irq, IrqLine mouse_irq);
    [[nodiscard]] KeyboardPort& keyboard() { return fingers_; }
    [[nodiscard]] MousePort& mouse() { return hand_; }

    void reset(ResetKind kind) override;

  protected:
    Result<void> validate(const I8042State& staged) const override;
    void after_load() override;

  private:
    using Source = I8042State::Source;

    struct DataPort final : ByteDevice {
        explicit DataPort(I8042& controller) : owner(controller) {}
        uint8_t read8(uint64_t) override { return owner.read_data(); }
        void write8(uint64_t, uint8_t value) override { owner.write_data(value); }
        I8042& owner;
    };
    struct CommandPort final : ByteDevice {
        explicit CommandPort(I8042& controller) : owner(controller) {}
        uint8_t read8(uint64_t) override { return owner.status(); }
        void write8(uint64_t, uint8_t value) override { owner.write_command(value); }
        I8042& owner;
    };
    struct Fingers final : KeyboardPort {
        explicit Fingers(I8042& controller) : owner(controller) {}
        bool press(Key key, Repeat repeat) override;
        void release(Key key) override;
        [[nodiscard]] bool idle() const override { return owner.keyboard_idle(); }
        void on_idle(std::move_only_function<void()> callback) override { owner.on_idle_ = std::move(callback); }
        [[nodiscard]] uint64_t discarded() const override { return owner.discarded_ + owner.keyboard_.discarded(); }
        [[nodiscard]] KeyboardLeds leds() const override { return owner.keyboard_.leds(); }
        I8042& owner;
    };
    struct Hand final : MousePort {
        explicit Hand(I8042& controller) : owner(controller) {}
        void move(int dx, int dy, int wheel) override;
        void press(MouseButton button) override;
        void release(MouseButton button) override;
        [[nodiscard]] bool reporting() const override;
        I8042& owner;
    };

    uint8_t read_data();
    void write_data(uint8_t value);
    [[nodiscard]] uint8_t status() const;
    void write_command(uint8_t value);
    void write_output_port(uint8_t value);
    void pulse_output_port(uint8_t low_bits);
    [[nodiscard]] uint8_t read_output_port() const;
    [[nodiscard]] uint8_t read_test_inputs() const;
    void reply(uint8_t value);
    void reply_as_mouse(uint8_t value);
    void send_to_keyboard(uint8_t value);
    void send_to_mouse(uint8_t value);
    void set_a20(bool enabled);

    [[nodiscard]] bool interface_enabled(Source source) const;
    [[nodiscard]] bool has_byte(Source source) const;
    [[nodiscard]] bool keyboard_idle() const;
    /// Fills the output buffer with what comes next, moves the lines, and tells who waits for an idle keyboard.
    void settle();
    void start_wire();
    void stop_wire();
    void wire_done();
    void load_output(uint8_t value, Source from);
    void update_irq();

    Clock& clock_;
    SystemControl& system_;
    Aux aux_;
    DataPort data_port_{*this};
    CommandPort command_port_{*this};
    Fingers fingers_{*this};
    Hand hand_{*this};
    IrqLine keyboard_irq_;
    IrqLine mouse_irq_;
    Ps2Keyboard keyboard_;
    Ps2Mouse mouse_;
    Timer wire_timer_;
    std::move_only_function<void()> on_idle_;
    bool was_idle_ = true;
    uint64_t discarded_ = 0;  // bytes of keys that a reset took out of the output buffer
};

/// The node's `reg` are ports 60h and 64h, its `interrupts` the keyboard's and the mouse's. `viv,no-mouse` leaves the
/// second wire empty. Provides KeyboardPort and, with a mouse, MousePort.
Result<std::unique_ptr<Device>> make_i8042(DeviceContext& context);

}  // namespace viv
