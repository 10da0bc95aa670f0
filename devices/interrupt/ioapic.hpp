#pragma once

#include <memory>

#include "devices/interrupt/ioapic_control.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// Node intel,ioapic: reg = the 4 KiB window. Needs the service IsaIrqs; provides IoApicControl.
Result<std::unique_ptr<Device>> make_ioapic(DeviceContext& context);

}  // namespace viv
