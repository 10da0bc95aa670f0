#include "devices/storage/disk_drive.hpp"

namespace viv {

Result<void> DiskDrive::grow(uint64_t bytes) {
    if (!on_grown_) return Drive::grow(bytes);
    TRY(image_->grow(bytes));
    geometry_ = geometry_of_disk(*image_);
    on_grown_();
    return {};
}

Result<DiskWay> disk_way(const DeviceContext& context, const TreeNode& node) {
    const std::string aio = node.string("viv,aio").value_or("io_uring");
    if (aio == "threads") return DiskWay::threads;
    if (aio == "io_uring") return DiskWay::automatic;
    return context.refuse("`viv,aio` is io_uring or threads, not '" + aio + "'");
}

Result<std::unique_ptr<DiskQueue>> open_disk_queue(DeviceContext& context) {
    const std::string path = TRY(context.need_string("viv,image"));
    const DiskCache cache = TRY(disk_cache(context.node));
    const DiskWay way = TRY(disk_way(context, context.node));
    const auto format = TRY(image_format(context.node));
    auto image = TRY(open_disk_image(path, image_access(context.node), cache, format));
    return std::make_unique<DiskQueue>(std::move(image), context.services.find<DiskWork>(), way);
}

}  // namespace viv
