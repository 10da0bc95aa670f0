#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vmm/core/clock.hpp"
#include "vmm/engine/engine.hpp"
#include "vmm/engine/soft/block_cache.hpp"
#include "vmm/engine/soft/cpu.hpp"
#include "vmm/engine/soft/features.hpp"
#include "vmm/engine/soft/lapic.hpp"
#include "vmm/engine/soft/native_code.hpp"

namespace viv::soft {

class SoftVcpu;

/// The engine behind make_soft_engine(): the CPUs, the code they share, and the interrupt messages between them.
/// One CPU runs at a time; run() holds `running`.
class SoftEngine final : public Engine {
  public:
    SoftEngine(const EngineConfig& config, Clock& clock, VirtualClock* retired);
    ~SoftEngine() override;

    [[nodiscard]] std::string_view name() const override { return "soft"; }
    [[nodiscard]] std::vector<std::string> limits() const override { return {}; }
    [[nodiscard]] TimeStampCounter time_stamp_counter() const override { return {features.tsc_hertz, std::nullopt}; }
    Result<std::unique_ptr<Vcpu>> create_vcpu(VcpuId id) override;
    void set_a20(bool enabled) override;
    void send(uint64_t address, uint32_t data) override;
    void set_ioapic_routes(std::span<const IoApicRoute> routes) override;
    [[nodiscard]] EngineCounters counters() const override;

    /// What reading the time stamp counter gives at this moment of `cpu`, before its TSC_ADJUST.
    uint64_t tsc(Cpu& cpu);
    /// Puts the instructions retired since the last call into the clock.
    void account_time(Cpu& cpu);
    /// Guest time at this moment of `cpu`.
    VirtualTime now(Cpu& cpu);
    void forget(SoftVcpu& vcpu);
    /// Counts code epochs from the start again, with no link left that an old number could revive.
    void restart_epochs();
    /// An interrupt message to the CPUs that match. From any thread.
    struct Message {
        uint32_t destination = 0;
        bool logical = false;
        Delivery mode = Delivery::fixed;
        uint8_t vector = 0;
        bool level = false;
        std::optional<uint32_t> except;
    };
    void message(const Message& message);

    GuestMemory& memory;
    Clock& clock;
    VirtualClock* retired;
    Features features;
    uint64_t tsc_start = 0;  // what the time stamp counters show first
    BlockCache blocks;
    NativeCode native;
    std::vector<SoftVcpu*> vcpus;
    std::mutex running;
    std::atomic<bool> a20_enabled{true};
    /// Set by the memory's listener, which may outlive the engine.
    std::shared_ptr<std::atomic<bool>> memory_changed = std::make_shared<std::atomic<bool>>(false);
    uint32_t epoch = 1;
    Trace* trace = nullptr;  // null: nothing is traced
    uint64_t faults = 0, interrupts = 0;
    uint64_t slow_accesses = 0, walks = 0, flushes = 0;  // of the TLB
    uint64_t block_lookups = 0;
};

}  // namespace viv::soft
