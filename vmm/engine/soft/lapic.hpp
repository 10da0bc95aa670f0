#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/core/clock.hpp"
#include "vmm/engine/soft/cpu.hpp"
#include "vmm/engine/soft/relaxed.hpp"

namespace viv::soft {

class SoftEngine;

/// How an interrupt message is delivered (SDM 3A, 11.5.1).
enum class Delivery : uint8_t { fixed, lowest_priority, smi, reserved, nmi, init, startup, external };

/// The local APIC of one CPU, in xAPIC and x2APIC mode (SDM 3A, 11). Interrupts come in from any thread, and so do
/// questions whether messages are for it; the timer fires on the thread that runs the clock, under the machine lock;
/// everything else is called by the thread that runs the CPU, or while that does not run.
class LocalApic {
  public:
    LocalApic(SoftEngine& engine, uint32_t id);

    void reset(Cpu& cpu, bool init);

    uint64_t read_memory(Cpu& cpu, uint32_t offset, unsigned size);
    void write_memory(Cpu& cpu, uint32_t offset, unsigned size, uint64_t value);
    uint64_t read_msr(Cpu& cpu, uint32_t index);
    void write_msr(Cpu& cpu, uint32_t index, uint64_t value);
    /// The APIC_BASE MSR; #GP for a forbidden change of mode.
    void set_base(Cpu& cpu, uint64_t value);
    [[nodiscard]] uint8_t task_priority() const { return static_cast<uint8_t>(tpr_); }
    void set_task_priority(uint8_t value) { tpr_ = value; }
    [[nodiscard]] uint64_t tsc_deadline() const { return tsc_deadline_; }
    void set_tsc_deadline(Cpu& cpu, uint64_t value);

    /// A fixed interrupt for this CPU. From any thread.
    void post(uint8_t vector, bool level);
    /// Takes in what was posted. True when there may be something new.
    void collect();
    /// The vector that is to be delivered now, or nothing.
    [[nodiscard]] std::optional<uint8_t> pending() const;
    /// Whether any vector is requested, of whatever priority.
    [[nodiscard]] bool has_requests() const;
    /// Moves a pending vector into service.
    void accept(uint8_t vector);
    /// Whether the 8259A pair's INTR reaches the CPU.
    [[nodiscard]] bool passes_external(const Cpu& cpu) const;
    /// From any thread, as software_enabled().
    [[nodiscard]] bool matches(uint32_t destination, bool logical, const Cpu& cpu) const;
    [[nodiscard]] bool software_enabled() const { return svr_ & 0x100; }

    /// The register page, as CpuState has it.
    [[nodiscard]] std::vector<uint8_t> save(const Cpu& cpu);
    void load(Cpu& cpu, const std::vector<uint8_t>& page);

  private:
    using Bits = std::array<uint32_t, 8>;
    uint32_t read(Cpu& cpu, uint32_t reg);
    void write(Cpu& cpu, uint32_t reg, uint32_t value);
    void end_of_interrupt(Cpu& cpu);
    void send_ipi(Cpu& cpu, uint32_t low, uint32_t destination);
    enum class TimerMode : uint8_t { one_shot, periodic, tsc_deadline, reserved };
    [[nodiscard]] TimerMode timer_mode() const { return static_cast<TimerMode>((lvt_[0] >> 17) & 3); }
    void catch_up(Cpu& cpu);
    void timer_mode_changed(TimerMode before);
    [[nodiscard]] Duration ticks(uint64_t count) const;
    void set_divide(Cpu& cpu, uint32_t value);
    void start_timer(Cpu& cpu);
    uint32_t current_count(Cpu& cpu);
    uint32_t count_held(Cpu& cpu);
    void timer_fired(VirtualTime deadline);
    [[nodiscard]] unsigned divide_shift() const;
    [[nodiscard]] uint8_t processor_priority() const;
    [[nodiscard]] bool x2apic(const Cpu& cpu) const { return (cpu.apic_base & 0xC00) == 0xC00; }
    void error(uint32_t bits);

    SoftEngine& engine_;
    uint32_t id_;
    Relaxed<uint32_t> apic_id_;
    Relaxed<uint32_t> ldr_ = 0, dfr_ = 0xFFFFFFFF, svr_ = 0xFF;
    uint32_t tpr_ = 0, esr_ = 0, esr_latched_ = 0;
    uint32_t icr_low_ = 0, icr_high_ = 0;
    std::array<uint32_t, 6> lvt_{};  // timer, thermal, performance, LINT0, LINT1, error
    uint32_t initial_count_ = 0, divide_ = 0;
    Relaxed<uint64_t> tsc_deadline_;
    Bits isr_{}, irr_{}, tmr_{};
    std::array<std::atomic<uint32_t>, 8> posted_{};
    std::array<std::atomic<uint32_t>, 8> posted_level_{};
    Timer timer_;
};

}  // namespace viv::soft
