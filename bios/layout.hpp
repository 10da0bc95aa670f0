#pragma once

// What the ROMs in bios/ and the host (vmm/firmware, devices/system) share: low-memory layout, ROM headers and the
// firmware device. Freestanding: both a 16-bit and a 64-bit compiler read this file, so it includes <stdint.h> only.

#include <stdint.h>

namespace viv::rom {

// ---- Memory map of the pc board ------------------------------------------------------------------------------------

inline constexpr uint16_t bda_segment = 0x0040;
inline constexpr uint16_t video_rom_segment = 0xC000;
inline constexpr uint16_t system_rom_segment = 0xF000;
inline constexpr uint32_t video_rom_size = 0xA000;
inline constexpr uint32_t system_rom_size = 0x10000;
inline constexpr uint32_t frame_buffer_base = 0xE0000000;  // of a display adapter that is not on PCI
inline constexpr uint16_t ebda_size_kib = 2;
inline constexpr uint16_t base_memory_kib = 640 - ebda_size_kib;
inline constexpr uint16_t ebda_segment = base_memory_kib * 1024 / 16;  // 9F80h

// Option ROMs, one behind the other at multiples of 2 KiB: from the video BIOS's end to the memory for tables.
inline constexpr uint32_t option_rom_base = 0xCA000;
inline constexpr uint32_t option_rom_end = 0xEC000;
inline constexpr uint16_t option_rom_alignment = 2048;
inline constexpr uint16_t no_pci_address = 0xFFFF;
static_assert(option_rom_base == uint32_t{video_rom_segment} * 16 + video_rom_size);

// ---- Firmware device (I/O ports 0B40h-0B4Fh) -----------------------------------------------------------------------

inline constexpr uint16_t firmware_doorbell_port = 0x0B40;   // u32 -w: address of a FirmwareRequest, runs it at once
inline constexpr uint16_t firmware_keyboard_port = 0x0B44;   // u8 -w: KeyReport
inline constexpr uint16_t firmware_flags_port = 0x0B44;      // u8 r-: boot_menu_requested
inline constexpr uint16_t firmware_progress_port = 0x0B45;   // u8 -w: BootProgress
inline constexpr uint16_t firmware_menu_wait_port = 0x0B48;  // u32 r-: ms to wait for F12 before booting
inline constexpr uint16_t firmware_version_port = 0x0B4C;    // u32 r-: firmware_version
inline constexpr uint32_t firmware_version = 2;
inline constexpr uint8_t boot_menu_requested = 0x01;

enum class KeyReport : uint8_t { dropped = 1, stored = 2 };
enum class BootProgress : uint8_t { loading = 1, starting = 2, nothing_bootable = 3 };

enum class FirmwareCommand : uint8_t {
    describe = 0,     // fills the geometry fields
    read = 1,         // count sectors at lba into buffer
    write = 2,        // count sectors at lba from buffer
    verify = 3,       // reads count sectors at lba and throws them away
    format = 4,       // fills count sectors at lba with F6h
    acknowledge = 5,  // clears "medium changed"
    flush = 6,        // writes back host caches
    boot_device = 7,  // in: count = index in the boot order; out: drive, status 1 = no more
    eject = 8,        // opens the tray
    lock = 9,         // keeps the medium in
    unlock = 10,
    option_rom = 11,  // in: count = index, buffer = where to put it; out: lba = its PCI address or no_pci_address.
                      // status 1 = no more, 4 = it does not fit
};

inline constexpr uint8_t drive_cdrom = 0xE0;
inline constexpr uint8_t drive_network = 0xF0;  // in the boot order: what option ROMs boot themselves
inline constexpr uint8_t drive_type_absent = 0xFF;
inline constexpr uint8_t media_present = 0x01;
inline constexpr uint8_t media_changed = 0x02;
inline constexpr uint8_t media_read_only = 0x04;
inline constexpr uint8_t media_removable = 0x08;
inline constexpr uint8_t media_locked = 0x10;
// In flags: lba and count of a transfer are in sectors of 512 bytes, whatever the drive's blocks are.
inline constexpr uint8_t transfer_in_sectors = 0x01;

// The block the doorbell points at. status is an INT 13h status code (0 = done). A failed transfer leaves the number of
// sectors that were moved in count.
struct FirmwareRequest {
    uint8_t command;
    uint8_t status;
    uint8_t drive;  // BIOS number: 00h, 01h, 80h..., E0h
    uint8_t flags;  // transfer_in_sectors
    uint32_t count;
    uint64_t lba;
    uint64_t buffer;  // guest-physical
    // Results of describe; other commands leave them alone.
    uint16_t cylinders;
    uint16_t heads;
    uint16_t sectors_per_track;
    uint16_t bytes_per_sector;
    uint64_t total_sectors;
    uint8_t drive_type;  // CMOS floppy type; 0 for disks; drive_type_absent
    uint8_t media;
    uint16_t io_base;  // IDE command block, or 0
    uint8_t unit;      // 0 master, 1 slave
    uint8_t reserved[3];
} __attribute__((packed));
static_assert(sizeof(FirmwareRequest) == 48);

// ---- ROM headers ---------------------------------------------------------------------------------------------------

inline constexpr uint32_t system_header_offset = 0x0010;
inline constexpr uint32_t video_header_offset = 0x0040;
inline constexpr uint32_t system_header_magic = 0x42564956;  // "VIVB"
inline constexpr uint32_t video_header_magic = 0x56564956;   // "VIVV"
inline constexpr uint16_t header_version = 1;

// One interrupt vector that points into the ROM which holds the table.
struct RomVector {
    uint16_t vector;
    uint16_t offset;
};

// At system_header_offset of the system ROM. The host sets all 256 vectors to dummy_interrupt, then 08h-0Fh and 70h-77h
// come from the table with the rest; then it applies the table of the video ROM, which wins. Vectors 60h-67h and
// 78h-FFh are zero on a PC after POST: software takes a zero vector for a free one.
struct SystemRomHeader {
    uint32_t magic;
    uint16_t version;
    uint16_t vector_count;
    uint16_t boot_entry;       // F000:boot_entry, real mode, any registers, IF=0: runs INT 19h
    uint16_t vector_table;     // RomVector[vector_count]
    uint16_t dummy_interrupt;  // an IRET
    uint8_t pci_buses;         // how many there are: the host writes it into the shadow of the ROM
    uint8_t reserved;
};
static_assert(sizeof(SystemRomHeader) == 16);

// 64 bytes of the system ROM's segment that the ROM leaves empty: the host writes SMBIOS's entry points into the
// shadow.
inline constexpr uint16_t smbios_anchors = 0xDFC0;

// At video_header_offset of the video ROM.
struct VideoRomHeader {
    uint32_t magic;
    uint16_t version;
    uint16_t vector_count;
    uint16_t vector_table;       // RomVector[vector_count], segment C000
    uint16_t font_8x16;          // 4096 bytes; what mode 3 has in font plane 2
    uint16_t mode_3_parameters;  // VideoParameters
    uint16_t mode_3_palette;     // 64 DAC entries of 3 bytes (6 bits each)
    uint16_t save_pointers;      // goes to 40:A8 as C000:save_pointers
    uint16_t reserved;
};
static_assert(sizeof(VideoRomHeader) == 20);

// One entry of the EGA/VGA video parameter table (IBM VGA BIOS interface: "video save pointer table").
struct VideoParameters {
    uint8_t columns;
    uint8_t rows_minus_one;
    uint8_t character_height;
    uint16_t page_size;
    uint8_t sequencer[4];  // SR1-SR4
    uint8_t miscellaneous;
    uint8_t crtc[25];       // CR0-CR18h
    uint8_t attribute[20];  // AR0-AR13h
    uint8_t graphics[9];    // GR0-GR8
} __attribute__((packed));
static_assert(sizeof(VideoParameters) == 64);

// ---- Extended BIOS data area ---------------------------------------------------------------------------------------

struct E820Entry {
    uint64_t base;
    uint64_t length;
    uint32_t type;
    uint32_t attributes;  // ACPI 3.0: bit 0 = entry is valid
} __attribute__((packed));
static_assert(sizeof(E820Entry) == 24);

// Fixed disk parameter table (vectors 41h and 46h), the standard (not translated) form.
struct FixedDiskParameters {
    uint16_t cylinders;
    uint8_t heads;
    uint16_t reduced_write_current;
    uint16_t write_precompensation;
    uint8_t ecc_burst;
    uint8_t control;  // bit 3: more than 8 heads
    uint8_t timeouts[3];
    uint16_t landing_zone;
    uint8_t sectors_per_track;
    uint8_t reserved;
} __attribute__((packed));
static_assert(sizeof(FixedDiskParameters) == 16);

inline constexpr uint16_t e820_capacity = 20;

// What a CD-ROM was booted as ("El Torito").
struct DiscBoot {
    uint8_t source = 0;  // drive number of the CD-ROM, 0 = none was booted
    uint8_t media = 0;   // 0 no emulation, 1-3 floppy of 1.2, 1.44 or 2.88 MB, 4 hard disk
    uint32_t lba = 0;    // of the boot image
    uint32_t catalog = 0;
    uint16_t segment = 0;    // where its first sectors went
    uint16_t sectors = 0;    // of 512 bytes, how many
    uint16_t cylinders = 0;  // of the emulated drive
    uint8_t heads = 0;
    uint8_t sectors_per_track = 0;
    // As they were without the emulated drive.
    uint16_t equipment = 0;
    uint8_t disk_count = 0;
    uint8_t reserved[4] = {};
} __attribute__((packed));
static_assert(sizeof(DiscBoot) == 0x19);

// The services run on stacks of their own, because DOS programs call with a few dozen bytes left. A service that is
// entered while another one is interrupted takes the next stack; when none is left it stays on the caller's.
inline constexpr uint16_t service_stack_size = 640;
inline constexpr uint16_t service_stack_count = 2;
inline constexpr uint16_t service_stack_bottom = ebda_size_kib * 1024 - service_stack_size * service_stack_count;
inline constexpr uint16_t service_stack_top = ebda_size_kib * 1024;

// The host writes a value-initialised Ebda (the initialisers are the power-on values) plus the E820 table and the disk
// tables to ebda_segment:0. Everything the services remember is here or in the BDA; the guest may move the EBDA as long
// as it updates 40:0E, as some DOS versions do.
struct Ebda {
    uint8_t size_kib = ebda_size_kib;
    uint8_t reserved_1[0x21] = {};
    uint16_t mouse_handler_offset = 0;  // 22h, IBM PS/2: device driver far call
    uint16_t mouse_handler_segment = 0;
    uint8_t mouse_index = 0;         // 26h: bytes of the packet received so far
    uint8_t mouse_package_size = 0;  // 27h: bit 7 = handler installed, bits 2:0 = package size - 1
    uint8_t mouse_packet[8] = {};
    uint8_t reserved_2[0x0D] = {};
    FixedDiskParameters disks[2] = {};  // 3Dh, 4Dh: what vectors 41h and 46h point at
    uint8_t reserved_3[3] = {};
    uint16_t next_stack = service_stack_top;  // 60h: where the next service's stack begins
    uint8_t post_is_running = 0;              // 62h: option ROMs may call the memory manager
    uint8_t network_next = 0;                 // 63h: of the ROMs that boot, the one after the one that was started
    uint8_t reserved_4[2] = {};
    uint8_t boot_next = 0;  // 66h: index in the boot order of the device after the one that was started
    DiscBoot disc_boot;     // 67h
    // In the first KiB, where systems look for them; the tables they point at are not the ROM's business.
    uint8_t acpi_rsdp[0x30] = {};          // 80h
    uint8_t mp_floating_pointer[16] = {};  // B0h
    uint8_t pnp[0x40] = {};                // C0h: what option ROMs are told of the BIOS
    uint32_t e820_count = 0;               // 100h
    E820Entry e820[e820_capacity] = {};
    uint8_t reserved_8[0x1C] = {};
    uint8_t stacks[service_stack_size * service_stack_count] = {};
} __attribute__((packed));
static_assert(sizeof(Ebda) == ebda_size_kib * 1024);
static_assert(__builtin_offsetof(Ebda, mouse_handler_offset) == 0x22);
static_assert(__builtin_offsetof(Ebda, disks) == 0x3D);
static_assert(__builtin_offsetof(Ebda, next_stack) == 0x60);
static_assert(__builtin_offsetof(Ebda, acpi_rsdp) == 0x80);
static_assert(__builtin_offsetof(Ebda, mp_floating_pointer) == 0xB0);
static_assert(__builtin_offsetof(Ebda, pnp) == 0xC0);
static_assert(__builtin_offsetof(Ebda, e820_count) == 0x100);
static_assert(__builtin_offsetof(Ebda, stacks) == service_stack_bottom);

// ---- BIOS data area ------------------------------------------------------------------------------------------------

// A value of type T at a fixed offset of a segment.
template <class T>
struct Field {
    uint16_t offset;
};

namespace bda {
inline constexpr Field<uint16_t> com_ports{0x00};  // four words
inline constexpr Field<uint16_t> lpt_ports{0x08};  // three words
inline constexpr Field<uint16_t> ebda_segment{0x0E};
inline constexpr Field<uint16_t> equipment{0x10};
inline constexpr Field<uint16_t> memory_kib{0x13};
inline constexpr Field<uint8_t> shift_flags{0x17};
inline constexpr Field<uint8_t> shift_flags_2{0x18};
inline constexpr Field<uint8_t> alt_keypad{0x19};
inline constexpr Field<uint16_t> keyboard_head{0x1A};
inline constexpr Field<uint16_t> keyboard_tail{0x1C};
inline constexpr Field<uint16_t> keyboard_buffer{0x1E};    // sixteen words, 1Eh-3Dh
inline constexpr Field<uint8_t> floppy_recalibrate{0x3E};  // bit 7: interrupt happened
inline constexpr Field<uint8_t> floppy_motor{0x3F};
inline constexpr Field<uint8_t> floppy_motor_count{0x40};
inline constexpr Field<uint8_t> floppy_status{0x41};
inline constexpr Field<uint8_t> floppy_controller_status{0x42};  // seven bytes
inline constexpr Field<uint8_t> video_mode{0x49};
inline constexpr Field<uint16_t> video_columns{0x4A};
inline constexpr Field<uint16_t> video_page_size{0x4C};
inline constexpr Field<uint16_t> video_page_start{0x4E};
inline constexpr Field<uint16_t> cursor_positions{0x50};  // eight words: column, row
inline constexpr Field<uint16_t> cursor_shape{0x60};      // end, start
inline constexpr Field<uint8_t> video_page{0x62};
inline constexpr Field<uint16_t> crtc_port{0x63};
inline constexpr Field<uint8_t> video_mode_select{0x65};
inline constexpr Field<uint8_t> video_palette{0x66};
inline constexpr Field<uint16_t> restart_offset{0x67};
inline constexpr Field<uint16_t> restart_segment{0x69};
inline constexpr Field<uint8_t> last_spurious{0x6B};
inline constexpr Field<uint32_t> timer_ticks{0x6C};
inline constexpr Field<uint8_t> timer_midnight{0x70};
inline constexpr Field<uint8_t> break_flag{0x71};
inline constexpr Field<uint16_t> reset_flag{0x72};
inline constexpr Field<uint8_t> disk_status{0x74};
inline constexpr Field<uint8_t> disk_count{0x75};
inline constexpr Field<uint8_t> disk_control{0x76};
inline constexpr Field<uint8_t> lpt_timeouts{0x78};  // four bytes
inline constexpr Field<uint8_t> com_timeouts{0x7C};  // four bytes
inline constexpr Field<uint16_t> keyboard_buffer_start{0x80};
inline constexpr Field<uint16_t> keyboard_buffer_end{0x82};
inline constexpr Field<uint8_t> video_rows{0x84};  // minus one
inline constexpr Field<uint16_t> character_height{0x85};
inline constexpr Field<uint8_t> video_control{0x87};
inline constexpr Field<uint8_t> video_switches{0x88};
inline constexpr Field<uint8_t> video_flags{0x89};
inline constexpr Field<uint8_t> display_combination{0x8A};
inline constexpr Field<uint8_t> floppy_data_rate{0x8B};
inline constexpr Field<uint8_t> disk_controller_status{0x8C};
inline constexpr Field<uint8_t> disk_controller_error{0x8D};
inline constexpr Field<uint8_t> disk_interrupt{0x8E};
inline constexpr Field<uint8_t> floppy_info{0x8F};
inline constexpr Field<uint8_t> floppy_media_state{0x90};  // two bytes
inline constexpr Field<uint8_t> floppy_track{0x94};        // two bytes
inline constexpr Field<uint8_t> keyboard_mode{0x96};
inline constexpr Field<uint8_t> keyboard_leds{0x97};
inline constexpr Field<uint16_t> wait_flag_offset{0x98};
inline constexpr Field<uint16_t> wait_flag_segment{0x9A};
inline constexpr Field<uint32_t> wait_microseconds{0x9C};
inline constexpr Field<uint8_t> wait_active{0xA0};
inline constexpr Field<uint16_t> save_pointers_offset{0xA8};
inline constexpr Field<uint16_t> save_pointers_segment{0xAA};
inline constexpr Field<uint16_t> vbe_mode{0xBA};   // as it was set, with bits 14 and 15; 0 in the VGA's own modes
inline constexpr Field<uint8_t> dpms_state{0xBC};  // as INT 10h AX=4F10h counts: 0 = on
}  // namespace bda

}  // namespace viv::rom
