#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node motorola,mc146818: reg = ports 70h-73h; interrupts = IRQ 8. Provides Nvram.
Result<std::unique_ptr<Device>> make_mc146818(DeviceContext& context);

}  // namespace viv
