#include "vmm/engine/soft/lapic.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/host_call.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/soft_vcpu.hpp"

namespace viv::soft {
namespace {

// Register offsets (SDM 3A, table 11-1).
constexpr uint32_t reg_id = 0x20, reg_version = 0x30, reg_tpr = 0x80, reg_apr = 0x90, reg_ppr = 0xA0, reg_eoi = 0xB0,
                   reg_ldr = 0xD0, reg_dfr = 0xE0, reg_svr = 0xF0, reg_isr = 0x100, reg_tmr = 0x180, reg_irr = 0x200,
                   reg_esr = 0x280, reg_icr_low = 0x300, reg_icr_high = 0x310, reg_lvt_timer = 0x320,
                   reg_lvt_error = 0x370, reg_initial = 0x380, reg_current = 0x390, reg_divide = 0x3E0,
                   reg_self_ipi = 0x3F0;
enum LvtIndex : uint8_t { lvt_timer, lvt_thermal, lvt_performance, lvt_lint0, lvt_lint1, lvt_error };
constexpr uint32_t lvt_masked = 0x10000;
constexpr std::array<uint32_t, 6> lvt_writable{0x710FF, 0x117FF, 0x117FF, 0x1F7FF, 0x1F7FF, 0x110FF};
constexpr uint32_t error_send_illegal = 0x20, error_receive_illegal = 0x40, error_illegal_register = 0x80;

std::optional<uint8_t> highest(const std::array<uint32_t, 8>& bits) {
    for (unsigned word = 8; word-- > 0;) {
        if (bits[word])
            return static_cast<uint8_t>(word * 32 + static_cast<unsigned>(31 - std::countl_zero(bits[word])));
    }
    return std::nullopt;
}
void set_bit(std::array<uint32_t, 8>& bits, uint8_t vector) {
    bits[vector / 32] |= 1u << (vector % 32);
}
void clear_bit(std::array<uint32_t, 8>& bits, uint8_t vector) {
    bits[vector / 32] &= ~(1u << (vector % 32));
}
bool test_bit(const std::array<uint32_t, 8>& bits, uint8_t vector) {
    return (bits[vector / 32] >> (vector % 32)) & 1;
}

/// The clock's timers, and what their callbacks look at, belong to the machine lock, which the thread of a CPU does not
/// hold while it runs. While CPUs take turns all is one thread.
class TimerHold {
  public:
    explicit TimerHold(Cpu& cpu) : cpu_(cpu) {
        if (!cpu.engine->has_threads() || !cpu.host) return;
        call_.emplace(cpu);
        cpu.host->hold_memory();
    }
    ~TimerHold() {
        if (call_) cpu_.host->release_memory();
    }
    TimerHold(const TimerHold&) = delete;
    TimerHold& operator=(const TimerHold&) = delete;

