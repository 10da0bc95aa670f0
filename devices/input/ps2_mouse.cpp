// Models: the PS/2 mouse (stream, remote and wrap mode, resolution, scaling, sample rate, status), the IntelliMouse
//   wheel (ID 3) and the IntelliMouse Explorer's five buttons (ID 4).
// Not modelled: the time of the self-test (its result follows the ACK); resolution is kept and reported, but the
//   counts are the display's.
// Ignored bits: none.
// Reference: IBM PS/2 hardware interface technical reference (1990), "Auxiliary device (mouse)"; Microsoft,
//   "PS/2 wheel mouse and five-button mouse detection".
#include "devices/input/ps2_mouse.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace viv {
namespace {

enum class Command : uint8_t {
    scaling_1_to_1 = 0xE6,
    scaling_2_to_1 = 0xE7,
    set_resolution = 0xE8,
    status = 0xE9,
    stream_mode = 0xEA,
    read_data = 0xEB,
    leave_wrap_mode = 0xEC,
    wrap_mode = 0xEE,
    remote_mode = 0xF0,
    identify = 0xF2,
    set_sample_rate = 0xF3,
    enable = 0xF4,
    disable = 0xF5,
    set_defaults = 0xF6,
    resend = 0xFE,
    reset = 0xFF,
};

constexpr uint8_t ack = 0xFA;
constexpr uint8_t wrong = 0xFE;        // "resend": the byte was not understood
constexpr uint8_t wrong_again = 0xFC;  // the second wrong byte in a row
constexpr uint8_t self_test_passed = 0xAA;

// Status byte 1.
constexpr uint8_t status_remote = 0x40;
constexpr uint8_t status_enabled = 0x20;
constexpr uint8_t status_scaling = 0x10;

// Report byte 1.
constexpr uint8_t report_always_one = 0x08;
constexpr uint8_t report_x_sign = 0x10;
constexpr uint8_t report_y_sign = 0x20;
constexpr uint8_t report_x_overflow = 0x40;
constexpr uint8_t report_y_overflow = 0x80;
constexpr uint8_t three_buttons = 0x07;
constexpr uint8_t side_buttons = 0x18;

constexpr int report_limit = 255;  // of the 9-bit counters
constexpr int wheel_min = -8;
constexpr int wheel_max = 7;

constexpr int scale_2_to_1(int counts) {
    constexpr int table[] = {0, 1, 1, 3, 6, 9};
    const int magnitude = counts < 0 ? -counts : counts;
    const int scaled = magnitude < 6 ? table[magnitude] : 2 * magnitude;
    return counts < 0 ? -scaled : scaled;
}
static_assert(scale_2_to_1(-5) == -9 && scale_2_to_1(2) == 1 && scale_2_to_1(6) == 12);

/// Adds without leaving ±counter_limit; true when counts were lost.
bool accumulate(int32_t& counter, int64_t counts) {
    const int64_t sum = counter + counts;
    counter = static_cast<int32_t>(std::clamp<int64_t>(sum, -Ps2Mouse::counter_limit, Ps2Mouse::counter_limit));
    return sum != counter;
}

}  // namespace

Ps2Mouse::Ps2Mouse(State& state, Clock& clock, std::move_only_function<void()> changed)
    : state_(state),
      clock_(clock),
      changed_(std::move(changed)),
      sample_timer_(clock, [this](VirtualTime deadline) { sample(deadline); }) {}

Result<void> Ps2Mouse::validate(const State& state) {
    if (!state.reply.valid() || !state.report.valid() || !state.clicks.valid() ||
        state.last_report_size > state.last_report.size()) {
        return fail("saved state: mouse: a queue is too long");
    }
    if (state.sample_rate == 0) return fail("saved state: mouse: the sample rate is 0");
    for (const int32_t counter : {state.dx, state.dy, state.dz}) {
        if (counter < -counter_limit || counter > counter_limit) {
            return fail("saved state: mouse: a motion counter is out of range");
        }
    }
    if (state.id != Id::standard && state.id != Id::wheel && state.id != Id::five_buttons) {
        return fail("saved state: mouse: there is no such mouse ID");
    }
    return {};
}

void Ps2Mouse::after_load() {
    if (state_.sample_due) {
        sample_timer_.arm(*state_.sample_due);
    } else {
        sample_timer_.cancel();
    }
}

void Ps2Mouse::power_on() {
    const uint8_t held = state_.buttons;
    state_ = State{};
    state_.buttons = held;
    sample_timer_.cancel();
}

