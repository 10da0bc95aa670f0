#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node viv,exit-port: reg = the port. A byte n written ends the run with that exit code; with viv,odd-codes
/// the code is 2n+1 (QEMU's isa-debug-exit), so never 0.
Result<std::unique_ptr<Device>> make_exit_port(DeviceContext& context);

}  // namespace viv
