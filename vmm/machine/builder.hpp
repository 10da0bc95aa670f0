#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "devices/interrupt/isa_irqs.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// A device of a machine and the path of its node.
struct BuiltDevice {
    std::string path;
    std::unique_ptr<Device> device;
};

/// What devices are made into. All references outlive the devices.
struct BuildEnvironment {
    Bus& ports;
    Bus& memory_bus;
    GuestMemory& memory;
    Clock& clock;
    EventLoop& loop;
    Services& services;
    SystemControl& system;
    IsaIrqs& isa_irqs;
    int64_t wall_time = 0;
    /// find_device_maker, or a test's own table.
    std::function<DeviceMaker(std::string_view compatible)> find_maker;
};

/// Makes a device for every node of the board that has a `compatible`, in tree order; nodes with status = "disabled"
/// are left out. Errors of kind usage name the node's path and the reason: unknown compatible, malformed `reg`, an
/// interrupt above 15, overlapping ranges, or what the device's maker says.
Result<std::vector<BuiltDevice>> build_devices(const TreeNode& board, const BuildEnvironment& environment);

}  // namespace viv
