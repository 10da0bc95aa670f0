#include "vmm/core/device_context.hpp"

#include <fmt/format.h>

namespace viv {

std::unexpected<Error> DeviceContext::refuse(std::string_view message) const {
    return fail_usage(fmt::format("{}: {}", path, message));
}

Result<void> DeviceContext::map(size_t i, BusDevice& device) const {
    if (i >= ranges.size()) return refuse(fmt::format("`reg` has {} ranges, but range {} is needed", ranges.size(), i));
    Bus& bus = ranges[i].space == DeviceRange::Space::ports ? ports : memory_bus;
    return bus.map(ranges[i].base, ranges[i].size, device, path);
}

Result<IrqLine> DeviceContext::irq(size_t i) const {
    if (i >= irqs.size()) {
        return refuse(fmt::format("`interrupts` has {} entries, but entry {} is needed", irqs.size(), i));
    }
    return IrqLine(*irqs[i]);
}

Result<uint32_t> DeviceContext::need_u32(std::string_view key) const {
    if (const auto value = node.u32(key)) return *value;
    return refuse(fmt::format("property `{}` is missing", key));
}

Result<std::string> DeviceContext::need_string(std::string_view key) const {
    if (auto value = node.string(key)) return std::move(*value);
    return refuse(fmt::format("property `{}` is missing", key));
}

}  // namespace viv
