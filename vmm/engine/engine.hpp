#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/guest_memory.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/types.hpp"
#include "vmm/engine/cpu_model.hpp"
#include "vmm/engine/cpu_state.hpp"

namespace viv {

/// What a virtual CPU needs from the machine around it. Every call is made from inside Vcpu::run(), on the thread that
/// runs it, with no lock held; the buses lock by themselves.
class VcpuHost {
  public:
    virtual ~VcpuHost() = default;
    virtual uint64_t port_read(uint16_t port, uint8_t size) = 0;
    virtual void port_write(uint16_t port, uint8_t size, uint64_t value) = 0;
    /// INS and OUTS: data.size()/size elements at one port.
    virtual void port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) = 0;
    virtual void port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) = 0;
    /// Accesses to guest-physical addresses that GuestMemory does not back (or writes to ROM); 1 to 8 bytes.
    virtual uint64_t memory_read(Gpa address, uint8_t size) = 0;
    virtual void memory_write(Gpa address, uint8_t size, uint64_t value) = 0;
    /// The INTA cycle: the vector of the 8259A pair. Called only while its INTR is high; may be spurious.
    virtual uint8_t acknowledge_interrupt() = 0;
    /// The local APIC's EOI broadcast for a level-triggered vector.
    virtual void end_of_interrupt(uint8_t vector) = 0;
    /// The FERR# wire: whether an x87 exception is pending that is not reported as #MF, since CR0.NE is clear. Returns
    /// the level of IGNNE#: whether the CPU shall go on in spite of it.
    virtual bool x87_error(bool /*pending*/) { return true; }
    /// Between these two nothing else is in the machine: GuestMemory's regions stay, and its clock's timers may be
    /// armed.
    virtual void hold_memory() {}
    virtual void release_memory() {}
};

/// Why Vcpu::run() came back.
enum class Stop {
    budget,    // the instructions of the budget are used up
    kicked,    // kick() was called, or the host's callback asked for a stop
    halted,    // HLT with nothing pending (soft engine; KVM waits inside)
    shutdown,  // triple fault
    /// The guest wants what the engine does not have on this host. The state is whole: another engine can go on.
    /// Vcpu::failure() says what it is, in one line.
    unsupported,
    failed,  // the engine cannot go on; Vcpu::failure() says why
};

/// One virtual CPU. All calls but kick() and set_intr() come from the thread that runs it, or while it is not running.
class Vcpu {
  public:
    virtual ~Vcpu() = default;

    /// Runs guest code until one of the reasons of Stop. `budget` bounds the instructions (~0: no bound); with one, KVM
    /// steps, which is slow.
    virtual Stop run(VcpuHost& host, uint64_t budget) = 0;
    /// Makes a run() that is under way, or else the next one, come back soon. From any thread.
    virtual void kick() = 0;
    /// The level of the INTR wire from the 8259A pair. From any thread, under the machine lock. While high, and once
    /// the CPU can take it, run() calls acknowledge_interrupt() and delivers the vector.
    virtual void set_intr(bool level) = 0;
    /// One edge of the NMI pin. As set_intr().
    virtual void inject_nmi() = 0;

    /// The complete state, between runs.
    virtual Result<CpuState> state() = 0;
    virtual Result<void> set_state(const CpuState& state) = 0;

    /// Retired instructions that the engine counted: KVM those of runs with a budget, the others all.
    [[nodiscard]] virtual uint64_t instructions() const = 0;
    /// After Stop::failed: the reason in words, with the exit's details (reason, instruction bytes, last exits).
    [[nodiscard]] virtual std::string failure() const = 0;
};

/// Counters of an engine by name ("exits.io", "rescues.popcnt"), for --json and reports.
using EngineCounters = std::vector<std::pair<std::string, uint64_t>>;

/// The counter that RDTSC reads.
struct TimeStampCounter {
    uint64_t hertz = 0;  // 0: unknown
    /// What it shows now on a host that does not let it be set.
    std::optional<uint64_t> shows;
};

/// A way to run guest code.
class Engine : public MsiSink {
  public:
    [[nodiscard]] virtual std::string_view name() const = 0;
    /// One line per limit of the host that the engine found and works around; empty on a full one.
    [[nodiscard]] virtual std::vector<std::string> limits() const = 0;
    /// Why another engine serves guests better on this host, in one line; empty when this one is as good as it gets.
    [[nodiscard]] virtual std::string drawback() const { return {}; }
    /// What guests see of time in the end.
    [[nodiscard]] virtual TimeStampCounter time_stamp_counter() const { return {}; }
    /// The processor that guests see, for an engine that takes over; after the first CPU was made.
    [[nodiscard]] virtual std::optional<CpuidBase> processor() const { return {}; }
    /// Makes the next CPU; the first is the bootstrap processor.
    virtual Result<std::unique_ptr<Vcpu>> create_vcpu(VcpuId id) = 0;
    /// The A20 gate: with it off, physical address bit 20 reads as 0. Holds from the next guest instruction of every
    /// CPU. Under the machine lock, also from inside a port write.
    virtual void set_a20(bool enabled) = 0;
    /// A message-signalled interrupt to the local APICs. From any thread.
    void send(uint64_t address, uint32_t data) override = 0;
    /// What the IOAPIC's pins would send now; engines that keep the local APIC need the level-triggered vectors to
    /// report EOIs.
    struct IoApicRoute {
        uint64_t address = 0;
        uint32_t data = 0;
        bool level_triggered = false;
        bool masked = true;
    };
    virtual void set_ioapic_routes(std::span<const IoApicRoute> routes) = 0;
    /// Tells GuestMemory::note_write() what the CPUs wrote to the region at `base` since the last call; the first call
    /// for a region reports all of it. Engines that note every write at once have nothing to do. Under the machine
    /// lock.
    virtual void sync_dirty(Gpa /*base*/) {}
    [[nodiscard]] virtual EngineCounters counters() const = 0;
};

class Trace;

/// What a machine asks of an engine when it is made.
struct EngineConfig {
    GuestMemory& memory;
    uint32_t cpus = 1;
    std::string cpu_model = "max";  // name[,+feature][,-feature], see cpu_model.hpp
    /// A machine's counter keeps its rate for life, on whatever engine: that of another engine, or else the engine
    /// chooses.
    TimeStampCounter tsc = {};
    Trace* trace = nullptr;  // what to tell of instructions and interrupts to; may be null
    /// A machine's processors stay what they are, too: those of another engine, less the features that this one lacks,
    /// or else the engine chooses.
    std::optional<CpuidBase> processor = {};
    /// What the engine has that takes over when this one cannot go on: where that can happen, no more is offered.
    CpuFeatureSet successor = CpuFeatureSet::all();
};

}  // namespace viv
