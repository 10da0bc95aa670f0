#include "devices/storage/disk_drive.hpp"

namespace viv {

Result<std::unique_ptr<DiskQueue>> open_disk_queue(DeviceContext& context) {
    const std::string path = TRY(context.need_string("viv,image"));
    const DiskCache cache = TRY(disk_cache(context.node));
    const std::string aio = context.node.string("viv,aio").value_or("io_uring");
    if (aio != "io_uring" && aio != "threads") {
        return context.refuse("`viv,aio` is io_uring or threads, not '" + aio + "'");
    }
    const auto format = TRY(image_format(context.node));
    auto image = TRY(open_disk_image(path, image_access(context.node), cache, format));
    return std::make_unique<DiskQueue>(std::move(image), context.services.find<DiskWork>(),
                                       aio == "threads" ? DiskWay::threads : DiskWay::automatic);
}

}  // namespace viv
