#pragma once

#include "bios/system/drive.hpp"

namespace viv::rom {

// Sets AH, CF and the status byte of the drive's kind in the BIOS data area.
void finish_disk(Registers& r, DiskStatus status);

// ok, no medium, or (once after each change) changed.
DiskStatus check_media(FirmwareRequest& request);

// AH=41h-49h and 4Eh of a drive that `request` describes.
void disk_extensions(Registers& r, FirmwareRequest& request);

// Drives from E0h on.
void cdrom_service(Registers& r, FirmwareRequest& request);

}  // namespace viv::rom
