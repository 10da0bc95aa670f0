#pragma once

#include <memory>

#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// Makes `intel,82077aa`: the floppy controller with its drives, the children `drive@0` and `drive@1`. Drive 0 is
/// always there, drive 1 when its node has viv,image or viv,drive-type. Needs DmaController and DriveRegistry.
Result<std::unique_ptr<Device>> make_i82077aa(DeviceContext& context);

}  // namespace viv
