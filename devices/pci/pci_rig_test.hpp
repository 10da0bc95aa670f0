#pragma once

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "devices/pci/i440fx.hpp"
#include "devices/pci/pci_bus.hpp"
#include "devices/test_board.hpp"

namespace viv {

/// A bare board with a PCI bus. The first function made is the device of the contract tests, which reach its
/// configuration space and its BARs.
class PciBoard : public TestBoard {
  public:
    PciBoard() {
        node.set_cells("reg", std::vector<uint32_t>{0, 0});
        make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
        device = nullptr;
        windows.clear();
    }

    Device& make_function(DeviceMaker maker, uint8_t number, uint8_t function = 0, std::vector<DeviceRange> ranges = {},
                          std::initializer_list<unsigned> irqs = {}) {
        node.set_cells("reg", std::vector<uint32_t>{number, function});
        const auto before = regions();
        Device& made = make(maker, std::move(ranges), irqs);
        if (&made != device) return made;
        const PciAddress at{0, number, function};
        config_ = ConfigWindow(*bus().find(at));
        windows = {{&config_, 256}};
        for (const ContractRig::Window& window : regions()) {
            bool is_new = true;
            for (const ContractRig::Window& old : before) is_new = is_new && old.device != window.device;
            if (is_new) windows.push_back(window);
        }
        add_bars(at);
        for (unsigned i = 0; i < PciBus::pirq_count; ++i) pins.push_back(&bus().pirq(i));
        return made;
    }

    [[nodiscard]] PciBus& bus() { return *services.find<PciBus>(); }

    /// By configuration mechanism 1, as a guest does it.
    uint32_t config(PciAddress at, unsigned offset, uint8_t size = 4) {
        return static_cast<uint32_t>(ports.read(select(at, offset), size));
    }
    void set_config(PciAddress at, unsigned offset, uint8_t size, uint32_t value) {
        ports.write(select(at, offset), size, value);
    }

  private:
    class ConfigWindow final : public BusDevice {
      public:
        ConfigWindow() = default;
        explicit ConfigWindow(PciFunction& function) : function_(&function) {}
        uint64_t read(Access access) override {
            return function_->config_read(static_cast<unsigned>(access.offset), access.size);
        }
        void write(Access access, uint64_t value) override {
            function_->config_write(static_cast<unsigned>(access.offset), access.size, static_cast<uint32_t>(value));
        }

      private:
        PciFunction* function_ = nullptr;
    };

    uint16_t select(PciAddress at, unsigned offset) {
        ports.write(0xCF8, 4,
                    0x80000000u | uint32_t{at.bus} << 16 | uint32_t{at.device} << 11 | uint32_t{at.function} << 8 |
                        (offset & 0xFC));
        return static_cast<uint16_t>(0xCFC + (offset & 3));
    }

    [[nodiscard]] std::vector<ContractRig::Window> regions() const {
        std::vector<ContractRig::Window> list;
        for (const Bus* bus : {&ports, &memory_bus}) {
            for (const Bus::Region& region : bus->regions()) list.push_back({region.device, region.size});
        }
        return list;
    }

    /// Lets the function decode everything for a moment, to see what it has.
    void add_bars(PciAddress at) {
        for (unsigned i = 0; i < 6; ++i) {
            const unsigned offset = pci::BAR0 + 4 * i;
            const bool io = config(at, offset) & pci::BAR_IO;
            const bool wide = !io && (config(at, offset) & pci::BAR_64_BIT);
            set_config(at, offset, 4, io ? 0xC000 + 0x400 * i : 0xE0000000 + 0x2000000 * i);
            if (wide) ++i;
        }
        set_config(at, pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE);
        for (const PciWindow& window : bus().windows()) {
            if (window.device) windows.push_back({window.device, window.size});
        }
        device->reset(ResetKind::power_on);
    }

    ConfigWindow config_;
};

}  // namespace viv
