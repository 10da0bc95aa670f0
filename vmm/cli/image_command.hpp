#pragma once

#include <string>
#include <vector>

#include "vmm/core/result.hpp"

namespace viv::cli {

/// `viv image COMMAND ...`: `words` are those behind "image". The value is the exit code; wrong use is an error of kind
/// usage.
Result<int> image_command(const std::vector<std::string>& words);

}  // namespace viv::cli
