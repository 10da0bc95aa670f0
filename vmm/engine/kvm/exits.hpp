#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/engine/engine.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"

namespace viv::kvm {

/// Why KVM_RUN came back, of the reasons that an x86 host has.
enum class ExitReason : uint8_t {
    io,
    mmio,
    halt,
    interrupt_window,
    interrupted,
    shutdown,
    fail_entry,
    internal_error,
    set_tpr,
    tpr_access,
    ioapic_eoi,
    system_event,
    read_msr,
    write_msr,
    debug,
    exception,
    hypercall,
    nmi,
    dirty_ring_full,
    bus_lock,
    notify,
    hyperv,
    xen,
    unknown,  // also those of other architectures and of later kernels
};
constexpr size_t exit_reasons = static_cast<size_t>(ExitReason::unknown) + 1;

ExitReason classify(uint32_t exit_reason);
std::string_view name_of(ExitReason reason);

/// A number that one thread counts up and any thread reads.
class Counter {
  public:
    void add(uint64_t amount = 1) { value_.store(get() + amount, std::memory_order_relaxed); }
    [[nodiscard]] uint64_t get() const { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<uint64_t> value_ = 0;
};

struct ExitCounters {
    std::array<Counter, exit_reasons> by_reason;
    Counter unknown_msrs;
    Counter kicks;
    Counter interrupts;
    Counter steps;
    Counter memory_races;
};

/// What the run loop does after an exit.
enum class Next {
    resume,    // served, or nothing to serve
    halted,    // HLT, where KVM does not wait by itself
    shutdown,  // triple fault
    debug,     // a step or breakpoint that the engine itself asked for
    emulate,   // KVM could not execute an instruction
    failed,    // nothing can be done; see describe_exit()
};

/// Serves one exit that needs the machine, and classifies the others. `run` is KVM's page; nothing else of KVM is
/// touched.
Next serve_exit(kvm_run& run, VcpuHost& host, ExitCounters& counters);

/// The exit in words, one line, with what a person can do about it where there is something.
std::string describe_exit(const kvm_run& run);

/// The last 64 exits of a CPU.
class ExitLog {
  public:
    void add(const kvm_run& run);
    /// A line each, oldest first.
    [[nodiscard]] std::string text() const;

  private:
    struct Entry {
        ExitReason reason;
        uint8_t size;
        bool is_write;
        uint64_t rip;
        uint64_t detail;  // port, address, vector, MSR
    };
    std::array<Entry, 64> entries_{};
    size_t count_ = 0;
};

}  // namespace viv::kvm
