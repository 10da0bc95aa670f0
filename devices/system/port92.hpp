#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node viv,port92: reg = the port.
Result<std::unique_ptr<Device>> make_port92(DeviceContext& context);

}  // namespace viv
