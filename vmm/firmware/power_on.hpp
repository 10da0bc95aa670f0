#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "devices/pci/pci_bus.hpp"
#include "devices/storage/drive_registry.hpp"
#include "devices/system/firmware_disk.hpp"
#include "devices/system/nvram.hpp"
#include "vmm/boot/memory_map.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"
#include "vmm/engine/cpu_state.hpp"

/// Power-on self test, done by the host: everything a PC's BIOS does before it looks for a boot sector. Afterwards the
/// machine is in the state that an operating system finds on a real PC, and the bootstrap CPU stands at the ROM's boot
/// entry.
namespace viv::firmware {

/// What the power-on needs of the machine. All calls are made under the machine lock, with every CPU stopped.
struct Board {
    GuestMemory& memory;
    Bus& ports;
    Bus& memory_bus;
    PciBus* pci;  // nullptr on a board without
    Nvram& nvram;
    const DriveRegistry& drives;
    const TreeNode& tree;
    uint64_t memory_size = 0;  // bytes of RAM
    uint32_t cpus = 1;
    FirmwarePort* firmware = nullptr;             // of our BIOS
    std::span<const OptionRom> option_roms = {};  // besides those of PCI functions
};

/// Puts our ROMs at C0000h, F0000h and below 4 GiB. Once, before any device is made. Errors: the range is taken.
Result<void> install_roms(GuestMemory& memory);
/// Puts memory for tables at EC000h unless the board has a PCI host bridge, whose shadow RAM is there. Once, before the
/// first power_on(). Errors: the range is taken.
Result<void> install_tables(GuestMemory& memory, bool has_pci);

/// Programs the chips, fills CMOS, IVT, BDA, EBDA, ACPI and MP tables, sets video mode 3; returns the state of the
/// bootstrap CPU. The devices must have been reset.
CpuState power_on(const Board& board);

/// The memory type range registers as POST leaves them on every CPU (Intel SDM 3A, 12.11): memory is cached (WB), but
/// for the video memory and the gigabyte below 4 GiB (UC), and C0000h-FFFFFh is written through to ROM (WP). Ascending.
std::vector<Msr> memory_types(unsigned physical_address_bits);

/// All that is prepared for another firmware: CMOS and the SMBus, as QEMU's board has them. The devices must have been
/// reset.
void prepare_for_other_firmware(const Board& board);

/// Where power_on() has put ACPI's RSDP; 0 on a board without ACPI.
Gpa acpi_rsdp(const TreeNode& board);

/// What happens when only the CPU is reset: the shutdown code in CMOS byte 0Fh may ask to go on at the address in 40:67
/// (IBM PC AT Technical Reference, BIOS listing TEST1; the way 80286 programs left protected mode). Otherwise nothing:
/// the board restarts.
std::optional<CpuState> resume_after_cpu_reset(const Board& board);

/// Where RAM lies: [0, 640K), [1M, below_4g), [4G, 4G + above_4g).
struct MemoryLayout {
    uint64_t below_4g = 0;  // end of the RAM below 4 GiB
    uint64_t above_4g = 0;  // bytes
};
MemoryLayout memory_layout(uint64_t memory_size);

/// What INT 15h/E820h and a kernel's loader tell of it, in ascending order.
std::vector<boot::MemoryMapEntry> memory_map(uint64_t memory_size);

}  // namespace viv::firmware
