#include "devices/usb/usb_pointer.hpp"

#include <algorithm>
#include <utility>

namespace viv {
namespace {

constexpr int32_t most_a_report = 127;
constexpr uint8_t buttons_mask = 0x1F;

constexpr uint8_t mouse_descriptor[] = {
    0x05, 0x01,  // usage page: generic desktop
    0x09, 0x02,  // usage: mouse
    0xA1, 0x01,  // collection: application
    0x09, 0x01,  //   usage: pointer
    0xA1, 0x00,  //   collection: physical
    0x05, 0x09,  //     usage page: buttons
    0x19, 0x01,  //     usages from 1
    0x29, 0x05,  //     to 5
    0x15, 0x00,  //     0
    0x25, 0x01,  //     to 1
    0x75, 0x01,  //     a bit
    0x95, 0x05,  //     five times
    0x81, 0x02,  //     input: variable
    0x75, 0x03,  //     three bits
    0x95, 0x01,  //     once
    0x81, 0x01,  //     input: constant
    0x05, 0x01,  //     usage page: generic desktop
    0x09, 0x30,  //     usage: X
    0x09, 0x31,  //     usage: Y
    0x09, 0x38,  //     usage: wheel
    0x15, 0x81,  //     -127
    0x25, 0x7F,  //     to 127
    0x75, 0x08,  //     a byte
    0x95, 0x03,  //     three times
    0x81, 0x06,  //     input: variable, relative
    0xC0,        //   end
    0xC0,        // end
};

constexpr uint8_t tablet_descriptor[] = {
    0x05, 0x01,        // usage page: generic desktop
    0x09, 0x02,        // usage: mouse
    0xA1, 0x01,        // collection: application
    0x09, 0x01,        //   usage: pointer
    0xA1, 0x00,        //   collection: physical
    0x05, 0x09,        //     usage page: buttons
    0x19, 0x01,        //     usages from 1
    0x29, 0x05,        //     to 5
    0x15, 0x00,        //     0
    0x25, 0x01,        //     to 1
    0x75, 0x01,        //     a bit
    0x95, 0x05,        //     five times
    0x81, 0x02,        //     input: variable
    0x75, 0x03,        //     three bits
    0x95, 0x01,        //     once
    0x81, 0x01,        //     input: constant
    0x05, 0x01,        //     usage page: generic desktop
    0x09, 0x30,        //     usage: X
    0x09, 0x31,        //     usage: Y
    0x15, 0x00,        //     0
    0x26, 0xFF, 0x7F,  //     to 32767
    0x35, 0x00,        //     and so it is physically
    0x46, 0xFF, 0x7F,  //
    0x75, 0x10,        //     two bytes
    0x95, 0x02,        //     twice
    0x81, 0x02,        //     input: variable, absolute
    0x09, 0x38,        //     usage: wheel
    0x15, 0x81,        //     -127
    0x25, 0x7F,        //     to 127
    0x35, 0x00,        //     without physical units
    0x45, 0x00,        //
    0x75, 0x08,        //     a byte
    0x95, 0x01,        //     once
    0x81, 0x06,        //     input: variable, relative
    0xC0,              //   end
    0xC0,              // end
};

constexpr UsbHid::Identity mouse_identity{.product = "USB Mouse",
                                          .speed = UsbSpeed::low,
                                          .subclass = 1,
                                          .protocol = 2,
                                          .interval = 10,
                                          .report_descriptor = mouse_descriptor};
constexpr UsbHid::Identity tablet_identity{
    .product = "USB Tablet", .speed = UsbSpeed::full, .interval = 8, .report_descriptor = tablet_descriptor};

void add(int32_t& counter, int64_t counts) {
    counter = static_cast<int32_t>(std::clamp<int64_t>(counter + counts, -UsbHid::most_motion, UsbHid::most_motion));
}

/// What of it goes into one report.
int32_t take(int32_t& counter) {
    const int32_t taken = std::clamp(counter, -most_a_report, most_a_report);
    counter -= taken;
    return taken;
}

}  // namespace

/// When all places are taken, the last event is where things go: the guest learns at least how it ended.
UsbPointerEvent& UsbPointer::append(bool is_motion) {
    auto& events = state().events;
    if (events.size() < most_events) {
        events.push_back(next_event());
        events.back().motion = is_motion;
    }
    return events.back();
}

UsbPointerEvent* UsbPointer::motion() {
    if (!in_use()) return nullptr;
    auto& events = state().events;
    if (events.empty() || !events.back().motion) return &append(true);
    return &events.back();
}

void UsbPointer::set_button(MouseButton button, bool down) {
    const uint8_t bit = std::to_underlying(button);
    uint8_t& held = state().pointer.buttons;
    const auto now = static_cast<uint8_t>((down ? held | bit : held & ~bit) & buttons_mask);
    if (std::exchange(held, now) == now || !in_use()) return;
    append(false).buttons = now;
    tell_port();
}

void UsbPointer::stand_still() {
    UsbPointerEvent next = next_event();
    next.buttons = state().sent.buttons;
    state().sent = next;
}

UsbMouse::UsbMouse(UsbHidState& state, Clock& clock) : UsbPointer(mouse_identity, state, clock) {}

UsbPointerEvent UsbMouse::next_event() const {
    return {.buttons = state().pointer.buttons};
}

void UsbMouse::move(int dx, int dy, int wheel) {
    if (dx == 0 && dy == 0 && wheel == 0) return;
    UsbPointerEvent* event = motion();
    if (!event) return;
    add(event->x, dx);
    add(event->y, dy);
    add(event->wheel, wheel);
    tell_port();
}

void UsbMouse::take_news() {
    UsbPointerEvent& event = state().events.front();
    UsbPointerEvent& sent = state().sent;
    sent = {.buttons = event.buttons};
    sent.x = take(event.x);
    sent.y = take(event.y);
    sent.wheel = take(event.wheel);
    if (event.x == 0 && event.y == 0 && event.wheel == 0) state().events.erase(state().events.begin());
}

// The boot protocol's report has no wheel.
size_t UsbMouse::make_report(Report report) const {
    const UsbPointerEvent& sent = state().sent;
    report[0] = sent.buttons;
    report[1] = static_cast<uint8_t>(sent.x);
    report[2] = static_cast<uint8_t>(sent.y);
    report[3] = static_cast<uint8_t>(-sent.wheel);
    return state().protocol == 0 ? 3 : 4;
}

UsbTablet::UsbTablet(UsbHidState& state, Clock& clock) : UsbPointer(tablet_identity, state, clock) {}

UsbPointerEvent UsbTablet::next_event() const {
    return {.x = state().pointer.x, .y = state().pointer.y, .buttons = state().pointer.buttons};
}

void UsbTablet::move_to(int x, int y) {
    UsbPointerEvent& pointer = state().pointer;
    x = std::clamp(x, 0, limit);
    y = std::clamp(y, 0, limit);
    if (pointer.x == x && pointer.y == y) return;
    pointer.x = x;
    pointer.y = y;
    UsbPointerEvent* event = motion();
    if (!event) return;
    event->x = x;
    event->y = y;
    tell_port();
}

void UsbTablet::scroll(int steps) {
    UsbPointerEvent* event = steps == 0 ? nullptr : motion();
    if (!event) return;
    add(event->wheel, steps);
    tell_port();
}

void UsbTablet::take_news() {
    UsbPointerEvent& event = state().events.front();
    UsbPointerEvent& sent = state().sent;
    sent = {.x = event.x, .y = event.y, .buttons = event.buttons};
    sent.wheel = take(event.wheel);
    if (event.wheel == 0) state().events.erase(state().events.begin());
}

size_t UsbTablet::make_report(Report report) const {
    const UsbPointerEvent& sent = state().sent;
    report[0] = sent.buttons;
    report[1] = static_cast<uint8_t>(sent.x);
    report[2] = static_cast<uint8_t>(sent.x >> 8);
    report[3] = static_cast<uint8_t>(sent.y);
    report[4] = static_cast<uint8_t>(sent.y >> 8);
    report[5] = static_cast<uint8_t>(-sent.wheel);
    return 6;
}

}  // namespace viv
