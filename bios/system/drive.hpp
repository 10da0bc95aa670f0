#pragma once

// Disks as the firmware device shows them.

#include "bios/system/geometry.hpp"
#include "bios/system/services.hpp"

namespace viv::rom {

// INT 13h status codes.
enum class DiskStatus : uint8_t {
    ok = 0x00,
    bad_command = 0x01,
    write_protected = 0x03,
    sector_not_found = 0x04,
    changed = 0x06,
    parameters_failed = 0x07,
    media_type_unknown = 0x0C,
    no_media = 0x31,
    not_locked = 0xB0,
    locked = 0xB1,
    not_removable = 0xB2,
    timeout = 0x80,
};

// Rings the doorbell with `request`, which must be on the stack.
DiskStatus firmware_call(FirmwareRequest& request);

// Fills the geometry fields for `drive`, which may be an emulated one. False if there is no such drive.
bool describe_drive(FirmwareRequest& request, uint8_t drive);
// The same by the firmware device's numbers.
bool describe_plain_drive(FirmwareRequest& request, uint8_t drive);

inline bool is_disk(uint8_t drive) {
    return drive & 0x80;
}
inline bool has_media(const FirmwareRequest& request) {
    return request.media & media_present;
}
inline Geometry geometry_of(const FirmwareRequest& request) {
    return {request.cylinders, request.heads, request.sectors_per_track};
}

// Moves `count` sectors of the drive that describe_drive() has filled `request` for; request.count tells afterwards how
// many were moved.
DiskStatus transfer(FirmwareRequest& request, FirmwareCommand command, uint64_t lba, uint32_t count, uint64_t buffer);

}  // namespace viv::rom
