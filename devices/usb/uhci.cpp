#include "devices/usb/uhci.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "devices/input/port_choice.hpp"
#include "devices/usb/uhci_port.hpp"
#include "devices/usb/usb_keyboard.hpp"
#include "devices/usb/usb_pointer.hpp"

namespace viv {
namespace {

using namespace uhci;

constexpr PciIdentity identity{
    .vendor = 0x8086, .device = 0x7020, .class_code = 0x0C0300, .revision = 0x01, .interrupt_pin = 4};
constexpr unsigned io_bar = 4;

constexpr uint16_t command_bits = RS | EGSM | FGR | SWDBG | CF | MAXP;
constexpr uint16_t status_bits = USBINT | ERROR_INT | RESUME_DETECT | HSE | HCPE;
constexpr uint16_t interrupt_bits = TOCRCE | RIE | IOCE | SPIE;
constexpr uint16_t frame_bits = 0x07FF;
constexpr uint8_t sof_bits = 0x7F;
constexpr uint16_t port_bits = CSC | PED | PEDC | PORT_RESUME | PORT_RESET | SUSPEND;

}  // namespace

Uhci::Uhci(Clock& clock)
    : pci_(identity, state_.pci), clock_(clock), timer_(clock, [this](VirtualTime) { catch_up(); }) {
    for (unsigned i = 0; i < port_count; ++i) ports_[i] = std::make_unique<Port>(*this, i);
    pci_.add_io_bar(io_bar, window_size, *this);
    pci_.add_register(SBRNUM, 1, 0x10);
    pci_.add_register(LEGSUP, 2, USBPIRQEN, USBPIRQEN | 0x00BF, USBIRQS);
    pci_.on_config_write([this](unsigned, unsigned) { update_irq(); });
    reset(ResetKind::power_on);
}

Uhci::~Uhci() = default;

void Uhci::attach(unsigned port, std::unique_ptr<UsbHid> device) {
    Port& place = *ports_.at(port);
    place.device = std::move(device);
    place.device->plug(place);
    state_.ports[port].status = CSC;
}

void Uhci::reset(ResetKind kind) {
    UhciState before = std::exchange(state_, {});
    for (unsigned i = 0; i < port_count; ++i) {
        UsbHid* device = ports_[i]->device.get();
        if (!device) continue;
        if (kind == ResetKind::power_on) {
            device->power_on();
        } else {
            state_.ports[i].device = std::move(before.ports[i].device);
            device->bus_reset();
        }
    }
    reset_registers();
    pci_.reset();
    update_irq();
    note_use();
}

/// HCRESET. Devices keep their addresses, but have to be found anew.
void Uhci::reset_controller() {
    reset_registers();
    update_irq();
}

void Uhci::reset_registers() {
    UhciState fresh;
    for (unsigned i = 0; i < port_count; ++i) {
        fresh.ports[i].device = std::move(state_.ports[i].device);
        fresh.ports[i].status = ports_[i]->device ? CSC : 0;
    }
    fresh.pci = std::move(state_.pci);
    state_ = std::move(fresh);
    timer_.cancel();
}

Duration Uhci::frame_length() const {
    constexpr int64_t bits = 11936, megahertz = 12;
    return Duration{(bits + state_.sof_modify) * 1000 / megahertz};
}

uint64_t Uhci::read(Access access) {
    catch_up();
    uint64_t value = 0;
    for (unsigned i = access.size; i-- > 0;) {
        const uint64_t at = access.offset + i;
        value = value << 8 | (read_register(at & ~uint64_t{1}) >> (8 * (at & 1)) & 0xFF);
    }
    return value;
}

void Uhci::write(Access access, uint64_t value) {
    catch_up();
    const uint64_t end = access.offset + access.size;
    for (uint64_t at = access.offset & ~uint64_t{1}; at < end; at += 2) {
        uint16_t bits = 0, mask = 0;
        for (uint64_t byte = std::max(at, access.offset); byte < std::min(at + 2, end); ++byte) {
            const unsigned shift = 8 * (byte & 1);
            bits = static_cast<uint16_t>(bits | (value >> (8 * (byte - access.offset)) & 0xFF) << shift);
            mask = static_cast<uint16_t>(mask | 0xFF << shift);
        }
        write_register(at, bits, mask);
    }
    state_.idle_frames = 0;
    arm();
    update_irq();
    note_use();
}

uint16_t Uhci::read_register(uint64_t offset) const {
    switch (offset) {
        case USBCMD: return state_.command;
        case USBSTS: return state_.status;
        case USBINTR: return state_.interrupts;
        case FRNUM: return state_.frame;
        case FLBASEADD: return static_cast<uint16_t>(state_.base);
        case FLBASEADD + 2: return static_cast<uint16_t>(state_.base >> 16);
        case SOFMOD: return state_.sof_modify;
        default: break;
    }
    const uint64_t port = (offset - PORTSC1) / 2;
    return offset >= PORTSC1 && port < port_count ? port_status(static_cast<unsigned>(port)) : 0;
}

void Uhci::write_register(uint64_t offset, uint16_t value, uint16_t mask) {
    const auto merged = [&](uint16_t old, uint16_t writable) {
        const auto bits = static_cast<uint16_t>(mask & writable);
        return static_cast<uint16_t>((old & ~bits) | (value & bits));
    };
    switch (offset) {
        case USBCMD: return command(merged(state_.command, command_bits | HCRESET | GRESET));
        case USBSTS:
            state_.status = static_cast<uint16_t>(state_.status & ~(value & status_bits));
            if (!(state_.status & USBINT)) state_.completed = state_.short_packet = false;
            return;
        case USBINTR: state_.interrupts = merged(state_.interrupts, interrupt_bits); return;
        case FRNUM:
            if (state_.status & HCHALTED) state_.frame = merged(state_.frame, frame_bits);
            return;
        case FLBASEADD:
            state_.base = (state_.base & 0xFFFF0000) | merged(static_cast<uint16_t>(state_.base), 0xF000);
            return;
        case FLBASEADD + 2:
            state_.base = (state_.base & 0xFFFF) | uint32_t{merged(static_cast<uint16_t>(state_.base >> 16), 0xFFFF)}
                                                       << 16;
            return;
        case SOFMOD: state_.sof_modify = static_cast<uint8_t>(merged(state_.sof_modify, sof_bits)); return;
        default: break;
    }
    const uint64_t port = (offset - PORTSC1) / 2;
    if (offset >= PORTSC1 && port < port_count) write_port(static_cast<unsigned>(port), value, mask);
}

void Uhci::command(uint16_t value) {
    if (value & HCRESET) return reset_controller();
    const bool resets = value & GRESET;
    if (resets != static_cast<bool>(state_.command & GRESET)) {
        // The bus is in reset until the guest takes the bit back; then the devices are found.
        reset_registers();
        for (unsigned i = 0; i < port_count; ++i) {
            if (resets && ports_[i]->device) ports_[i]->device->bus_reset();
        }
    }
    state_.command = static_cast<uint16_t>(value & (command_bits | GRESET));
    if (resets) state_.command = GRESET;
    if (!(state_.command & RS)) return halt();
    if (!(state_.status & HCHALTED)) return;
    state_.status = static_cast<uint16_t>(state_.status & ~HCHALTED);
    state_.frame_end = clock_.now() + frame_length();
}

void Uhci::halt() {
    state_.command = static_cast<uint16_t>(state_.command & ~RS);
    state_.status |= HCHALTED;
    state_.frame_end.reset();
}

// ---- Ports ---------------------------------------------------------------------------------------------------------

uint16_t Uhci::port_status(unsigned port) const {
    uint16_t status = state_.ports[port].status | ALWAYS_ONE;
    const UsbHid* device = ports_[port]->device.get();
    if (!device || (state_.command & GRESET)) return status;
    const bool low = device->speed() == UsbSpeed::low;
    status |= CCS | (low ? LSDA : 0);
    if (!(status & PORT_RESET)) status |= low ? LINE_DMINUS : LINE_DPLUS;  // the idle state of the line
    return status;
}

void Uhci::write_port(unsigned port, uint16_t value, uint16_t mask) {
    uint16_t& status = state_.ports[port].status;
    const uint16_t before = status;
    UsbHid* device = ports_[port]->device.get();
    status = static_cast<uint16_t>(status & ~(value & mask & (CSC | PEDC)));
    const auto writable = static_cast<uint16_t>((PED | PORT_RESUME | PORT_RESET | SUSPEND) & mask);
    status = static_cast<uint16_t>((status & ~writable) | (value & writable));
    // A reset disables the port, and it can be enabled only with a device on it.
    if ((status & PORT_RESET) || !device) status = static_cast<uint16_t>(status & ~(PED | SUSPEND | PORT_RESUME));
    if (!(status & PED)) status = static_cast<uint16_t>(status & ~(SUSPEND | PORT_RESUME));
    if (device && (status & PORT_RESET) && !(before & PORT_RESET)) device->bus_reset();
    // The end of a resume is the end of the suspension.
    if ((before & PORT_RESUME) && !(status & PORT_RESUME)) status = static_cast<uint16_t>(status & ~SUSPEND);
}

/// Whether tokens get through to the port's device.
bool Uhci::reaches(unsigned port) const {
    const uint16_t status = state_.ports[port].status;
    return ports_[port]->device && (status & PED) && !(status & SUSPEND) && !(state_.command & GRESET);
}

bool Uhci::Port::connected() const {
    return (owner_.state_.ports[index_].status & PED) && (owner_.state_.command & (RS | EGSM));
}

void Uhci::Port::news(bool remote_wakeup) {
    owner_.news(index_, remote_wakeup);
}

void Uhci::news(unsigned port, bool remote_wakeup) {
    state_.idle_frames = 0;
    uint16_t& status = state_.ports[port].status;
    if (remote_wakeup && (status & PED)) {
        if (status & SUSPEND) status |= PORT_RESUME;
        if (state_.command & EGSM) {
            state_.command |= FGR;
            state_.status |= RESUME_DETECT;
        }
    }
    arm();
    update_irq();
}

/// Tells devices that the guest has taken them up or given them up.
void Uhci::note_use() {
    for (const auto& port : ports_) {
        if (port->device) port->device->note_use();
    }
}

// ---- Time ----------------------------------------------------------------------------------------------------------

/// Works off the frames that have ended.
void Uhci::catch_up() {
    const VirtualTime now = clock_.now();
    for (unsigned i = 0; i < most_frames_at_once && state_.frame_end && *state_.frame_end <= now; ++i) run_frame();
    if (state_.frame_end && *state_.frame_end <= now) {
        const int64_t missed = (now - *state_.frame_end) / frame_length() + 1;
        state_.frame = static_cast<uint16_t>((state_.frame + missed) & frame_bits);
        state_.frame_end = *state_.frame_end + frame_length() * missed;
    }
    arm();
    update_irq();
    note_use();
}

void Uhci::arm() {
    if (!state_.frame_end) return timer_.cancel();
    const unsigned frames = state_.idle_frames < idle_limit ? 1 : idle_batch;
    timer_.arm(*state_.frame_end + frame_length() * (frames - 1));
}

void Uhci::update_irq() {
    const uint16_t enabled = state_.interrupts;
    const bool transfer = (state_.completed && (enabled & IOCE)) || (state_.short_packet && (enabled & SPIE));
    const bool level = ((state_.status & USBINT) && transfer) || ((state_.status & ERROR_INT) && (enabled & TOCRCE)) ||
                       ((state_.status & RESUME_DETECT) && (enabled & RIE)) || (state_.status & (HSE | HCPE));
    const uint8_t high = static_cast<uint8_t>(pci_.config_read(LEGSUP + 1, 1) & ~(USBIRQS >> 8));
    pci_.poke(LEGSUP + 1, static_cast<uint8_t>(high | (level ? USBIRQS >> 8 : 0)));
    pci_.set_interrupt(level && (high & USBPIRQEN >> 8));
}

// ---- State ---------------------------------------------------------------------------------------------------------

Result<void> Uhci::validate(const UhciState& staged) const {
    bool good = !(staged.command & ~(command_bits | GRESET)) && !(staged.status & ~(status_bits | HCHALTED)) &&
                !(staged.interrupts & ~interrupt_bits) && !(staged.frame & ~frame_bits) && !(staged.base & 0xFFF) &&
                !(staged.sof_modify & ~sof_bits) && staged.idle_frames <= idle_limit;
    const bool runs = staged.command & RS;
    good = good && runs == !(staged.status & HCHALTED) && runs == staged.frame_end.has_value();
    good = good && (!staged.frame_end || staged.frame_end->ns >= 0);
    for (const UhciPortState& port : staged.ports) {
        good = good && !(port.status & ~port_bits);
        TRY(UsbHid::validate(port.device));
    }
    if (!good) return fail("the saved state of the UHCI controller cannot be");
    return pci_.validate(staged.pci);
}

void Uhci::after_load() {
    pci_.after_load();
    arm();
    update_irq();
    for (const auto& port : ports_) {
        if (port->device) port->device->after_load();
    }
}

// ---- The board -----------------------------------------------------------------------------------------------------

namespace {

/// The device of one child node.
Result<void> plug_device(const TreeNode& node, DeviceContext& context, Uhci& controller, unsigned port) {
    const std::string kind = node.string("viv,device-type").value_or("");
    Services& services = context.services;
    UsbHidState& state = controller.device_state(port);
    if (kind == "tablet") {
        auto tablet = std::make_unique<UsbTablet>(state, context.clock);
        TabletPort* other = services.find<TabletPort>();
        services.provide<TabletPort>(other ? controller.keep(std::make_unique<TabletChoice>(*tablet, *other))
                                           : *tablet);
        controller.attach(port, std::move(tablet));
    } else if (kind == "keyboard") {
        auto keyboard = std::make_unique<UsbKeyboard>(state, context.clock);
        KeyboardPort* other = services.find<KeyboardPort>();
        services.provide<KeyboardPort>(other ? controller.keep(std::make_unique<KeyboardChoice>(*keyboard, *other))
                                             : *keyboard);
        controller.attach(port, std::move(keyboard));
    } else if (kind == "mouse") {
        auto mouse = std::make_unique<UsbMouse>(state, context.clock);
        MousePort* other = services.find<MousePort>();
        services.provide<MousePort>(other ? controller.keep(std::make_unique<MouseChoice>(*mouse, *other)) : *mouse);
        controller.attach(port, std::move(mouse));
    } else {
        return context.refuse(fmt::format("{}: `viv,device-type` is not tablet, keyboard or mouse", node.name));
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<Device>> make_uhci(DeviceContext& context) {
    auto controller = std::make_unique<Uhci>(context.clock);
    std::array<bool, port_count> taken{};
    for (const TreeNode& node : context.node.children) {
        const auto reg = node.cells("reg");
        if (reg.size() != 1 || reg[0] < 1 || reg[0] > port_count)
            return context.refuse(fmt::format("{}: `reg` is not <1> or <2>, a port of the controller", node.name));
        if (!node.has("viv,device-type")) continue;
        if (std::exchange(taken[reg[0] - 1], true))
            return context.refuse(fmt::format("{}: port {} has a device already", node.name, reg[0]));
        TRY(plug_device(node, context, *controller, reg[0] - 1));
    }
    TRY(controller->pci().attach(context));
    return controller;
}

}  // namespace viv