uint8_t Ps2Mouse::take_byte() {
    if (!state_.reply.empty()) {
        state_.last_sent = state_.reply.pop();
        state_.last_report_size = 0;
        return state_.last_sent;
    }
    const uint8_t byte = state_.report.pop();
    if (state_.report.empty()) report_if_due();
    return byte;
}

void Ps2Mouse::answer(std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) state_.reply.push(byte);
}

// Any command ends the report that is being sent.
void Ps2Mouse::receive(uint8_t byte) {
    state_.reply.clear();
    state_.report.clear();
    if (state_.wrap && Command{byte} != Command::reset && Command{byte} != Command::leave_wrap_mode) {
        return answer({byte});
    }
    if (state_.awaiting != 0) {
        argument(byte);
    } else {
        command(byte);
    }
    report_if_due();
}

void Ps2Mouse::command(uint8_t byte) {
    const bool refused_before = std::exchange(state_.refused_once, false);
    switch (Command{byte}) {
        case Command::scaling_1_to_1: state_.scaling_2_to_1 = false; return answer({ack});
        case Command::scaling_2_to_1: state_.scaling_2_to_1 = true; return answer({ack});
        case Command::set_resolution:
        case Command::set_sample_rate: state_.awaiting = byte; return answer({ack});
        case Command::status: return answer_status();
        case Command::stream_mode:
            clear_motion();
            state_.remote = false;
            return answer({ack});
        case Command::read_data: return answer_with_report();
        case Command::leave_wrap_mode: state_.wrap = false; return answer({ack});
        case Command::wrap_mode:
            clear_motion();
            state_.wrap = true;
            return answer({ack});
        case Command::remote_mode:
            clear_motion();
            state_.remote = true;
            return answer({ack});
        case Command::identify: return answer({ack, std::to_underlying(state_.id)});
        case Command::enable:
            clear_motion();
            state_.reporting = true;
            return answer({ack});
        case Command::disable:
            clear_motion();
            state_.reporting = false;
            return answer({ack});
        case Command::set_defaults: set_defaults(); return answer({ack});
        case Command::resend:
            if (state_.last_report_size == 0) return answer({state_.last_sent});
            for (size_t i = 0; i < state_.last_report_size; ++i) state_.report.push(state_.last_report[i]);
            return;
        case Command::reset: power_on(); return answer({ack, self_test_passed, std::to_underlying(Id::standard)});
    }
    state_.refused_once = !refused_before;
    answer({refused_before ? wrong_again : wrong});
}

void Ps2Mouse::argument(uint8_t byte) {
    constexpr uint8_t rates[] = {10, 20, 40, 60, 80, 100, 200};
    const bool rate = Command{state_.awaiting} == Command::set_sample_rate;
    const bool good = rate ? std::ranges::find(rates, byte) != std::end(rates) : byte <= 3;
    if (!good) {
        // The argument may be sent once more; the second failure ends the command.
        if (Command{byte} == Command::reset) {
            state_.awaiting = 0;
            return command(byte);
        }
        if (state_.refused_once) state_.awaiting = 0;
        answer({state_.refused_once ? wrong_again : wrong});
        state_.refused_once = !state_.refused_once;
        return;
    }
    state_.awaiting = 0;
    state_.refused_once = false;
    if (rate) {
        note_rate(byte);
    } else {
        state_.resolution = byte;
    }
    answer({ack});
}

void Ps2Mouse::note_rate(uint8_t rate) {
    constexpr std::array<uint8_t, 3> wheel_knock{200, 100, 80};
    constexpr std::array<uint8_t, 3> five_button_knock{200, 200, 80};
    state_.sample_rate = rate;
    state_.rates = {state_.rates[1], state_.rates[2], rate};
    if (state_.rates == wheel_knock && state_.id == Id::standard) state_.id = Id::wheel;
    if (state_.rates == five_button_knock) state_.id = Id::five_buttons;
}

// Set Default keeps the kind of mouse that the guest has unlocked.
void Ps2Mouse::set_defaults() {
    clear_motion();
    const State fresh;
    state_.remote = false;
    state_.reporting = false;
    state_.scaling_2_to_1 = false;
    state_.resolution = fresh.resolution;
    state_.sample_rate = fresh.sample_rate;
}

void Ps2Mouse::clear_motion() {
    state_.dx = state_.dy = state_.dz = 0;
    state_.overflow_x = state_.overflow_y = false;
    state_.clicks.clear();
}

