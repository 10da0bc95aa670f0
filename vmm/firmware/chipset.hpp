#pragma once

#include <array>
#include <cstdint>

#include "devices/pci/pci_bus.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/firmware/pci_resources.hpp"

namespace viv::firmware {

/// Where the PIIX4's power management block and SMBus are put, as most BIOSes do.
inline constexpr uint16_t pm_ports = 0x600;
inline constexpr uint16_t smbus_ports = 0x700;
/// Where QEMU's board has the SMBus from power-on.
inline constexpr uint16_t others_smbus_ports = 0xB100;
/// The ISA interrupts of PIRQA# to PIRQD#.
inline constexpr std::array<uint8_t, 4> pirq_irqs{10, 10, 11, 11};

/// What the tables tell of PCI.
struct PciSetup {
    PciPlan plan;
    PciApertures apertures;
};

/// The addresses that are left for PCI beside RAM: what begins at `high_ram_end` (4 GiB without RAM above) is free.
PciApertures pci_apertures(uint64_t high_ram_end);

/// Copies the ROMs into the RAM behind them and shows that, write-protected, as a BIOS does; the memory for tables
/// (tables_at) becomes RAM. The PCI BIOS learns how many buses there are. The host bridge is an i440FX at 0:0.0 that
/// has been reset.
void shadow_roms(GuestMemory& memory, PciBus& bus, const PciPlan& plan);

/// Routes PCI interrupts, opens the power management's ports, and sets up everything on the bus.
PciSetup set_up_chipset(PciBus& bus, Bus& ports, const PciApertures& apertures);

/// Gives the SMBus its ports as they are on QEMU's board after power-on: OVMF relies on that and sets up none.
void open_smbus_for_other_firmware(PciBus& bus);

}  // namespace viv::firmware
