#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node intel,i8259: reg = master, slave, ELCR. Needs the service IsaIrqs; provides InterruptController.
Result<std::unique_ptr<Device>> make_i8259(DeviceContext& context);

}  // namespace viv
