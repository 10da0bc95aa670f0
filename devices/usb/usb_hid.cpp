#include "devices/usb/usb_hid.hpp"

#include <algorithm>
#include <utility>

namespace viv {
namespace {

// Requests (USB 1.1, table 9-4; HID 1.11, 7.2). Types: direction, kind, recipient.
enum Standard : uint8_t {
    GET_STATUS = 0,
    CLEAR_FEATURE = 1,
    SET_FEATURE = 3,
    SET_ADDRESS = 5,
    GET_DESCRIPTOR = 6,
    GET_CONFIGURATION = 8,
    SET_CONFIGURATION = 9,
    GET_INTERFACE = 10,
    SET_INTERFACE = 11,
};
enum Class : uint8_t {
    GET_REPORT = 1,
    GET_IDLE = 2,
    GET_PROTOCOL = 3,
    SET_REPORT = 9,
    SET_IDLE = 10,
    SET_PROTOCOL = 11,
};
constexpr uint8_t to_host = 0x80;
constexpr uint8_t to_device = 0x00, to_interface = 0x01, to_endpoint = 0x02, to_class_interface = 0x21;

enum Descriptor : uint8_t {
    DEVICE = 1,
    CONFIGURATION = 2,
    STRING = 3,
    INTERFACE = 4,
    ENDPOINT = 5,
    HID = 0x21,
    REPORT = 0x22,
};
constexpr uint16_t ENDPOINT_HALT = 0, DEVICE_REMOTE_WAKEUP = 1;
constexpr uint8_t INPUT_REPORT = 1, OUTPUT_REPORT = 2;

// Those of the devices that guests know from QEMU, and may have entries for.
constexpr uint16_t vendor = 0x0627, product = 0x0001;
constexpr uint8_t interrupt_endpoint = 1, interrupt_address = to_host | interrupt_endpoint;
constexpr std::string_view manufacturer = "Vivarium";
constexpr Duration idle_unit = std::chrono::milliseconds(4);

constexpr uint8_t low(size_t value) {
    return static_cast<uint8_t>(value);
}
constexpr uint8_t high(size_t value) {
    return static_cast<uint8_t>(value >> 8);
}

}  // namespace

UsbHid::UsbHid(const Identity& identity, UsbHidState& state, Clock& clock)
    : identity_(identity), state_(state), clock_(clock) {
    power_on();
}

void UsbHid::power_on() {
    state_ = {};
    state_.idle_rate = identity_.idle_rate;
}

// Keys and buttons that are held stay so: fingers know of no reset.
void UsbHid::bus_reset() {
    forget_news();
    UsbHidState fresh;
    fresh.idle_rate = identity_.idle_rate;
    fresh.down = state_.down;
    fresh.pointer = state_.pointer;
    fresh.pointer.wheel = 0;
    state_ = std::move(fresh);
}

Result<void> UsbHid::validate(const UsbHidState& staged) {
    const auto far = [](const UsbPointerEvent& event) {
        const auto beyond = [](int32_t value) { return value < -most_motion || value > most_motion; };
        return beyond(event.x) || beyond(event.y) || beyond(event.wheel);
    };
    const bool good = staged.address < 128 && staged.configuration <= 1 && staged.protocol <= 1 &&
                      staged.stage <= UsbHidState::Stage::stalled && staged.data.size() <= most_data &&
                      staged.position <= staged.data.size() && staged.keys.valid() &&
                      staged.events.size() <= most_events && !far(staged.pointer) && !far(staged.sent) &&
                      std::ranges::none_of(staged.events, far) && (!staged.idle_due || staged.idle_rate != 0);
    if (!good) return fail("the saved state of a USB device cannot be");
    return {};
}

bool UsbHid::in_use() const {
    return state_.configuration != 0 && port() && port()->connected();
}

void UsbHid::note_use() {
    const bool now = in_use();
    if (std::exchange(was_in_use_, now) == now) return;
    if (!now) forget_news();
    on_told();
}

void UsbHid::tell_port() {
    if (port()) port()->news(state_.remote_wakeup);
}

UsbHid::Request UsbHid::request() const {
    const auto word = [this](size_t at) {
        return static_cast<uint16_t>(state_.request[at] | state_.request[at + 1] << 8);
    };
    return {state_.request[0], state_.request[1], word(2), word(4), word(6)};
}

// A device takes every SETUP; what it cannot do is told in the stages that follow.
UsbReply UsbHid::setup(uint8_t endpoint, std::span<const uint8_t> data) {
    using enum UsbHidState::Stage;
    if (endpoint != 0 || data.size() != state_.request.size()) return {};
    std::ranges::copy(data, state_.request.begin());
    state_.data.clear();
    state_.position = 0;
    const Request wanted = request();
    if (wanted.length == 0) {
        state_.stage = status_in;
    } else if (wanted.type & to_host) {
        state_.stage = answer(wanted) ? data_in : stalled;
        if (state_.data.size() > wanted.length) state_.data.resize(wanted.length);
    } else {
        state_.stage = wanted.length <= most_data ? data_out : stalled;
    }
    return {UsbAnswer::ack};
}

UsbReply UsbHid::out(uint8_t endpoint, std::span<const uint8_t> data) {
    using enum UsbHidState::Stage;
    if (endpoint != 0) return {};
    if (state_.stage == data_in && data.empty()) {
        // The status stage; the host may have had enough before the end of the data.
        state_.stage = none;
        return {UsbAnswer::ack};
    }
    const size_t wanted = request().length;
    if (state_.stage != data_out || data.size() > packet_size || state_.data.size() + data.size() > wanted) {
        state_.stage = stalled;
        return {UsbAnswer::stall};
    }
    state_.data.insert(state_.data.end(), data.begin(), data.end());
    if (state_.data.size() == wanted) state_.stage = status_in;
    return {UsbAnswer::ack};
}

UsbReply UsbHid::in(uint8_t endpoint, std::span<uint8_t, usb_largest_packet> packet) {
    using enum UsbHidState::Stage;
    if (endpoint == interrupt_endpoint) return interrupt_in(packet);
    if (endpoint != 0) return {};
    if (state_.stage == data_in) {
        const size_t size = std::min(packet_size, state_.data.size() - state_.position);
        std::copy_n(state_.data.begin() + state_.position, size, packet.begin());
        state_.position = static_cast<uint16_t>(state_.position + size);
        return {UsbAnswer::ack, size};
    }
    // What the request asks for happens at the end, so that a new address is for the next transfer.
    const bool done = state_.stage == status_in && perform(request());
    state_.stage = done ? none : stalled;
    return {done ? UsbAnswer::ack : UsbAnswer::stall};
}

UsbReply UsbHid::interrupt_in(std::span<uint8_t, usb_largest_packet> packet) {
    if (state_.configuration == 0) return {};
    if (state_.halted) return {UsbAnswer::stall};
    const bool news = has_news();
    if (!news && !(state_.idle_due && *state_.idle_due <= clock_.now())) return {UsbAnswer::nak};
    news ? take_news() : stand_still();
    state_.idle_due.reset();
    if (state_.idle_rate != 0) state_.idle_due = clock_.now() + idle_unit * state_.idle_rate;
    const size_t size = make_report(packet.first<packet_size>());
    if (news && !has_news()) on_told();
    return {UsbAnswer::ack, size};
}

void UsbHid::put(std::initializer_list<unsigned> bytes) {
    for (const unsigned byte : bytes) state_.data.push_back(static_cast<uint8_t>(byte));
}

/// Puts the answer to a request for data into `data`; false when there is none.
bool UsbHid::answer(const Request& wanted) {
    const bool first_interface = wanted.index == 0 && state_.configuration != 0;
    switch (wanted.type & ~to_host) {
        case to_device:
            if (wanted.number == GET_STATUS) return put({state_.remote_wakeup ? 2u : 0u, 0}), true;
            if (wanted.number == GET_CONFIGURATION) return put({state_.configuration}), true;
            return wanted.number == GET_DESCRIPTOR && descriptor(wanted);
        case to_interface:
            if (wanted.number == GET_DESCRIPTOR) return descriptor(wanted);
            if (wanted.number == GET_STATUS && first_interface) return put({0, 0}), true;
            if (wanted.number == GET_INTERFACE && first_interface) return put({0}), true;
            return false;
        case to_endpoint: {
            const uint8_t endpoint = low(wanted.index) & 0x0F;
            if (wanted.number != GET_STATUS || endpoint > interrupt_endpoint) return false;
            return put({endpoint == interrupt_endpoint && state_.halted ? 1u : 0u, 0}), true;
        }
        case to_class_interface: {
            if (wanted.index != 0) return false;
            if (wanted.number == GET_IDLE) return put({state_.idle_rate}), true;
            if (wanted.number == GET_PROTOCOL && identity_.subclass != 0) return put({state_.protocol}), true;
            if (wanted.number != GET_REPORT || low(wanted.value) != 0) return false;
            if (high(wanted.value) == OUTPUT_REPORT && identity_.protocol == 1) return put({state_.leds}), true;
            if (high(wanted.value) != INPUT_REPORT) return false;
            state_.data.resize(packet_size);
            state_.data.resize(make_report(std::span(state_.data).first<packet_size>()));
            return true;
        }
        default: return false;
    }
}

/// Does what a request without answer asks for; false when that cannot be done.
bool UsbHid::perform(const Request& wanted) {
    switch (wanted.type) {
        case to_device:
            if (wanted.number == SET_ADDRESS && wanted.value < 128) {
                state_.address = low(wanted.value);
                return true;
            }
            if (wanted.number == SET_CONFIGURATION && wanted.value <= 1) {
                state_.configuration = low(wanted.value);
                state_.halted = false;
                state_.idle_due.reset();
                if (state_.configuration != 0 && state_.idle_rate != 0) state_.idle_due = clock_.now();
                return true;
            }
            break;
        case to_interface:
            if (wanted.number == SET_INTERFACE)
                return wanted.index == 0 && wanted.value == 0 && state_.configuration != 0;
            break;
        case to_class_interface: return perform_class(wanted);
        default: break;
    }
    if (wanted.number == SET_FEATURE || wanted.number == CLEAR_FEATURE)
        return change_feature(wanted, wanted.number == SET_FEATURE);
    // A request for no data of something that there is.
    return wanted.length == 0 && (wanted.type & to_host) && answer(wanted);
}

bool UsbHid::change_feature(const Request& wanted, bool set) {
    if (wanted.type == to_device && wanted.value == DEVICE_REMOTE_WAKEUP) {
        state_.remote_wakeup = set;
        return true;
    }
    if (wanted.type != to_endpoint || wanted.value != ENDPOINT_HALT) return false;
    if (wanted.index == interrupt_address && state_.configuration != 0) {
        state_.halted = set;
        return true;
    }
    // Endpoint 0 is never halted for longer than a transfer.
    return !set && (low(wanted.index) & 0x0F) == 0;
}

bool UsbHid::perform_class(const Request& wanted) {
    if (wanted.index != 0) return false;
    switch (wanted.number) {
        case SET_REPORT: return wanted.value == OUTPUT_REPORT << 8 && set_output(state_.data);
        case SET_IDLE:
            if (low(wanted.value) != 0) return false;
            state_.idle_rate = high(wanted.value);
            state_.idle_due.reset();
            if (state_.idle_rate != 0) state_.idle_due = clock_.now() + idle_unit * state_.idle_rate;
            return true;
        case SET_PROTOCOL:
            if (identity_.subclass == 0 || wanted.value > 1) return false;
            state_.protocol = low(wanted.value);
            return true;
        default: return false;
    }
}

bool UsbHid::descriptor(const Request& wanted) {
    const uint8_t index = low(wanted.value);
    if ((wanted.type & 0x1F) == to_interface) {
        if (wanted.index != 0 || index != 0) return false;
        if (high(wanted.value) == HID) return hid_descriptor(), true;
        if (high(wanted.value) != REPORT) return false;
        state_.data.assign(identity_.report_descriptor.begin(), identity_.report_descriptor.end());
        return true;
    }
    switch (high(wanted.value)) {
        case DEVICE: return index == 0 && (device_descriptor(), true);
        case CONFIGURATION: return index == 0 && (configuration_descriptor(), true);
        case STRING: return string_descriptor(index);
        default: return false;
    }
}

void UsbHid::device_descriptor() {
    put({18, DEVICE, 0x10, 0x01, 0, 0, 0, packet_size});  // USB 1.10; the class is the interface's
    put({low(vendor), high(vendor), low(product), high(product), 0x00, 0x01, 1, 2, 0, 1});
}

void UsbHid::configuration_descriptor() {
    constexpr unsigned total = 9 + 9 + 9 + 7, remote_wakeup = 0xA0, milliamperes = 100;
    put({9, CONFIGURATION, low(total), high(total), 1, 1, 0, remote_wakeup, milliamperes / 2});
    put({9, INTERFACE, 0, 0, 1, 3, identity_.subclass, identity_.protocol, 0});
    hid_descriptor();
    constexpr unsigned interrupt = 3;
    put({7, ENDPOINT, interrupt_address, interrupt, packet_size, 0, identity_.interval});
}

void UsbHid::hid_descriptor() {
    const size_t size = identity_.report_descriptor.size();
    put({9, HID, 0x11, 0x01, 0, 1, REPORT, low(size), high(size)});  // HID 1.11
}

bool UsbHid::string_descriptor(uint8_t index) {
    if (index > 2) return false;
    if (index == 0) return put({4, STRING, 0x09, 0x04}), true;  // English
    const std::string_view text = index == 1 ? manufacturer : identity_.product;
    put({static_cast<unsigned>(2 + 2 * text.size()), STRING});
    for (const char letter : text) put({static_cast<uint8_t>(letter), 0});
    return true;
}

}  // namespace viv
