#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/event_loop.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/services.hpp"
#include "vmm/core/system_control.hpp"
#include "vmm/core/tree.hpp"

namespace viv {

/// One entry of a node's `reg`.
struct DeviceRange {
    enum class Space { ports, memory };
    Space space = Space::ports;
    uint64_t base = 0;
    uint64_t size = 0;
};

/// What a device's maker is given: its node of the board, and the machine around it.
struct DeviceContext {
    const TreeNode& node;
    std::string path;                 // of the node, for error messages
    std::vector<DeviceRange> ranges;  // from `reg`
    std::vector<IrqPin*> irqs;        // from `interrupts`, in order
    Bus& ports;
    Bus& memory_bus;
    GuestMemory& memory;
    Clock& clock;
    EventLoop& loop;
    Services& services;
    SystemControl& system;
    int64_t wall_time;  // the RTC's input: Unix time at power-on, seconds UTC

    /// An error that names the node: "/isa/serial@3f8: <message>".
    [[nodiscard]] std::unexpected<Error> refuse(std::string_view message) const;
    /// Maps the i-th range of `reg`; an error when the node has no such range or it overlaps.
    Result<void> map(size_t i, BusDevice& device) const;
    /// A line on the i-th interrupt; an error when the node has fewer.
    Result<IrqLine> irq(size_t i) const;
    /// A property that must be there.
    Result<uint32_t> need_u32(std::string_view key) const;
    Result<std::string> need_string(std::string_view key) const;
    /// An interface that an earlier node must have provided.
    template <class Interface>
    Result<Interface*> need(std::string_view what, std::string_view name = {}) const {
        if (Interface* found = services.find<Interface>(name)) return found;
        return refuse(std::string("needs ") + std::string(what) + ", which no earlier node of the board provides");
    }
};

/// Makes the device of one node: maps its ranges, takes its lines, provides its services.
using DeviceMaker = Result<std::unique_ptr<Device>> (*)(DeviceContext& context);

}  // namespace viv
