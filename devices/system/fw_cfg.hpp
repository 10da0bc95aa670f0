#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Well-known items of QEMU's fw_cfg (QEMU docs/specs/fw_cfg.rst; keys of the PC from 8000h). Numbers are
/// little-endian.
enum class FwCfgKey : uint16_t {
    signature = 0x00,       // "QEMU"; provided by the device
    id = 0x01,              // feature bits; provided by the device
    uuid = 0x02,            // 16 bytes
    ram_size = 0x03,        // u64, bytes
    nographic = 0x04,       // u16
    cpu_count = 0x05,       // u16, CPUs present at power-on
    boot_menu = 0x0E,       // u16, 1 = show it
    max_cpu_count = 0x0F,   // u16, highest APIC ID + 1
    file_directory = 0x19,  // provided by the device
    file_first = 0x20,      // files follow, in the order of their names
    irq0_override = 0x8002  // u32, 1 = IRQ 0 is on IOAPIC pin 2
};

/// What the firmware configuration device tells the guest. Filled by vmm/firmware before the first guest instruction.
/// Service, provided by the qemu,fw-cfg-ioport node.
class FwCfg {
  public:
    virtual ~FwCfg() = default;
    /// Adds a file to the directory, or replaces the one of this name (at most 55 characters).
    virtual void add_file(std::string name, std::vector<std::byte> content) = 0;
    /// As add_file(), for content that depends on what the guest has set up: it is made anew each time that the guest
    /// selects the file, in the same size.
    virtual void add_live_file(std::string name, std::move_only_function<std::vector<std::byte>()> make) = 0;
    /// Sets the item of a key that is not the device's own.
    virtual void add_item(FwCfgKey key, std::vector<std::byte> content) = 0;
    /// The content of a file as the guest sees it; nullptr when there is none.
    [[nodiscard]] virtual const std::vector<std::byte>* file(std::string_view name) const = 0;
};

/// Node qemu,fw-cfg-ioport: reg = ports 510h-51Bh. Provides FwCfg.
Result<std::unique_ptr<Device>> make_fw_cfg(DeviceContext& context);

}  // namespace viv
