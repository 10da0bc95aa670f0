#pragma once

#include <memory>

#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// Makes `intel,piix-ide`: one channel with up to two drives, the children `drive@0` (master) and `drive@1` (slave)
/// that have viv,image. Needs DriveRegistry.
Result<std::unique_ptr<Device>> make_piix_ide(DeviceContext& context);

}  // namespace viv
