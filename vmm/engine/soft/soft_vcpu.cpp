// The run loop, and what happens between two instructions (SDM 3A, 6.9: priority among events).
#include "vmm/engine/soft/soft_vcpu.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/handlers.hpp"
#include "vmm/engine/soft/host_call.hpp"
#include "vmm/engine/soft/interrupts.hpp"
#include "vmm/engine/soft/run.hpp"
#include "vmm/engine/soft/system.hpp"
#include "vmm/engine/soft/tracing.hpp"
#include "vmm/engine/trace.hpp"

namespace viv::soft {
namespace {
/// Takes a flag down and tells whether it was up; costs next to nothing while it is not.
bool take(std::atomic<bool>& flag) {
    return flag.load(std::memory_order_relaxed) && flag.exchange(false);
}
}  // namespace
namespace {
bool awaits_startup(Activity activity) {
    return activity == Activity::wait_for_sipi || activity == Activity::init_received;
}
}  // namespace

SoftVcpu::SoftVcpu(SoftEngine& engine, VcpuId id)
    : engine_(engine),
      cpu_(std::make_unique<Cpu>()),
      apic_(engine, id.value),
      dirty_takes_(engine.memory.dirty_takes()) {
    cpu_->engine = &engine;
    cpu_->apic = &apic_;
    cpu_->id = id.value;
    cpu_->features = &engine.features;
    if (engine.has_threads()) own_blocks_ = std::make_unique<BlockCache>(engine, &engine.watch);
    cpu_->blocks = own_blocks_ ? own_blocks_.get() : &engine.blocks;
    cpu_->blocks->add_user(*cpu_);
    cpu_->random ^= id.value;
    if (engine.tsc_start != 0) {
        cpu_->tsc_offset = engine.tsc_start - ticks_in(engine.clock.now().ns, engine.features.tsc_hertz);
    }
    load_cpu_state(*cpu_, reset_state(id.value == 0));
    apic_.reset(*cpu_, false);
}

SoftVcpu::~SoftVcpu() {
    engine_.forget(*this);
    own_blocks_.reset();
    if (!engine_.has_threads()) engine_.blocks.remove_user(*cpu_);
}

void SoftVcpu::wake() {
    cpu_->attention.store(true);
    if (!asleep_.load()) return;
    const std::lock_guard hold(sleep_lock_);
    awake_.notify_one();
}

/// Until somebody asks for attention. Each side writes its flag before it reads the other's.
void SoftVcpu::sleep() {
    Cpu& cpu = *cpu_;
    const HostCall call(cpu);
    std::unique_lock hold(sleep_lock_);
    asleep_.store(true);
    if (cpu.monitor.waits) {
        // Nobody tells of a write to the monitored line.
        constexpr auto between_looks = std::chrono::microseconds(50);
        awake_.wait_for(hold, between_looks, [&cpu] { return cpu.attention.load(); });
    } else {
        awake_.wait(hold, [&cpu] { return cpu.attention.load(); });
    }
    asleep_.store(false);
}

void SoftVcpu::post_code_change(const std::byte* host, unsigned size) {
    {
        const std::lock_guard hold(changes_lock_);
        changes_.push_back({host, size});
    }
    code_changed_.store(true);
    wake();
}

void SoftVcpu::take_code_changes() {
    if (!take(code_changed_)) return;
    std::vector<CodeChange> changes;
    {
        const std::lock_guard hold(changes_lock_);
        changes.swap(changes_);
    }
    for (const CodeChange& change : changes) cpu_->blocks->forget(change.host, change.size);
}

void SoftVcpu::note_new_regions() {
    cpu_->regions_changed.store(true);
    wake();
}
void SoftVcpu::kick() {
    kicked_ = true;
    wake();
}
void SoftVcpu::set_intr(bool level) {
    intr_ = level;
    if (level) wake();
}
void SoftVcpu::inject_nmi() {
    ++nmis_;
    wake();
}
void SoftVcpu::post_init() {
    startup_ = -1;  // one that came before is over
    init_ = true;
    wake();
}
void SoftVcpu::post_startup(uint8_t page) {
    startup_ = page;
    wake();
}

uint64_t SoftVcpu::instructions() const {
    return cpu_->retired;
}

Stop SoftVcpu::run(VcpuHost& host, uint64_t budget) {
    std::unique_lock turn(engine_.running, std::defer_lock);
    if (!engine_.has_threads()) turn.lock();
    Cpu& cpu = *cpu_;
    cpu.host = &host;
    cpu.remaining = static_cast<int64_t>(std::min<uint64_t>(budget, std::numeric_limits<int64_t>::max() / 2));
    cpu.slice_start = cpu.remaining;
    engine_.native.enter_guest(cpu);
    if (engine_.has_threads()) engine_.standstill.enter(cpu);
    const bool traced = engine_.trace && engine_.trace->choice().instructions;
    while (true) {
        if (!serve()) {
            if (stop_ != Stop::halted || !engine_.has_threads()) break;
            sleep();
            continue;
        }
        cpu.blocks->collect();
        cpu.block = nullptr;
        try {
            const bool singly =
                traced || cpu.interrupt_shadow || (cpu.eflags & (flag_tf | flag_rf)) || (cpu.dr7 & 0xFF);
            if (singly) {
                if (traced) trace_instruction(cpu);
                step();
            } else {
                run_blocks();
            }
        } catch (const Fault& fault) {
            handle(fault);
        }
    }
    engine_.account_time(cpu);
    engine_.native.leave_guest(cpu);
    if (engine_.has_threads()) engine_.standstill.leave(cpu);
    cpu.host = nullptr;
    return stop_;
}

void deliver_from_block(Cpu& cpu, const Fault& fault) {
    ++cpu.counters.faults;
    cpu.debug_pending = 0;  // what the instruction accessed it will access again
    if (cpu.block) {
        refund(cpu, cpu.at);
        cpu.rip = cpu.current_rip();
    }
    if (fault.vector == vector_none) return;
    if (fault.vector == vector_db) cpu.eflags |= flag_rf;
    deliver(cpu, fault);
}

const Insn* faulted(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    const uint32_t old_eflags = cpu.eflags;
    deliver_from_block(cpu, cpu.fault);
    cpu.trap_suppressed = true;
    return arrive(cpu, old_eflags);
}

/// Executes from one block on until something has to be looked at.
void SoftVcpu::run_blocks() {
    Cpu& cpu = *cpu_;
    Block* block = fetch_block(cpu, cpu.rip, cpu.flavour);
    if (cpu.remaining < block->count) return step();
    cpu.block = block;
    const Insn* i = enter(cpu, block, cpu.rip);
    while (i) i = i->handler(cpu, i);
}

/// Executes exactly one instruction.
void SoftVcpu::step() {
    Cpu& cpu = *cpu_;
    if (!(cpu.eflags & flag_rf) && !cpu.interrupt_shadow) check_code_breakpoint(cpu);
    step(*fetch_block(cpu, cpu.rip, cpu.flavour | Flavour::single));
}

void SoftVcpu::step(Block& block) {
    Cpu& cpu = *cpu_;
    const bool trap = cpu.eflags & flag_tf;
    cpu.trap_suppressed = false;
    cpu.block = &block;
    cpu.gpr[17] = cpu.rip;
    cpu.remaining -= 1;
    cpu.interrupt_shadow = false;
    cpu.eflags &= ~flag_rf;
    cpu.attention.store(true, std::memory_order_relaxed);  // no way on from here into other blocks
    const Insn* i = start(cpu, block.first());
    while (i) i = i->handler(cpu, i);
    if (trap && !cpu.trap_suppressed) cpu.debug_pending |= 0x4000;
}

void SoftVcpu::deliver_debug_trap() {
    Cpu& cpu = *cpu_;
    if (cpu.debug_pending == 0) return;
    cpu.report_debug(cpu.debug_pending);
    cpu.debug_pending = 0;
    deliver(cpu, Fault{vector_db, false, 0, 0});
}

bool SoftVcpu::execute_single(VcpuHost& host, Block& block) {
    Cpu& cpu = *cpu_;
    cpu.host = &host;
    cpu.slice_start = cpu.remaining = 1;
    engine_.native.enter_guest(cpu);
    const auto leave = [&] {
        cpu.block = nullptr;
        engine_.native.leave_guest(cpu);
        cpu.host = nullptr;
    };
    try {
        step(block);
    } catch (const Fault& fault) {
        handle(fault);
    } catch (...) {  // the host's, out of an access
        cpu.rip = cpu.current_rip();
        leave();
        throw;
    }
    deliver_debug_trap();
    leave();
    return !std::exchange(cpu.shutdown, false);
}

void SoftVcpu::handle(const Fault& fault) {
    deliver_from_block(*cpu_, fault);
    cpu_->block = nullptr;
}

void SoftVcpu::check_dirty_epoch() {
    const uint64_t takes = engine_.memory.dirty_takes();
    if (takes == dirty_takes_) return;
    dirty_takes_ = takes;
    // Pages that can be written directly may have been, since; the next write to each asks again.
    for (Tlb& tlb : cpu_->tlbs) {
        for (unsigned n = 0; n < tlb.used_count; ++n) {
            TlbEntry& entry = tlb.entries[tlb.used[n]];
            if (entry.write == TlbEntry::no_tag) continue;
            engine_.memory.mark_dirty(Gpa{entry.physical}, 0x1000);
            entry.write = TlbEntry::no_tag;
        }
    }
}

/// What happened to guest memory, apart from this CPU's own writes.
void SoftVcpu::check_memory() {
    check_dirty_epoch();
    if (take(cpu_->regions_changed)) {
        cpu_->blocks->clear();
        flush_tlb(*cpu_);
    }
    if (engine_.memory_changed->exchange(false)) {
        engine_.blocks.clear();
        for (SoftVcpu* vcpu : engine_.vcpus) flush_tlb(vcpu->cpu());
    }
    take_code_changes();
    static_cast<void>(cpu_->blocks->memory_moved());
}

bool SoftVcpu::serve_reset_messages() {
    Cpu& cpu = *cpu_;
    if (take(init_)) {
        // INIT keeps the caches, the x87 and SSE state and most MSRs (SDM 3A, table 10-1).
        CpuState state = save_cpu_state(cpu);
        const CpuState reset = reset_state(cpu.apic_base & 0x100);
        state.gpr = reset.gpr;
        state.gpr[RDX] = 0x306C3;
        state.rip = reset.rip;
        state.rflags = reset.rflags;
        state.cs = reset.cs;
        for (auto* s : {&state.ds, &state.es, &state.fs, &state.gs, &state.ss}) *s = reset.ds;
        state.ldtr = reset.ldtr;
        state.tr = reset.tr;
        state.gdtr = reset.gdtr;
        state.idtr = reset.idtr;
        state.cr0 = 0x10 | (cpu.cr0 & (cr0_cd | cr0_nw));
        state.cr2 = state.cr3 = state.cr4 = state.efer = 0;
        state.dr = {};
        state.dr6 = reset.dr6;
        state.dr7 = reset.dr7;
        state.activity = cpu.apic_base & 0x100 ? Activity::running : Activity::init_received;
        state.event_pending = state.nmi_pending = state.nmi_blocked = state.interrupt_shadow = false;
        load_cpu_state(cpu, state);
        apic_.reset(cpu, true);
    }
    const int page = startup_.load(std::memory_order_relaxed) < 0 ? -1 : startup_.exchange(-1);
    if (page >= 0 && awaits_startup(cpu.activity)) {
        cpu.seg[CS].selector = static_cast<uint16_t>(page << 8);
        cpu.seg[CS].base = static_cast<uint64_t>(page) << 12;
        cpu.rip = 0;
        cpu.activity = Activity::running;
        update_mode(cpu);
    }
    return !awaits_startup(cpu.activity);
}

/// One NMI is in service and one waits, as in hardware; more are one.
void SoftVcpu::collect_nmis() {
    Cpu& cpu = *cpu_;
    if (nmis_.load(std::memory_order_relaxed) == 0) return;
    const uint32_t most = cpu.nmi_blocked ? 1 : 2;
    cpu.nmis_pending = static_cast<uint8_t>(std::min(most, cpu.nmis_pending + nmis_.exchange(0)));
}

bool SoftVcpu::interrupt_waits() {
    Cpu& cpu = *cpu_;
    // Also what its priority still holds back: an EOI may let it through without another look.
    cpu.interrupt_held = intr_.load() || apic_.has_requests();
    if (!cpu.interrupt_held || !(cpu.eflags & flag_if)) return false;
    if (intr_.load() && apic_.passes_external(cpu)) return true;
    return apic_.pending().has_value();
}

void SoftVcpu::take_interrupt() {
    Cpu& cpu = *cpu_;
    uint8_t vector = 0;
    if (intr_.load() && apic_.passes_external(cpu)) {
        const HostCall call(cpu);
        vector = cpu.host->acknowledge_interrupt();
    } else {
        const auto pending = apic_.pending();
        if (!pending) return;
        vector = *pending;
        apic_.accept(vector);
    }
    ++cpu.counters.interrupts;
    deliver(cpu, Fault{vector, false, 0, 0}, Source::external);
    // What it interrupted may have been looked at with another stack or privilege; look again at once.
    cpu.attention.store(true, std::memory_order_relaxed);
}

bool SoftVcpu::serve() {
    Cpu& cpu = *cpu_;
    const bool attention = take(cpu.attention);
    const auto stop = [&](Stop reason) {
        stop_ = reason;
        return false;
    };
    if (take(kicked_)) {
        cpu.attention = true;
        return stop(Stop::kicked);
    }
    if (attention || cpu.remaining == cpu.slice_start) {
        if (engine_.has_threads() && engine_.standstill.wanted()) {
            engine_.standstill.leave(cpu);
            engine_.standstill.enter(cpu);
        }
        check_memory();
        const uint64_t physical_mask = engine_.a20_enabled ? ~uint64_t{0} : ~uint64_t{0x100000};
        if (cpu.physical_mask != physical_mask) {
            cpu.physical_mask = physical_mask;
            flush_tlb(cpu);
        }
    }
    if (!serve_reset_messages()) return stop(Stop::halted);
    if (cpu.shutdown) return stop(Stop::shutdown);
    apic_.collect();
    collect_nmis();
    if (cpu.activity == Activity::halted) {
        const bool woken =
            cpu.event_pending || (cpu.nmis_pending && !cpu.nmi_blocked) || interrupt_waits() || monitor_ends(cpu);
        if (!woken) return stop(Stop::halted);
        cpu.monitor.waits = false;
        cpu.activity = Activity::running;
    }
    if (cpu.event_pending) {
        cpu.event_pending = false;
        deliver(cpu, cpu.event, cpu.event_is_exception ? Source::exception : Source::external);
    }
    // MOV SS puts traps off, too; STI does not.
    if (!cpu.interrupt_shadow || !cpu.trap_suppressed) deliver_debug_trap();
    if (!cpu.interrupt_shadow) {
        if (cpu.nmis_pending && !cpu.nmi_blocked) {
            --cpu.nmis_pending;
            deliver(cpu, Fault{vector_nmi, false, 0, 0}, Source::external);
            cpu.nmi_blocked = true;
            cpu.interrupt_held = true;
        } else if (interrupt_waits()) {
            take_interrupt();
        }
    }
    if (cpu.shutdown) return stop(Stop::shutdown);
    if (std::exchange(cpu.yields, false) || cpu.remaining <= 0) return stop(Stop::budget);
    return true;
}

Result<CpuState> SoftVcpu::state() {
    // Messages that arrived since the last run: a state has no place for them.
    serve_reset_messages();
    collect_nmis();
    CpuState state = save_cpu_state(*cpu_);
    state.lapic = apic_.save(*cpu_);
    return state;
}

Result<void> SoftVcpu::set_state(const CpuState& state) {
    TRY(check_cpu_state(*cpu_, state));
    load_cpu_state(*cpu_, state);
    apic_.load(*cpu_, state.lapic);
    const auto deadline = std::ranges::find(state.msrs, uint32_t{0x6E0}, &Msr::index);
    if (deadline != state.msrs.end()) apic_.set_tsc_deadline(*cpu_, deadline->value);
    nmis_ = 0;
    init_ = false;
    startup_ = -1;
    wake();
    return {};
}

}  // namespace viv::soft
