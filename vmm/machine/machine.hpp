#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "devices/interrupt/interrupt_controller.hpp"
#include "devices/interrupt/ioapic_control.hpp"
#include "devices/interrupt/isa_irqs.hpp"
#include "devices/network/link/cables.hpp"
#include "devices/network/link/link_activity.hpp"
#include "devices/storage/drive_registry.hpp"
#include "devices/storage/image/disk_queue.hpp"
#include "devices/system/cfi_flash.hpp"
#include "devices/system/nvram.hpp"
#include "vmm/boot/kernel.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/entropy.hpp"
#include "vmm/core/event_loop.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/machine_lock.hpp"
#include "vmm/core/services.hpp"
#include "vmm/core/system_control.hpp"
#include "vmm/engine/engine.hpp"
#include "vmm/engine/trace.hpp"
#include "vmm/machine/builder.hpp"
#include "vmm/machine/engine_choice.hpp"
#include "vmm/machine/engine_doorbells.hpp"

namespace viv {

struct OptionRom;

class CoprocessorErrors;
class PciBus;

/// Created: made, not yet powered on. Stopped is final.
enum class Phase { created, running, paused, stopped };

/// How a run ended.
struct Outcome {
    enum class Kind {
        guest_exit,   // through the exit port
        powered_off,  // by the guest
        died,         // the engine could not go on, or a triple fault that was to end the run
        stopped,      // by the host
    };
    Kind kind = Kind::stopped;
    uint8_t exit_code = 0;  // of guest_exit
    std::string text;       // the reason, for died
};

enum class TripleFault { reset, stop };

/// What drives guest time.
struct ClockChoice {
    bool virtual_time = false;
    uint64_t mips = 100;  // of virtual time: instructions a microsecond
};

struct MachineConfig {
    TreeNode board;
    std::function<Result<ChosenEngine>(const EngineConfig&, EngineClock)> make_engine;
    ClockChoice clock;
    int64_t wall_time = 0;  // Unix time at power-on, seconds
    TripleFault on_triple_fault = TripleFault::reset;
    std::unique_ptr<Trace> trace;  // may be null
    /// Makes KVM count instructions, too, which it does a thousand times slower than it runs.
    bool count_instructions = false;
};

/// One PC: memory, buses, devices and CPUs made from a board, and the threads that run them: one per CPU, and one for
/// the event loop; on virtual time one for all. All control calls are made under lock(), which handlers of the event
/// loop hold anyway; they ask, and return at once.
class Machine final : private SystemControl, private VcpuHost, private IrqSink {
  public:
    /// Errors: a wrong board (usage), or what the host refuses.
    static Result<std::unique_ptr<Machine>> create(MachineConfig config);
    ~Machine() override;
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    /// Powers on and runs. Not under the lock; once.
    void start();
    void pause();
    void resume();
    /// RESET# of the whole board, then power-on.
    void reset(std::string_view source);
    using MoveEnd = std::move_only_function<void(const Result<void>& moved)>;
    /// Moves the machine to another engine, CPUs, local APICs and pending interrupts included, as soon as all CPUs are
    /// between two instructions, and calls `done` under the lock. When it fails the machine goes on as it was. Not to
    /// KVM on virtual time.
    void request_engine(EngineKind kind, MoveEnd done);
    /// How often it has moved.
    [[nodiscard]] uint64_t engine_moves() const { return engine_moves_; }
    /// Ends the run with this outcome; the first outcome stays.
    void stop(Outcome outcome);
    [[nodiscard]] Phase phase() const { return phase_; }
    /// Blocks until the run has ended, or for so long (host time): then nothing is returned. Not under the lock.
    std::optional<Outcome> wait(std::optional<Duration> at_most = std::nullopt);
    /// Ends the run, if nothing has yet, and returns when no thread of the machine runs any more: a CPU may still be
    /// inside a device when wait() returns. From here on its state stands still and nobody is called. Not under the
    /// lock.
    void finish();
    /// Called under the lock when the run has ended.
    void on_stopped(std::move_only_function<void()> listener) { on_stopped_ = std::move(listener); }

    [[nodiscard]] std::mutex& lock() { return lock_; }
    [[nodiscard]] EventLoop& loop() { return loop_; }
    [[nodiscard]] Clock& clock() { return *clock_; }
    [[nodiscard]] Services& services() { return services_; }
    [[nodiscard]] GuestMemory& memory() { return memory_; }
    [[nodiscard]] Engine& engine() { return *engine_; }
    /// Why it is this engine, when it was chosen and not asked for.
    [[nodiscard]] const std::string& engine_reason() const { return chosen_.reason; }
    /// Instructions that all CPUs have retired, as far as engines counted them.
    [[nodiscard]] uint64_t instructions() const;
    /// The counters of the engine, and of those before it.
    [[nodiscard]] EngineCounters engine_counters() const;
    [[nodiscard]] const Bus& ports() const { return ports_; }
    [[nodiscard]] const Bus& memory_bus() const { return memory_bus_; }
    /// The state of every CPU and device, a node each. Under the lock, while no CPU runs: paused, or finished.
    Result<TreeNode> state();
    /// SHA-256 over state() and all of RAM, in hexadecimal: equal for equal runs. As state().
    Result<std::string> digest();
    [[nodiscard]] uint64_t resets() const { return resets_; }
    [[nodiscard]] const std::string& last_reset_source() const { return last_reset_source_; }

