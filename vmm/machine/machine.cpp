#include "vmm/machine/machine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "devices/pci/pci_bus.hpp"
#include "devices/system/coprocessor_errors.hpp"
#include "devices/system/firmware_disk.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/firmware/firmware_rom.hpp"
#include "vmm/firmware/fw_cfg_items.hpp"
#include "vmm/firmware/option_roms.hpp"
#include "vmm/firmware/power_on.hpp"
#include "vmm/machine/registry.hpp"

namespace viv {

Machine::Machine() : ports_(Bus::Kind::ports, &lock_), memory_bus_(Bus::Kind::memory, &lock_), loop_(lock_) {}

Result<std::unique_ptr<Machine>> Machine::create(MachineConfig config) {
    std::unique_ptr<Machine> machine(new Machine());
    TRY(machine->build(std::move(config)));
    return machine;
}

Result<void> Machine::add_ram(uint64_t size) {
    const auto layout = firmware::memory_layout(size);
    constexpr uint64_t low_end = 0xA0000, high_start = 0x100000;
    TRY(memory_.add(Gpa{0}, low_end, GuestMemory::Kind::ram, "RAM below 640 KiB"));
    if (layout.below_4g > high_start) {
        TRY(memory_.add(Gpa{high_start}, layout.below_4g - high_start, GuestMemory::Kind::ram, "RAM above 1 MiB"));
    }
    if (layout.above_4g) {
        TRY(memory_.add(Gpa{uint64_t{1} << 32}, layout.above_4g, GuestMemory::Kind::ram, "RAM above 4 GiB"));
    }
    return {};
}

Result<void> Machine::build(MachineConfig config) {
    board_ = std::move(config.board);
    trace_ = std::move(config.trace);
    on_triple_fault_ = config.on_triple_fault;
    count_instructions_ = config.count_instructions;
    memory_size_ = TRY(memory_size(board_));
    const uint32_t cpus = cpu_count(board_);
    if (cpus < 1 || cpus > 16)
        return fail_usage(fmt::format("/cpus: a machine has 1 to 16 CPUs, the board has {}", cpus));
    TRY(add_ram(memory_size_));
    TRY(install_firmware());

    if (const TreeNode* chosen = board_.child("chosen")) {
        cpu_model_ = chosen->string("viv,cpu-model").value_or(cpu_model_);
    }
    if (config.clock.virtual_time) {
        virtual_clock_ = std::make_unique<VirtualClock>(config.clock.mips);
        const TreeNode* chosen = board_.child("chosen");
        entropy_ = std::make_unique<SeededEntropy>(chosen ? chosen->u32("viv,seed").value_or(0) : 0);
        clock_ = virtual_clock_.get();
        engine_clock_ = virtual_clock_.get();
    } else {
        entropy_ = std::make_unique<HostEntropy>();
        host_clock_ = std::make_unique<HostClock>();
        host_clock_->pause();
        host_clock_->set({0});
        clock_ = host_clock_.get();
        engine_clock_ = host_clock_.get();
    }
    chosen_ = TRY(config.make_engine({.memory = memory_, .cpus = cpus, .cpu_model = cpu_model_, .trace = trace_.get()},
                                     engine_clock_));
    engine_ = chosen_.engine.get();
    memory_.on_sync([this](Gpa base) { engine_->sync_dirty(base); });
    for (uint32_t i = 0; i < cpus; ++i) cpus_.push_back(TRY(engine_->create_vcpu(VcpuId{i})));
    processor_ = engine_->processor();
    if (trace_) trace_exits();

    services_.provide(isa_irqs_);
    services_.provide(drives_);
    services_.provide(links_);
    services_.provide(cables_);
    if (host_clock_) {
        disk_work_ = std::make_unique<DiskWork>(loop_, memory_);
        services_.provide(*disk_work_);
        doorbells_.use(*engine_);
        services_.provide<Doorbells>(doorbells_);
    }
    services_.provide(*entropy_);
    // No thread runs yet, but devices may look at the clock and the loop: they are made under the lock as they will
    // live.
    const std::lock_guard hold(lock_);
    devices_ = TRY(
        build_devices(board_, {ports_, memory_bus_, memory_, *clock_, loop_, services_,
                               static_cast<SystemControl&>(*this), isa_irqs_, config.wall_time, find_device_maker}));
    pci_ = services_.find<PciBus>();
    if (pci_) pci_->connect(*engine_);
    if (!other_firmware_) TRY(firmware::install_tables(memory_, pci_ != nullptr));
    nvram_ = services_.find<Nvram>();
    if (!nvram_) return fail_usage("the board has no real-time clock (motorola,mc146818), which power-on needs");
    pic_ = services_.find<InterruptController>();
    if (pic_) pic_->connect_intr(*this, 0);
    coprocessor_errors_ = services_.find<CoprocessorErrors>();
    ioapic_ = services_.find<IoApicControl>();
    if (ioapic_) {
        ioapic_->connect(*engine_);
        ioapic_->on_route_change([this] { forward_ioapic_routes(); });
    }
    TRY(firmware::fill_fw_cfg(services_, board_));
    set_boot_choices();
    TRY(read_option_roms());
    return open_kernel();
}

Result<void> Machine::install_firmware() {
    const TreeNode* chosen = board_.child("chosen");
    const auto path = chosen ? chosen->string("viv,firmware") : std::nullopt;
    if (!path) return firmware::install_roms(memory_);
    if (chosen->has("viv,kernel")) {
        return fail_usage(fmt::format(
            "a kernel is booted without firmware, so '{}' would not run: give either a kernel or a firmware", *path));
    }
    other_firmware_ = true;
    firmware_rom_.base = TRY(firmware::install_firmware_rom(memory_, *path)).value;
    services_.provide(firmware_rom_);
    return {};
}

Result<void> Machine::open_kernel() {
    const TreeNode* chosen = board_.child("chosen");
    if (!chosen) return {};
    if (!chosen->has("viv,kernel")) {
        for (const char* property : {"viv,initrd", "viv,load-address", "viv,kernel-entry", "bootargs"}) {
            if (chosen->has(property))
                return fail_usage(fmt::format("/chosen: `{}` is of no use without `viv,kernel`", property));
        }
        return {};
    }
    boot::KernelMachine facts{firmware::memory_map(memory_size_), firmware::acpi_rsdp(board_)};
    kernel_ = TRY(boot::open_kernel(*chosen, std::move(facts)));
    return {};
}

Result<void> Machine::read_option_roms() {
    const TreeNode* chosen = board_.child("chosen");
    const auto paths = chosen ? chosen->strings("viv,option-roms") : std::vector<std::string>();
    if (!paths.empty() && !pci_) {
        return fail_usage("option ROMs need a board with a PCI host bridge, which has the memory for them");
    }
    for (const std::string& path : paths) option_roms_.push_back({TRY(firmware::read_option_rom(path))});
    return {};
}

void Machine::set_boot_choices() {
    FirmwarePort* firmware = services_.find<FirmwarePort>();
    const TreeNode* chosen = board_.child("chosen");
    if (!firmware || !chosen) return;
    if (chosen->has("viv,boot-order")) firmware->set_boot_order(chosen->strings("viv,boot-order"));
    firmware->set_boot_menu(
        chosen->has("viv,boot-menu") ? FirmwarePort::BootMenu::always : FirmwarePort::BootMenu::on_f12,
        chosen->u32("viv,boot-menu-wait").value_or(0));
}

void Machine::finish() {
    {
        const std::lock_guard hold(lock_);
        stop({});
    }
    cpu_threads_.clear();
    loop_.stop();
    if (loop_thread_.joinable()) loop_thread_.join();
    const std::lock_guard hold(lock_);
    end_bulk_work();
}

void Machine::end_bulk_work() {
    if (disk_work_) disk_work_->drain();
}

Machine::~Machine() {
    finish();
    // Devices let go of watches and timers under the lock, like any other time.
    const std::lock_guard hold(lock_);
    while (!devices_.empty()) devices_.pop_back();
}

void Machine::start() {
    {
        const std::lock_guard hold(lock_);
        VIV_ASSERT(phase_ == Phase::created);
        power_on(ResetKind::power_on);
        phase_ = Phase::running;
        resume_clock();
        if (host_clock_) loop_.drive(*host_clock_);
        if (one_loop()) {
            cpu_threads_.emplace_back([this] { run_one_loop(); });
            return;
        }
        loop_thread_ = std::jthread([this] { loop_.run(); });
        for (size_t i = 0; i < cpus_.size(); ++i) cpu_threads_.emplace_back([this, i] { run_cpu(i); });
    }
}

void Machine::pause() {
    if (phase_ != Phase::running) return;
    phase_ = Phase::paused;
    pause_clock();
    kick_cpus();
}

void Machine::resume() {
    if (phase_ != Phase::paused) return;
    phase_ = Phase::running;
    resume_clock();
    loop_.clock_changed();
    cpus_may_run_.notify_all();
}

void Machine::reset(std::string_view source) {
    request_reset(source);
}

void Machine::stop(Outcome outcome) {
    if (phase_ == Phase::stopped) return;
    phase_ = Phase::stopped;
    // A CPU's thread takes with it what it gave io_uring to do.
    end_bulk_work();
    pause_clock();
    outcome_ = std::move(outcome);
    kick_cpus();
    cpus_may_run_.notify_all();
    ended_.notify_all();
    if (on_stopped_) on_stopped_();
}

std::optional<Outcome> Machine::wait(std::optional<Duration> at_most) {
    std::unique_lock hold(lock_);
    const auto has_ended = [this] { return outcome_.has_value(); };
    if (at_most) {
        ended_.wait_for(hold, *at_most, has_ended);
    } else {
        ended_.wait(hold, has_ended);
    }
    return outcome_;
}

void Machine::kick_cpus() {
    for (auto& cpu : cpus_) cpu->kick();
    // The single loop may be asleep with all CPUs halted.
    if (one_loop()) loop_.post([] {});
}

void Machine::pause_clock() {
    if (host_clock_) host_clock_->pause();
}

void Machine::resume_clock() {
    if (host_clock_) host_clock_->resume();
}

uint64_t Machine::instructions() const {
    uint64_t total = past_instructions_;
    for (const auto& cpu : cpus_) total += cpu->instructions();
    return total;
}

EngineCounters Machine::engine_counters() const {
    EngineCounters all = past_counters_;
    for (const auto& [name, value] : engine_->counters()) {
        const auto known = std::ranges::find(all, name, &EngineCounters::value_type::first);
        if (known == all.end()) {
            all.emplace_back(name, value);
        } else {
            known->second += value;
        }
    }
    return all;
}

void Machine::power_on(ResetKind kind) {
    for (BuiltDevice& built : devices_) built.device->reset(kind);
    const firmware::Board board{memory_,
                                ports_,
                                memory_bus_,
                                pci_,
                                *nvram_,
                                drives_,
                                board_,
                                memory_size_,
                                static_cast<uint32_t>(cpus_.size()),
                                services_.find<FirmwarePort>(),
                                option_roms_};
    if (other_firmware_) {
        firmware::prepare_for_other_firmware(board);
        return set_cpu_states(reset_state(true));
    }
    const CpuState bios_entry = firmware::power_on(board);
    set_cpu_states(kernel_ ? kernel_->load(memory_) : bios_entry);
}

void Machine::set_cpu_states(const CpuState& bootstrap) {
    std::vector<Msr> memory_types;
    if (!other_firmware_) {
        constexpr unsigned least_address_bits = 36;
        const auto processor = engine_->processor();
        memory_types = firmware::memory_types(processor ? processor->physical_address_bits : least_address_bits);
    }
    for (size_t i = 0; i < cpus_.size(); ++i) {
        CpuState state = i == 0 ? bootstrap : reset_state(false);
        state.msrs = memory_types;
        auto done = cpus_[i]->set_state(state);
        if (!done) {
            stop({Outcome::Kind::died, 0, fmt::format("cannot reset CPU {}: {}", i, done.error().message)});
            return;
        }
    }
}

void Machine::carry_out_requests() {
    if (phase_ == Phase::stopped) return;
    if (phase_ == Phase::paused || is_busy()) end_bulk_work();
    if (pending_engine_) carry_out_move();
    const bool cpu_init = std::exchange(pending_cpu_init_, false) && !pending_reset_;
    if (cpu_init && other_firmware_) {
        set_cpu_states(reset_state(true));
    } else if (cpu_init) {
        const auto resumed =
            firmware::resume_after_cpu_reset({memory_, ports_, memory_bus_, pci_, *nvram_, drives_, board_,
                                              memory_size_, static_cast<uint32_t>(cpus_.size())});
        if (resumed) {
            set_cpu_states(*resumed);
        } else {
            pending_reset_ = true;
        }
    }
    if (std::exchange(pending_reset_, false)) {
        ++resets_;
        power_on(ResetKind::hard);
    }
    cpus_may_run_.notify_all();
}

void Machine::trace_exits() {
    for (uint32_t i = 0; i < cpus_.size(); ++i) {
        tracing_hosts_.push_back(std::make_unique<TracingHost>(static_cast<VcpuHost&>(*this), *trace_, VcpuId{i},
                                                               [this, i] { return cpus_[i]->instructions(); }));
    }
}

/// The thread of a CPU, until the run ends.
void Machine::run_cpu(size_t index) {
    std::unique_lock hold(lock_);
    const uint64_t budget = count_instructions_ ? ~uint64_t{0} - 1 : ~uint64_t{0};
    while (true) {
        ++parked_;
        // The last one to come to rest does what needs them all at rest.
        if (parked_ == cpus_.size()) carry_out_requests();
        cpus_may_run_.wait(hold,
                           [this] { return phase_ == Phase::stopped || (phase_ == Phase::running && !is_busy()); });
        --parked_;
        if (phase_ == Phase::stopped) return;
        Vcpu& cpu = *cpus_[index];
        hold.unlock();
        const Stop reason = cpu.run(host_of(index), budget);
        hold.lock();
        handle_stop(cpu, reason);
    }
}

void Machine::handle_stop(Vcpu& cpu, Stop reason) {
    switch (reason) {
        case Stop::budget:
        case Stop::kicked:
        case Stop::halted: break;
        case Stop::shutdown:
            if (on_triple_fault_ == TripleFault::stop) {
                const auto state = cpu.state();
                stop({Outcome::Kind::died, 0,
                      "the guest's CPU shut down (triple fault)\n" + (state ? to_text(*state) : std::string())});
            } else {
                request_reset("triple fault");
            }
            break;
        case Stop::unsupported:
            move_reason_ = cpu.failure();
            ask_for_engine(EngineKind::soft);
            break;
        case Stop::failed: stop({Outcome::Kind::died, 0, cpu.failure()}); break;
    }
}

void Machine::request_reset(std::string_view source) {
    if (phase_ == Phase::stopped) return;
    pending_reset_ = true;
    last_reset_source_ = source;
    if (parked_ == cpus_.size() && phase_ == Phase::paused) {
        carry_out_requests();
    } else {
        kick_cpus();
    }
}

void Machine::request_cpu_init(std::string_view source) {
    if (phase_ == Phase::stopped) return;
    pending_cpu_init_ = true;
    last_reset_source_ = source;
    kick_cpus();
}

void Machine::request_power_off(std::string_view source) {
    stop({Outcome::Kind::powered_off, 0, std::string(source)});
}

void Machine::request_exit(uint8_t code) {
    stop({Outcome::Kind::guest_exit, code, {}});
}

void Machine::set_a20(A20Gate gate, bool enabled) {
    a20_gates_[gate == A20Gate::port_92] = enabled;
    engine_->set_a20(a20());
}

uint8_t Machine::acknowledge_interrupt() {
    const std::lock_guard hold(lock_);
    return pic_->acknowledge();
}

void Machine::end_of_interrupt(uint8_t vector) {
    const std::lock_guard hold(lock_);
    if (ioapic_) ioapic_->end_of_interrupt(vector);
}

bool Machine::x87_error(bool pending) {
    const std::lock_guard hold(lock_);
    return !coprocessor_errors_ || coprocessor_errors_->set_ferr(pending);
}

void Machine::set_irq_level(unsigned, bool level) {
    if (!cpus_.empty()) cpus_.front()->set_intr(level);
}

void Machine::forward_ioapic_routes() {
    std::array<Engine::IoApicRoute, IoApicControl::pin_count> copy;
    const auto routes = ioapic_->routes();
    for (size_t i = 0; i < copy.size(); ++i) {
        copy[i] = {routes[i].address, routes[i].data, routes[i].level, routes[i].masked};
    }
    engine_->set_ioapic_routes(copy);
}

}  // namespace viv
