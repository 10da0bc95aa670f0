#include "vmm/firmware/power_on.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "bios/layout.hpp"
#include "bios/rom_images.hpp"
#include "vmm/firmware/acpi/tables.hpp"
#include "vmm/firmware/chipset.hpp"
#include "vmm/firmware/cmos.hpp"
#include "vmm/firmware/option_roms.hpp"
#include "vmm/firmware/video_mode.hpp"

namespace viv::firmware {
namespace {

constexpr uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;
constexpr uint64_t ebda_base = uint64_t{rom::ebda_segment} * 16;
constexpr uint64_t video_rom_base = uint64_t{rom::video_rom_segment} * 16;
constexpr uint64_t system_rom_base = uint64_t{rom::system_rom_segment} * 16;

/// Writes fields of a segment in low memory.
class SegmentWriter {
  public:
    SegmentWriter(GuestMemory& memory, uint16_t segment) : memory_(memory), base_{uint64_t{segment} * 16} {}
    template <class T>
    void set(rom::Field<T> field, std::type_identity_t<T> value) {
        memory_.store(base_ + field.offset, value);
    }
    void set_byte(uint16_t offset, uint8_t value) { memory_.store(base_ + offset, value); }
    void set_word(uint16_t offset, uint16_t value) { memory_.store(base_ + offset, value); }

