#pragma once

// CD-ROMs that are booted, as what they are or as a floppy or hard disk.

#include "bios/system/drive.hpp"

namespace viv::rom {

inline bool is_cdrom(uint8_t drive) {
    return drive >= drive_cdrom;
}

// Why a drive does not boot.
enum class BootFailure : uint8_t {
    none,
    absent,
    no_media,
    read_error,
    no_signature,
    no_catalog,
    bad_catalog,
    no_boot_entry,
    unknown_emulation,
    no_network,
    network_failed,
};

// Starts the boot image of the disc in `drive`, which `request` describes; comes back only with the reason why not.
BootFailure boot_disc(FirmwareRequest& request, uint8_t drive);

// Ends the emulation: the drives have their own numbers again.
void end_disc_emulation();

// Fills `request` for the emulated drive. False if `drive` is not the number of one.
bool describe_emulated_drive(FirmwareRequest& request, uint8_t drive);
// The firmware device's number of a drive that the guest calls `drive`: an emulated one comes before the others of its
// kind.
uint8_t number_behind_emulation(uint8_t drive);
// Where transfers that count in sectors of 512 bytes begin: the boot image, in sectors of the disc.
uint64_t boot_image_start();

// INT 13h, AH=4Ah-4Dh.
void disc_emulation_service(Registers& r, FirmwareRequest& request);

}  // namespace viv::rom
