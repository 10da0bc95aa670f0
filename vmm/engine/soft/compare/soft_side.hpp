#pragma once

#include <memory>
#include <span>

#include "vmm/core/clock.hpp"
#include "vmm/engine/soft/compare/native_case.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/soft_vcpu.hpp"

namespace viv::soft_test {

/// The software CPU in long mode, whose ring 3 sees the same stretches of memory as the child.
class SoftSide final : public VcpuHost {
  public:
    SoftSide();
    ~SoftSide() override;

    [[nodiscard]] soft::SoftEngine& engine() { return *engine_; }
    void set_code(std::span<const uint8_t> code);
    void set_read_only(std::span<const uint8_t> bytes);
    std::span<uint8_t> data(unsigned n);
    /// Runs from `in` until an exception, and says which in `out`. False: it did not end.
    bool execute(const CpuImage& in, CpuImage& out);

    uint64_t port_read(uint16_t, uint8_t) override { return 0; }
    void port_write(uint16_t, uint8_t, uint64_t) override {}
    void port_read_block(uint16_t, uint8_t, std::span<std::byte>) override {}
    void port_write_block(uint16_t, uint8_t, std::span<const std::byte>) override {}
    uint64_t memory_read(Gpa, uint8_t) override { return 0; }
    void memory_write(Gpa, uint8_t, uint64_t) override {}
    uint8_t acknowledge_interrupt() override { return 0; }
    void end_of_interrupt(uint8_t) override {}

  private:
    void build_tables();
    void load(const CpuImage& in);

    GuestMemory memory_;
    VirtualClock clock_{100};
    std::unique_ptr<soft::SoftEngine> engine_;
    std::unique_ptr<soft::SoftVcpu> vcpu_;
};

}  // namespace viv::soft_test
