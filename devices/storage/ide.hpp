// Models: one channel of a PIIX IDE controller in legacy mode with up to two drives
// Not modelled: mode timing; the bus master is the PCI function's (piix3_ide)
// Ignored bits: device control 6:3 and 0
// Reference: ANSI INCITS 361-2002 (ATA/ATAPI-6), sections 5, 7 and 9; Intel 82371SB (PIIX3) data sheet (290550), 2.5
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "devices/storage/ata_device.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"

namespace viv {

struct IdeChannelState {
    uint8_t control = 0;   // device control: HOB, SRST, nIEN
    uint8_t selected = 0;  // DEV of the last device register write
    std::array<AtaDeviceState, 2> devices;
    static void fields(auto& self, auto&& visit) {
        visit("control", self.control);
        visit("selected", self.selected);
        visit("devices", self.devices);
    }
    bool operator==(const IdeChannelState&) const = default;
};

/// The bus master's ears on the cable of a channel.
class IdeBusMaster {
  public:
    virtual ~IdeBusMaster() = default;
    /// The drive asks for a transfer (DMARQ). It is called in the access that starts the command.
    virtual void dma_requested() = 0;
    /// INTRQ rises.
    virtual void interrupt_rose() = 0;
};

/// A channel and its cable. Without a drive its registers float: 7Fh, for D7 is pulled down, so that no driver waits
/// for BSY.
class IdeChannel final : public StatefulDevice<IdeChannelState> {
  public:
    explicit IdeChannel(IrqLine irq) : irq_(std::move(irq)) {}

    /// Where a drive's changeable part lives, for the drive's maker.
    AtaDeviceState& device_state(unsigned unit) { return state_.devices.at(unit); }
    /// Puts a drive on the cable: 0 is device 0 (master), 1 is device 1 (slave).
    void attach(unsigned unit, std::unique_ptr<AtaDevice> device) { devices_.at(unit) = std::move(device); }

    /// Offsets 0-7 are 1F0h-1F7h or 170h-177h.
    BusDevice& command_block() { return command_window_; }
    /// Offset 0 is 3F6h or 376h.
    BusDevice& control_block() { return control_window_; }

    /// The bus master outlives neither the channel nor its use: it disconnects with nullptr.
    void connect(IdeBusMaster* master) { master_ = master; }
    /// What the selected drive asks for, and the transfer: as AtaDevice has them.
    [[nodiscard]] AtaDevice::DmaRequest dma_request() const;
    size_t read_dma(std::span<std::byte> out);
    size_t write_dma(std::span<const std::byte> in);

    void reset(ResetKind kind) override;

  protected:
    Result<void> validate(const IdeChannelState& staged) const override;
    void after_load() override { irq_.set(irq_level()); }

  private:
    class CommandWindow final : public BusDevice {
      public:
        explicit CommandWindow(IdeChannel& channel) : channel_(channel) {}
        uint64_t read(Access access) override;
        void write(Access access, uint64_t value) override;
        void read_block(Access access, std::span<std::byte> data) override;
        void write_block(Access access, std::span<const std::byte> data) override;

      private:
        IdeChannel& channel_;
    };
    class ControlWindow final : public ByteDevice {
      public:
        explicit ControlWindow(IdeChannel& channel) : channel_(channel) {}
        uint8_t read8(uint64_t offset) override;
        void write8(uint64_t offset, uint8_t value) override;

      private:
        IdeChannel& channel_;
    };

    uint8_t read_register(uint8_t offset);
    void write_register(uint8_t offset, uint8_t value);
    void write_command(uint8_t command);
    void write_control(uint8_t value);
    [[nodiscard]] uint8_t alternate_status() const;
    void read_data(std::span<std::byte> out);
    void write_data(std::span<const std::byte> in);
    [[nodiscard]] bool irq_level() const;
    void update_irq();
    void tell_dma();

    /// The drive that is selected, or nullptr.
    [[nodiscard]] AtaDevice* selected() const { return devices_[state_.selected].get(); }
    /// Device 0 alone on the cable answers for device 1 (ATA/ATAPI-6, 9.16.1).
    [[nodiscard]] bool answers_for_absent() const { return !selected() && state_.selected == 1 && devices_[0]; }

    IrqLine irq_;
    IdeBusMaster* master_ = nullptr;
    CommandWindow command_window_{*this};
    ControlWindow control_window_{*this};
    std::array<std::unique_ptr<AtaDevice>, 2> devices_;
};

/// Makes `intel,piix-ide`: one channel with up to two drives, the children `drive@0` (master) and `drive@1` (slave)
/// that have viv,image, or viv,drive-type = "cdrom". Needs DriveRegistry. Provides IdeChannel, named "primary" at 1F0h
/// and "secondary" at 170h.
Result<std::unique_ptr<Device>> make_piix_ide(DeviceContext& context);

}  // namespace viv
