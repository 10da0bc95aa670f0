#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node viv,acpi-pm: reg = 12 ports, interrupts = the SCI's IRQ.
Result<std::unique_ptr<Device>> make_acpi_pm(DeviceContext& context);

}  // namespace viv
