// Models: the keyboard controller of PS/2-style boards: both ports, the command byte and RAM, all commands of the AT
// and
//   PS/2 firmware, translation to set 1, the output port with A20 and reset, arbitration between keyboard and mouse.
// Not modelled: the password commands (A5h and A6h do nothing, A4h says "none"), the diagnostic dump (ACh), the time
//   that the controller takes (its own answers come at once), wire errors other than an absent mouse.
// Ignored bits: output port bits other than reset and A20; pulses of bits other than reset.
// Reference: IBM PC AT technical reference (1985), "Keyboard controller"; IBM PS/2 hardware interface technical
//   reference (1988), "Keyboard and auxiliary device controller".
#include "devices/input/i8042.hpp"

#include <utility>

#include "devices/input/scan_codes.hpp"

namespace viv {
namespace {

// Status register.
constexpr uint8_t status_output_full = 0x01;
constexpr uint8_t status_system = 0x04;
constexpr uint8_t status_command = 0x08;
constexpr uint8_t status_unlocked = 0x10;
constexpr uint8_t status_aux = 0x20;
constexpr uint8_t status_timeout = 0x40;

// Command byte.
constexpr uint8_t enable_keyboard_irq = 0x01;
constexpr uint8_t enable_mouse_irq = 0x02;
constexpr uint8_t system_flag = 0x04;
constexpr uint8_t keyboard_disabled = 0x10;
constexpr uint8_t mouse_disabled = 0x20;
constexpr uint8_t translate = 0x40;

// Output port.
constexpr uint8_t port_not_reset = 0x01;
constexpr uint8_t port_a20 = 0x02;
constexpr uint8_t port_mouse_data = 0x04;
constexpr uint8_t port_mouse_clock_low = 0x08;
constexpr uint8_t port_keyboard_irq = 0x10;
constexpr uint8_t port_mouse_irq = 0x20;
constexpr uint8_t port_keyboard_clock_low = 0x40;
constexpr uint8_t port_keyboard_data = 0x80;

// Input port: second RAM bank enabled, no manufacturing jumper, colour display, keyboard not locked.
constexpr uint8_t input_port = 0xB0;

enum class Command : uint8_t {
    test_password = 0xA4,
    load_password = 0xA5,
    enable_password = 0xA6,
    disable_mouse = 0xA7,
    enable_mouse = 0xA8,
    test_mouse_wire = 0xA9,
    self_test = 0xAA,
    test_keyboard_wire = 0xAB,
    diagnostic_dump = 0xAC,
    disable_keyboard = 0xAD,
    enable_keyboard = 0xAE,
    read_input_port = 0xC0,
    poll_input_low = 0xC1,
    poll_input_high = 0xC2,
    read_output_port = 0xD0,
    write_output_port = 0xD1,
    write_keyboard_output = 0xD2,
    write_mouse_output = 0xD3,
    write_mouse = 0xD4,
    disable_a20 = 0xDD,
    enable_a20 = 0xDF,
    read_test_inputs = 0xE0,
};
constexpr uint8_t first_ram_read = 0x20;
constexpr uint8_t first_ram_write = 0x60;
constexpr uint8_t ram_index = 0x1F;
constexpr uint8_t first_pulse = 0xF0;

constexpr uint8_t self_test_passed = 0x55;
constexpr uint8_t wire_good = 0x00;
constexpr uint8_t wire_clock_stuck_low = 0x01;
constexpr uint8_t no_password = 0xF1;
constexpr uint8_t no_answer = 0xFE;
constexpr uint8_t prefix_break = 0xF0;

// How long a byte takes over the wire. Key codes come at the pace of a real keyboard (11 bits at 10 to 16 kHz):
// programs that hook INT 09h read port 60h and then chain to the BIOS, which reads it again and must get the same byte.
// Answers to commands, which drivers wait for, and motion come faster.
constexpr Duration key_time = std::chrono::microseconds(1000);
constexpr Duration answer_time = std::chrono::microseconds(200);

}  // namespace

I8042::I8042(Clock& clock, SystemControl& system, Aux aux)
    : clock_(clock),
      system_(system),
      aux_(aux),
      keyboard_(state_.keyboard, clock, [this] { settle(); }),
      mouse_(state_.mouse, clock, [this] { settle(); }),
      wire_timer_(clock, [this](VirtualTime) { wire_done(); }) {
    set_a20(true);
}

void I8042::connect(IrqLine keyboard_irq, IrqLine mouse_irq) {
    keyboard_irq_ = std::move(keyboard_irq);
    mouse_irq_ = std::move(mouse_irq);
    update_irq();
}

void I8042::reset(ResetKind /*kind*/) {
    discarded_ += state_.output_full && state_.output_from == Source::keyboard ? 1 : 0;
    state_ = I8042State{.keyboard = std::move(state_.keyboard), .mouse = std::move(state_.mouse)};
    keyboard_.power_on();
    mouse_.power_on();
    wire_timer_.cancel();
    set_a20(true);
    settle();
}

Result<void> I8042::validate(const I8042State& staged) const {
    if (staged.output_from > Source::mouse || staged.wire > Source::mouse || staged.last_served > Source::mouse) {
        return fail("saved state: i8042: there is no such device on its wires");
    }
    if ((staged.wire == Source::controller) == staged.wire_due.has_value()) {
        return fail("saved state: i8042: a byte on the wire needs a time");
    }
    TRY(Ps2Keyboard::validate(staged.keyboard));
    return Ps2Mouse::validate(staged.mouse);
}

void I8042::after_load() {
    keyboard_.after_load();
    mouse_.after_load();
    if (state_.wire_due) {
        wire_timer_.arm(*state_.wire_due);
    } else {
        wire_timer_.cancel();
    }
    system_.set_a20(SystemControl::A20Gate::keyboard_controller, (state_.output_port & port_a20) != 0);
    update_irq();
    was_idle_ = keyboard_idle();
}

void I8042::set_a20(bool enabled) {
    state_.output_port = enabled ? port_a20 : 0;
    system_.set_a20(SystemControl::A20Gate::keyboard_controller, enabled);
}

// ---- Ports

uint8_t I8042::read_data() {
    const uint8_t value = state_.output;
    if (state_.output_full) {
        state_.output_full = false;
        state_.output_aux = false;
        state_.timeout = false;
        update_irq();  // the line falls before the next byte raises it, so that an edge is seen
        settle();
    }
    return value;
}

uint8_t I8042::status() const {
    unsigned value = (state_.output_full ? status_output_full : 0U) | (state_.output_aux ? status_aux : 0U) |
                     (state_.timeout ? status_timeout : 0U) | (state_.last_was_command ? status_command : 0U) |
                     ((state_.ram[0] & system_flag) != 0 ? status_system : 0U) | status_unlocked;
    if (state_.input_poll == std::to_underlying(Command::poll_input_low)) {
        value = (value & 0x0F) | (input_port & 0x0F) << 4;
    } else if (state_.input_poll == std::to_underlying(Command::poll_input_high)) {
        value = (value & 0x0F) | (input_port & 0xF0);
    }
    return static_cast<uint8_t>(value);
}

void I8042::write_data(uint8_t value) {
    state_.last_was_command = false;
    const uint8_t pending = std::exchange(state_.pending_command, uint8_t{0});
    if (pending >= first_ram_write && pending <= first_ram_write + ram_index) {
        state_.ram[pending & ram_index] = value;
    } else if (pending == std::to_underlying(Command::load_password)) {
        // A password ends with a zero byte; none is kept.
        if (value != 0) state_.pending_command = pending;
    } else if (pending == std::to_underlying(Command::write_output_port)) {
        write_output_port(value);
    } else if (pending == std::to_underlying(Command::write_keyboard_output)) {
        reply(value);
    } else if (pending == std::to_underlying(Command::write_mouse_output)) {
        reply_as_mouse(value);
    } else if (pending == std::to_underlying(Command::write_mouse)) {
        send_to_mouse(value);
    } else {
        send_to_keyboard(value);
    }
    settle();
}

void I8042::write_command(uint8_t value) {
    state_.last_was_command = true;
    state_.pending_command = 0;
    state_.input_poll = 0;
    if (value >= first_pulse) {
        pulse_output_port(value & 0x0F);
    } else if (value >= first_ram_read && value <= first_ram_read + ram_index) {
        reply(state_.ram[value & ram_index]);
    } else if (value >= first_ram_write && value <= first_ram_write + ram_index) {
        state_.pending_command = value;
    } else {
        switch (Command{value}) {
            case Command::test_password: reply(no_password); break;
            case Command::disable_mouse: state_.ram[0] |= mouse_disabled; break;
            case Command::enable_mouse: state_.ram[0] &= static_cast<uint8_t>(~mouse_disabled); break;
            case Command::test_mouse_wire: reply(aux_ == Aux::mouse ? wire_good : wire_clock_stuck_low); break;
            case Command::self_test:
                state_.ram[0] |= system_flag;
                reply(self_test_passed);
                break;
            case Command::test_keyboard_wire: reply(wire_good); break;
            case Command::disable_keyboard: state_.ram[0] |= keyboard_disabled; break;
            case Command::enable_keyboard: state_.ram[0] &= static_cast<uint8_t>(~keyboard_disabled); break;
            case Command::read_input_port: reply(input_port); break;
            case Command::poll_input_low:
            case Command::poll_input_high: state_.input_poll = value; break;
            case Command::read_output_port: reply(read_output_port()); break;
            case Command::load_password:
            case Command::write_output_port:
            case Command::write_keyboard_output:
            case Command::write_mouse_output:
            case Command::write_mouse: state_.pending_command = value; break;
            case Command::disable_a20: set_a20(false); break;
            case Command::enable_a20: set_a20(true); break;
            case Command::read_test_inputs: reply(read_test_inputs()); break;
            case Command::enable_password:
            case Command::diagnostic_dump: break;
        }
    }
    settle();
}

void I8042::write_output_port(uint8_t value) {
    set_a20((value & port_a20) != 0);
    if ((value & port_not_reset) == 0) system_.request_cpu_init("keyboard controller");
}

// A zero bit pulls its line low for about 6 us. Only the reset line notices: it goes to the processor, not to the
// board, so that 80286 software can come back from protected mode through the CMOS shutdown code.
void I8042::pulse_output_port(uint8_t low_bits) {
    if ((low_bits & port_not_reset) == 0) system_.request_cpu_init("keyboard controller");
}

uint8_t I8042::read_output_port() const {
    const bool keyboard_byte = state_.output_full && !state_.output_aux;
    const bool mouse_byte = state_.output_full && state_.output_aux;
    return static_cast<uint8_t>(port_not_reset | (state_.output_port & port_a20) | port_mouse_data |
                                port_keyboard_data | (interface_enabled(Source::mouse) ? 0U : port_mouse_clock_low) |
                                (interface_enabled(Source::keyboard) ? 0U : port_keyboard_clock_low) |
                                (keyboard_byte ? port_keyboard_irq : 0U) | (mouse_byte ? port_mouse_irq : 0U));
}

// T0 is the keyboard's clock, T1 the mouse's; a disabled interface holds its clock low.
uint8_t I8042::read_test_inputs() const {
    return static_cast<uint8_t>((interface_enabled(Source::keyboard) ? 0x01U : 0U) |
                                (interface_enabled(Source::mouse) ? 0x02U : 0U));
}

// The controller's own byte goes before those of the devices. There is one place for it: a newer answer replaces one
// that the guest did not fetch.
void I8042::reply(uint8_t value) {
    state_.reply_ready = true;
    state_.reply_aux = false;
    state_.reply = value;
}

void I8042::reply_as_mouse(uint8_t value) {
    reply(value);
    state_.reply_aux = true;
}

// Sending to a device switches its interface on.
void I8042::send_to_keyboard(uint8_t value) {
    state_.ram[0] &= static_cast<uint8_t>(~keyboard_disabled);
    if (state_.wire == Source::keyboard) stop_wire();
    keyboard_.receive(value);
    // A command that clears the keyboard's buffer takes away what the break prefix belonged to.
    if (state_.keyboard.codes.empty()) state_.translating_break = false;
}

void I8042::send_to_mouse(uint8_t value) {
    state_.ram[0] &= static_cast<uint8_t>(~mouse_disabled);
    if (aux_ == Aux::none) {
        reply_as_mouse(no_answer);
        state_.timeout = true;
        return;
    }
    if (state_.wire == Source::mouse) stop_wire();
    mouse_.receive(value);
}

// ---- Output buffer

bool I8042::interface_enabled(Source source) const {
    return (state_.ram[0] & (source == Source::keyboard ? keyboard_disabled : mouse_disabled)) == 0;
}

bool I8042::has_byte(Source source) const {
    return source == Source::keyboard ? keyboard_.has_byte() : mouse_.has_byte();
}

bool I8042::keyboard_idle() const {
    return !keyboard_.has_byte() && !(state_.output_full && state_.output_from == Source::keyboard);
}

void I8042::settle() {
    if (!state_.output_full && state_.reply_ready) {
        state_.reply_ready = false;
        load_output(state_.reply, Source::controller);
        state_.output_aux = state_.reply_aux;
    }
    start_wire();
    update_irq();
    const bool idle = keyboard_idle();
    if (idle == was_idle_) return;
    was_idle_ = idle;
    if (idle && on_idle_) on_idle_();
}

// A device may send while its interface is enabled and the output buffer is empty; a full buffer, like a disabled
// interface, holds the clock low and a byte that was on its way starts again later.
void I8042::start_wire() {
    const auto may_send = [this](Source source) {
        return !state_.output_full && interface_enabled(source) && has_byte(source);
    };
    if (state_.wire != Source::controller) {
        if (may_send(state_.wire)) return;
        stop_wire();
    }
    const Source other = state_.last_served == Source::keyboard ? Source::mouse : Source::keyboard;
    const Source again = other == Source::keyboard ? Source::mouse : Source::keyboard;
    for (const Source source : {other, again}) {
        if (!may_send(source)) continue;
        state_.wire = source;
        const bool key = source == Source::keyboard && !keyboard_.replying();
        state_.wire_due = clock_.now() + (key ? key_time : answer_time);
        wire_timer_.arm(*state_.wire_due);
        return;
    }
}

void I8042::stop_wire() {
    state_.wire = Source::controller;
    state_.wire_due.reset();
    wire_timer_.cancel();
}

void I8042::wire_done() {
    const Source source = std::exchange(state_.wire, Source::controller);
    state_.wire_due.reset();
    if (state_.output_full || source == Source::controller || !has_byte(source)) return settle();
    state_.last_served = source;
    if (source == Source::mouse) {
        load_output(mouse_.take_byte(), source);
        state_.output_aux = true;
        return settle();
    }
    const bool key = !keyboard_.replying();
    uint8_t byte = keyboard_.take_byte();
    if ((state_.ram[0] & translate) != 0) {
        // A break prefix becomes bit 7 of the key's next byte, whatever answers come between.
        if (byte == prefix_break) {
            state_.translating_break = true;
            return settle();
        }
        byte = translate_to_set1(byte);
        if (key && std::exchange(state_.translating_break, false)) byte |= 0x80;
    }
    load_output(byte, source);
    settle();
}

void I8042::load_output(uint8_t value, Source from) {
    state_.output = value;
    state_.output_full = true;
    state_.output_aux = false;
    state_.output_from = from;
}

void I8042::update_irq() {
    keyboard_irq_.set(state_.output_full && !state_.output_aux && (state_.ram[0] & enable_keyboard_irq) != 0);
    mouse_irq_.set(state_.output_full && state_.output_aux && (state_.ram[0] & enable_mouse_irq) != 0);
}

// ---- The host's side

bool I8042::Fingers::press(Key key, Repeat repeat) {
    const bool taken = owner.keyboard_.press(key, repeat);
    owner.settle();
    return taken;
}

void I8042::Fingers::release(Key key) {
    owner.keyboard_.release(key);
    owner.settle();
}

void I8042::Hand::move(int dx, int dy, int wheel) {
    owner.mouse_.move(dx, dy, wheel);
    owner.settle();
}

void I8042::Hand::press(MouseButton button) {
    owner.mouse_.set_button(button, true);
    owner.settle();
}

void I8042::Hand::release(MouseButton button) {
    owner.mouse_.set_button(button, false);
    owner.settle();
}

bool I8042::Hand::reporting() const {
    return owner.mouse_.reporting();
}

Result<std::unique_ptr<Device>> make_i8042(DeviceContext& context) {
    const auto aux = context.node.has("viv,no-mouse") ? I8042::Aux::none : I8042::Aux::mouse;
    auto device = std::make_unique<I8042>(context.clock, context.system, aux);
    TRY(context.map(0, device->data_port()));
    TRY(context.map(1, device->command_port()));
    IrqLine keyboard_irq = TRY(context.irq(0));
    IrqLine mouse_irq = TRY(context.irq(1));
    device->connect(std::move(keyboard_irq), std::move(mouse_irq));
    context.services.provide<KeyboardPort>(device->keyboard());
    if (aux == I8042::Aux::mouse) context.services.provide<MousePort>(device->mouse());
    return device;
}

}  // namespace viv
