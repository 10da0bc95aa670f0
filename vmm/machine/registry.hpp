#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/device_context.hpp"

namespace viv {

/// The maker of the devices that a board node calls `compatible`, or nullptr.
DeviceMaker find_device_maker(std::string_view compatible);

/// All names that find_device_maker knows, for error messages.
std::vector<std::string_view> known_devices();

}  // namespace viv
