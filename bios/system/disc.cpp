// Booting from CD-ROM: the boot catalog, emulated drives, INT 13h functions 4Ah-4Dh.
// Reference: "El Torito" Bootable CD-ROM Format Specification 1.0.

#include "bios/system/disc.hpp"

#include "bios/system/disk.hpp"

namespace viv::rom {
namespace {

constexpr uint16_t boot_segment = 0x07C0;
constexpr uint8_t media_mask = 0x0F;
constexpr uint8_t media_none = 0, media_disk = 4;

// An entry of the catalog that is started (figures 3 and 5).
struct BootEntry {
    uint8_t indicator;
    uint8_t media;
    uint16_t segment;
    uint8_t system_type;
    uint8_t reserved;
    uint16_t sectors;
    uint32_t lba;
} __attribute__((packed));
constexpr uint16_t catalog_record = 32;
constexpr uint8_t bootable = 0x88;
constexpr uint8_t platform_x86 = 0;

// What INT 13h calls the boot (figure 8).
struct SpecificationPacket {
    uint8_t size;
    uint8_t media;
    uint8_t drive;
    uint8_t controller;
    uint32_t lba;
    uint16_t device;
    uint16_t cache_segment;
    uint16_t load_segment;
    uint16_t sectors;
    uint8_t cylinder;
    uint8_t cylinder_and_sector;
    uint8_t head;
} __attribute__((packed));
static_assert(sizeof(SpecificationPacket) == 0x13);

struct CatalogPacket {
    uint8_t size;
    uint8_t count;
    uint16_t buffer_offset;
    uint16_t buffer_segment;
    uint16_t first;
} __attribute__((packed));

constexpr uint16_t disc_boot_offset = __builtin_offsetof(Ebda, disc_boot);

DiscBoot get_disc_boot() {
    DiscBoot boot;
    far_copy(stack_segment(), near_offset(&boot), get(bda::ebda_segment), disc_boot_offset, sizeof(boot));
    return boot;
}

void put_disc_boot(const DiscBoot& boot) {
    far_copy(get(bda::ebda_segment), disc_boot_offset, stack_segment(), near_offset(&boot), sizeof(boot));
}

uint8_t number_of(const DiscBoot& boot) {
    if (boot.media == media_none) return boot.source;
    return boot.media == media_disk ? 0x80 : 0x00;
}

// ---- Geometry of the emulated drive ---------------------------------------------------------------------------------

void set_floppy_geometry(DiscBoot& boot) {
    boot.cylinders = 80;
    boot.heads = 2;
    boot.sectors_per_track = boot.media == 1 ? 15 : boot.media == 2 ? 18 : 36;
}

// By the end of the first partition, as the specification has it (2.2.5); the master boot record is at `segment`.
void set_disk_geometry(DiscBoot& boot, uint16_t segment) {
    constexpr uint16_t last_head = 0x1BE + 5, last_cx = 0x1BE + 6;
    const Chs last = unpack_chs(
        static_cast<uint16_t>(far_read<uint8_t>(segment, last_cx + 1) << 8 | far_read<uint8_t>(segment, last_cx)),
        far_read<uint8_t>(segment, last_head));
    const bool sound = last.sector != 0 && last.head != 0xFF;
    boot.cylinders = static_cast<uint16_t>(sound ? last.cylinder + 1 : 1024);
    boot.heads = static_cast<uint8_t>(sound ? last.head + 1 : 255);
    boot.sectors_per_track = sound ? last.sector : 63;
}

// The emulated drive is the first of its kind; the others of the kind move up by one.
void start_emulation(DiscBoot& boot) {
    const uint16_t equipment = get(bda::equipment);
    boot.equipment = equipment;
    boot.disk_count = get(bda::disk_count);
    if (boot.media == media_disk) {
        put(bda::disk_count, static_cast<uint8_t>(boot.disk_count + 1));
    } else if (boot.media != media_none) {
        constexpr uint16_t has_floppy = 0x01, two_floppies = 0x40, floppies = 0xC1;
        const bool one_more = (equipment & has_floppy) != 0;
        put(bda::equipment,
            static_cast<uint16_t>((equipment & ~floppies) | has_floppy | (one_more ? two_floppies : 0)));
    }
    put_disc_boot(boot);
}

// ---- The boot catalog
// ------------------------------------------------------------------------------------------------

bool read_to(FirmwareRequest& request, uint64_t lba, uint32_t count, uint16_t segment) {
    return transfer(request, FirmwareCommand::read, lba, count, physical(segment, 0)) == DiskStatus::ok;
}

// Brings the catalog to the boot segment and its place into `boot`.
BootFailure find_catalog(FirmwareRequest& request, uint32_t& catalog) {
    constexpr uint32_t boot_record = 17;
    constexpr uint16_t catalog_pointer = 0x47;
    if (request.bytes_per_sector != 2048) return BootFailure::no_catalog;
    if (!read_to(request, boot_record, 1, boot_segment)) return BootFailure::read_error;
    // "CD001" after the descriptor type, "EL TORITO" at 7.
    if (far_read<uint32_t>(boot_segment, 0) != 0x30444300 || far_read<uint32_t>(boot_segment, 7) != 0x54204C45) {
        return BootFailure::no_catalog;
    }
    catalog = far_read<uint32_t>(boot_segment, catalog_pointer);
    return read_to(request, catalog, 1, boot_segment) ? BootFailure::none : BootFailure::read_error;
}

bool validation_entry_is_sound() {
    uint16_t sum = 0;
    for (uint16_t at = 0; at < catalog_record; at += 2) {
        sum = static_cast<uint16_t>(sum + far_read<uint16_t>(boot_segment, at));
    }
    return far_read<uint8_t>(boot_segment, 0) == 1 && far_read<uint16_t>(boot_segment, 0x1E) == 0xAA55 && sum == 0;
}

void get_entry(uint16_t at, BootEntry& entry) {
    far_copy(stack_segment(), near_offset(&entry), boot_segment, at, sizeof(entry));
}

// The default entry, else the first one of a section for this kind of machine.
bool choose_entry(BootEntry& entry) {
    constexpr uint16_t catalog_end = 2048;
    constexpr uint8_t section = 0x90, last_section = 0x91, extension = 0x44;
    get_entry(catalog_record, entry);
    if (far_read<uint8_t>(boot_segment, 1) == platform_x86 && entry.indicator == bootable) return true;
    uint16_t left = 0;
    bool for_us = false, last = false;
    for (uint16_t at = 2 * catalog_record; at < catalog_end; at += catalog_record) {
        get_entry(at, entry);
        if (entry.indicator == extension) continue;
        if (left == 0) {
            if (last || (entry.indicator != section && entry.indicator != last_section)) return false;
            last = entry.indicator == last_section;
            for_us = entry.media == platform_x86;  // where entries have the medium
            left = entry.segment;                  // and the segment
            continue;
        }
        --left;
        if (for_us && entry.indicator == bootable) return true;
    }
    return false;
}

// Loads the image of `boot`, whose source `request` describes, and starts the emulation.
BootFailure load_image(FirmwareRequest& request, DiscBoot& boot) {
    // Behind it comes the extended BIOS data area.
    const uint32_t room = (uint32_t{ebda_segment} - boot.segment) / 32;
    if (boot.segment >= ebda_segment) return BootFailure::bad_catalog;
    const uint32_t count = boot.sectors == 0 ? (boot.media == media_none ? 4u : 1u) : boot.sectors;
    request.flags = transfer_in_sectors;
    ebda_put(VIV_EBDA_FIELD(disc_boot.lba), boot.lba);
    if (boot.media == media_disk) {
        if (!read_to(request, 0, 1, boot.segment)) return BootFailure::read_error;
        set_disk_geometry(boot, boot.segment);
    } else if (boot.media != media_none) {
        set_floppy_geometry(boot);
    }
    if (!read_to(request, 0, count < room ? count : room, boot.segment)) return BootFailure::read_error;
    start_emulation(boot);
    return BootFailure::none;
}

[[noreturn]] void enter_image(const DiscBoot& boot) {
    out_byte(firmware_progress_port, static_cast<uint8_t>(BootProgress::starting));
    ebda_put(VIV_EBDA_FIELD(next_stack), service_stack_top);  // 4Ch does not come back from its service
    start_boot_sector(number_of(boot), boot.segment == boot_segment ? 0x00007C00u : uint32_t{boot.segment} << 16);
}

}  // namespace

BootFailure boot_disc(FirmwareRequest& request, uint8_t drive) {
    DiscBoot boot{};
    uint32_t catalog = 0;
    if (const BootFailure failure = find_catalog(request, catalog); failure != BootFailure::none) return failure;
    boot.catalog = catalog;
    if (!validation_entry_is_sound()) return BootFailure::bad_catalog;
    BootEntry entry;
    if (!choose_entry(entry)) return BootFailure::no_boot_entry;
    boot.source = drive;
    boot.media = entry.media & media_mask;
    if (boot.media > media_disk) return BootFailure::unknown_emulation;
    boot.segment = entry.segment == 0 ? boot_segment : entry.segment;
    boot.sectors = entry.sectors;
    boot.lba = entry.lba;
    if (const BootFailure failure = load_image(request, boot); failure != BootFailure::none) return failure;
    enter_image(boot);
}

void end_disc_emulation() {
    DiscBoot boot = get_disc_boot();
    if (boot.source != 0 && boot.media != media_none) {
        put(bda::equipment, boot.equipment);
        put(bda::disk_count, boot.disk_count);
    }
    boot.source = 0;
    put_disc_boot(boot);
}

bool describe_emulated_drive(FirmwareRequest& request, uint8_t drive) {
    const DiscBoot boot = get_disc_boot();
    if (boot.source == 0 || boot.media == media_none || drive != number_of(boot)) return false;
    describe_plain_drive(request, boot.source);
    request.flags = transfer_in_sectors;
    request.cylinders = boot.cylinders;
    request.heads = boot.heads;
    request.sectors_per_track = boot.sectors_per_track;
    request.bytes_per_sector = 512;
    request.total_sectors = uint32_t{boot.cylinders} * boot.heads * boot.sectors_per_track;
    request.drive_type = static_cast<uint8_t>(boot.media == 1 ? 2 : boot.media == 2 ? 4 : boot.media == 3 ? 6 : 0);
    request.io_base = 0;
    return true;
}

uint8_t number_behind_emulation(uint8_t drive) {
    const DiscBoot boot = get_disc_boot();
    if (boot.source == 0 || boot.media == media_none || is_cdrom(drive)) return drive;
    const uint8_t first = number_of(boot);
    return is_disk(drive) == is_disk(first) && drive > first ? static_cast<uint8_t>(drive - 1) : drive;
}

uint64_t boot_image_start() {
    return uint64_t{ebda_get(VIV_EBDA_FIELD(disc_boot.lba))} * 4;
}

// ---- INT 13h --------------------------------------------------------------------------------------------------------

namespace {

// 4Bh: what was booted; AL=0 ends the emulation.
void int13_4b_emulation_status(Registers& r) {
    constexpr uint8_t any_drive = 0x7F;
    const DiscBoot boot = get_disc_boot();
    if (r.al() > 1 || boot.source == 0 || (r.dl() != number_of(boot) && r.dl() != any_drive)) {
        return finish_disk(r, DiskStatus::bad_command);
    }
    SpecificationPacket packet{};
    packet.size = sizeof(packet);
    packet.media = boot.media;
    packet.drive = number_of(boot);
    packet.lba = boot.lba;
    packet.load_segment = boot.segment;
    packet.sectors = boot.sectors;
    if (boot.media != media_none) {
        const uint16_t cx = pack_cx(static_cast<uint16_t>(boot.cylinders - 1), boot.sectors_per_track);
        packet.cylinder = static_cast<uint8_t>(cx >> 8);
        packet.cylinder_and_sector = static_cast<uint8_t>(cx);
        packet.head = static_cast<uint8_t>(boot.heads - 1);
    }
    far_copy(r.ds, r.si(), stack_segment(), near_offset(&packet), sizeof(packet));
    // Without emulation there is nothing to end, and who asks again is told again.
    if (r.al() == 0 && boot.media != media_none) end_disc_emulation();
    finish_disk(r, DiskStatus::ok);
}

// 4Ah starts an emulation as the packet says; 4Ch starts its image, too.
void int13_4a_start_emulation(Registers& r, FirmwareRequest& request) {
    SpecificationPacket packet;
    far_copy(stack_segment(), near_offset(&packet), r.ds, r.si(), sizeof(packet));
    const DiscBoot before = get_disc_boot();
    const uint8_t source = before.source != 0 ? before.source : drive_cdrom;
    DiscBoot boot{};
    boot.source = source;
    boot.catalog = before.catalog;
    boot.media = packet.media & media_mask;
    boot.lba = packet.lba;
    boot.segment = packet.load_segment == 0 ? boot_segment : packet.load_segment;
    boot.sectors = packet.sectors;
    if (r.al() != 0 || packet.size < sizeof(packet) || boot.media > media_disk ||
        !describe_plain_drive(request, source) || !has_media(request)) {
        return finish_disk(r, DiskStatus::bad_command);
    }
    end_disc_emulation();
    const bool start = r.ah() == 0x4C;
    if (load_image(request, boot) != BootFailure::none) return finish_disk(r, DiskStatus::sector_not_found);
    if (start) enter_image(boot);
    finish_disk(r, DiskStatus::ok);
}

// 4Dh: sectors of the boot catalog.
void int13_4d_boot_catalog(Registers& r, FirmwareRequest& request) {
    CatalogPacket packet;
    far_copy(stack_segment(), near_offset(&packet), r.ds, r.si(), sizeof(packet));
    const DiscBoot boot = get_disc_boot();
    if (r.al() != 0 || boot.source == 0 || packet.size < sizeof(packet) ||
        !describe_plain_drive(request, boot.source) || !has_media(request)) {
        return finish_disk(r, DiskStatus::bad_command);
    }
    finish_disk(r, transfer(request, FirmwareCommand::read, uint64_t{boot.catalog} + packet.first, packet.count,
                            physical(packet.buffer_segment, packet.buffer_offset)));
}

}  // namespace

void disc_emulation_service(Registers& r, FirmwareRequest& request) {
    switch (r.ah()) {
        case 0x4A:
        case 0x4C: return int13_4a_start_emulation(r, request);
        case 0x4B: return int13_4b_emulation_status(r);
    }
    int13_4d_boot_catalog(r, request);
}

}  // namespace viv::rom
