#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bios/layout.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// The machine's side of the firmware device. The device provides it as a service.
class FirmwarePort {
  public:
    virtual ~FirmwarePort() = default;

    /// The drives that the BIOS tries, in this order: kinds ("floppy" is drive A, "disk" and "cdrom" are each all
    /// drives of the kind) and names of DriveRegistry ("floppy1", "disk0"). What the machine does not have is left out,
    /// and so are removable drives without a medium. Of a drive that is named twice the first counts.
    virtual void set_boot_order(std::vector<std::string> order) = 0;
    /// The order as it was set; power-on is {"floppy", "disk", "cdrom"}.
    [[nodiscard]] virtual const std::vector<std::string>& boot_order() const = 0;

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

/// Makes `viv,firmware`: the disk services and small reports behind the ROM in bios/. Needs the DriveRegistry, provides
/// FirmwarePort.
Result<std::unique_ptr<Device>> make_firmware_disk(DeviceContext& context);

}  // namespace viv
