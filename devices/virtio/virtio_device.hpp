#pragma once

#include <memory>

#include "devices/virtio/virtio_function.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// Makes `virtio,pci`: `reg` = <device function>; `viv,function` says what it is, and the properties of that are beside
/// it. viv,split leaves packed queues out. Needs PciBus.
Result<std::unique_ptr<Device>> make_virtio_pci(DeviceContext& context);

/// Makes `virtio,mmio` at the root of the board: `reg` 200h bytes, `interrupts` one; the rest as virtio,pci.
Result<std::unique_ptr<Device>> make_virtio_mmio(DeviceContext& context);

/// What `viv,function` of the node names.
Result<std::unique_ptr<VirtioFunction>> make_virtio_function(DeviceContext& context);

}  // namespace viv
