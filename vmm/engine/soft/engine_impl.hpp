#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vmm/core/clock.hpp"
#include "vmm/engine/engine.hpp"
#include "vmm/engine/soft/block_cache.hpp"
#include "vmm/engine/soft/code_watch.hpp"
#include "vmm/engine/soft/cpu.hpp"
#include "vmm/engine/soft/features.hpp"
#include "vmm/engine/soft/lapic.hpp"
#include "vmm/engine/soft/native_code.hpp"
#include "vmm/engine/soft/standstill.hpp"

namespace viv::soft {

class SoftVcpu;

/// Whether CPUs run one at a time, or each in a thread of its own.
enum class Turns : uint8_t { taken, none };

/// The engine behind make_soft_engine(): the CPUs, the code they share, and the interrupt messages between them.
/// CPUs that take turns share their blocks, and run() holds `running`. Others have blocks of their own, and meet in
/// `watch` and `standstill`.
class SoftEngine final : public Engine, private GuestMemory::Observer {
  public:
    SoftEngine(const EngineConfig& config, Clock& clock, VirtualClock* retired, Turns turns);
    ~SoftEngine() override;

    [[nodiscard]] std::string_view name() const override { return "soft"; }
    [[nodiscard]] std::vector<std::string> limits() const override { return {}; }
    [[nodiscard]] TimeStampCounter time_stamp_counter() const override { return {features.tsc_hertz, std::nullopt}; }
    [[nodiscard]] std::optional<CpuidBase> processor() const override { return base_of(features.tables.front()); }
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
    [[nodiscard]] bool has_threads() const { return turns == Turns::none; }
    /// Bytes of memory were written, by the CPU `writer` or by nobody's: those who made blocks of them hear of it.
    void tell_of_write(const std::byte* host, uint64_t size, const Cpu* writer);
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
    const Turns turns;
    /// Locked instructions are the host's own: other CPUs run meanwhile, here or in another engine.
    bool locks;
    const uint32_t cpu_count;
    CodeWatch watch;
    Standstill standstill;
    BlockCache blocks;  // of CPUs that take turns
    NativeCode native;
    std::vector<SoftVcpu*> vcpus;
    std::mutex running;
    std::atomic<bool> a20_enabled{true};
    /// Set by the memory's listener, which may outlive the engine.
    std::shared_ptr<std::atomic<bool>> memory_changed = std::make_shared<std::atomic<bool>>(false);
    Trace* trace = nullptr;  // null: nothing is traced

  private:
    // GuestMemory::Observer, while CPUs have threads
    void regions_will_change() override { standstill.begin(); }
    void regions_changed() override;
    void written(const std::byte* host, uint64_t size) override { tell_of_write(host, size, nullptr); }
    void dirt_taken() override;
};

/// While it lives all other CPUs stand still, between two of their blocks or in a call of the host. Without threads
/// they do anyway. It may be made only where the CPU could also have called the host, and the host is not called
/// meanwhile.
class Alone {
  public:
    explicit Alone(Cpu& cpu) : cpu_(cpu) {
        if (!cpu.engine->has_threads()) return;
        cpu.engine->standstill.leave(cpu);
        cpu.engine->standstill.begin();
    }
    ~Alone() {
        if (!cpu_.engine->has_threads()) return;
        cpu_.engine->standstill.end();
        cpu_.engine->standstill.enter(cpu_);
    }
    Alone(const Alone&) = delete;
    Alone& operator=(const Alone&) = delete;

  private:
    Cpu& cpu_;
};

}  // namespace viv::soft
