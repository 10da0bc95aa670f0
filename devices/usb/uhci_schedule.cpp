// The frame list and what hangs on it (Design Guide, chapter 3).
#include <algorithm>
#include <bit>
#include <span>

#include "devices/usb/uhci.hpp"
#include "devices/usb/uhci_port.hpp"

namespace viv {
namespace {

using namespace uhci;

/// Words of guest memory; false where there is none.
template <size_t count>
bool load(const GuestMemory& memory, uint32_t address, std::array<uint32_t, count>& words) {
    static_assert(std::endian::native == std::endian::little);
    return memory.read(Gpa{address}, std::as_writable_bytes(std::span(words)));
}

constexpr uint8_t pid_of(uint32_t token) {
    return static_cast<uint8_t>(token);
}
constexpr uint32_t length_of(uint32_t token) {
    return ((token >> 21) + 1) & 0x7FF;
}
constexpr uint32_t actual_length(size_t bytes) {
    return static_cast<uint32_t>(bytes - 1) & ACTLEN;
}

}  // namespace

/// The place that the controller has come to in a frame.
struct Uhci::Frame {
    uint32_t link = 0;
    std::optional<uint32_t> queue;  // the head whose element is at hand
    uint32_t next_queue = 0;        // the link of that head
    unsigned bytes = 0;             // of the frame's time
    bool active = false;            // something came about
    // Queues seen since then: nothing has changed in them, so that coming to one again is the end of the frame.
    std::array<uint32_t, 128> seen{};
    unsigned seen_count = 0;

