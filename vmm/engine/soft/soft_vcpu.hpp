#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vmm/engine/engine.hpp"
#include "vmm/engine/soft/block_cache.hpp"
#include "vmm/engine/soft/cpu.hpp"
#include "vmm/engine/soft/lapic.hpp"

namespace viv::soft {

/// One CPU: the run loop around the blocks, and what may happen between two instructions.
class SoftVcpu final : public Vcpu {
  public:
    SoftVcpu(SoftEngine& engine, VcpuId id);
    ~SoftVcpu() override;

    Stop run(VcpuHost& host, uint64_t budget) override;
    void kick() override;
    void set_intr(bool level) override;
    void inject_nmi() override;
    Result<CpuState> state() override;
    Result<void> set_state(const CpuState& state) override;
    [[nodiscard]] uint64_t instructions() const override;
    [[nodiscard]] std::string failure() const override { return failure_; }

    /// Makes the CPU look at its interrupts at the next block. From any thread.
    void wake();
    /// INIT and start-up messages (SDM 3A, 9.4.3). From any thread.
    void post_init();
    void post_startup(uint8_t page);
    /// Others wrote these bytes, which lie in a page. From any thread.
    void post_code_change(const std::byte* host, unsigned size);
    /// The list of memory regions is another one. While the CPU is outside.
    void note_new_regions();
    /// Executes a block of one instruction that stands at cpu().rip, and delivers what it raises. False: triple fault.
    /// What the host throws comes out, with the CPU in front of the instruction.
    bool execute_single(VcpuHost& host, Block& block);
    Cpu& cpu() { return *cpu_; }
    LocalApic& apic() { return apic_; }

  private:
    /// What is due before the next instruction; false: the run ends with `stop_`.
    bool serve();
    bool serve_reset_messages();
    void collect_nmis();
    bool interrupt_waits();
    void take_interrupt();
    void step();
    void step(Block& block);
    void deliver_debug_trap();
    void run_blocks();
    void handle(const Fault& fault);
    void after_single_step(bool trap);
    void check_dirty_epoch();
    void check_memory();
    void take_code_changes();
    void sleep();

    SoftEngine& engine_;
    std::unique_ptr<Cpu> cpu_;
    LocalApic apic_;
    std::atomic<bool> kicked_{false};
    std::atomic<bool> intr_{false};
    std::atomic<uint32_t> nmis_{0};  // that arrived
    std::atomic<bool> init_{false};
    std::atomic<int> startup_{-1};
    uint64_t dirty_takes_ = 0;
    std::unique_ptr<BlockCache> own_blocks_;  // when it has a thread of its own
    struct CodeChange {
        const std::byte* host;
        unsigned size;
    };
    std::mutex changes_lock_;
    std::vector<CodeChange> changes_;  // guarded by it
    std::atomic<bool> code_changed_{false};
    std::mutex sleep_lock_;
    std::condition_variable awake_;
    std::atomic<bool> asleep_{false};
    Stop stop_ = Stop::budget;
    std::string failure_;
};

}  // namespace viv::soft
