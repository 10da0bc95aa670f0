#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "devices/storage/ata_device.hpp"
#include "devices/storage/drive_registry.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// Where a drive hangs.
struct AtaPlace {
    AtaWire wire = AtaWire::parallel;
    uint16_t io_base = 0;
    uint8_t unit = 0;
    std::string serial;  // what it calls itself, unless its node says otherwise
};

/// The drive that the child `drive@<unit>` of the controller's node describes, by viv,image, viv,drive-type ("disk" or
/// "cdrom"), viv,serial, viv,read-only, viv,snapshot; nullptr for a place without a drive. It is put into `registered`.
Result<std::unique_ptr<AtaDevice>> make_ata_drive(const DeviceContext& context, AtaPlace place, AtaDeviceState& state,
                                                  DriveRegistry& registered);

}  // namespace viv
