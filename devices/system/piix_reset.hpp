#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node intel,piix-reset: reg = the port (CF9h).
Result<std::unique_ptr<Device>> make_piix_reset(DeviceContext& context);

}  // namespace viv