  private:
    GuestMemory& memory_;
    Gpa base_;
};

struct PortWrite {
    uint16_t port;
    uint8_t value;
};

/// The chips as POST leaves them (IBM PC AT Technical Reference; i440FX-era BIOSes agree).
void program_chips(Bus& ports) {
    constexpr PortWrite writes[] = {
        // 8259A pair: edge triggered, vectors 08h and 70h, cascade on IRQ2, 8086 mode.
        {0x20, 0x11},
        {0x21, 0x08},
        {0x21, 0x04},
        {0x21, 0x01},
        {0xA0, 0x11},
        {0xA1, 0x70},
        {0xA1, 0x02},
        {0xA1, 0x01},
        // Open: timer, keyboard, cascade, floppy; mouse, coprocessor, first disk channel, second disk channel.
        {0x21, 0xB8},
        {0xA1, 0x0F},
        {0x4D0, 0x00},
        {0x4D1, 0x00},
        // 8254: the 18.2 Hz tick, memory refresh, a beep's pitch; the speaker is off.
        {0x43, 0x36},
        {0x40, 0x00},
        {0x40, 0x00},
        {0x43, 0x54},
        {0x41, 0x12},
        {0x43, 0xB6},
        {0x42, 0x33},
        {0x42, 0x05},
        {0x61, 0x00},
        // 8237A: master clear, then the cascade channel open.
        {0x0D, 0x00},
        {0xDA, 0x00},
        {0xD6, 0xC0},
        {0xD4, 0x00},
        // 8042: command byte: translation, system flag, both interrupts on.
        {0x64, 0x60},
        {0x60, 0x47},
        // Floppy controller out of reset with DMA and interrupts on; disk channels interrupt.
        {0x3F2, 0x0C},
        {0x3F6, 0x00},
        {0x376, 0x00},
    };
    for (const auto& [port, value] : writes) ports.write_held(port, 1, value);
}

std::vector<uint16_t> serial_ports(const Bus& ports) {
    std::vector<uint16_t> found;
    for (const uint16_t base : std::array<uint16_t, 4>{0x3F8, 0x2F8, 0x3E8, 0x2E8}) {
        if (ports.covers(base, 8)) found.push_back(base);
    }
    return found;
}

/// INT 11h's word (IBM PC AT Technical Reference, "Equipment word").
uint16_t equipment_word(const Board& board) {
    const auto floppies = static_cast<unsigned>(std::min<size_t>(board.drives.count(DriveKind::floppy), 2));
    unsigned word = 0x0002 | 0x0004 | 0x0020;  // coprocessor, pointing device, 80x25 colour
    if (floppies) word |= 0x0001 | (floppies - 1) << 6;
    word |= static_cast<unsigned>(serial_ports(board.ports).size()) << 9;
    return static_cast<uint16_t>(word);
}

const Drive* hard_disk(const Board& board, uint8_t index) {
    return board.drives.find(static_cast<uint8_t>(0x80 + index));
}

/// The tick count of 40:6C for the time of day that the RTC shows.
uint32_t ticks_since_midnight(const Nvram& nvram) {
    const auto bcd = [&](uint8_t index) {
        const uint8_t value = nvram.cmos(index);
        return static_cast<uint64_t>((value >> 4) * 10 + (value & 15));
    };
    const uint64_t seconds = bcd(0x04) * 3600 + bcd(0x02) * 60 + bcd(0x00);
    return static_cast<uint32_t>(seconds * 1193182 / 65536);
}

void fill_bda(const Board& board) {
    namespace bda = rom::bda;
    SegmentWriter area(board.memory, rom::bda_segment);
    for (uint16_t offset = 0; offset < 0x100; ++offset) {
        // 40:72 says how the machine came here (1234h: Ctrl-Alt-Del) and outlives the reset; POST clears the rest.
        if (offset != bda::reset_flag.offset && offset != bda::reset_flag.offset + 1) area.set_byte(offset, 0);
    }
    const auto serial = serial_ports(board.ports);
    for (size_t i = 0; i < serial.size(); ++i) area.set_word(static_cast<uint16_t>(i * 2), serial[i]);
    area.set(bda::ebda_segment, rom::ebda_segment);
    area.set(bda::equipment, equipment_word(board));
    area.set(bda::memory_kib, rom::base_memory_kib);
    area.set(bda::keyboard_head, bda::keyboard_buffer.offset);
    area.set(bda::keyboard_tail, bda::keyboard_buffer.offset);
    area.set(bda::keyboard_buffer_start, bda::keyboard_buffer.offset);
    area.set(bda::keyboard_buffer_end, bda::keyboard_buffer.offset + 32);
    area.set(bda::keyboard_mode, 0x10);  // a 101-key keyboard
    area.set(bda::timer_ticks, ticks_since_midnight(board.nvram));
    area.set(bda::disk_count, static_cast<uint8_t>(board.drives.count(DriveKind::disk)));
    for (uint16_t i = 0; i < 4; ++i) {
        area.set_byte(static_cast<uint16_t>(bda::lpt_timeouts.offset + i), 0x14);
        area.set_byte(static_cast<uint16_t>(bda::com_timeouts.offset + i), 0x0A);
    }
    uint8_t floppy_info = 0;
    for (uint8_t unit = 0; unit < 2; ++unit) {
        const Drive* drive = board.drives.find(unit);
        if (!drive) continue;
        // Drive determined, multi-rate, change line (40:8F); medium established at 500 kbit/s (40:90).
        floppy_info = static_cast<uint8_t>(floppy_info | 0x07 << (4 * unit));
        area.set_byte(static_cast<uint16_t>(bda::floppy_media_state.offset + unit), 0x17);
    }
    area.set(bda::floppy_info, floppy_info);
}

void fill_ebda(const Board& board) {
    rom::Ebda ebda;
    for (const boot::MemoryMapEntry& entry : memory_map(board.memory_size)) {
        VIV_ASSERT(ebda.e820_count < rom::e820_capacity);
        ebda.e820[ebda.e820_count++] = {entry.base, entry.length, entry.type, 1};
    }
    for (uint8_t i = 0; i < 2; ++i) {
        const Drive* disk = hard_disk(board, i);
        if (!disk) continue;
        const DriveGeometry geometry = disk->geometry();
        rom::FixedDiskParameters& table = ebda.disks[i];
        table = {};
        table.cylinders = static_cast<uint16_t>(geometry.cylinders);
        table.heads = static_cast<uint8_t>(geometry.heads);
        table.write_precompensation = 0xFFFF;
        table.control = geometry.heads > 8 ? 0x08 : 0;
        table.landing_zone = static_cast<uint16_t>(geometry.cylinders);
        table.sectors_per_track = static_cast<uint8_t>(geometry.sectors);
    }
    board.memory.write(Gpa{ebda_base}, std::as_bytes(std::span(&ebda, 1)));
}

template <class T>
T rom_value(std::span<const std::byte> image, size_t offset) {
    T value{};
    VIV_ASSERT(offset + sizeof(T) <= image.size());
    std::memcpy(&value, image.data() + offset, sizeof(T));
    return value;
}

void set_vector(GuestMemory& memory, uint16_t vector, uint16_t segment, uint16_t offset) {
    memory.store(Gpa{uint64_t{vector} * 4}, static_cast<uint32_t>(segment) << 16 | offset);
}

void fill_ivt(const Board& board, const rom::SystemRomHeader& system, const rom::VideoRomHeader& video) {
    for (uint16_t vector = 0; vector < 256; ++vector) {
        const bool left_free = (vector >= 0x60 && vector < 0x68) || vector >= 0x78;
        if (left_free) {
            set_vector(board.memory, vector, 0, 0);
        } else {
            set_vector(board.memory, vector, rom::system_rom_segment, system.dummy_interrupt);
        }
    }
    const auto apply = [&](std::span<const std::byte> image, uint16_t segment, uint16_t table, uint16_t count) {
        for (uint16_t i = 0; i < count; ++i) {
            const auto entry = rom_value<rom::RomVector>(image, table + i * sizeof(rom::RomVector));
            set_vector(board.memory, entry.vector, segment, entry.offset);
        }
    };
    apply(rom::system_bios(), rom::system_rom_segment, system.vector_table, system.vector_count);
    apply(rom::video_bios(), rom::video_rom_segment, video.vector_table, video.vector_count);
    for (uint8_t i = 0; i < 2; ++i) {
        const auto offset = static_cast<uint16_t>(offsetof(rom::Ebda, disks) + i * sizeof(rom::FixedDiskParameters));
        if (hard_disk(board, i)) set_vector(board.memory, i ? 0x46 : 0x41, rom::ebda_segment, offset);
    }
}

CpuState real_mode_state(uint16_t segment, uint16_t offset) {
    CpuState state = reset_state(true);
    state.cs.selector = segment;
    state.cs.base = uint64_t{segment} * 16;
    state.rip = offset;
    return state;
}

/// The BIOS takes the option ROMs from the firmware device, since each may leave a different size to the next one.
void offer_option_roms(const Board& board, const PciPlan& plan) {
    if (!board.firmware) return;
    std::vector<OptionRom> roms = pci_option_roms(board.memory, *board.pci, plan);
    for (const OptionRom& rom : board.option_roms) {
        roms.push_back({rom.image, pci_owner(rom.image, *board.pci, plan)});
    }
    if (!roms.empty()) open_option_rom_memory(board.memory, *board.pci);
    board.firmware->set_option_roms(std::move(roms));
}

}  // namespace

MemoryLayout memory_layout(uint64_t memory_size) {
    // RAM ends at 3 GiB to leave room for PCI devices; the rest goes above 4 GiB.
    const uint64_t below = std::min(memory_size, 3 * gib);
    return {below, memory_size - below};
}

std::vector<boot::MemoryMapEntry> memory_map(uint64_t memory_size) {
    std::vector<boot::MemoryMapEntry> map;
    const auto add = [&](uint64_t base, uint64_t end, uint32_t type) {
        if (end > base) map.push_back({base, end - base, type});
    };
    const MemoryLayout layout = memory_layout(memory_size);
    constexpr uint32_t usable = 1, reserved = 2;
    add(0, ebda_base, usable);
    add(ebda_base, 0xA0000, reserved);
    add(tables_at.value, 0x100000, reserved);
    add(1 * mib, layout.below_4g, usable);
    add(4 * gib - 256 * kib, 4 * gib, reserved);
    add(4 * gib, 4 * gib + layout.above_4g, usable);
    return map;
}

Result<void> install_roms(GuestMemory& memory) {
    const auto install = [&memory](uint64_t base, std::span<const std::byte> image, uint64_t size,
                                   const char* name) -> Result<GuestMemory::Store> {
        const auto store = TRY(memory.add_store(size, name));
        std::ranges::copy(image, memory.bytes(store).begin());
        TRY(memory.show(Gpa{base}, size, store, 0, GuestMemory::Kind::rom, name));
        return store;
    };
    TRY(install(video_rom_base, rom::video_bios(), rom::video_rom_size, "video BIOS"));
    const auto system = TRY(install(system_rom_base, rom::system_bios(), rom::system_rom_size, "system BIOS"));
    return memory.show(Gpa{4 * gib - rom::system_rom_size}, rom::system_rom_size, system, 0, GuestMemory::Kind::rom,
                       "system BIOS at 4 GiB");
}

Result<void> install_tables(GuestMemory& memory, bool has_pci) {
    if (has_pci) return {};
    return memory.add(tables_at, tables_size, GuestMemory::Kind::ram, "ACPI and MP tables");
}

std::vector<Msr> memory_types(unsigned physical_address_bits) {
    constexpr uint32_t IA32_MTRR_PHYSBASE0 = 0x200, IA32_MTRR_PHYSMASK0 = 0x201, IA32_MTRR_FIX64K_00000 = 0x250,
                       IA32_MTRR_FIX16K_80000 = 0x258, IA32_MTRR_FIX16K_A0000 = 0x259, IA32_MTRR_FIX4K_C0000 = 0x268,
                       IA32_MTRR_FIX4K_F8000 = 0x26F, IA32_MTRR_DEF_TYPE = 0x2FF;
    constexpr uint64_t every_byte = 0x0101'0101'0101'0101, uncached = 0, write_protected = 5, write_back = 6;
    constexpr uint64_t valid = 0x800, enabled = 0xC00;  // fixed ranges too
    const uint64_t address_mask = (uint64_t{1} << physical_address_bits) - 1;
    std::vector<Msr> types = {{IA32_MTRR_PHYSBASE0, (3 * gib) | uncached},
                              {IA32_MTRR_PHYSMASK0, (address_mask & ~(gib - 1)) | valid},
                              {IA32_MTRR_FIX64K_00000, every_byte * write_back},
                              {IA32_MTRR_FIX16K_80000, every_byte * write_back},
                              {IA32_MTRR_FIX16K_A0000, every_byte * uncached}};
    for (uint32_t index = IA32_MTRR_FIX4K_C0000; index <= IA32_MTRR_FIX4K_F8000; ++index)
        types.push_back({index, every_byte * write_protected});
    types.push_back({IA32_MTRR_DEF_TYPE, enabled | write_back});
    return types;
}

CpuState power_on(const Board& board) {
    const auto system = rom_value<rom::SystemRomHeader>(rom::system_bios(), rom::system_header_offset);
    const auto video = rom_value<rom::VideoRomHeader>(rom::video_bios(), rom::video_header_offset);
    VIV_ASSERT(system.magic == rom::system_header_magic && video.magic == rom::video_header_magic);

    program_chips(board.ports);
    std::optional<PciSetup> pci;
    if (board.pci) {
        pci =
            set_up_chipset(*board.pci, board.ports, pci_apertures(4 * gib + memory_layout(board.memory_size).above_4g));
        shadow_roms(board.memory, *board.pci, pci->plan);
        offer_option_roms(board, pci->plan);
    }
    fill_cmos(board, equipment_word(board));
    fill_ivt(board, system, video);
    fill_bda(board);
    fill_ebda(board);
    write_tables(board.memory, board.tree, board.cpus, Gpa{ebda_base}, pci ? &*pci : nullptr);
    set_text_mode(board, video);
    return real_mode_state(rom::system_rom_segment, system.boot_entry);
}

void prepare_for_other_firmware(const Board& board) {
    fill_cmos(board, equipment_word(board));
    if (board.pci) open_smbus_for_other_firmware(*board.pci);
}

Gpa acpi_rsdp(const TreeNode& board) {
    return has_acpi(board) ? Gpa{ebda_base + rsdp_offset} : Gpa{0};
}

std::optional<CpuState> resume_after_cpu_reset(const Board& board) {
    const uint8_t shutdown_code = board.nvram.cmos(0x0F);
    // 05h: flush the keyboard, EOI and jump; 09h: return of INT 15h/87h; 0Ah: jump.
    if (shutdown_code != 0x05 && shutdown_code != 0x09 && shutdown_code != 0x0A) return std::nullopt;
    board.nvram.set_cmos(0x0F, 0);
    if (shutdown_code == 0x05) {
        board.ports.write_held(0xA0, 1, 0x20);
        board.ports.write_held(0x20, 1, 0x20);
    }
    const auto bda = Gpa{uint64_t{rom::bda_segment} * 16};
    return real_mode_state(board.memory.load<uint16_t>(bda + rom::bda::restart_segment.offset),
                           board.memory.load<uint16_t>(bda + rom::bda::restart_offset.offset));
}

}  // namespace viv::firmware
