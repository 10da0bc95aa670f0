#include "devices/storage/ata_drives.hpp"

#include <fmt/format.h>

#include <utility>

#include "devices/storage/ata_disk.hpp"
#include "devices/storage/atapi_cdrom.hpp"
#include "devices/storage/disk_drive.hpp"

namespace viv {

Result<std::unique_ptr<AtaDevice>> make_ata_drive(const DeviceContext& context, AtaPlace place, AtaDeviceState& state,
                                                  DriveRegistry& registered) {
    const TreeNode* node = context.node.child("drive@" + std::to_string(place.unit));
    if (!node) return nullptr;
    const auto path = node->string("viv,image");
    const auto type = node->string("viv,drive-type");
    auto serial = node->string("viv,serial").value_or(place.serial);
    if (type == "cdrom") {
        auto cdrom = std::make_unique<AtapiCdrom>(
            state, CdromDrive::Place{place.io_base, place.unit, std::move(serial)}, place.wire);
        if (path) cdrom->drive().load(TRY(open_disk_image(*path, ImageAccess::read_only)));
        registered.add(cdrom->drive());
        return cdrom;
    }
    if (type && type != "disk") {
        return context.refuse(
            fmt::format("viv,drive-type of drive {} is \"{}\"; it can be disk or cdrom", place.unit, *type));
    }
    if (!path) return nullptr;
    const DiskCache cache = TRY(disk_cache(*node));
    const auto format = TRY(image_format(*node));
    auto image = TRY(open_disk_image(*path, image_access(*node), cache, format));
    const DiskWay way = TRY(disk_way(context, *node));
    // On a parallel wire there is one command at a time, and the host waits for it.
    DiskWork* work = place.wire == AtaWire::serial ? context.services.find<DiskWork>() : nullptr;
    auto queue = std::make_unique<DiskQueue>(std::move(image), work, way);
    auto disk = std::make_unique<AtaDisk>(state, std::move(queue),
                                          AtaDisk::Place{place.io_base, place.unit, std::move(serial)}, place.wire);
    registered.add(*disk);
    return disk;
}

}  // namespace viv
