#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "devices/pci/pci_registers.hpp"

/// What a BIOS does for PCI before it boots: finds the functions, numbers the buses behind bridges, gives every BAR and
/// bridge window an address, writes the interrupt line registers (PCI Local Bus Specification 3.0, 6.2.5; PCI-to-PCI
/// Bridge Architecture 1.2, chapter 12).
namespace viv::firmware {

/// Configuration space as it is reached: bridges pass on what is for the buses behind them.
class PciConfig {
  public:
    virtual ~PciConfig() = default;
    virtual uint32_t read(PciAddress at, unsigned offset, unsigned size) = 0;
    virtual void write(PciAddress at, unsigned offset, unsigned size, uint32_t value) = 0;
};

/// Addresses [base, end) that may be given away.
struct PciAperture {
    uint64_t base = 0;
    uint64_t end = 0;
};
struct PciApertures {
    PciAperture ports;
    PciAperture memory;       // below 4 GiB
    PciAperture high_memory;  // above; for what 64-bit BARs do not find below
};

struct PciPlan {
    struct Function {
        PciAddress at;
        uint8_t interrupt_pin = 0;  // 0 to 4
        uint8_t pirq = 0;           // which of the four its pin reaches, when it has one
    };
    std::vector<Function> functions;  // in the order of their addresses
    uint8_t last_bus = 0;
    unsigned unplaced = 0;   // BARs that found no place; their functions do not decode that space
    bool uses_high = false;  // something lies above 4 GiB
};

/// `irqs` are the ISA interrupts that PIRQA# to PIRQD# are routed to. Every function decodes its BARs afterwards;
/// option ROMs have addresses, but are closed.
PciPlan set_up_pci(PciConfig& config, const PciApertures& apertures, const std::array<uint8_t, 4>& irqs);

}  // namespace viv::firmware
