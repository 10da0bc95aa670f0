#include "devices/virtio/virtio_device.hpp"

#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "devices/virtio/share/virtio_9p.hpp"
#include "devices/virtio/socket/virtio_socket.hpp"
#include "devices/virtio/virtio_balloon.hpp"
#include "devices/virtio/virtio_block.hpp"
#include "devices/virtio/virtio_console.hpp"
#include "devices/virtio/virtio_entropy.hpp"
#include "devices/virtio/virtio_input.hpp"
#include "devices/virtio/virtio_mmio.hpp"
#include "devices/virtio/virtio_network.hpp"
#include "devices/virtio/virtio_pci.hpp"

namespace viv {
namespace {

struct Entry {
    std::string_view name;
    Result<std::unique_ptr<VirtioFunction>> (*make)(DeviceContext& context);
};

constexpr std::array entries{
    Entry{"9p", make_virtio_9p},           Entry{"balloon", make_virtio_balloon},
    Entry{"block", make_virtio_block},     Entry{"console", make_virtio_console},
    Entry{"entropy", make_virtio_entropy}, Entry{"keyboard", make_virtio_keyboard},
    Entry{"mouse", make_virtio_mouse},     Entry{"network", make_virtio_network},
    Entry{"socket", make_virtio_socket},   Entry{"tablet", make_virtio_tablet},
};

uint64_t offered_by(const TreeNode& node) {
    return node.has("viv,split") ? virtio::queue_features & ~virtio::RING_PACKED : virtio::queue_features;
}

}  // namespace

Result<std::unique_ptr<VirtioFunction>> make_virtio_function(DeviceContext& context) {
    const std::string name = TRY(context.need_string("viv,function"));
    std::string known;
    for (const Entry& entry : entries) {
        if (entry.name == name) return entry.make(context);
        known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.name);
    }
    return context.refuse(fmt::format("there is no virtio function '{}'; known are: {}", name, known));
}

Result<std::unique_ptr<Device>> make_virtio_pci(DeviceContext& context) {
    auto function = TRY(make_virtio_function(context));
    auto device = std::make_unique<VirtioPci>(std::move(function), context.clock, offered_by(context.node));
    TRY(device->pci().attach(context));
    if (Doorbells* doorbells = context.services.find<Doorbells>()) device->use_doorbells(*doorbells, context.loop);
    return device;
}

Result<std::unique_ptr<Device>> make_virtio_mmio(DeviceContext& context) {
    if (context.ranges.size() != 1 || context.ranges[0].size != VirtioMmio::window) {
        return context.refuse("`reg` is not one range of 0x200 bytes");
    }
    auto irq = TRY(context.irq(0));
    auto function = TRY(make_virtio_function(context));
    auto device = std::make_unique<VirtioMmio>(std::move(function), context.clock, context.memory, std::move(irq),
                                               offered_by(context.node));
    TRY(context.map(0, *device));
    return device;
}

}  // namespace viv
