#pragma once

#include <array>
#include <deque>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/interrupt/isa_irqs.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/device_contract.hpp"

namespace viv {

/// A bare board for unit tests: buses, ISA wires, memory and a clock moved by hand around the devices under test.
/// The first device made is the one of the contract tests.
class TestBoard : public ContractRig {
  public:
    /// What devices asked of the machine.
    struct System final : SystemControl {
        void request_reset(std::string_view source) override { log.push_back("reset by " + std::string(source)); }
        void request_power_off(std::string_view source) override { log.push_back("off by " + std::string(source)); }
        void request_exit(uint8_t code) override { log.push_back("exit " + std::to_string(code)); }
        void set_a20(A20Gate gate, bool enabled) override { a20_gates[gate == A20Gate::port_92 ? 1 : 0] = enabled; }
        [[nodiscard]] bool a20() const override { return a20_gates[0] || a20_gates[1]; }
        void request_cpu_init(std::string_view source) override { log.push_back("init by " + std::string(source)); }
        std::vector<std::string> log;
        std::array<bool, 2> a20_gates{};
    };

    /// Counts what an interrupt wire does.
    struct Wire final : IrqSink {
        void set_irq_level(unsigned /*pin*/, bool now) override {
            level = now;
            rises += now;
        }
        bool level = false;
        unsigned rises = 0;
    };

    TestBoard() { services.provide(isa); }
    ~TestBoard() override {
        while (!owned_.empty()) owned_.pop_back();  // whoever drives a wire goes before whoever sees it
    }

    /// A probe that lives as long as the devices.
    Wire& new_wire() { return wires_.emplace_back(); }

    /// Makes a device as the machine would. `irqs` are ISA IRQ numbers; the contract tests watch these wires.
    Device& make(DeviceMaker maker, std::vector<DeviceRange> ranges, std::initializer_list<unsigned> irqs = {}) {
        auto made = try_make(maker, std::move(ranges), irqs);
        if (!made) FAIL(made.error().message);
        owned_.push_back(std::move(*made));
        if (!device) device = owned_.back().get();
        windows.clear();
        for (const Bus* bus : {&ports, &memory_bus}) {
            for (const Bus::Region& region : bus->regions()) windows.push_back({region.device, region.size});
        }
        return *owned_.back();
    }
    Result<std::unique_ptr<Device>> try_make(DeviceMaker maker, std::vector<DeviceRange> ranges,
                                             std::initializer_list<unsigned> irqs = {}) {
        DeviceContext context{.node = node,
                              .path = "/test",
                              .ranges = std::move(ranges),
                              .irqs = {},
                              .ports = ports,
                              .memory_bus = memory_bus,
                              .memory = memory,
                              .clock = clock,
                              .loop = loop,
                              .services = services,
                              .system = system,
                              .wall_time = wall_time};
        for (const unsigned irq : irqs) {
            context.irqs.push_back(&isa.pins[irq]);
            pins.push_back(&isa.pins[irq]);
        }
        return maker(context);
    }

    uint8_t in(uint16_t port) { return static_cast<uint8_t>(ports.read(port, 1)); }
    uint16_t in16(uint16_t port) { return static_cast<uint16_t>(ports.read(port, 2)); }
    void out(uint16_t port, uint8_t value) { ports.write(port, 1, value); }
    void out16(uint16_t port, uint16_t value) { ports.write(port, 2, value); }

    TreeNode node{"test", {}, {}};
    int64_t wall_time = 0;
    System system;
    IsaIrqs isa;
    Bus ports{Bus::Kind::ports};
    Bus memory_bus{Bus::Kind::memory};
    GuestMemory memory;
    Services services;
    std::mutex lock;
    EventLoop loop{lock};

  private:
    std::deque<Wire> wires_;
    std::vector<std::unique_ptr<Device>> owned_;
};

}  // namespace viv
