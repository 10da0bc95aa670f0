#include "devices/pci/pci_bus.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace viv {
namespace {

/// Whether the bus can reach it at all. A BAR that holds all ones while it is measured cannot.
bool is_reachable(const PciWindow& window) {
    const uint64_t limit = window.space == PciWindow::Space::ports ? 0x10000 : PciBus::address_limit;
    if (window.size == 0 || window.base >= limit || window.size > limit - window.base) return false;
    if (window.space == PciWindow::Space::ports) return true;
    constexpr uint64_t four_gib = uint64_t{1} << 32;
    return window.base >= four_gib || window.base + window.size <= PciBus::chipset_base;
}

}  // namespace

Result<void> PciBus::attach(PciAddress address, PciFunction& function, std::string name) {
    const auto at = functions_.find(address);
    if (at != functions_.end()) {
        return fail_usage(fmt::format("{}: PCI device {} function {} is taken by {}", name, address.device,
                                      address.function, at->second.name));
    }
    functions_[address] = {&function, std::move(name)};
    function.bus_ = this;
    function.address_ = address;
    if (const uint8_t pin = function.reset_[pci::INTERRUPT_PIN])
        function.intx_ = IrqLine(pirqs_[pirq_of(address, pin)]);
    std::vector<PciFunction*> siblings;
    for (auto& [place, slot] : functions_) {
        if (place.device == address.device) siblings.push_back(slot.function);
    }
    if (siblings.size() > 1) std::ranges::for_each(siblings, &PciFunction::become_multi_function);
    function.update_intx();
    remap();
    return {};
}

void PciBus::detach(PciFunction& function) {
    functions_.erase(function.address_);
    function.intx_ = IrqLine();
    function.bus_ = nullptr;
    remap();
}

PciFunction* PciBus::find(PciAddress address) const {
    const auto at = functions_.find(address);
    return at == functions_.end() ? nullptr : at->second.function;
}

std::vector<PciAddress> PciBus::addresses() const {
    std::vector<PciAddress> list;
    for (const auto& [address, slot] : functions_) list.push_back(address);
    return list;
}

uint32_t PciBus::config_read(PciAddress address, unsigned offset, unsigned size) {
    if (PciFunction* function = find(address)) {
        function->tell_of_read(offset, size);
        return function->config_read(offset, size);
    }
    ++counters_.master_aborts;
    return ~uint32_t{0};
}

void PciBus::config_write(PciAddress address, unsigned offset, unsigned size, uint32_t value) {
    if (PciFunction* function = find(address)) {
        function->config_write(offset, size, value);
    } else {
        ++counters_.master_aborts;
    }
}

bool PciBus::map(const PciWindow& window) {
    if (window.store) {
        // Registers of the board are not hidden by a function's memory.
        if (memory_bus_.covers(window.base, window.size)) return false;
        return memory_.show(Gpa{window.base}, window.size, *window.store, window.offset, window.kind, "PCI memory")
            .has_value();
    }
    Bus& bus = window.space == PciWindow::Space::ports ? ports_ : memory_bus_;
    return bus.map(window.base, window.size, *window.device, "PCI function").has_value();
}

void PciBus::unmap(const PciWindow& window) {
    if (window.store) {
        memory_.remove(Gpa{window.base});
    } else {
        (window.space == PciWindow::Space::ports ? ports_ : memory_bus_).unmap(window.base);
    }
}

void PciBus::remap() {
    std::vector<PciWindow> wanted;
    for (auto& [address, slot] : functions_) {
        std::vector<PciWindow> of_function;
        slot.function->collect(of_function);
        for (PciWindow& window : of_function) {
            if (!is_reachable(window)) continue;
            if (std::ranges::any_of(wanted, [&](const PciWindow& other) { return other.overlaps(window); })) {
                ++counters_.conflicts;
            } else {
                wanted.push_back(std::move(window));
            }
        }
    }
    const GuestMemory::Change change(memory_);
    std::erase_if(mapped_, [&](const PciWindow& window) {
        if (std::ranges::find(wanted, window) != wanted.end()) return false;
        unmap(window);
        return true;
    });
    for (PciWindow& window : wanted) {
        if (std::ranges::find(mapped_, window) != mapped_.end()) continue;
        if (map(window)) {
            mapped_.push_back(std::move(window));
        } else {
            ++counters_.conflicts;
        }
    }
}

}  // namespace viv
