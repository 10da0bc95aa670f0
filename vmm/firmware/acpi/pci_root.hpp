#pragma once

#include "vmm/firmware/acpi/aml.hpp"
#include "vmm/firmware/chipset.hpp"

namespace viv::firmware {

/// The part of the SSDT for \_SB.PCI0: _CRS with the windows that the host bridge passes on, and _PRT with the wiring
/// of all slots (ACPI Specification 6.4, 6.2.13; PCI Firmware Specification 3.0, 4.5).
aml::Code pci_root(const PciSetup& pci);

}  // namespace viv::firmware
