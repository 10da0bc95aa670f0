#include "devices/storage/ide.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "devices/storage/ata_drives.hpp"

namespace viv {
namespace {

constexpr uint8_t control_interrupt_off = 0x02;  // nIEN
constexpr uint8_t control_reset = 0x04;          // SRST
constexpr uint8_t control_high_order = 0x80;     // HOB
constexpr uint8_t floating = 0x7F;

}  // namespace

void IdeChannel::reset(ResetKind kind) {
    const IdeChannelState before = std::exchange(state_, {});
    for (size_t unit = 0; unit < devices_.size(); ++unit) {
        if (!devices_[unit]) continue;
        if (kind == ResetKind::power_on) {
            devices_[unit]->diagnose();
        } else {
            devices_[unit]->hardware_reset(before.devices[unit]);
        }
    }
    update_irq();
}

uint8_t IdeChannel::read_register(uint8_t offset) {
    const auto at = static_cast<AtaRegister>(offset);
    const bool high_order = (state_.control & control_high_order) != 0;
    if (AtaDevice* device = selected()) {
        const uint8_t value = device->read_register(at, high_order);
        update_irq();
        return value;
    }
    if (!answers_for_absent()) return floating;
    if (at == AtaRegister::status) return 0;
    return devices_[0]->read_for_absent(at, high_order);
}

uint8_t IdeChannel::alternate_status() const {
    if (const AtaDevice* device = selected()) return device->alternate_status();
    return answers_for_absent() ? 0 : floating;
}

void IdeChannel::write_register(uint8_t offset, uint8_t value) {
    const auto at = static_cast<AtaRegister>(offset);
    if (at == AtaRegister::command) return write_command(value);
    state_.control = static_cast<uint8_t>(state_.control & ~control_high_order);
    if (at == AtaRegister::device) state_.selected = (value & ata::device_select) != 0 ? 1 : 0;
    for (const auto& device : devices_) {
        if (device) device->write_register(at, value);
    }
    update_irq();
}

void IdeChannel::write_command(uint8_t command) {
    constexpr uint8_t execute_diagnostic = 0x90;
    if ((state_.control & control_reset) != 0) return;
    if (command == execute_diagnostic) {
        // Both drives do it, device 0 answers (ATA/ATAPI-6, 8.11).
        for (const auto& device : devices_) {
            if (device) device->write_command(command);
        }
        for (const auto& device : devices_) {
            if (device) device->diagnose();
        }
        state_.selected = 0;
        if (devices_[0]) state_.devices[0].interrupt = true;
    } else if (AtaDevice* device = selected()) {
        device->write_command(command);
    }
    update_irq();
    tell_dma();
}

void IdeChannel::tell_dma() {
    if (master_ && dma_request() != AtaDevice::DmaRequest::none) master_->dma_requested();
}

void IdeChannel::write_control(uint8_t value) {
    const uint8_t before = std::exchange(state_.control, value);
    const bool held = (value & control_reset) != 0;
    for (const auto& device : devices_) {
        if (!device) continue;
        if (held) {
            device->hold_in_reset();
        } else if ((before & control_reset) != 0) {
            device->software_reset();
            state_.selected = 0;
        }
    }
    update_irq();
}

void IdeChannel::read_data(std::span<std::byte> out) {
    if (AtaDevice* device = selected()) {
        device->read_data(out);
        update_irq();
    } else {
        std::ranges::fill(out, std::byte{0xFF});
    }
}

void IdeChannel::write_data(std::span<const std::byte> in) {
    AtaDevice* device = selected();
    if (!device) return;
    device->write_data(in);
    update_irq();
    tell_dma();
}

/// Only the selected drive drives INTRQ.
bool IdeChannel::irq_level() const {
    const AtaDevice* device = selected();
    return device && device->interrupt() && (state_.control & control_interrupt_off) == 0;
}

void IdeChannel::update_irq() {
    const bool level = irq_level();
    const bool rises = level && !irq_.level();
    irq_.set(level);
    if (rises && master_) master_->interrupt_rose();
}

AtaDevice::DmaRequest IdeChannel::dma_request() const {
    const AtaDevice* device = selected();
    return device ? device->dma_request() : AtaDevice::DmaRequest::none;
}

size_t IdeChannel::read_dma(std::span<std::byte> out) {
    AtaDevice* device = selected();
    const size_t done = device ? device->read_dma(out) : 0;
    update_irq();
    return done;
}

size_t IdeChannel::write_dma(std::span<const std::byte> in) {
    AtaDevice* device = selected();
    const size_t done = device ? device->write_dma(in) : 0;
    update_irq();
    return done;
}

Result<void> IdeChannel::validate(const IdeChannelState& staged) const {
    if (staged.selected > 1) return fail("the IDE channel's selected drive cannot be");
    for (const AtaDeviceState& device : staged.devices) TRY(AtaDevice::validate(device));
    return {};
}

uint64_t IdeChannel::CommandWindow::read(Access access) {
    std::array<std::byte, 8> bytes{};
    if (access.offset == 0) {
        read_block({0, access.size}, std::span(bytes).first(access.size));
    } else {
        for (unsigned i = 0; i < access.size; ++i) {
            bytes[i] = static_cast<std::byte>(channel_.read_register(static_cast<uint8_t>(access.offset + i)));
        }
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
    return value;
}

void IdeChannel::CommandWindow::write(Access access, uint64_t value) {
    std::array<std::byte, 8> bytes{};
    for (unsigned i = 0; i < access.size; ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
    if (access.offset == 0) return write_block({0, access.size}, std::span(bytes).first(access.size));
    for (unsigned i = 0; i < access.size; ++i) {
        channel_.write_register(static_cast<uint8_t>(access.offset + i), std::to_integer<uint8_t>(bytes[i]));
    }
}

/// The data port is as wide as the access. A single byte takes a whole word, whose other half is lost, unless the drive
/// is set to 8-bit transfers.
void IdeChannel::CommandWindow::read_block(Access access, std::span<std::byte> data) {
    if (access.offset != 0) return BusDevice::read_block(access, data);
    const AtaDevice* device = channel_.selected();
    if (access.size > 1 || (device && device->byte_wide())) return channel_.read_data(data);
    for (std::byte& byte : data) {
        std::array<std::byte, 2> word{};
        channel_.read_data(word);
        byte = word[0];
    }
}

void IdeChannel::CommandWindow::write_block(Access access, std::span<const std::byte> data) {
    if (access.offset != 0) return BusDevice::write_block(access, data);
    const AtaDevice* device = channel_.selected();
    if (access.size > 1 || (device && device->byte_wide())) return channel_.write_data(data);
    for (const std::byte byte : data) channel_.write_data(std::array{byte, std::byte{0xFF}});
}

uint8_t IdeChannel::ControlWindow::read8(uint64_t offset) {
    return offset == 0 ? channel_.alternate_status() : floating;
}

void IdeChannel::ControlWindow::write8(uint64_t offset, uint8_t value) {
    if (offset == 0) channel_.write_control(value);
}

Result<std::unique_ptr<Device>> make_piix_ide(DeviceContext& context) {
    DriveRegistry& registered = *TRY(context.need<DriveRegistry>("the list of drives"));
    auto channel = std::make_unique<IdeChannel>(TRY(context.irq(0)));
    TRY(context.map(0, channel->command_block()));
    TRY(context.map(1, channel->control_block()));
    const auto base = static_cast<uint16_t>(context.ranges[0].base);
    if (base == 0x1F0) context.services.provide(*channel, "primary");
    if (base == 0x170) context.services.provide(*channel, "secondary");
    for (uint8_t unit = 0; unit < 2; ++unit) {
        const AtaPlace place{
            .wire = AtaWire::parallel, .io_base = base, .unit = unit, .serial = fmt::format("VIV{:03X}{}", base, unit)};
        auto drive = TRY(make_ata_drive(context, place, channel->device_state(unit), registered));
        if (drive) channel->attach(unit, std::move(drive));
    }
    return channel;
}

}  // namespace viv
