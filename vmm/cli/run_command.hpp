#pragma once

#include "vmm/cli/options.hpp"
#include "vmm/core/result.hpp"

namespace viv::cli {

/// Exit codes beyond 0, 1 and 2 (see viv --help).
inline constexpr int exit_guest_died = 3;
inline constexpr int exit_time_out = 124;

/// `viv run`: makes the machine, shows it, works through the script. The value is the exit code.
Result<int> run_command(const RunOptions& options);

}  // namespace viv::cli
