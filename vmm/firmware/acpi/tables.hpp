#pragma once

#include <cstddef>
#include <cstdint>

#include "bios/layout.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/tree.hpp"
#include "vmm/firmware/chipset.hpp"

namespace viv::firmware {

/// The memory that holds ACPI and MP tables.
inline constexpr Gpa tables_at{0xEC000};
inline constexpr uint64_t tables_size = 0x4000;
/// Where systems look for the tables: in the first KiB of the EBDA.
inline constexpr uint64_t rsdp_offset = offsetof(rom::Ebda, acpi_rsdp);
inline constexpr uint64_t mp_pointer_offset = offsetof(rom::Ebda, mp_floating_pointer);

/// Whether the board has what ACPI needs: the power management function (intel,piix4-pm).
bool has_acpi(const TreeNode& board);

/// Writes RSDP, RSDT, XSDT, FADT, FACS, MADT, DSDT and SSDT (ACPI Specification 6.4, chapter 5), as far as the board
/// has ACPI, MP tables (MultiProcessor Specification 1.4), if it has an IOAPIC, and SMBIOS structures with their entry
/// points in the system ROM's segment. `ebda` is the EBDA's address;
/// `pci` is nullptr on a board without PCI, which has no ACPI either.
void write_tables(GuestMemory& memory, const TreeNode& board, uint32_t cpus, Gpa ebda, const PciSetup* pci);

}  // namespace viv::firmware
