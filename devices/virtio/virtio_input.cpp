#include "devices/virtio/virtio_input.hpp"

#include <algorithm>
#include <bit>
#include <span>

#include "devices/input/port_choice.hpp"

namespace viv {
namespace {

using namespace virtio;

// Configuration (5.8.4)
enum Select : uint8_t { ID_NAME = 0x01, ID_DEVIDS = 0x03, EV_BITS = 0x11, ABS_INFO = 0x12 };
constexpr uint64_t select_at = 0, subselect_at = 1;
constexpr size_t payload_at = 8, payload_size = 128;
constexpr uint16_t BUS_VIRTUAL = 0x06, red_hat = 0x1AF4;

// Events
enum Type : uint8_t { EV_KEY = 1, EV_REL = 2, EV_ABS = 3, EV_LED = 0x11, EV_REP = 0x14 };
constexpr uint16_t REL_X = 0, REL_Y = 1, REL_WHEEL = 8, ABS_X = 0, ABS_Y = 1, BTN_LEFT = 0x110;
constexpr uint8_t LED_NUML = 0, LED_CAPSL = 1, LED_SCROLLL = 2, most_leds = 3;
constexpr size_t event_size = 8;
/// What the driver may say in one buffer; more of it is not looked at.
constexpr size_t most_status = 64;

constexpr unsigned button_count = 5;
constexpr uint8_t buttons_mask = (1u << button_count) - 1;
/// Places that only releases may take, and those of one thing that happened.
constexpr size_t reserve = 16, step = 8;

/// Codes of the usages of page 7, from 00h on.
constexpr std::array<uint8_t, 0x66> codes_of_usages{
    0,   0,   0,   0,  30, 48,  46, 32, 18,  33,  34,  35,  23,  36,  37,  38,   // 00h: a to l
    50,  49,  24,  25, 16, 19,  31, 20, 22,  47,  17,  45,  21,  44,  2,   3,    // m to z, 1, 2
    4,   5,   6,   7,  8,  9,   10, 11, 28,  1,   14,  15,  57,  12,  13,  26,   // 3 to 0, Enter to [
    27,  43,  43,  39, 40, 41,  51, 52, 53,  58,  59,  60,  61,  62,  63,  64,   // ] to F6
    65,  66,  67,  68, 87, 88,  99, 70, 119, 110, 102, 104, 111, 107, 109, 106,  // F7 to Right
    105, 108, 103, 69, 98, 55,  74, 78, 96,  79,  80,  81,  75,  76,  77,  71,   // Left to keypad 7
    72,  73,  82,  83, 86, 127,                                                  // to the menu key
};
/// Control, Shift, Alt, GUI; left and right. From usage E0h on.
constexpr std::array<uint8_t, 8> codes_of_modifiers{29, 42, 56, 125, 97, 54, 100, 126};
constexpr uint8_t first_modifier = 0xE0;

bool is_set(const std::array<uint8_t, 32>& bits, size_t index) {
    return bits[index / 8] >> (index % 8) & 1;
}
void flip(std::array<uint8_t, 32>& bits, size_t index) {
    bits[index / 8] = static_cast<uint8_t>(bits[index / 8] ^ 1u << (index % 8));
}
void add_bit(std::vector<uint8_t>& bits, size_t index) {
    if (bits.size() <= index / 8) bits.resize(index / 8 + 1);
    bits[index / 8] = static_cast<uint8_t>(bits[index / 8] | 1u << (index % 8));
}
void add_number(std::vector<uint8_t>& bytes, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
}
void add(int32_t& counter, int64_t counts) {
    counter = static_cast<int32_t>(
        std::clamp<int64_t>(counter + counts, -VirtioInput::most_motion, VirtioInput::most_motion));
}
/// BTN_LEFT, RIGHT, MIDDLE, SIDE and EXTRA are in the order of MouseButton.
uint16_t button_code(unsigned bit) {
    return static_cast<uint16_t>(BTN_LEFT + bit);
}

}  // namespace

uint8_t event_code(Key key) {
    const uint8_t usage = std::to_underlying(key);
    if (usage >= first_modifier) {
        const auto index = static_cast<size_t>(usage - first_modifier);
        return index < codes_of_modifiers.size() ? codes_of_modifiers[index] : uint8_t{0};
    }
    return usage < codes_of_usages.size() ? codes_of_usages[usage] : uint8_t{0};
}

// ---- What all have -------------------------------------------------------------------------------------------------

VirtioInput::VirtioInput(const Kind& kind)
    : kind_(kind),
      identity_{.id = DeviceId::input, .class_code = kind.class_code, .queue_sizes = {64, 64}, .transitional = false} {}

std::vector<uint8_t> VirtioInput::configuration() const {
    std::vector<uint8_t> answer;
    switch (state_.select) {
        case ID_NAME: answer.assign(kind_.name.begin(), kind_.name.end()); break;
        case ID_DEVIDS:
            for (const uint16_t number : {BUS_VIRTUAL, red_hat, kind_.product, uint16_t{1}})
                add_number(answer, number, 2);
            break;
        case EV_BITS: answer = codes(state_.subselect); break;
        case ABS_INFO: answer = axis(state_.subselect); break;
        default: break;
    }
    // Names have no subselection.
    if (state_.select < EV_BITS && state_.subselect != 0) answer.clear();
    std::vector<uint8_t> bytes(payload_at + payload_size);
    bytes[select_at] = state_.select;
    bytes[subselect_at] = state_.subselect;
    bytes[2] = static_cast<uint8_t>(answer.size());
    std::ranges::copy(answer, bytes.begin() + payload_at);
    return bytes;
}

void VirtioInput::write_configuration(uint64_t offset, uint8_t value) {
    if (offset == select_at) state_.select = value;
    if (offset == subselect_at) state_.subselect = value;
}

void VirtioInput::notified(unsigned queue) {
    if (queue == event_queue) {
        const bool had_news = has_news();
        tell();
        if (had_news && !has_news()) told();
        return;
    }
    transport().serve(queue, [this](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
        std::array<uint8_t, event_size> event{};
        for (size_t i = 0; i < most_status; ++i) {
            if (!chain.read(memory, i * event_size, std::as_writable_bytes(std::span(event)))) break;
            const bool is_led = event[0] == EV_LED && event[1] == 0 && event[2] < most_leds && event[3] == 0;
            if (!is_led) continue;
            const auto bit = static_cast<uint8_t>(1u << event[2]);
            state_.leds = static_cast<uint8_t>(event[4] ? state_.leds | bit : state_.leds & ~bit);
        }
        return 0;
    });
}

bool VirtioInput::has_news() const {
    return !state_.events.empty() || state_.moved || state_.down != state_.told ||
           state_.buttons != state_.told_buttons;
}

void VirtioInput::tell() {
    if (!listening()) return;
    transport().serve(event_queue, [this](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
        if (state_.events.empty()) append_rest();
        if (state_.events.empty()) return std::nullopt;
        // A buffer that holds no event is of no use to anybody.
        if (chain.writable_size < event_size) return 0;
        const VirtioInputEvent& event = state_.events.front();
        std::vector<uint8_t> bytes;
        add_number(bytes, event.type, 2);
        add_number(bytes, event.code, 2);
        add_number(bytes, static_cast<uint32_t>(event.value), 4);
        static_cast<void>(chain.write(memory, 0, std::as_bytes(std::span(bytes))));
        state_.events.erase(state_.events.begin());
        return event_size;
    });
}

void VirtioInput::driver_reset() {
    forgotten_ += state_.events.size();
    state_ = {};
    told();
}

void VirtioInput::reset(ResetKind /*kind*/) {
    forgotten_ += state_.events.size();
    state_ = {};
}

Result<void> VirtioInput::validate(const VirtioInputState& staged) const {
    const auto far = [](int32_t way) { return way < -most_motion || way > most_motion; };
    if (staged.events.size() > most_events || far(staged.x) || far(staged.y) || far(staged.wheel) ||
        staged.leds >> most_leds != 0 || ((staged.buttons | staged.told_buttons) & ~buttons_mask))
        return fail("the saved state of the virtio input device cannot be");
    return {};
}

// ---- Keyboard ------------------------------------------------------------------------------------------------------

VirtioKeyboard::VirtioKeyboard() : VirtioInput({"Vivarium Virtio Keyboard", 1, 0x090000}) {}

std::vector<uint8_t> VirtioKeyboard::codes(uint8_t type) const {
    std::vector<uint8_t> bits;
    if (type == EV_KEY) {
        for (const uint8_t code : codes_of_usages) {
            if (code) add_bit(bits, code);
        }
        for (const uint8_t code : codes_of_modifiers) add_bit(bits, code);
    } else if (type == EV_LED) {
        for (size_t led = 0; led < most_leds; ++led) add_bit(bits, led);
    } else if (type == EV_REP) {
        for (size_t way = 0; way < 2; ++way) add_bit(bits, way);  // delay and period
    }
    return bits;
}

bool VirtioKeyboard::press(Key key, Repeat /*repeat*/) {
    const uint8_t usage = std::to_underlying(key);
    if (is_set(state_.down, usage)) return true;
    if (!listening() || room() <= reserve) return false;
    const uint8_t code = event_code(key);
    if (code == 0) return true;
    if (is_set(state_.told, usage)) {
        append(EV_KEY, code, 0);
        append_end();
    } else {
        flip(state_.told, usage);
    }
    flip(state_.down, usage);
    append(EV_KEY, code, 1);
    append_end();
    tell();
    return true;
}

void VirtioKeyboard::release(Key key) {
    const uint8_t usage = std::to_underlying(key);
    if (!is_set(state_.down, usage)) return;
    flip(state_.down, usage);
    if (room() < step) return;
    // One that the driver has not been told of for want of room is told last, with all others.
    if (is_set(state_.told, usage)) {
        flip(state_.told, usage);
        append(EV_KEY, event_code(key), 0);
        append_end();
    }
    tell();
}

void VirtioKeyboard::append_rest() {
    for (size_t usage = 0; usage < 256 && room() >= step; ++usage) {
        if (is_set(state_.down, usage) == is_set(state_.told, usage)) continue;
        flip(state_.told, usage);
        append(EV_KEY, event_code(static_cast<Key>(usage)), is_set(state_.told, usage));
        append_end();
    }
}

void VirtioKeyboard::told() {
    if (on_idle_) on_idle_();
}

KeyboardLeds VirtioKeyboard::leds() const {
    const auto on = [this](uint8_t led) { return (state_.leds >> led & 1) != 0; };
    return {.scroll_lock = on(LED_SCROLLL), .num_lock = on(LED_NUML), .caps_lock = on(LED_CAPSL)};
}

// ---- Pointers ------------------------------------------------------------------------------------------------------

std::vector<uint8_t> VirtioPointer::codes(uint8_t type) const {
    std::vector<uint8_t> bits;
    if (type == EV_KEY) {
        for (unsigned button = 0; button < button_count; ++button) add_bit(bits, button_code(button));
    } else if (type == EV_REL) {
        add_bit(bits, REL_WHEEL);
    }
    return bits;
}

// A click keeps its place among motion.
void VirtioPointer::set_button(MouseButton button, bool down) {
    const uint8_t bit = std::to_underlying(button);
    const auto now = static_cast<uint8_t>((down ? state_.buttons | bit : state_.buttons & ~bit) & buttons_mask);
    if (now == state_.buttons || !listening()) return;
    state_.buttons = now;
    if (room() >= reserve) append_rest();
    tell();
}

void VirtioPointer::note_motion() {
    state_.moved = true;
    tell();
}

void VirtioPointer::append_rest() {
    if (std::exchange(state_.moved, false)) {
        append_axes();
        append_end();
    }
    const uint8_t changed = std::exchange(state_.told_buttons, state_.buttons) ^ state_.buttons;
    for (unsigned button = 0; button < button_count; ++button) {
        if (changed >> button & 1) append(EV_KEY, button_code(button), state_.buttons >> button & 1);
    }
    if (changed) append_end();
}

void VirtioPointer::append_wheel() {
    if (const int32_t steps = std::exchange(state_.wheel, 0)) append(EV_REL, REL_WHEEL, -steps);
}

VirtioMouse::VirtioMouse() : VirtioPointer({"Vivarium Virtio Mouse", 2, 0x090200}) {}

std::vector<uint8_t> VirtioMouse::codes(uint8_t type) const {
    std::vector<uint8_t> bits = VirtioPointer::codes(type);
    if (type == EV_REL) {
        add_bit(bits, REL_X);
        add_bit(bits, REL_Y);
    }
    return bits;
}

void VirtioMouse::move(int dx, int dy, int wheel) {
    if ((dx == 0 && dy == 0 && wheel == 0) || !listening()) return;
    add(state_.x, dx);
    add(state_.y, dy);
    add(state_.wheel, wheel);
    note_motion();
}

void VirtioMouse::append_axes() {
    if (const int32_t way = std::exchange(state_.x, 0)) append(EV_REL, REL_X, way);
    if (const int32_t way = std::exchange(state_.y, 0)) append(EV_REL, REL_Y, way);
    append_wheel();
}

VirtioTablet::VirtioTablet() : VirtioPointer({"Vivarium Virtio Tablet", 3, 0x098000}) {}

std::vector<uint8_t> VirtioTablet::codes(uint8_t type) const {
    std::vector<uint8_t> bits = VirtioPointer::codes(type);
    if (type == EV_ABS) {
        add_bit(bits, ABS_X);
        add_bit(bits, ABS_Y);
    }
    return bits;
}

std::vector<uint8_t> VirtioTablet::axis(uint8_t code) const {
    std::vector<uint8_t> bytes;
    if (code > ABS_Y) return bytes;
    // From, to; no noise, no dead zone, no resolution.
    for (const uint32_t number : {0u, uint32_t{limit}, 0u, 0u, 0u}) add_number(bytes, number, 4);
    return bytes;
}

void VirtioTablet::move_to(int x, int y) {
    x = std::clamp(x, 0, limit);
    y = std::clamp(y, 0, limit);
    if (x == state_.x && y == state_.y) return;
    state_.x = x;
    state_.y = y;
    if (listening()) note_motion();
}

void VirtioTablet::scroll(int steps) {
    if (steps == 0 || !listening()) return;
    add(state_.wheel, steps);
    note_motion();
}

void VirtioTablet::append_axes() {
    append(EV_ABS, ABS_X, state_.x);
    append(EV_ABS, ABS_Y, state_.y);
    append_wheel();
}

// ---- The board -----------------------------------------------------------------------------------------------------

namespace {

template <class Choice, class Input, class Port>
Result<std::unique_ptr<VirtioFunction>> make_input(DeviceContext& context, std::unique_ptr<Port> Input::*choice) {
    auto input = std::make_unique<Input>();
    Port* chosen = input.get();
    if (Port* other = context.services.find<Port>()) {
        (*input).*choice = std::make_unique<Choice>(*input, *other);
        chosen = ((*input).*choice).get();
    }
    context.services.provide<Port>(*chosen);
    return input;
}

}  // namespace

Result<std::unique_ptr<VirtioFunction>> make_virtio_keyboard(DeviceContext& context) {
    return make_input<KeyboardChoice>(context, &VirtioKeyboard::choice);
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_mouse(DeviceContext& context) {
    return make_input<MouseChoice>(context, &VirtioMouse::choice);
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_tablet(DeviceContext& context) {
    return make_input<TabletChoice>(context, &VirtioTablet::choice);
}

}  // namespace viv
