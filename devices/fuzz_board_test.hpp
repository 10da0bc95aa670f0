#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "devices/interrupt/isa_irqs.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// A fuzzer's input, taken from the front. When it is at its end, zeros follow.
class FuzzInput {
  public:
    FuzzInput(const uint8_t* data, size_t size) : rest_(data, size) {}
    [[nodiscard]] bool empty() const { return rest_.empty(); }
    uint8_t byte() {
        uint8_t value = 0;
        bytes(&value, 1);
        return value;
    }
    /// The last of `count` bytes is the lowest.
    uint32_t number(unsigned count) {
        uint32_t value = 0;
        while (count-- > 0 && !empty()) value = value << 8 | byte();
        return value;
    }
    void bytes(void* to, size_t count) {
        const size_t got = std::min(count, rest_.size());
        if (got > 0) std::memcpy(to, rest_.data(), got);
        rest_ = rest_.subspan(got);
    }
    /// At most `count` bytes.
    std::span<const uint8_t> some(size_t count) {
        const auto first = rest_.first(std::min(count, rest_.size()));
        rest_ = rest_.subspan(first.size());
        return first;
    }

  private:
    std::span<const uint8_t> rest_;
};

class StateTrips {
  public:
    /// Saves the device and loads that again, which must be possible at any time. Only a few times an input: it costs
    /// as much as hundreds of accesses, and an input that does little else learns little.
    void save_and_load(Device& device) {
        if (done_ == 4) return;
        ++done_;
        auto commit = device.prepare_load(device.save());
        VIV_ASSERT(commit.has_value());
        (*commit)();
    }

  private:
    unsigned done_ = 0;
};

/// What devices need around them, without a machine that does what they ask for.
struct FuzzBoard : StateTrips, private SystemControl {
    std::unique_ptr<Device> make(DeviceMaker maker, std::vector<DeviceRange> ranges = {}, uint32_t device = 0,
                                 uint32_t function = 0) {
        auto context = context_at(device, function, std::move(ranges));
        auto made = maker(context);
        VIV_ASSERT(made.has_value());
        return std::move(*made);
    }
    /// For a function at this place of PCI bus 0.
    DeviceContext context_at(uint32_t device, uint32_t function = 0, std::vector<DeviceRange> ranges = {}) {
        node.set_cells("reg", std::array<uint32_t, 2>{device, function});
        return {node, "/fuzz", std::move(ranges), irqs, ports, memory_bus, memory, clock, loop, services, *this, 0};
    }

    TreeNode node{"fuzz", {}, {}};
    IsaIrqs isa;
    std::vector<IrqPin*> irqs{&isa.pins[9]};  // of the next device made
    Bus ports{Bus::Kind::ports};
    Bus memory_bus{Bus::Kind::memory};
    GuestMemory memory;
    ManualClock clock;
    Services services;
    std::mutex lock;
    EventLoop loop{lock};

  private:
    void request_reset(std::string_view) override {}
    void request_power_off(std::string_view) override {}
    void request_exit(uint8_t) override {}
    void set_a20(A20Gate, bool) override {}
    [[nodiscard]] bool a20() const override { return true; }
    void request_cpu_init(std::string_view) override {}
};

}  // namespace viv