// The order of the buttons differs from that in reports.
void Ps2Mouse::answer_status() {
    const auto pressed = [this](MouseButton button) { return (state_.buttons & std::to_underlying(button)) != 0; };
    const unsigned flags = (state_.remote ? status_remote : 0U) | (state_.reporting ? status_enabled : 0U) |
                           (state_.scaling_2_to_1 ? status_scaling : 0U) | (pressed(MouseButton::left) ? 0x04U : 0U) |
                           (pressed(MouseButton::middle) ? 0x02U : 0U) | (pressed(MouseButton::right) ? 0x01U : 0U);
    answer({ack, static_cast<uint8_t>(flags), state_.resolution, state_.sample_rate});
}

// The ACK goes first, so the report waits in the queue behind it.
void Ps2Mouse::answer_with_report() {
    answer({ack});
    state_.report = make_report();
}

bool Ps2Mouse::something_new() const {
    const bool wheel = state_.id != Id::standard;
    return state_.dx != 0 || state_.dy != 0 || (wheel && state_.dz != 0) || state_.overflow_x || state_.overflow_y ||
           !state_.clicks.empty();
}

ByteQueue<4> Ps2Mouse::make_report() {
    // 2:1 scaling is for stream mode only; half the range leaves room for it.
    const bool scale = state_.scaling_2_to_1 && !state_.remote;
    const int limit = scale ? report_limit / 2 : report_limit;
    const int dx = std::clamp(state_.dx, -limit, limit);
    const int dy = std::clamp(state_.dy, -limit, limit);
    state_.dx -= dx;
    state_.dy -= dy;
    const int x = scale ? scale_2_to_1(dx) : dx;
    const int y = scale ? scale_2_to_1(dy) : dy;
    const uint8_t buttons = state_.clicks.empty() ? state_.buttons : state_.clicks.pop();
    const unsigned flags = report_always_one | (buttons & three_buttons) | (x < 0 ? report_x_sign : 0U) |
                           (y < 0 ? report_y_sign : 0U) |
                           (std::exchange(state_.overflow_x, false) ? report_x_overflow : 0U) |
                           (std::exchange(state_.overflow_y, false) ? report_y_overflow : 0U);
    ByteQueue<4> report;
    report.push(static_cast<uint8_t>(flags));
    report.push(static_cast<uint8_t>(x));
    report.push(static_cast<uint8_t>(y));
    if (state_.id == Id::standard) {
        state_.dz = 0;
    } else {
        const int z = std::clamp(state_.dz, wheel_min, wheel_max);
        state_.dz -= z;
        // The fourth and fifth button share the last byte with a shorter wheel counter.
        report.push(state_.id == Id::wheel ? static_cast<uint8_t>(z)
                                           : static_cast<uint8_t>((z & 0x0F) | (buttons & side_buttons) << 1));
    }
    state_.last_report = report.bytes;
    state_.last_report_size = report.size;
    return report;
}

void Ps2Mouse::report_if_due() {
    if (state_.remote || state_.wrap || !state_.reporting) return;
    if (!state_.report.empty() || state_.sample_due || !something_new()) return;
    state_.report = make_report();
    state_.sample_due = clock_.now() + sample_period();
    sample_timer_.arm(*state_.sample_due);
}

void Ps2Mouse::sample(VirtualTime /*deadline*/) {
    state_.sample_due.reset();
    report_if_due();
    changed_();
}

Duration Ps2Mouse::sample_period() const {
    return std::chrono::nanoseconds(1'000'000'000 / state_.sample_rate);
}

void Ps2Mouse::move(int dx, int dy, int wheel) {
    if (!reporting()) return;
    state_.overflow_x |= accumulate(state_.dx, dx);
    state_.overflow_y |= accumulate(state_.dy, -int64_t{dy});
    if (state_.id != Id::standard) accumulate(state_.dz, wheel);
    report_if_due();
}

void Ps2Mouse::set_button(MouseButton button, bool down) {
    const uint8_t mask = std::to_underlying(button);
    const auto buttons = static_cast<uint8_t>(down ? state_.buttons | mask : state_.buttons & ~mask);
    const uint8_t visible = state_.id == Id::five_buttons ? three_buttons | side_buttons : three_buttons;
    const bool seen = ((buttons ^ state_.buttons) & visible) != 0;
    state_.buttons = buttons;
    if (!seen || !reporting()) return;
    // When even the queue is full, the guest at least learns how it ended.
    if (!state_.clicks.push(buttons)) state_.clicks.bytes.back() = buttons;
    report_if_due();
}

}  // namespace viv
