#include "devices/storage/ahci.hpp"

#include <fmt/format.h>

#include <utility>

#include "devices/storage/ata_drives.hpp"
#include "devices/storage/drive_registry.hpp"

namespace viv {
namespace {

using namespace ahci;

constexpr PciIdentity identity{
    .vendor = 0x8086, .device = 0x2922, .class_code = 0x010601, .revision = 0x02, .interrupt_pin = 1};
constexpr unsigned abar = 5;
constexpr Duration moment = std::chrono::microseconds(10);

}  // namespace

Ahci::Ahci(Clock& clock) : pci_(identity, state_.pci), clock_(clock), timer_(clock, [this](VirtualTime) { run(); }) {
    for (unsigned i = 0; i < port_count; ++i) ports_[i].place(state_.ports[i]);
    pci_.add_memory_bar(abar, window_size, *this);
    pci_.add_msi(1);
    // Commands that waited for the permission to read them go on.
    pci_.on_config_write([this](unsigned, unsigned) {
        if (!pci_.dma()) settle();
        run();
    });
    reset(ResetKind::power_on);
}

void Ahci::attach(unsigned port, std::unique_ptr<AtaDevice> drive) {
    ports_.at(port).attach(std::move(drive));
    if (DiskQueue* queue = ports_.at(port).queue()) queue->on_told([this] { run(); });
}

/// Returns when no command is under way any more.
void Ahci::settle() {
    for (AhciPort& port : ports_) port.settle();
}

void Ahci::reset(ResetKind kind) {
    settle();
    const AhciState before = std::exchange(state_, {});
    for (unsigned i = 0; i < port_count; ++i) {
        AtaDevice* drive = ports_[i].drive();
        if (!drive) continue;
        if (kind == ResetKind::power_on) {
            drive->diagnose();
        } else {
            drive->hardware_reset(before.ports[i].drive);
        }
    }
    pci_.reset();
    timer_.cancel();
    update_irq();
}

/// GHC.HR.
void Ahci::reset_controller() {
    state_.control = GHC_AE;
    state_.interrupts = 0;
    for (AhciPort& port : ports_) port.reset();
}

uint32_t Ahci::read_register(uint64_t offset) const {
    if (offset >= first_port) {
        const uint64_t port = (offset - first_port) / port_span;
        return port < port_count ? ports_[port].read((offset - first_port) % port_span) : 0;
    }
    switch (offset) {
        case CAP: return capabilities;
        case GHC: return state_.control;
        case IS: return state_.interrupts;
        case PI: return all_ports;
        case VS: return version;
        default: return 0;
    }
}

void Ahci::write_register(uint64_t offset, uint32_t value, uint32_t mask) {
    if (offset >= first_port) {
        const uint64_t port = (offset - first_port) / port_span;
        if (port < port_count) ports_[port].write((offset - first_port) % port_span, value, mask);
        return;
    }
    switch (offset) {
        case GHC:
            if (value & mask & GHC_HR) return reset_controller();
            state_.control = (((state_.control & ~mask) | (value & mask)) & GHC_IE) | GHC_AE;
            return;
        case IS:
            state_.interrupts &= ~(value & mask);
            update_irq();
            // A message for what came between the driver's look and this write (AHCI 1.3.1, 10.6.2).
            if (state_.interrupts != 0 && (state_.control & GHC_IE)) pci_.notify(0);
            return;
        default: return;
    }
}

uint64_t Ahci::read(Access access) {
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) {
        const uint64_t at = access.offset + i;
        value |= (uint64_t{read_register(at & ~uint64_t{3})} >> (8 * (at & 3)) & 0xFF) << (8 * i);
    }
    return value;
}

void Ahci::write(Access access, uint64_t value) {
    // A register at a time, with the bytes of it that are written.
    for (unsigned done = 0; done < access.size;) {
        const uint64_t at = access.offset + done;
        const auto first = static_cast<unsigned>(at & 3);
        const unsigned bytes = std::min(4 - first, access.size - done);
        const auto mask = static_cast<uint32_t>((uint64_t{1} << (8 * bytes)) - 1) << (8 * first);
        write_register(at & ~uint64_t{3}, static_cast<uint32_t>(value >> (8 * done)) << (8 * first), mask);
        done += bytes;
    }
    run();
}

/// Carries out what waits; what would hold the machine for too long goes on a moment later.
void Ahci::run() {
    // What ends while commands are carried out is told of with them.
    if (std::exchange(running_now_, true)) return;
    uint64_t budget = bytes_at_once;
    bool more = false;
    if (GuestMemory* memory = pci_.dma()) {
        for (AhciPort& port : ports_) port.run(*memory, budget);
        for (const AhciPort& port : ports_) more = more || port.has_work();
    }
    if (more) {
        state_.resume = clock_.now() + moment;
        timer_.arm(*state_.resume);
    } else {
        state_.resume.reset();
        timer_.cancel();
    }
    running_now_ = false;
    update_irq();
}

void Ahci::update_irq() {
    for (unsigned i = 0; i < port_count; ++i) {
        if (ports_[i].interrupting()) state_.interrupts |= uint32_t{1} << i;
    }
    pci_.set_interrupt(state_.interrupts != 0 && (state_.control & GHC_IE) != 0);
}

Result<void> Ahci::validate(const AhciState& staged) const {
    if ((staged.control & ~GHC_IE) != GHC_AE || (staged.interrupts & ~all_ports)) {
        return fail("the saved state of the AHCI controller cannot be");
    }
    for (unsigned i = 0; i < port_count; ++i) {
        TRY(AhciPort::validate(staged.ports[i]));
        if (staged.ports[i].speed != 0 && !ports_[i].drive()) {
            return fail(fmt::format("the saved state has a drive on AHCI port {}, where there is none", i));
        }
    }
    return pci_.validate(staged.pci);
}

void Ahci::after_load() {
    pci_.after_load();
    timer_.cancel();
    if (state_.resume) timer_.arm(*state_.resume);
}

Result<std::unique_ptr<Device>> make_ahci(DeviceContext& context) {
    DriveRegistry& registered = *TRY(context.need<DriveRegistry>("the list of drives"));
    auto controller = std::make_unique<Ahci>(context.clock);
    for (uint8_t port = 0; port < port_count; ++port) {
        const AtaPlace place{
            .wire = AtaWire::serial, .io_base = 0, .unit = port, .serial = fmt::format("VIVSATA{}", port)};
        auto drive = TRY(make_ata_drive(context, place, controller->device_state(port), registered));
        if (drive) controller->attach(port, std::move(drive));
    }
    TRY(controller->pci().attach(context));
    return controller;
}

}  // namespace viv