  private:
    Cpu& cpu_;
    std::optional<HostCall> call_;
};

}  // namespace

LocalApic::LocalApic(SoftEngine& engine, uint32_t id)
    : engine_(engine),
      id_(id),
      apic_id_(id),
      timer_(engine.clock, [this](VirtualTime deadline) { timer_fired(deadline); }) {}

void LocalApic::reset(Cpu& cpu, bool init) {
    const TimerHold hold(cpu);
    tpr_ = esr_ = esr_latched_ = icr_low_ = icr_high_ = initial_count_ = divide_ = 0;
    ldr_ = 0;
    dfr_ = 0xFFFFFFFF;
    svr_ = 0xFF;
    lvt_.fill(lvt_masked);
    isr_ = irr_ = tmr_ = {};
    for (auto& word : posted_) word = 0;
    timer_.cancel();
    tsc_deadline_ = 0;
    if (!init) apic_id_ = id_;
    if (cpu.apic_base & 0x100) {
        // As a BIOS leaves the bootstrap processor: virtual wire mode through LINT0, NMI on LINT1.
        lvt_[lvt_lint0] = 0x700;
        lvt_[lvt_lint1] = 0x400;
    }
}

void LocalApic::error(uint32_t bits) {
    esr_latched_ |= bits;
    if (!(lvt_[lvt_error] & lvt_masked)) set_bit(irr_, static_cast<uint8_t>(lvt_[lvt_error]));
}

uint8_t LocalApic::processor_priority() const {
    const auto in_service = highest(isr_);
    const auto service_class = static_cast<uint8_t>(in_service ? *in_service & 0xF0 : 0);
    return (tpr_ & 0xF0) >= service_class ? static_cast<uint8_t>(tpr_) : service_class;
}

void LocalApic::post(uint8_t vector, bool level) {
    const uint32_t bit = 1u << (vector % 32);
    if (level) {
        posted_level_[vector / 32].fetch_or(bit);
    } else {
        posted_level_[vector / 32].fetch_and(~bit);
    }
    posted_[vector / 32].fetch_or(bit);
    engine_.vcpus[id_]->wake();
}

void LocalApic::collect() {
    for (unsigned word = 0; word < 8; ++word) {
        if (posted_[word].load(std::memory_order_relaxed) == 0) continue;
        const uint32_t arrived = posted_[word].exchange(0);
        irr_[word] |= arrived;
        tmr_[word] = (tmr_[word] & ~arrived) | (posted_level_[word].load() & arrived);
    }
}

std::optional<uint8_t> LocalApic::pending() const {
    if (!software_enabled()) return std::nullopt;
    const auto vector = highest(irr_);
    if (!vector || (*vector & 0xF0) <= (processor_priority() & 0xF0)) return std::nullopt;
    return vector;
}

bool LocalApic::has_requests() const {
    return std::ranges::any_of(irr_, [](uint32_t word) { return word != 0; });
}

void LocalApic::accept(uint8_t vector) {
    clear_bit(irr_, vector);
    set_bit(isr_, vector);
}

bool LocalApic::passes_external(const Cpu& cpu) const {
    if (!(cpu.apic_base & 0x800)) return true;
    return (lvt_[lvt_lint0] & (lvt_masked | 0x700)) == 0x700;
}

bool LocalApic::matches(uint32_t destination, bool logical, const Cpu& cpu) const {
    if (!(cpu.apic_base & 0x800)) return false;
    if (x2apic(cpu)) {
        if (destination == 0xFFFFFFFF || destination == 0xFF) return true;
        if (!logical) return destination == id_;
        const uint32_t mine = (id_ >> 4) << 16 | 1u << (id_ & 15);
        return (destination >> 16) == (mine >> 16) && (destination & mine & 0xFFFF);
    }
    if (!logical) return destination == 0xFF || destination == 0xFFFFFFFF || destination == apic_id_;
    const uint32_t mine = ldr_ >> 24;
    if ((dfr_ >> 28) == 0xF) return destination & mine & 0xFF;
    return (destination & 0xF0) == (mine & 0xF0) && (destination & mine & 0xF);
}

void LocalApic::end_of_interrupt(Cpu& cpu) {
    const auto vector = highest(isr_);
    if (!vector) return;
    clear_bit(isr_, *vector);
    if (test_bit(tmr_, *vector)) {
        const HostCall call(cpu);
        cpu.host->end_of_interrupt(*vector);
    }
    cpu.attention.store(true, std::memory_order_relaxed);
}

unsigned LocalApic::divide_shift() const {
    return (((divide_ & 3) | ((divide_ >> 1) & 4)) + 1) & 7;
}

// The timer counts at 1 GHz before the divider: one nanosecond a tick.
Duration LocalApic::ticks(uint64_t count) const {
    return Duration{static_cast<int64_t>(count << divide_shift())};
}

void LocalApic::start_timer(Cpu& cpu) {
    timer_.cancel();
    const VirtualTime now = engine_.now(cpu);
    if (timer_mode() != TimerMode::tsc_deadline) {
        if (initial_count_ != 0) timer_.arm(now + ticks(initial_count_));
        return;
    }
    if (tsc_deadline_ == 0) return;
    const uint64_t tsc = engine_.tsc(cpu) + cpu.tsc_offset;
    // What has passed already interrupts now, not when the clock is looked at next.
    if (tsc_deadline_ <= tsc) return timer_fired(now);
    constexpr uint64_t second = 1'000'000'000, farthest = 1'000'000'000;  // in seconds; the clock has no room for more
    const uint64_t hertz = engine_.features.tsc_hertz, wait = tsc_deadline_ - tsc;
    const uint64_t wait_ns = std::min(wait / hertz, farthest) * second + wait % hertz * second / hertz;
    timer_.arm(now + Duration{static_cast<int64_t>(wait_ns)});
}

void LocalApic::timer_fired(VirtualTime deadline) {
    if (timer_mode() == TimerMode::tsc_deadline) tsc_deadline_ = 0;
    if (!(lvt_[lvt_timer] & lvt_masked)) post(static_cast<uint8_t>(lvt_[lvt_timer]), false);
    if (timer_mode() == TimerMode::periodic && initial_count_ != 0) timer_.arm(deadline + ticks(initial_count_));
}

/// What ran out has ended before a register changes, also when the clock has not called yet.
void LocalApic::catch_up(Cpu& cpu) {
    const auto deadline = timer_.deadline();
    const VirtualTime now = engine_.now(cpu);
    if (!deadline || *deadline > now) return;
    timer_.cancel();
    const int64_t period = ticks(initial_count_).count();
    const int64_t missed = timer_mode() == TimerMode::periodic && period > 0 ? (now - *deadline).count() / period : 0;
    timer_fired(*deadline + Duration{missed * period});
}

/// A change between one-shot and periodic lets the count go on, and a finished one stays finished.
void LocalApic::timer_mode_changed(TimerMode before) {
    tsc_deadline_ = 0;
    if (before != TimerMode::tsc_deadline && timer_mode() != TimerMode::tsc_deadline) return;
    timer_.cancel();
    initial_count_ = 0;
}

/// The count goes on from where it is, at the new rate.
void LocalApic::set_divide(Cpu& cpu, uint32_t value) {
    const uint32_t count = count_held(cpu);
    divide_ = value;
    if (count != 0) timer_.arm(engine_.now(cpu) + ticks(count));
}

uint32_t LocalApic::current_count(Cpu& cpu) {
    const TimerHold hold(cpu);
    return count_held(cpu);
}

uint32_t LocalApic::count_held(Cpu& cpu) {
    const auto deadline = timer_.deadline();
    if (!deadline || initial_count_ == 0 || timer_mode() == TimerMode::tsc_deadline) return 0;
    const int64_t period = ticks(initial_count_).count();
    int64_t left = (*deadline - engine_.now(cpu)).count();
    if (left <= 0) {  // due, and its callback is still to come
        if (timer_mode() != TimerMode::periodic) return 0;
        left = period - (-left) % period;
    }
    return static_cast<uint32_t>((left + ticks(1).count() - 1) >> divide_shift());
}

void LocalApic::set_tsc_deadline(Cpu& cpu, uint64_t value) {
    if (timer_mode() != TimerMode::tsc_deadline) return;
    const TimerHold hold(cpu);
    catch_up(cpu);
    tsc_deadline_ = value;
    start_timer(cpu);
}

void LocalApic::send_ipi(Cpu& cpu, uint32_t low, uint32_t destination) {
    const auto mode = static_cast<Delivery>((low >> 8) & 7);
    const auto vector = static_cast<uint8_t>(low);
    const bool logical = low & 0x800;
    const unsigned shorthand = (low >> 18) & 3;
    const bool assert_level = low & 0x4000;
    if (mode == Delivery::init && !assert_level) return;  // the deassert of old: nothing
    if ((mode == Delivery::fixed || mode == Delivery::lowest_priority) && vector < 16) return error(error_send_illegal);
    if (shorthand == 1) {
        if (mode == Delivery::fixed) post(vector, false);
        return;
    }
    engine_.message({.destination = shorthand >= 2 ? 0xFFFFFFFF : destination,
                     .logical = shorthand >= 2 ? false : logical,
                     .mode = mode,
                     .vector = vector,
                     .level = false,
                     .except = shorthand == 3 ? std::optional<uint32_t>(id_) : std::nullopt});
    cpu.attention.store(true, std::memory_order_relaxed);
}

uint32_t LocalApic::read(Cpu& cpu, uint32_t reg) {
    collect();
    if (reg >= reg_isr && reg < reg_isr + 0x80) return isr_[(reg - reg_isr) / 16];
    if (reg >= reg_tmr && reg < reg_tmr + 0x80) return tmr_[(reg - reg_tmr) / 16];
    if (reg >= reg_irr && reg < reg_irr + 0x80) return irr_[(reg - reg_irr) / 16];
    if (reg >= reg_lvt_timer && reg <= reg_lvt_error) return lvt_[(reg - reg_lvt_timer) / 16];
    switch (reg) {
        case reg_id: return x2apic(cpu) ? id_ : apic_id_ << 24;
        case reg_version: return 0x50014;
        case reg_tpr: return tpr_;
        case reg_apr: return 0;
        case reg_ppr: return processor_priority();
        case reg_ldr: return x2apic(cpu) ? (id_ >> 4) << 16 | 1u << (id_ & 15) : uint32_t{ldr_};
        case reg_dfr: return dfr_;
        case reg_svr: return svr_;
        case reg_esr: return esr_;
        case reg_icr_low: return icr_low_;
        case reg_icr_high: return icr_high_;
        case reg_initial: return initial_count_;
        case reg_current: return current_count(cpu);
        case reg_divide: return divide_;
        default: error(error_illegal_register); return 0;
    }
}

void LocalApic::write(Cpu& cpu, uint32_t reg, uint32_t value) {
    collect();
    if (reg >= reg_lvt_timer && reg <= reg_lvt_error) {
        const TimerHold hold(cpu);
        catch_up(cpu);
        const unsigned n = (reg - reg_lvt_timer) / 16;
        const TimerMode before = timer_mode();
        lvt_[n] = value & lvt_writable[n];
        if (!software_enabled()) lvt_[n] |= lvt_masked;
        if (timer_mode() != before) timer_mode_changed(before);
        return;
    }
    switch (reg) {
        case reg_id: apic_id_ = value >> 24; return;
        case reg_tpr:
            tpr_ = value & 0xFF;
            cpu.attention.store(true, std::memory_order_relaxed);
            return;
        case reg_eoi: return end_of_interrupt(cpu);
        case reg_ldr: ldr_ = value & 0xFF000000; return;
        case reg_dfr: dfr_ = value | 0x0FFFFFFF; return;
        case reg_svr:
            svr_ = value & 0x1FF;
            if (!software_enabled()) {
                const TimerHold hold(cpu);
                for (auto& entry : lvt_) entry |= lvt_masked;
            }
            cpu.attention.store(true, std::memory_order_relaxed);
            return;
        case reg_esr:
            esr_ = esr_latched_;
            esr_latched_ = 0;
            return;
        case reg_icr_low: icr_low_ = value & 0xCCFFF; return send_ipi(cpu, value, icr_high_ >> 24);
        case reg_icr_high: icr_high_ = value & 0xFF000000; return;
        case reg_initial: {
            if (timer_mode() == TimerMode::tsc_deadline) return;
            const TimerHold hold(cpu);
            catch_up(cpu);
            initial_count_ = value;
            return start_timer(cpu);
        }
        case reg_divide: {
            const TimerHold hold(cpu);
            catch_up(cpu);
            return set_divide(cpu, value & 0xB);
        }
        default: return error(error_illegal_register);
    }
}

uint64_t LocalApic::read_memory(Cpu& cpu, uint32_t offset, unsigned size) {
    if ((offset & 15) + size > 4) return offset % 16 >= 4 ? 0 : read(cpu, offset & ~15u);
    return (read(cpu, offset & ~15u) >> (8 * (offset & 3))) & (size >= 4 ? 0xFFFFFFFF : (1u << (8 * size)) - 1);
}

void LocalApic::write_memory(Cpu& cpu, uint32_t offset, unsigned, uint64_t value) {
    if (offset % 16 != 0) return;
    write(cpu, offset, static_cast<uint32_t>(value));
}

uint64_t LocalApic::read_msr(Cpu& cpu, uint32_t index) {
    const uint32_t reg = (index - 0x800) * 16;
    if (reg == reg_icr_low) return uint64_t{icr_high_} << 32 | icr_low_;
    if (reg == reg_eoi || reg == reg_dfr || reg == reg_icr_high || reg == reg_self_ipi || reg == reg_apr) raise_gp();
    esr_latched_ &= ~error_illegal_register;
    const uint32_t value = read(cpu, reg);
    if (esr_latched_ & error_illegal_register) raise_gp();
    return value;
}

void LocalApic::write_msr(Cpu& cpu, uint32_t index, uint64_t value) {
    const uint32_t reg = (index - 0x800) * 16;
    if (reg == reg_icr_low) {
        icr_low_ = static_cast<uint32_t>(value) & 0xCCFFF;
        icr_high_ = static_cast<uint32_t>(value >> 32);
        return send_ipi(cpu, static_cast<uint32_t>(value), icr_high_);
    }
    if (value >> 32) raise_gp();
    if (reg == reg_self_ipi) {
        if (value > 0xFF) raise_gp();
        return post(static_cast<uint8_t>(value), false);
    }
    if (reg == reg_eoi || reg == reg_esr) {
        if (value != 0) raise_gp();
        return write(cpu, reg, 0);
    }
    const bool lvt = reg >= reg_lvt_timer && reg <= reg_lvt_error;
    if (!lvt && reg != reg_tpr && reg != reg_svr && reg != reg_initial && reg != reg_divide) raise_gp();
    write(cpu, reg, static_cast<uint32_t>(value));
}

void LocalApic::set_base(Cpu& cpu, uint64_t value) {
    const uint64_t known = 0x900 | 0xFFFFFF000 | (engine_.features.has(CpuFeature::x2apic) ? 0x400 : 0);
    if (value & ~known) raise_gp();
    const uint64_t before = cpu.apic_base & 0xC00, after = value & 0xC00;
    // SDM 3A, figure 11-27: no way to x2APIC but from xAPIC, and from there only to disabled.
    if (after == 0x400 || (before == 0xC00 && after == 0x800) || (before == 0 && after == 0xC00)) raise_gp();
    cpu.apic_base = (value & ~uint64_t{0x100}) | (cpu.apic_base & 0x100);
    if (after == 0) {
        reset(cpu, true);
        apic_id_ = id_;
    }
    flush_tlb(cpu);
}

std::vector<uint8_t> LocalApic::save(const Cpu& cpu) {
    collect();
    std::vector<uint8_t> page(1024);
    const auto put = [&](uint32_t reg, uint32_t value) { std::memcpy(page.data() + reg, &value, 4); };
    put(reg_id, (x2apic(cpu) ? id_ : uint32_t{apic_id_}) << 24);  // in both modes, as KVM has it
    put(reg_version, 0x50014);
    put(reg_tpr, tpr_);
    put(reg_ppr, processor_priority());
    put(reg_ldr, ldr_);
    put(reg_dfr, dfr_);
    put(reg_svr, svr_);
    put(reg_esr, esr_);
    put(reg_icr_low, icr_low_);
    put(reg_icr_high, icr_high_);
    put(reg_initial, initial_count_);
    put(reg_divide, divide_);
    for (unsigned n = 0; n < 8; ++n) {
        put(reg_isr + 16 * n, isr_[n]);
        put(reg_tmr + 16 * n, tmr_[n]);
        put(reg_irr + 16 * n, irr_[n]);
    }
    for (unsigned n = 0; n < 6; ++n) put(reg_lvt_timer + 16 * n, lvt_[n]);
    const uint64_t left = [&]() -> uint64_t {
        const auto deadline = timer_.deadline();
        if (!deadline || initial_count_ == 0) return 0;
        // One that is due and has not been called yet still has to come.
        const auto wait = std::max<int64_t>((*deadline - engine_.clock.now()).count(), 0);
        return std::max<uint64_t>(static_cast<uint64_t>(wait) >> divide_shift(), 1);
    }();
    put(reg_current, static_cast<uint32_t>(left));
    return page;
}

void LocalApic::load(Cpu& cpu, const std::vector<uint8_t>& page) {
    reset(cpu, false);
    if (page.size() != 1024) return;
    const auto get = [&](uint32_t reg) {
        uint32_t value = 0;
        std::memcpy(&value, page.data() + reg, 4);
        return value;
    };
    if (!x2apic(cpu)) apic_id_ = get(reg_id) >> 24;
    tpr_ = get(reg_tpr);
    ldr_ = get(reg_ldr);
    dfr_ = get(reg_dfr);
    svr_ = get(reg_svr);
    esr_ = get(reg_esr);
    icr_low_ = get(reg_icr_low);
    icr_high_ = get(reg_icr_high);
    initial_count_ = get(reg_initial);
    divide_ = get(reg_divide);
    for (unsigned n = 0; n < 8; ++n) {
        isr_[n] = get(reg_isr + 16 * n);
        tmr_[n] = get(reg_tmr + 16 * n);
        irr_[n] = get(reg_irr + 16 * n);
    }
    for (unsigned n = 0; n < 6; ++n) lvt_[n] = get(reg_lvt_timer + 16 * n);
    uint32_t left = get(reg_current);
    if (timer_mode() == TimerMode::periodic && left == 0) left = initial_count_;
    if (timer_mode() != TimerMode::tsc_deadline && initial_count_ != 0 && left != 0)
        timer_.arm(engine_.clock.now() + ticks(left));
}

}  // namespace viv::soft
