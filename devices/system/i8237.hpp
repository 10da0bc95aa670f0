#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node intel,i8237: reg = channels 0-3, page registers, channels 4-7. Provides DmaController.
Result<std::unique_ptr<Device>> make_i8237(DeviceContext& context);

}  // namespace viv
