#include "devices/usb/usb_keyboard.hpp"

#include <utility>

namespace viv {
namespace {

constexpr uint8_t first_modifier = 0xE0, last_usage = 0x65;
constexpr uint8_t roll_over = 0x01;
constexpr size_t first_key = 2, most_keys = 6;
constexpr uint8_t NUM_LOCK = 1, CAPS_LOCK = 2, SCROLL_LOCK = 4, lamps = 0x1F;

// A byte of modifiers, one reserved, six keys; out go five lamps.
constexpr uint8_t report_descriptor[] = {
    0x05, 0x01,        // usage page: generic desktop
    0x09, 0x06,        // usage: keyboard
    0xA1, 0x01,        // collection: application
    0x05, 0x07,        //   usage page: keys
    0x19, 0xE0,        //   usages from left control
    0x29, 0xE7,        //   to right GUI
    0x15, 0x00,        //   0
    0x25, 0x01,        //   to 1
    0x75, 0x01,        //   a bit
    0x95, 0x08,        //   eight times
    0x81, 0x02,        //   input: variable
    0x75, 0x08,        //   a byte
    0x95, 0x01,        //   once
    0x81, 0x01,        //   input: constant
    0x05, 0x08,        //   usage page: lamps
    0x19, 0x01,        //   usages from Num Lock
    0x29, 0x05,        //   to Kana
    0x75, 0x01,        //   a bit
    0x95, 0x05,        //   five times
    0x91, 0x02,        //   output: variable
    0x75, 0x03,        //   three bits
    0x95, 0x01,        //   once
    0x91, 0x01,        //   output: constant
    0x05, 0x07,        //   usage page: keys
    0x19, 0x00,        //   usages from none
    0x29, last_usage,  //   to the menu key
    0x15, 0x00,        //   0
    0x25, last_usage,  //   to 65h
    0x75, 0x08,        //   a byte
    0x95, most_keys,   //   six times
    0x81, 0x00,        //   input: array
    0xC0,              // end
};

constexpr UsbHid::Identity identity{.product = "USB Keyboard",
                                    .speed = UsbSpeed::low,
                                    .subclass = 1,
                                    .protocol = 1,
                                    .interval = 10,
                                    .idle_rate = 125,  // 500 ms, as HID 1.11, 7.2.4, wants it
                                    .report_descriptor = report_descriptor};

bool is_set(const std::array<uint8_t, 32>& bits, size_t index) {
    return bits[index / 8] >> (index % 8) & 1;
}
void flip(std::array<uint8_t, 32>& bits, size_t index) {
    bits[index / 8] = static_cast<uint8_t>(bits[index / 8] ^ 1u << (index % 8));
}
/// Places that only releases may take.
constexpr size_t reserve = 8;

}  // namespace

UsbKeyboard::UsbKeyboard(UsbHidState& state, Clock& clock) : UsbHid(identity, state, clock) {}

bool UsbKeyboard::press(Key key, Repeat /*repeat*/) {
    const uint8_t usage = std::to_underlying(key);
    if (is_set(state().down, usage)) return true;
    if (!UsbHid::in_use() || state().keys.room() <= reserve) return false;
    flip(state().down, usage);
    state().keys.push(usage);
    tell_port();
    return true;
}

// A release that finds no room shows when the queue is empty: then the guest is told what is down.
void UsbKeyboard::release(Key key) {
    const uint8_t usage = std::to_underlying(key);
    if (!is_set(state().down, usage)) return;
    flip(state().down, usage);
    if (!UsbHid::in_use()) return;
    state().keys.push(usage);
    tell_port();
}

bool UsbKeyboard::has_news() const {
    return !state().keys.empty() || state().down != state().told;
}

void UsbKeyboard::take_news() {
    if (state().keys.empty()) {
        state().told = state().down;
    } else {
        flip(state().told, state().keys.pop());
    }
}

size_t UsbKeyboard::make_report(Report report) const {
    report[0] = state().told[first_modifier / 8];
    report[1] = 0;
    size_t keys = 0;
    for (size_t i = first_key; i < packet_size; ++i) report[i] = 0;
    for (size_t usage = 1; usage < first_modifier; ++usage) {
        if (!is_set(state().told, usage)) continue;
        if (keys < most_keys) report[first_key + keys] = static_cast<uint8_t>(usage);
        ++keys;
    }
    if (keys > most_keys) {
        for (size_t i = first_key; i < packet_size; ++i) report[i] = roll_over;
    }
    return packet_size;
}

bool UsbKeyboard::set_output(std::span<const uint8_t> report) {
    if (report.empty()) return false;
    state().leds = report[0] & lamps;
    return true;
}

void UsbKeyboard::forget_news() {
    discarded_ += state().keys.size;
    state().keys.clear();
}

void UsbKeyboard::on_told() {
    if (on_idle_) on_idle_();
}

KeyboardLeds UsbKeyboard::leds() const {
    const uint8_t on = state().leds;
    return {
        .scroll_lock = (on & SCROLL_LOCK) != 0, .num_lock = (on & NUM_LOCK) != 0, .caps_lock = (on & CAPS_LOCK) != 0};
}

}  // namespace viv
