#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

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

enum class AcpiPart { rsdp, tables };
/// ACPI's tables before they have an address: they refer to each other by offsets from the first one. Whoever places
/// them adds its address to each pointer and then puts in the checksums, which are 0 until then.
struct AcpiTables {
    struct Pointer {
        AcpiPart part;
        uint32_t offset;
        uint8_t size;
    };
    struct Checksum {
        AcpiPart part;
        uint32_t offset, start, length;
    };
    std::vector<std::byte> rsdp, tables;
    std::vector<Pointer> pointers;  // into `tables`, from either part
    std::vector<Checksum> checksums;
};
/// Nothing for a board without ACPI. `ports` is where the power management block is or will be.
std::optional<AcpiTables> acpi_tables(const TreeNode& board, uint32_t cpus, uint16_t ports, const PciSetup& pci);

/// Writes RSDP, RSDT, XSDT, FADT, FACS, MADT, DSDT and SSDT (ACPI Specification 6.4, chapter 5), as far as the board
/// has ACPI, MP tables (MultiProcessor Specification 1.4), if it has an IOAPIC, and SMBIOS structures with their entry
/// points in the system ROM's segment. `ebda` is the EBDA's address;
/// `pci` is nullptr on a board without PCI, which has no ACPI either.
void write_tables(GuestMemory& memory, const TreeNode& board, uint32_t cpus, Gpa ebda, const PciSetup* pci);

}  // namespace viv::firmware
