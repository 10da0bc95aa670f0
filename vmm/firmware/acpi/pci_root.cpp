#include "vmm/firmware/acpi/pci_root.hpp"

#include <string>

#include "devices/pci/pci_bus.hpp"

namespace viv::firmware {
namespace {

aml::Code windows(const PciSetup& pci) {
    const PciApertures& a = pci.apertures;
    // All ports but those of configuration mechanism 1, which are the bridge's own; the VGA's memory.
    aml::Code code = aml::bus_numbers(0, 0xFF) + aml::io_ports(0xCF8, 8) + aml::port_window(0, 0xCF7) +
                     aml::port_window(0xD00, 0xFFFF) + aml::memory_window(0xA0000, 0xBFFFF) +
                     aml::memory_window(static_cast<uint32_t>(a.memory.base), static_cast<uint32_t>(a.memory.end - 1));
    if (pci.plan.uses_high) code += aml::high_memory_window(a.high_memory.base, a.high_memory.end - 1);
    return code;
}

aml::Code routing() {
    std::vector<aml::Code> entries;
    for (uint8_t device = 1; device < 32; ++device) {
        for (uint8_t pin = 1; pin <= 4; ++pin) {
            const unsigned pirq = PciBus::pirq_of({0, device, 0}, pin);
            const std::string link = std::string("LNK") + static_cast<char>('A' + pirq);
            entries.push_back(aml::package({aml::integer(uint32_t{device} << 16 | 0xFFFF), aml::integer(pin - 1u),
                                            aml::path("_SB." + link), aml::integer(0)}));
        }
    }
    return aml::name("_PRT", aml::package(entries));
}

}  // namespace

aml::Code pci_root(const PciSetup& pci) {
    return aml::scope("_SB.PCI0", aml::name_resources("_CRS", windows(pci)) + routing());
}

}  // namespace viv::firmware
