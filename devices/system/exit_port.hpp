#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Node viv,exit-port: reg = the port. A byte written ends the run with that exit code.
Result<std::unique_ptr<Device>> make_exit_port(DeviceContext& context);

}  // namespace viv