  private:
    Machine();
    Result<void> build(MachineConfig config);
    Result<void> add_ram(uint64_t size);
    void set_boot_choices();
    Result<void> read_option_roms();
    Result<void> install_firmware();
    Result<void> open_kernel();
    void power_on(ResetKind kind);
    void set_cpu_states(const CpuState& bootstrap);
    [[nodiscard]] bool is_busy() const { return pending_reset_ || pending_cpu_init_ || pending_engine_; }
    void kick_cpus();
    void carry_out_requests();
    Result<void> move_to_engine(EngineKind kind);
    /// Features that the guest knows and the engine does not have; empty when they were told before.
    std::string newly_missing_features();
    void carry_out_move();
    void ask_for_engine(EngineKind kind);
    /// On virtual time CPUs, timers and host events take turns in one thread.
    [[nodiscard]] bool one_loop() const { return virtual_clock_ != nullptr; }
    void run_cpu(size_t index);
    void run_one_loop();
    bool run_round(std::unique_lock<std::mutex>& hold);
    void let_time_pass(VirtualTime deadline, std::unique_lock<std::mutex>& hold);
    void trace_exits();
    /// What CPU `index` calls: the machine, or what traces on the way to it.
    VcpuHost& host_of(size_t index) {
        return tracing_hosts_.empty() ? static_cast<VcpuHost&>(*this) : *tracing_hosts_[index];
    }
    /// Waits for what devices have under way beside the machine, and tells them.
    void end_bulk_work();
    void pause_clock();
    void resume_clock();
    void handle_stop(Vcpu& cpu, Stop reason);
    void forward_ioapic_routes();

    // SystemControl
    void request_reset(std::string_view source) override;
    void request_power_off(std::string_view source) override;
    void request_exit(uint8_t code) override;
    void set_a20(A20Gate gate, bool enabled) override;
    [[nodiscard]] bool a20() const override { return a20_gates_[0] || a20_gates_[1]; }
    void request_cpu_init(std::string_view source) override;
    // VcpuHost
    uint64_t port_read(uint16_t port, uint8_t size) override { return ports_.read(port, size); }
    void port_write(uint16_t port, uint8_t size, uint64_t value) override { ports_.write(port, size, value); }
    void port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) override {
        ports_.read_block(port, size, data);
    }
    void port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) override {
        ports_.write_block(port, size, data);
    }
    uint64_t memory_read(Gpa address, uint8_t size) override { return memory_bus_.read(address.value, size); }
    void memory_write(Gpa address, uint8_t size, uint64_t value) override {
        memory_bus_.write(address.value, size, value);
    }
    uint8_t acknowledge_interrupt() override;
    void end_of_interrupt(uint8_t vector) override;
    bool x87_error(bool pending) override;
    void hold_memory() override { hold_machine(lock_).release(); }
    void release_memory() override { lock_.unlock(); }
    // IrqSink: INTR of the 8259A pair
    void set_irq_level(unsigned pin, bool level) override;

    std::mutex lock_;  // the machine lock: everything below but the CPUs' insides
    std::condition_variable cpus_may_run_;
    std::condition_variable ended_;
    std::unique_ptr<HostClock> host_clock_;  // one of the two
    std::unique_ptr<VirtualClock> virtual_clock_;
    Clock* clock_ = nullptr;  // that one
    GuestMemory memory_;
    Bus ports_;
    Bus memory_bus_;
    EventLoop loop_;
    std::unique_ptr<EntropySource> entropy_;
    Services services_;
    IsaIrqs isa_irqs_;
    DriveRegistry drives_;
    LinkActivity links_;
    Cables cables_;
    std::unique_ptr<DiskWork> disk_work_;  // on host time only
    EngineDoorbells doorbells_;            // likewise
    TreeNode board_;
    uint64_t memory_size_ = 0;
    TripleFault on_triple_fault_ = TripleFault::reset;
    bool count_instructions_ = false;
    std::string cpu_model_ = "max";
    EngineClock engine_clock_;
    std::unique_ptr<Trace> trace_;  // outlives the engine
    ChosenEngine chosen_;
    Engine* engine_ = nullptr;  // of chosen_
    std::vector<std::unique_ptr<Vcpu>> cpus_;
    std::optional<CpuidBase> processor_;                       // as the guest has known it since power-on
    CpuFeatureSet told_missing_;                               // of its features; told once
    std::vector<std::unique_ptr<TracingHost>> tracing_hosts_;  // a CPU each, or none
    std::vector<BuiltDevice> devices_;
    InterruptController* pic_ = nullptr;
    IoApicControl* ioapic_ = nullptr;
    CoprocessorErrors* coprocessor_errors_ = nullptr;
    PciBus* pci_ = nullptr;
    Nvram* nvram_ = nullptr;
    bool other_firmware_ = false;           // it powers the board on, not we
    FirmwareRom firmware_rom_;              // of that one
    std::vector<OptionRom> option_roms_;    // that the board names
    std::unique_ptr<boot::Kernel> kernel_;  // booted instead of a boot sector

    Phase phase_ = Phase::created;
    size_t parked_ = 0;  // CPU threads that wait
    bool pending_reset_ = false;
    bool pending_cpu_init_ = false;
    std::optional<EngineKind> pending_engine_;
    std::string move_reason_;  // why the machine must move, when it must
    MoveEnd move_end_;         // who asked for it, when somebody did
    uint64_t engine_moves_ = 0;
    uint64_t past_instructions_ = 0;  // of the engines before this one
    EngineCounters past_counters_;
    std::array<bool, 2> a20_gates_{};
    uint64_t resets_ = 0;
    std::string last_reset_source_;
    std::optional<Outcome> outcome_;
    std::move_only_function<void()> on_stopped_;
    std::vector<std::jthread> cpu_threads_;
    std::jthread loop_thread_;
};

}  // namespace viv
