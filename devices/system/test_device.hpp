#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node viv,test-device: reg = a port that keeps what is written (8), a port that drops it (4), the ports that set
/// interrupt wires (24), and memory that is not RAM (64 KiB). For test guests only.
Result<std::unique_ptr<Device>> make_test_device(DeviceContext& context);

}  // namespace viv
