#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"

/// System Management BIOS tables: who made the machine and what is in it (DMTF DSP0134, versions 2.8 and 3.0).
namespace viv::firmware {

/// What can be chosen of them.
struct SmbiosIdentity {
    std::string bios_vendor = "Vivarium", bios_version = VIV_VERSION, bios_date = "11/22/2026";
    std::string manufacturer = "Vivarium", product = "Vivarium PC", version, serial, sku, family;
    std::string chassis_serial, asset;
    std::array<uint8_t, 16> uuid{};  // in the order of its text; zeros: there is none
    bool names_bios = false;         // one of the first three was chosen
};

/// From /chosen `viv,smbios` of a board: strings "KEY=VALUE". Errors (usage): an unknown key, a wrong UUID, text that
/// is not printable ASCII or longer than 64 characters.
Result<SmbiosIdentity> smbios_identity(const TreeNode& board);

struct SmbiosTables {
    std::vector<std::byte> structures;
    uint16_t count = 0;         // of structures
    uint16_t largest_size = 0;  // of one structure, bytes
};
enum class SmbiosBios { ours, other };
/// Types 0, 1, 3, 4, 16, 17, 19, 32 and 127 for a board. Another firmware adds type 0 itself, unless it was chosen.
SmbiosTables smbios_tables(const TreeNode& board, const SmbiosIdentity& identity, SmbiosBios bios);

/// The entry point of SMBIOS 2.8, 31 bytes, for structures below 4 GiB.
std::vector<std::byte> smbios_entry_point(const SmbiosTables& tables, uint32_t at);
/// The entry point of SMBIOS 3.0, 24 bytes.
std::vector<std::byte> smbios_entry_point_64(const SmbiosTables& tables, uint64_t at);

}  // namespace viv::firmware
