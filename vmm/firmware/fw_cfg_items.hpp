#pragma once

#include <cstdint>

#include "vmm/core/services.hpp"

namespace viv::firmware {

/// Puts into fw_cfg what firmware and guest drivers expect of a PC there: memory and CPU counts, the E820 table (QEMU
/// docs/specs/fw_cfg.rst). Nothing happens on a board without fw_cfg.
void fill_fw_cfg(const Services& services, uint64_t memory_size, uint32_t cpus);

}  // namespace viv::firmware
