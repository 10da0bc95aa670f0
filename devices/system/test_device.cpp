// Models: the test device of QEMU's PCs (pc-testdev), by which kvm-unit-tests and other test guests try port and memory
// accesses of all sizes and set interrupt wires by hand.
// Not modelled: taking a page away from the accelerator (there is nothing to take here: the write is dropped), wires
// above 15, and the cascade.
// Ignored bits: of a wire's port, all are one: any bit set raises it.
// Reference: docs/devices/system.md.
#include "devices/system/test_device.hpp"

#include <algorithm>
#include <array>

#include "devices/byte_ports.hpp"
#include "devices/interrupt/isa_irqs.hpp"

namespace viv {
namespace {

constexpr uint64_t memory_size = 64 * 1024;
constexpr size_t cascade = 2;

struct State {
    std::array<uint8_t, 4> latch{};
    uint16_t wires = 0;  // one bit an ISA interrupt
    std::vector<uint8_t> memory = std::vector<uint8_t>(memory_size);

    static void fields(auto& self, auto&& visit) {
        visit("latch", self.latch);
        visit("wires", self.wires);
        visit("memory", self.memory);
    }
    bool operator==(const State&) const = default;
};

class TestDevice final : public StatefulDevice<State> {
  public:
    explicit TestDevice(IsaIrqs& isa) {
        for (size_t i = 0; i < lines_.size(); ++i) {
            if (i != cascade) lines_[i] = IrqLine(isa.pins[i]);
        }
    }

    Result<void> map(const DeviceContext& context) {
        TRY(context.map(0, latch_));
        TRY(context.map(1, flush_));
        TRY(context.map(2, wires_));
        TRY(context.map(3, memory_));
        return {};
    }

    void reset(ResetKind /*kind*/) override {
        state_ = State{};
        update_irqs();
    }

  protected:
    Result<void> validate(const State& staged) const override {
        if (staged.memory.size() != memory_size) return fail("test device: the saved memory is not 64 KiB");
        return {};
    }
    void after_load() override { update_irqs(); }

  private:
    uint8_t read_latch(uint64_t offset) { return state_.latch[offset % state_.latch.size()]; }
    void write_latch(uint64_t offset, uint8_t value) { state_.latch[offset % state_.latch.size()] = value; }
    uint8_t read_nothing(uint64_t /*offset*/) { return 0xFF; }
    void write_nothing(uint64_t /*offset*/, uint8_t /*value*/) {}
    void write_wire(uint64_t offset, uint8_t value) {
        if (offset >= lines_.size()) return;
        const auto bit = static_cast<uint16_t>(1u << offset);
        state_.wires = static_cast<uint16_t>(value ? state_.wires | bit : state_.wires & ~bit);
        update_irqs();
    }
    uint8_t read_memory(uint64_t offset) { return state_.memory[offset % memory_size]; }
    void write_memory(uint64_t offset, uint8_t value) { state_.memory[offset % memory_size] = value; }

    void update_irqs() {
        for (size_t i = 0; i < lines_.size(); ++i) lines_[i].set(state_.wires >> i & 1);
    }

    std::array<IrqLine, 16> lines_;
    BytePorts<TestDevice> latch_{*this, &TestDevice::read_latch, &TestDevice::write_latch};
    BytePorts<TestDevice> flush_{*this, &TestDevice::read_nothing, &TestDevice::write_nothing};
    BytePorts<TestDevice> wires_{*this, &TestDevice::read_nothing, &TestDevice::write_wire};
    BytePorts<TestDevice> memory_{*this, &TestDevice::read_memory, &TestDevice::write_memory};
};

}  // namespace

Result<std::unique_ptr<Device>> make_test_device(DeviceContext& context) {
    IsaIrqs* isa = TRY(context.need<IsaIrqs>("the interrupt wires of the ISA bus"));
    auto device = std::make_unique<TestDevice>(*isa);
    TRY(device->map(context));
    return device;
}

}  // namespace viv
