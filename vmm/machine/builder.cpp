#include "vmm/machine/builder.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "vmm/machine/registry.hpp"

namespace viv {
namespace {

enum class BusKind { root, isa, pci };

bool is_enabled(const TreeNode& node) {
    const auto status = node.string("status");
    return !status || *status == "okay" || *status == "ok";
}

bool is_pci_host(const TreeNode& node) {
    return std::ranges::count(node.strings("compatible"), "intel,i440fx") > 0;
}

/// `reg` on the ISA bus: <space address size>, where bit 0 of space means I/O ports. At the root: two cells each. A PCI
/// function's `reg` is its place; what it decodes at fixed addresses is in `viv,legacy`, as on the ISA bus.
Result<std::vector<DeviceRange>> parse_ranges(const TreeNode& node, const std::string& path, BusKind bus) {
    const std::string property = bus == BusKind::pci ? "viv,legacy" : "reg";
    const auto cells = node.cells(property);
    const size_t step = bus == BusKind::root ? 4 : 3;
    if (cells.size() % step) {
        return fail_usage(
            fmt::format("{}: `{}` has {} cells; on this bus an entry has {}", path, property, cells.size(), step));
    }
    std::vector<DeviceRange> ranges;
    for (size_t i = 0; i < cells.size(); i += step) {
        DeviceRange range;
        if (bus != BusKind::root) {
            range.space = cells[i] & 1 ? DeviceRange::Space::ports : DeviceRange::Space::memory;
            range.base = cells[i + 1];
            range.size = cells[i + 2];
        } else {
            range.space = DeviceRange::Space::memory;
            range.base = uint64_t{cells[i]} << 32 | cells[i + 1];
            range.size = uint64_t{cells[i + 2]} << 32 | cells[i + 3];
        }
        if (range.size == 0) return fail_usage(fmt::format("{}: range {} of `{}` is empty", path, i / step, property));
        ranges.push_back(range);
    }
    return ranges;
}

Result<std::vector<IrqPin*>> parse_interrupts(const TreeNode& node, const std::string& path, IsaIrqs& irqs) {
    std::vector<IrqPin*> pins;
    for (uint32_t irq : node.cells("interrupts")) {
        if (irq >= irqs.pins.size()) {
            return fail_usage(fmt::format("{}: `interrupts` names IRQ {}; the ISA bus has 0 to 15", path, irq));
        }
        pins.push_back(&irqs.pins[irq]);
    }
    return pins;
}

class Builder {
  public:
    explicit Builder(const BuildEnvironment& environment) : env_(environment) {}
    Builder(const Builder&) = delete;
    Builder& operator=(const Builder&) = delete;
    /// When a device cannot be made, the others go in the reverse order: they hold on to those before them.
    ~Builder() {
        while (!built_.empty()) built_.pop_back();
    }

    Result<void> walk(const TreeNode& parent, const std::string& prefix, BusKind bus) {
        for (const TreeNode& node : parent.children) {
            const std::string path = prefix + "/" + node.name;
            const auto names = node.strings("compatible");
            const bool described_elsewhere =
                bus == BusKind::root &&
                (node.name == "cpus" || node.name == "chosen" || node.name == "aliases" || node.has("device_type"));
            if (described_elsewhere || !is_enabled(node)) continue;
            if (names.empty()) return fail_usage(fmt::format("{}: property `compatible` is missing", path));
            if (std::ranges::count(names, "isa")) {
                TRY(walk(node, path, BusKind::isa));
            } else if (is_pci_host(node)) {
                TRY(make(node, path, names, BusKind::pci));
                TRY(walk(node, path, BusKind::pci));
            } else {
                TRY(make(node, path, names, bus));
            }
        }
        return {};
    }

    std::vector<BuiltDevice> take() { return std::move(built_); }

  private:
    Result<void> make(const TreeNode& node, const std::string& path, const std::vector<std::string>& names,
                      BusKind bus) {
        DeviceMaker maker = nullptr;
        for (const std::string& name : names) {
            if ((maker = env_.find_maker(name))) break;
        }
        if (!maker) {
            return fail_usage(fmt::format("{}: no device is compatible with \"{}\"; known are: {}", path,
                                          fmt::join(names, "\", \""), fmt::join(known_devices(), ", ")));
        }
        // Not inside the braces: g++ 12 loses the members before a TRY that returns.
        auto ranges = TRY(parse_ranges(node, path, bus));
        auto interrupts = TRY(parse_interrupts(node, path, env_.isa_irqs));
        DeviceContext context{
            node,        path,       std::move(ranges), std::move(interrupts), env_.ports,  env_.memory_bus,
            env_.memory, env_.clock, env_.loop,         env_.services,         env_.system, env_.wall_time};
        auto device = TRY(maker(context));
        built_.push_back({path, std::move(device)});
        return {};
    }

    const BuildEnvironment& env_;
    std::vector<BuiltDevice> built_;
};

}  // namespace

Result<std::vector<BuiltDevice>> build_devices(const TreeNode& board, const BuildEnvironment& environment) {
    Builder builder(environment);
    TRY(builder.walk(board, "", BusKind::root));
    return builder.take();
}

}  // namespace viv
