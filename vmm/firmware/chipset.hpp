#pragma once

#include "devices/pci/pci_bus.hpp"
#include "vmm/core/guest_memory.hpp"

namespace viv::firmware {

/// Copies the ROMs into the RAM behind them and shows that, write-protected, as a BIOS does; the memory for tables
/// (tables_at) becomes RAM. The host bridge is an i440FX at 0:0.0 that has been reset.
void shadow_roms(GuestMemory& memory, PciBus& bus);

}  // namespace viv::firmware
