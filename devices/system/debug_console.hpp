#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node viv,debug-console: reg = the port; viv,chardev = where the bytes go (default "null").
Result<std::unique_ptr<Device>> make_debug_console(DeviceContext& context);

}  // namespace viv
