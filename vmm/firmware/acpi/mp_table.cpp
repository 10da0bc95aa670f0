#include "vmm/firmware/acpi/mp_table.hpp"

#include "vmm/firmware/acpi/board_view.hpp"

namespace viv::firmware {
namespace {

constexpr uint64_t local_apic_address = 0xFEE00000;
constexpr uint8_t local_apic_version = 0x14, io_apic_version = 0x11, io_apic_id = 0, every_apic = 0xFF;

enum Entry : uint8_t { PROCESSOR = 0, BUS = 1, IO_APIC = 2, IO_INTERRUPT = 3, LOCAL_INTERRUPT = 4 };
enum InterruptType : uint8_t { INT = 0, NMI = 1, ExtINT = 3 };

constexpr uint16_t conforms_to_bus = 0, level_active_high = 0x0D;

}  // namespace

std::optional<Table> mp_configuration(const TreeNode& board, uint32_t cpus, const PciSetup* pci) {
    const auto io_apics = board_devices(board, "intel,ioapic");
    if (io_apics.empty()) return std::nullopt;
    const auto reg = io_apics.front()->cells("reg");
    const uint64_t io_apic_address = reg.size() >= 2 ? reg[1] : 0;
    const auto pm = board_devices(board, "intel,piix4-pm");
    const std::optional<uint32_t> sci = pm.empty() ? std::nullopt : pm.front()->u32("interrupts");

    Table table;
    uint16_t entries = 0;
    table.add_text("PCMP").add(0, 2).add(4, 1).add(0, 1).add_text("VIV     ").add_text("VIV PC      ");
    table.add(0, 4).add(0, 2).add(0, 2).add(local_apic_address, 4).add(0, 4);
    for (uint32_t i = 0; i < cpus; ++i, ++entries) {
        const unsigned enabled = 1, bootstrap = i == 0 ? 2 : 0;
        // Family 6 with an FPU and an APIC: what a kernel wants to know it asks CPUID.
        table.add(PROCESSOR, 1).add(i, 1).add(local_apic_version, 1).add(enabled | bootstrap, 1);
        table.add(0x600, 4).add(0x201, 4).add(0, 8);
    }
    const uint8_t isa_bus_id = pci ? static_cast<uint8_t>(pci->plan.last_bus + 1) : 0;
    if (pci) {
        for (unsigned bus = 0; bus <= pci->plan.last_bus; ++bus, ++entries)
            table.add(BUS, 1).add(bus, 1).add_text("PCI   ");
    }
    table.add(BUS, 1).add(isa_bus_id, 1).add_text("ISA   ");
    table.add(IO_APIC, 1).add(io_apic_id, 1).add(io_apic_version, 1).add(1, 1).add(io_apic_address, 4);
    entries += 2;
    for (unsigned irq = 0; irq < 16; ++irq) {
        if (irq == 2) continue;  // the cascade
        table.add(IO_INTERRUPT, 1).add(INT, 1).add(irq == sci ? level_active_high : conforms_to_bus, 2);
        table.add(isa_bus_id, 1).add(irq, 1).add(io_apic_id, 1).add(irq == 0 ? 2 : irq, 1);
        ++entries;
    }
    for (const PciPlan::Function& function : pci ? pci->plan.functions : std::vector<PciPlan::Function>()) {
        if (!function.interrupt_pin) continue;
        const unsigned source = uint32_t{function.at.device} << 2 | (function.interrupt_pin - 1u);
        table.add(IO_INTERRUPT, 1).add(INT, 1).add(level_active_high, 2).add(function.at.bus, 1).add(source, 1);
        table.add(io_apic_id, 1).add(pirq_irqs[function.pirq], 1);
        ++entries;
    }
    table.add(LOCAL_INTERRUPT, 1)
        .add(ExtINT, 1)
        .add(conforms_to_bus, 2)
        .add(isa_bus_id, 1)
        .add(0, 1)
        .add(0, 1)
        .add(0, 1);
    table.add(LOCAL_INTERRUPT, 1).add(NMI, 1).add(conforms_to_bus, 2).add(isa_bus_id, 1).add(0, 1).add(every_apic, 1);
    table.add(1, 1);
    entries += 2;
    table.set(4, table.size(), 2);
    table.set(34, entries, 2);
    table.set_checksum(7, table.size());
    return table;
}

Table mp_floating_pointer(uint64_t configuration_address) {
    Table pointer;
    pointer.add_text("_MP_").add(configuration_address, 4).add(1, 1).add(4, 1).add(0, 6);
    pointer.set_checksum(10, pointer.size());
    return pointer;
}

}  // namespace viv::firmware
