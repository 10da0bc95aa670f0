// INT 13h: floppies and hard disks by cylinder, head and sector; disk_extensions.cpp has the functions from 41h up.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 13H".

#include "bios/system/disk.hpp"

#include "bios/system/disc.hpp"

namespace viv::rom {

DiskStatus firmware_call(FirmwareRequest& request) {
    request.status = static_cast<uint8_t>(DiskStatus::bad_command);
    asm volatile("" : : : "memory");
    out_dword(firmware_doorbell_port, physical(stack_segment(), near_offset(&request)));
    asm volatile("" : : : "memory");
    return static_cast<DiskStatus>(request.status);
}

bool describe_drive(FirmwareRequest& request, uint8_t drive) {
    return describe_emulated_drive(request, drive) || describe_plain_drive(request, number_behind_emulation(drive));
}

bool describe_plain_drive(FirmwareRequest& request, uint8_t drive) {
    request.command = static_cast<uint8_t>(FirmwareCommand::describe);
    request.drive = drive;
    request.flags = 0;
    request.count = 0;
    request.lba = 0;
    request.buffer = 0;
    request.drive_type = drive_type_absent;
    firmware_call(request);
    return request.drive_type != drive_type_absent;
}

DiskStatus transfer(FirmwareRequest& request, FirmwareCommand command, uint64_t lba, uint32_t count, uint64_t buffer) {
    request.command = static_cast<uint8_t>(command);
    request.count = count;
    request.lba = request.flags & transfer_in_sectors ? lba + boot_image_start() : lba;
    request.buffer = buffer;
    return firmware_call(request);
}

namespace {

void put_last_status(uint8_t drive, uint8_t status) {
    if (is_disk(drive)) {
        put(bda::disk_status, status);
    } else {
        put(bda::floppy_status, status);
    }
}

}  // namespace

void finish_disk(Registers& r, DiskStatus status) {
    r.ah() = static_cast<uint8_t>(status);
    put_last_status(r.dl(), r.ah());
    if (status == DiskStatus::ok) {
        r.clear_carry();
    } else {
        r.set_carry();
    }
}

DiskStatus check_media(FirmwareRequest& request) {
    if (!has_media(request)) return is_disk(request.drive) ? DiskStatus::no_media : DiskStatus::timeout;
    if (!(request.media & media_changed)) return DiskStatus::ok;
    request.command = static_cast<uint8_t>(FirmwareCommand::acknowledge);
    firmware_call(request);
    return DiskStatus::changed;
}

namespace {

// Floppies answer with AL = sectors moved, also after an error.
void transfer_chs(Registers& r, FirmwareRequest& request, FirmwareCommand command) {
    const DiskStatus media = check_media(request);
    const uint8_t count = r.al();
    if (media != DiskStatus::ok) {
        r.al() = 0;
        return finish_disk(r, media);
    }
    const Geometry geometry = geometry_of(request);
    const Chs chs = unpack_chs(r.cx(), r.dh());
    r.al() = 0;
    if (count == 0) return finish_disk(r, DiskStatus::bad_command);
    if (!contains(geometry, chs)) return finish_disk(r, DiskStatus::sector_not_found);
    const DiskStatus status = transfer(request, command, to_lba(geometry, chs), count, physical(r.es, r.bx()));
    r.al() = static_cast<uint8_t>(request.count);
    finish_disk(r, status);
}

void int13_00_reset(Registers& r, FirmwareRequest&) {
    finish_disk(r, DiskStatus::ok);
}

void int13_01_last_status(Registers& r, FirmwareRequest&) {
    r.al() = is_disk(r.dl()) ? get(bda::disk_status) : get(bda::floppy_status);
    r.ah() = r.al();
    if (r.ah() == 0) {
        r.clear_carry();
    } else {
        r.set_carry();
    }
}

void int13_02_read_sectors(Registers& r, FirmwareRequest& request) {
    transfer_chs(r, request, FirmwareCommand::read);
}

void int13_03_write_sectors(Registers& r, FirmwareRequest& request) {
    transfer_chs(r, request, FirmwareCommand::write);
}

void int13_04_verify_sectors(Registers& r, FirmwareRequest& request) {
    transfer_chs(r, request, FirmwareCommand::verify);
}

// The address list at ES:BX (C, H, R, N per sector) is taken to be the standard one: images have no other sectors.
void int13_05_format_track(Registers& r, FirmwareRequest& request) {
    DiskStatus status = check_media(request);
    const Geometry geometry = geometry_of(request);
    const Chs chs{unpack_chs(r.cx(), r.dh()).cylinder, r.dh(), 1};
    if (status == DiskStatus::ok) {
        status = contains(geometry, chs)
                     ? transfer(request, FirmwareCommand::format, to_lba(geometry, chs), geometry.sectors, 0)
                     : DiskStatus::sector_not_found;
    }
    finish_disk(r, status);
}

uint8_t floppy_count() {
    const uint16_t equipment = get(bda::equipment);
    return (equipment & 1) ? static_cast<uint8_t>((equipment >> 6 & 3) + 1) : 0;
}

void int13_08_drive_parameters(Registers& r, FirmwareRequest& request) {
    r.ax() = 0;
    if (is_disk(r.dl())) {
        r.cx() = pack_cx(static_cast<uint16_t>(request.cylinders - 1), static_cast<uint8_t>(request.sectors_per_track));
        r.dh() = static_cast<uint8_t>(request.heads - 1);
        put(bda::disk_status, 0);
        r.dl() = get(bda::disk_count);
        r.clear_carry();
        return;
    }
    // What the drive can do, whatever is in it: by CMOS type.
    uint16_t cylinders = 80;
    uint8_t sectors = 18;
    switch (request.drive_type) {
        case 1:
            cylinders = 40;
            sectors = 9;
            break;
        case 2: sectors = 15; break;
        case 3: sectors = 9; break;
        case 5:
        case 6: sectors = 36; break;
    }
    r.cx() = pack_cx(static_cast<uint16_t>(cylinders - 1), sectors);
    r.bx() = request.drive_type;
    r.dh() = 1;
    r.es = system_rom_segment;
    r.di() = near_offset(diskette_parameters);
    put(bda::floppy_status, 0);
    r.dl() = floppy_count();
    r.clear_carry();
}

void int13_0c_seek(Registers& r, FirmwareRequest& request) {
    const Chs chs{unpack_chs(r.cx(), r.dh()).cylinder, r.dh(), 1};
    finish_disk(r, contains(geometry_of(request), chs) ? DiskStatus::ok : DiskStatus::sector_not_found);
}

// 09h, 0Dh, 10h, 11h, 14h: initialise, reset, ready, recalibrate, diagnose.
void int13_disk_is_fine(Registers& r, FirmwareRequest&) {
    finish_disk(r, DiskStatus::ok);
}

void int13_15_drive_type(Registers& r, FirmwareRequest& request) {
    put_last_status(r.dl(), 0);
    r.clear_carry();
    if (!is_disk(r.dl())) {
        r.ah() = request.drive_type == 1 ? 1 : 2;  // 360 KB drives have no change line
        return;
    }
    const uint32_t sectors = uint32_t{request.cylinders} * request.heads * request.sectors_per_track;
    r.ah() = 3;
    r.cx() = static_cast<uint16_t>(sectors >> 16);
    r.dx() = static_cast<uint16_t>(sectors);
}

void int13_16_media_changed(Registers& r, FirmwareRequest& request) {
    finish_disk(r, check_media(request));
}

void int13_17_set_disk_type(Registers& r, FirmwareRequest& request) {
    finish_disk(r, r.al() >= 1 && r.al() <= 4 ? check_media(request) : DiskStatus::bad_command);
}

void int13_18_set_media_type(Registers& r, FirmwareRequest& request) {
    if (!has_media(request)) return finish_disk(r, DiskStatus::timeout);
    const Chs last = unpack_chs(r.cx(), 0);
    if (last.cylinder + 1 != request.cylinders || last.sector != request.sectors_per_track) {
        return finish_disk(r, DiskStatus::media_type_unknown);
    }
    r.es = system_rom_segment;
    r.di() = near_offset(diskette_parameters);
    finish_disk(r, DiskStatus::ok);
}

// A drive that is not there, or a function this kind of drive does not have.
void refuse(Registers& r) {
    if (r.ah() == 0x15) {
        r.ah() = 0;
        r.clear_carry();
        return;
    }
    if (r.ah() == 0x08 && !is_disk(r.dl())) {
        r.ax() = 0;
        r.bx() = 0;
        r.cx() = 0;
        r.dx() = floppy_count();
        r.es = 0;
        r.di() = 0;
        r.clear_carry();
        return;
    }
    finish_disk(r, r.ah() == 0x08 ? DiskStatus::parameters_failed : DiskStatus::bad_command);
}

void floppy_service(Registers& r, FirmwareRequest& request) {
    switch (r.ah()) {
        case 0x05: return int13_05_format_track(r, request);
        case 0x16: return int13_16_media_changed(r, request);
        case 0x17: return int13_17_set_disk_type(r, request);
        case 0x18: return int13_18_set_media_type(r, request);
    }
    finish_disk(r, DiskStatus::bad_command);
}

void hard_disk_service(Registers& r, FirmwareRequest& request) {
    switch (r.ah()) {
        case 0x05: return int13_05_format_track(r, request);
        case 0x0C: return int13_0c_seek(r, request);
        case 0x09:
        case 0x0D:
        case 0x10:
        case 0x11:
        case 0x14: return int13_disk_is_fine(r, request);
    }
    if (r.ah() >= 0x41 && r.ah() <= 0x4E) return disk_extensions(r, request);
    finish_disk(r, DiskStatus::bad_command);
}

}  // namespace

extern "C" void disk_service(Registers& r) {
    FirmwareRequest request;
    if (r.ah() == 0x01) return int13_01_last_status(r, request);
    if (r.ah() >= 0x4A && r.ah() <= 0x4D) return disc_emulation_service(r, request);
    if (is_cdrom(r.dl())) return cdrom_service(r, request);
    if (!describe_drive(request, r.dl())) {
        // Resetting a floppy drive resets the controller, which is there.
        if (r.ah() == 0x00 && !is_disk(r.dl())) return finish_disk(r, DiskStatus::ok);
        return refuse(r);
    }
    switch (r.ah()) {
        case 0x00: return int13_00_reset(r, request);
        case 0x02: return int13_02_read_sectors(r, request);
        case 0x03: return int13_03_write_sectors(r, request);
        case 0x04: return int13_04_verify_sectors(r, request);
        case 0x08: return int13_08_drive_parameters(r, request);
        case 0x15: return int13_15_drive_type(r, request);
    }
    if (is_disk(r.dl())) {
        hard_disk_service(r, request);
    } else {
        floppy_service(r, request);
    }
}

}  // namespace viv::rom
