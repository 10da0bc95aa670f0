#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node intel,i8254: reg = counters, port 61h; interrupts = IRQ 0. Provides Speaker.
Result<std::unique_ptr<Device>> make_i8254(DeviceContext& context);

}  // namespace viv