    bool comes_again(uint32_t head) {
        const auto end = seen.begin() + seen_count;
        if (std::find(seen.begin(), end, head) != end || seen_count == seen.size()) return true;
        seen[seen_count++] = head;
        return false;
    }
};

void Uhci::run_frame() {
    GuestMemory* memory = state_.command & EGSM ? nullptr : pci_.dma();
    const bool active = memory && walk_frame(*memory);
    state_.idle_frames =
        active ? uint16_t{0} : std::min<uint16_t>(static_cast<uint16_t>(state_.idle_frames + 1), idle_limit);
    if (!state_.frame_end) return;  // an error or a single step has ended it early
    state_.frame = (state_.frame + 1) & 0x7FF;
    state_.frame_end = *state_.frame_end + frame_length();
}

/// HSE; false.
bool Uhci::fail_system() {
    state_.status |= HSE;
    halt();
    return false;
}

/// HCPE; false.
bool Uhci::fail_process() {
    state_.status |= HCPE;
    halt();
    return false;
}

/// Whether more happened than that devices had nothing to say.
bool Uhci::walk_frame(GuestMemory& memory) {
    Frame frame;
    std::array<uint32_t, 1> entry{};
    if (!load(memory, state_.base + (state_.frame & 0x3FFu) * 4, entry)) return fail_system();
    frame.link = state_.debug_link.value_or(entry[0]);
    frame.queue = state_.debug_queue;
    state_.debug_link.reset();
    state_.debug_queue.reset();
    if (frame.queue) {
        std::array<uint32_t, 2> head{};
        if (!load(memory, *frame.queue, head)) return fail_system();
        frame.next_queue = head[0];
    }
    for (unsigned links = 0; links < most_links && frame.bytes < frame_bytes; ++links) {
        if (frame.link & LINK_TERMINATE) break;
        const uint32_t address = frame.link & LINK_ADDRESS;
        if (frame.link & LINK_QH) {
            std::array<uint32_t, 2> head{};
            if (frame.comes_again(address)) break;
            if (!load(memory, address, head)) return fail_system();
            const bool has_element = !(head[1] & LINK_TERMINATE);
            frame.queue.reset();
            if (has_element) frame.queue = address;
            frame.next_queue = head[0];
            frame.link = has_element ? head[1] : head[0];
            continue;
        }
        Descriptor descriptor{address};
        if (!load(memory, address, descriptor.words)) return fail_system();
        const Progress progress = execute(descriptor, memory, frame);
        if (state_.status & (HSE | HCPE)) return true;
        const uint32_t next = descriptor.words[0];
        if (!frame.queue) {
            frame.link = next;
        } else if (progress == Progress::done) {
            if (!memory.store(Gpa{*frame.queue + 4u}, next & ~LINK_DEPTH_FIRST)) return fail_system();
            const bool goes_deeper = (next & LINK_DEPTH_FIRST) && !(next & LINK_TERMINATE);
            frame.link = goes_deeper ? next : frame.next_queue;
            if (!goes_deeper) frame.queue.reset();
        } else {
            frame.link = frame.next_queue;
            frame.queue.reset();
        }
        if (progress != Progress::none && (state_.command & SWDBG)) {
            halt();
            if (!(frame.link & LINK_TERMINATE)) {
                state_.debug_link = frame.link;
                state_.debug_queue = frame.queue;
            }
            return true;
        }
    }
    return frame.active;
}

Uhci::Progress Uhci::execute(Descriptor& descriptor, GuestMemory& memory, Frame& frame) {
    const uint32_t control = descriptor.words[1], token = descriptor.words[2];
    if (!(control & ACTIVE)) return Progress::none;
    const uint8_t pid = pid_of(token);
    const bool legal = (token >> 21) <= largest_length || (token >> 21) == no_data;
    if (!legal || (pid != PID_IN && pid != PID_OUT && pid != PID_SETUP)) {
        fail_process();
        return Progress::none;
    }
    UsbDevice* device = find_device(token >> 8 & 0x7F, control & LS);
    const UsbReply reply = transact(descriptor, device, memory);
    if (state_.status & HSE) return Progress::none;
    const size_t moved = pid == PID_IN ? reply.size : length_of(token);
    frame.bytes += (packet_overhead + static_cast<unsigned>(moved)) * (control & LS ? 8 : 1);
    const Progress progress = conclude(descriptor, reply, frame.queue.has_value(), memory);
    if (reply.answer != UsbAnswer::nak || progress == Progress::retired) {
        frame.active = true;
        frame.seen_count = 0;
    }
    return progress;
}

UsbDevice* Uhci::find_device(uint8_t address, bool low_speed) const {
    for (unsigned i = 0; i < port_count; ++i) {
        if (!reaches(i)) continue;
        UsbHid& device = *ports_[i]->device;
        if (device.address() == address && (device.speed() == UsbSpeed::low) == low_speed) return &device;
    }
    return nullptr;
}

UsbReply Uhci::transact(const Descriptor& descriptor, UsbDevice* device, GuestMemory& memory) {
    const uint32_t token = descriptor.words[2];
    const auto endpoint = static_cast<uint8_t>(token >> 15 & 0xF);
    if (pid_of(token) == PID_IN) return device ? device->in(endpoint, packet_) : UsbReply{};
    std::array<uint8_t, largest_length + 1> data{};
    const auto bytes = std::span(data).first(length_of(token));
    if (!memory.read(Gpa{descriptor.words[3]}, std::as_writable_bytes(bytes))) {
        fail_system();
        return {};
    }
    if (!device) return {};
    return pid_of(token) == PID_SETUP ? device->setup(endpoint, bytes) : device->out(endpoint, bytes);
}

/// Writes down how a transaction ended.
Uhci::Progress Uhci::conclude(Descriptor& descriptor, UsbReply reply, bool in_queue, GuestMemory& memory) {
    uint32_t& control = descriptor.words[1];
    const uint32_t token = descriptor.words[2];
    const uint32_t length = length_of(token);
    const bool in = pid_of(token) == PID_IN;
    const bool once = control & IOS;
    control &= ~(STATUS_BITS | (reply.answer == UsbAnswer::nak ? 0 : ACTLEN));
    switch (reply.answer) {
        case UsbAnswer::nak:
            if (once) return retire(descriptor, NAK, memory) ? Progress::retired : Progress::none;
            control |= NAK;
            if (!memory.store(Gpa{descriptor.address + 4u}, control)) fail_system();
            return Progress::tried;
        case UsbAnswer::stall:
            control |= actual_length(0);
            state_.status |= ERROR_INT;
            return retire(descriptor, STALLED, memory) ? Progress::retired : Progress::none;
        case UsbAnswer::none: {
            control |= actual_length(0);
            const uint32_t errors_left = control & C_ERR;
            if (errors_left != 0) control -= C_ERR_ONE;
            if (errors_left == C_ERR_ONE || once) {
                state_.status |= ERROR_INT;
                const uint32_t status = CRC_TIMEOUT | (once ? 0 : STALLED);
                return retire(descriptor, status, memory) ? Progress::retired : Progress::none;
            }
            control |= CRC_TIMEOUT;
            if (!memory.store(Gpa{descriptor.address + 4u}, control)) fail_system();
            return Progress::tried;
        }
        case UsbAnswer::ack: break;
    }
    if (!in) {
        control |= actual_length(length);
        return retire(descriptor, 0, memory) ? Progress::done : Progress::none;
    }
    if (reply.size > length) {
        control |= actual_length(0);
        state_.status |= ERROR_INT;
        return retire(descriptor, BABBLE | STALLED, memory) ? Progress::retired : Progress::none;
    }
    const auto data = std::span(packet_).first(reply.size);
    if (!memory.write(Gpa{descriptor.words[3]}, std::as_bytes(data))) {
        fail_system();
        return Progress::none;
    }
    control |= actual_length(reply.size);
    const bool is_short = reply.size < length && (control & SPD) && in_queue;
    if (is_short) {
        state_.status |= USBINT;
        state_.short_packet = true;
    }
    if (!retire(descriptor, 0, memory)) return Progress::none;
    // A short packet stops its queue where it is, for software to decide.
    return is_short ? Progress::retired : Progress::done;
}

/// Ends a descriptor; false where it cannot be written.
bool Uhci::retire(Descriptor& descriptor, uint32_t status, GuestMemory& memory) {
    uint32_t& control = descriptor.words[1];
    control = (control & ~ACTIVE) | status;
    if (control & IOC) {
        state_.status |= USBINT;
        state_.completed = true;
    }
    return memory.store(Gpa{descriptor.address + 4u}, control) || fail_system();
}

}  // namespace viv
