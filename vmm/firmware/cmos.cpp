#include "vmm/firmware/cmos.hpp"

#include <algorithm>

namespace viv::firmware {

void fill_cmos(const Board& board, uint16_t equipment) {
    Nvram& nvram = board.nvram;
    const auto set = [&](uint8_t index, uint64_t value) { nvram.set_cmos(index, static_cast<uint8_t>(value)); };
    const auto set_word = [&](uint8_t index, uint64_t value) {
        set(index, value);
        set(static_cast<uint8_t>(index + 1), value >> 8);
    };
    // Registers A and B belong to the clock: 32.768 kHz base, 1024 Hz rate; 24 hours, BCD, no interrupts.
    set(0x0A, 0x26);
    set(0x0B, 0x02);

    const auto floppy_type = [&](uint8_t unit) {
        const Drive* drive = board.drives.find(unit);
        return drive ? static_cast<unsigned>(drive->floppy_type()) : 0u;
    };
    set(0x10, floppy_type(0) << 4 | floppy_type(1));
    const size_t disks = board.drives.count(DriveKind::disk);
    set(0x12, (disks > 0 ? 0xF0u : 0u) | (disks > 1 ? 0x0Fu : 0u));
    set(0x19, disks > 0 ? 47 : 0);  // type 47: the parameters are in the table that vector 41h points at
    set(0x1A, disks > 1 ? 47 : 0);
    set(0x14, equipment);

    // How INT 13h translates: two bits an IDE drive (SeaBIOS and Bochs): 0 not at all, 1 by LBA.
    uint8_t translations = 0;
    for (const DriveRegistry::Entry& entry : board.drives.entries()) {
        const Drive& drive = *entry.drive;
        const bool primary = drive.io_base() == 0x1F0, secondary = drive.io_base() == 0x170;
        if (drive.drive_kind() == DriveKind::disk && (primary || secondary) &&
            drive.bios_geometry() != drive.geometry())
            translations = static_cast<uint8_t>(translations | 1u << (2 * ((secondary ? 2u : 0u) + drive.unit())));
    }
    set(0x39, translations);
    // The order of SeaBIOS without fw_cfg: disk, CD-ROM, floppy; and no look at a floppy's signature.
    set(0x3D, 0x32);
    set(0x38, 0x11);

    constexpr uint64_t kib = 1024, mib = 1024 * kib;
    const MemoryLayout layout = memory_layout(board.memory_size);
    const uint64_t extended_kib = std::min<uint64_t>((layout.below_4g - std::min(layout.below_4g, mib)) / kib, 0xFC00);
    set_word(0x15, 640);
    set_word(0x17, extended_kib);
    set_word(0x30, extended_kib);
    set_word(0x34, (layout.below_4g - std::min(layout.below_4g, 16 * mib)) / (64 * kib));
    set(0x5B, layout.above_4g >> 16);
    set(0x5C, layout.above_4g >> 24);
    set(0x5D, layout.above_4g >> 32);
    set(0x5F, board.cpus - 1);

    uint16_t sum = 0;
    for (uint8_t index = 0x10; index <= 0x2D; ++index) sum = static_cast<uint16_t>(sum + nvram.cmos(index));
    set(0x2E, sum >> 8);
    set(0x2F, sum);
}

}  // namespace viv::firmware
