// INT 13h functions 41h-4Eh: disks by block number, and the CD-ROM.
// Reference: Phoenix Enhanced Disk Drive Specification 3.0.

#include "bios/system/disk.hpp"

namespace viv::rom {
namespace {

// Disk address packet.
struct AddressPacket {
    uint8_t size;
    uint8_t reserved;
    uint16_t count;
    uint16_t buffer_offset;
    uint16_t buffer_segment;
    uint64_t lba;
    uint64_t flat_buffer;  // if size >= 18h and the far pointer is FFFF:FFFF
} __attribute__((packed));
static_assert(sizeof(AddressPacket) == 24);

struct DriveParameters {
    uint16_t size;
    uint16_t flags;  // 0: DMA errors handled, 1: geometry valid, 2: removable, 4: has change line, 5: lockable
    uint32_t cylinders, heads, sectors_per_track;
    uint64_t sectors;
    uint16_t bytes_per_sector;
    uint32_t configuration;  // far pointer, FFFF:FFFF = none
} __attribute__((packed));
static_assert(sizeof(DriveParameters) == 0x1E);
constexpr uint16_t parameters_without_configuration = 0x1A;

void packet_transfer(Registers& r, FirmwareRequest& request, FirmwareCommand command) {
    AddressPacket packet;
    const uint16_t place = near_offset(&packet);
    const uint8_t size = far_read<uint8_t>(r.ds, r.si());
    if (size < 0x10) return finish_disk(r, DiskStatus::bad_command);
    far_copy(stack_segment(), place, r.ds, r.si(), size >= 0x18 ? 0x18 : 0x10);
    const DiskStatus media = check_media(request);
    uint32_t moved = 0;
    DiskStatus status = media;
    if (media == DiskStatus::ok) {
        uint64_t buffer = physical(packet.buffer_segment, packet.buffer_offset);
        if (size >= 0x18 && packet.buffer_segment == 0xFFFF && packet.buffer_offset == 0xFFFF) {
            buffer = packet.flat_buffer;
        }
        if (packet.lba >= request.total_sectors || packet.count > request.total_sectors - packet.lba) {
            status = DiskStatus::sector_not_found;
        } else if (packet.count != 0) {
            status = transfer(request, command, packet.lba, packet.count, buffer);
            moved = request.count;
        }
    }
    far_write(r.ds, static_cast<uint16_t>(r.si() + 2), static_cast<uint16_t>(moved));
    finish_disk(r, status);
}

void int13_41_check_extensions(Registers& r) {
    if (r.bx() != 0x55AA) return finish_disk(r, DiskStatus::bad_command);
    put(bda::disk_status, 0);
    r.bx() = 0xAA55;
    r.ah() = 0x30;  // EDD 3.0
    r.cx() = 0x07;  // packet access, locking and ejecting, EDD
    r.clear_carry();
}

void int13_42_read(Registers& r, FirmwareRequest& request) {
    packet_transfer(r, request, FirmwareCommand::read);
}
void int13_43_write(Registers& r, FirmwareRequest& request) {
    packet_transfer(r, request, FirmwareCommand::write);
}
void int13_44_verify(Registers& r, FirmwareRequest& request) {
    packet_transfer(r, request, FirmwareCommand::verify);
}

void int13_47_seek(Registers& r, FirmwareRequest& request) {
    const uint32_t low = far_read<uint32_t>(r.ds, static_cast<uint16_t>(r.si() + 8));
    const uint32_t high = far_read<uint32_t>(r.ds, static_cast<uint16_t>(r.si() + 12));
    const uint64_t lba = uint64_t{high} << 32 | low;
    finish_disk(r, lba < request.total_sectors ? DiskStatus::ok : DiskStatus::sector_not_found);
}

// AL: 0 locks, 1 unlocks, 2 asks. A fixed disk is never locked in.
void int13_45_lock(Registers& r, FirmwareRequest& request) {
    constexpr uint8_t lock = 0, unlock = 1, ask = 2;
    const bool locked = (request.media & media_locked) != 0;
    const uint8_t wanted = r.al();
    if (wanted > ask) return finish_disk(r, DiskStatus::bad_command);
    r.al() = wanted == ask ? locked : wanted == lock && (request.media & media_removable);
    if (wanted == ask || !(request.media & media_removable)) return finish_disk(r, DiskStatus::ok);
    if (wanted == unlock && !locked) return finish_disk(r, DiskStatus::not_locked);
    request.command = static_cast<uint8_t>(wanted == lock ? FirmwareCommand::lock : FirmwareCommand::unlock);
    finish_disk(r, firmware_call(request));
}

void int13_46_eject(Registers& r, FirmwareRequest& request) {
    if (r.al() != 0) return finish_disk(r, DiskStatus::bad_command);
    request.command = static_cast<uint8_t>(FirmwareCommand::eject);
    finish_disk(r, firmware_call(request));
}

void int13_48_parameters(Registers& r, FirmwareRequest& request) {
    const uint16_t room = far_read<uint16_t>(r.ds, r.si());
    if (room < parameters_without_configuration) return finish_disk(r, DiskStatus::bad_command);
    DriveParameters result;
    result.size = room >= sizeof(DriveParameters) ? sizeof(DriveParameters) : parameters_without_configuration;
    result.flags = request.media & media_removable ? 0x34 : 0x02;
    if (request.bytes_per_sector == 512) result.flags |= 0x02;
    result.cylinders = request.cylinders;
    result.heads = request.heads;
    result.sectors_per_track = request.sectors_per_track;
    result.sectors = request.total_sectors;
    result.bytes_per_sector = request.bytes_per_sector;
    result.configuration = 0xFFFFFFFF;
    far_copy(r.ds, r.si(), stack_segment(), near_offset(&result), result.size);
    finish_disk(r, DiskStatus::ok);
}

void int13_49_media_changed(Registers& r, FirmwareRequest& request) {
    finish_disk(r, check_media(request));
}

// 4Eh: prefetch, PIO mode and DMA are the host's business. Asking for the most is granted, as is taking it back.
void int13_4e_set_hardware(Registers& r) {
    if (r.al() > 6) return finish_disk(r, DiskStatus::bad_command);
    r.al() = 0;
    finish_disk(r, DiskStatus::ok);
}

}  // namespace

void disk_extensions(Registers& r, FirmwareRequest& request) {
    switch (r.ah()) {
        case 0x41: return int13_41_check_extensions(r);
        case 0x42: return int13_42_read(r, request);
        case 0x43: return int13_43_write(r, request);
        case 0x44: return int13_44_verify(r, request);
        case 0x45: return int13_45_lock(r, request);
        case 0x46: return int13_46_eject(r, request);
        case 0x47: return int13_47_seek(r, request);
        case 0x48: return int13_48_parameters(r, request);
        case 0x49: return int13_49_media_changed(r, request);
        case 0x4E: return int13_4e_set_hardware(r);
    }
    finish_disk(r, DiskStatus::bad_command);
}

void cdrom_service(Registers& r, FirmwareRequest& request) {
    if (!describe_drive(request, r.dl())) return finish_disk(r, DiskStatus::bad_command);
    if (r.ah() == 0x00 || r.ah() == 0x0D || r.ah() == 0x10 || r.ah() == 0x11 || r.ah() == 0x14) {
        return finish_disk(r, DiskStatus::ok);
    }
    if (r.ah() == 0x43) return finish_disk(r, DiskStatus::write_protected);
    if (r.ah() == 0x15) {
        r.ah() = 0;
        r.clear_carry();
        return;
    }
    disk_extensions(r, request);
}

}  // namespace viv::rom
