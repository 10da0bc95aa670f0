// Models: the firmware device, version 2: INT 13h's disk services on every drive, boot order, small boot reports
// Not modelled: time (a request is done when the doorbell write ends); the controllers, which it leaves alone
// Ignored bits: request flags 7:1; doorbell writes that are not 32 bits wide; writes to read-only ports
// Reference: bios/layout.hpp and docs/devices/storage.md, "The firmware device"
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bios/layout.hpp"
#include "devices/storage/drive_registry.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/system_control.hpp"

namespace viv {

/// An option ROM's image for a PC's BIOS: whole sectors of 512 bytes, as many as its header says.
struct OptionRom {
    std::vector<std::byte> image;
    uint16_t pci_address = rom::no_pci_address;  // bus, device, function; or none
};

/// The machine's side of the firmware device. The device provides it as a service.
class FirmwarePort {
  public:
    virtual ~FirmwarePort() = default;

    /// The drives that the BIOS tries, in this order: kinds ("floppy" is drive A, "disk" and "cdrom" are each all
    /// drives of the kind), names of DriveRegistry ("floppy1", "disk0"), and "network", the option ROMs that boot. What
    /// the machine does not have is left out; of a drive that is named twice the first counts.
    virtual void set_boot_order(std::vector<std::string> order) = 0;
    /// The order as it was set; power-on is {"floppy", "disk", "cdrom", "network"}.
    [[nodiscard]] virtual const std::vector<std::string>& boot_order() const = 0;

    /// What the BIOS puts into memory and initialises, in this order.
    virtual void set_option_roms(std::vector<OptionRom> roms) = 0;

    enum class BootMenu { on_f12, always };
    /// Whether the BIOS shows its boot menu, and how long it waits for F12 before it boots (0: it does not wait, but an
    /// F12 that is in the keyboard buffer by then counts).
    virtual void set_boot_menu(BootMenu menu, uint32_t wait_ms) = 0;

    /// The last thing the boot code reported since reset.
    [[nodiscard]] virtual std::optional<rom::BootProgress> boot_progress() const = 0;
    /// `listener` is called inside the guest's OUT, under the machine lock.
    virtual void on_boot_progress(std::move_only_function<void(rom::BootProgress)> listener) = 0;
    /// What INT 09h did with each key: stored it in the BIOS keyboard buffer, or dropped it because that was full.
    virtual void on_key(std::move_only_function<void(rom::KeyReport)> listener) = 0;
};

/// INT 13h status codes (IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 13H").
enum class Int13Status : uint8_t {
    done = 0x00,
    invalid = 0x01,
    write_protected = 0x03,
    sector_not_found = 0x04,
    read_error = 0x10,
    no_medium = 0x31,
    timeout = 0x80,
    locked = 0xB1,
    not_removable = 0xB2,
    write_fault = 0xCC,
};

struct FirmwareDiskState {
    uint8_t progress = 0;  // rom::BootProgress; 0 = nothing yet
    uint64_t requests = 0;
    uint64_t failures = 0;  // requests that ended with a status other than 0, and doorbells nobody could answer
    static void fields(auto& self, auto&& visit) {
        visit("progress", self.progress);
        visit("requests", self.requests);
        visit("failures", self.failures);
    }
    bool operator==(const FirmwareDiskState&) const = default;
};

/// The device `viv,firmware`. Everything a request names comes from the guest: see docs/devices/storage.md.
class FirmwareDisk final : public StatefulDevice<FirmwareDiskState>, public BusDevice, public FirmwarePort {
  public:
    FirmwareDisk(GuestMemory& memory, const Bus& memory_bus, const SystemControl& system, const DriveRegistry& drives)
        : memory_(memory), memory_bus_(memory_bus), system_(system), drives_(drives), chunk_(chunk_bytes) {}

    void reset(ResetKind /*kind*/) override { state_ = {}; }

    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

    void set_boot_order(std::vector<std::string> order) override { boot_order_ = std::move(order); }
    [[nodiscard]] const std::vector<std::string>& boot_order() const override { return boot_order_; }
    void set_option_roms(std::vector<OptionRom> roms) override { option_roms_ = std::move(roms); }
    void set_boot_menu(BootMenu menu, uint32_t wait_ms) override {
        menu_ = menu;
        menu_wait_ms_ = wait_ms;
    }
    [[nodiscard]] std::optional<rom::BootProgress> boot_progress() const override {
        if (state_.progress == 0) return std::nullopt;
        return static_cast<rom::BootProgress>(state_.progress);
    }
    void on_boot_progress(std::move_only_function<void(rom::BootProgress)> listener) override {
        progress_listener_ = std::move(listener);
    }
    void on_key(std::move_only_function<void(rom::KeyReport)> listener) override {
        key_listener_ = std::move(listener);
    }

  protected:
    Result<void> validate(const FirmwareDiskState& staged) const override {
        if (staged.progress > std::to_underlying(rom::BootProgress::nothing_bootable)) {
            return fail("the boot progress is not one that a BIOS reports");
        }
        return {};
    }
    void after_load() override {}

  private:
    void ring(uint64_t address);
    Int13Status execute(rom::FirmwareRequest& request);
    Int13Status describe(rom::FirmwareRequest& request) const;
    Int13Status transfer(rom::FirmwareRequest& request, Drive& drive, rom::FirmwareCommand command);
    static Int13Status eject(Drive& drive);
    DiskStatus move_chunk(DiskImage& image, rom::FirmwareCommand command, uint64_t offset, uint64_t buffer,
                          size_t bytes);
    Int13Status boot_device(rom::FirmwareRequest& request) const;
    Int13Status option_rom(rom::FirmwareRequest& request);
    void report_key(uint8_t value);
    void report_progress(uint8_t value);

    template <class Step>
    void for_each_stretch(uint64_t address, size_t size, Step step) const;
    void copy_out(uint64_t address, std::span<std::byte> out) const;
    void copy_in(uint64_t address, std::span<const std::byte> in);
    template <class Step>
    void for_each_device_byte(uint64_t address, size_t size, Step step) const;

    static constexpr uint32_t chunk_bytes = 64 << 10;

    GuestMemory& memory_;
    const Bus& memory_bus_;
    const SystemControl& system_;
    const DriveRegistry& drives_;
    std::vector<std::byte> chunk_;

    // The machine's wishes, not the guest's state.
    std::vector<std::string> boot_order_{"floppy", "disk", "cdrom", "network"};
    std::vector<OptionRom> option_roms_;
    BootMenu menu_ = BootMenu::on_f12;
    uint32_t menu_wait_ms_ = 0;
    std::move_only_function<void(rom::BootProgress)> progress_listener_;
    std::move_only_function<void(rom::KeyReport)> key_listener_;
};

/// Makes `viv,firmware`: the disk services and small reports behind the ROM in bios/. Needs the DriveRegistry, provides
/// FirmwarePort.
Result<std::unique_ptr<Device>> make_firmware_disk(DeviceContext& context);

}  // namespace viv
