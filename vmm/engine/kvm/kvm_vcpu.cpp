#include "vmm/engine/kvm/kvm_vcpu.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstring>
#include <utility>

#include "vmm/core/log.hpp"
#include "vmm/engine/kvm/kick.hpp"

namespace viv::kvm {
namespace {
/// Instructions; an interrupt waits no longer than that.
constexpr uint64_t longest_rescue = 256;
}  // namespace

void Vm::note(const Result<void>& outcome) {
    if (outcome || failed_.load()) return;
    failure_ = outcome.error().message;
    failed_.store(true, std::memory_order_release);
}

void RescueCounters::count(std::string_view mnemonic) {
    const std::lock_guard hold(mutex_);
    // Once in a process: a machine that moves has several engines in its life.
    static std::atomic<bool> told = false;
    if (!told.exchange(true)) {
        log_line(fmt::format("this host's KVM cannot execute '{}': the software CPU executes such instructions for it",
                             mnemonic));
    }
    const auto found = by_mnemonic_.find(mnemonic);
    if (found == by_mnemonic_.end()) {
        by_mnemonic_.emplace(mnemonic, 1);
    } else {
        ++found->second;
    }
}

void RescueCounters::add_to(EngineCounters& counters) const {
    const std::lock_guard hold(mutex_);
    for (const auto& [mnemonic, count] : by_mnemonic_) counters.emplace_back("rescues." + mnemonic, count);
}

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::create(std::shared_ptr<Vm> vm, VcpuId id, FileDescriptor fd) {
    void* page = mmap(nullptr, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (page == MAP_FAILED) return fail_errno(fmt::format("cannot map CPU {}'s run page", id.value), errno);
    auto vcpu = std::unique_ptr<KvmVcpu>(new KvmVcpu(std::move(vm), id, std::move(fd), static_cast<kvm_run*>(page)));
    vcpu->run_->kvm_valid_regs = KVM_SYNC_X86_REGS;
    if (vcpu->vm_.limits.any()) {
        vcpu->run_->kvm_valid_regs |= KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
        vcpu->limited_.emplace(vcpu->vm_.limits, vcpu->vm_.slots, vcpu->fd_.get(), *vcpu->run_, vcpu->counters_);
    }
    return vcpu;
}

KvmVcpu::~KvmVcpu() {
    munmap(run_, vm_.run_size);
}

void KvmVcpu::interrupt_thread() {
    if (entering_.load()) send_kick(thread_.load());
}

void KvmVcpu::kick() {
    kick_.store(true);
    interrupt_thread();
}

void KvmVcpu::set_intr(bool level) {
    if (intr_.exchange(level) != level && level) interrupt_thread();
}

void KvmVcpu::inject_nmi() {
    nmis_.fetch_add(1);
    interrupt_thread();
}

void KvmVcpu::set_immediate_exit(bool wanted) {
    std::atomic_ref(run_->immediate_exit).store(wanted, std::memory_order_relaxed);
}

/// Hands the 8259A's vector to KVM when it can take one, else asks for an exit as soon as it can.
void KvmVcpu::deliver_intr(VcpuHost& host) {
    if (run_->ready_for_interrupt_injection) {
        if (!acknowledged_) {
            entering_.store(false);  // the 8259A may move INTR, which must not signal this thread
            acknowledged_ = host.acknowledge_interrupt();
            entering_.store(true);
        }
        const kvm_interrupt interrupt{*acknowledged_};
        if (ioctl(fd_.get(), KVM_INTERRUPT, &interrupt) == 0) {
            in_flight_ = std::exchange(acknowledged_, std::nullopt);
            in_flight_rsp_ = run_->s.regs.regs.rsp;
            counters_.interrupts.add();
        }
        run_->ready_for_interrupt_injection = 0;
    }
    run_->request_interrupt_window = intr_.load() || acknowledged_;
}

/// The order is what makes kicks and interrupts race-free: immediate_exit is cleared, then entering_ is set, then the
/// flags are read. A flag set before the read is seen; one set later sends a signal, whose handler sets immediate_exit
/// or interrupts KVM_RUN.
void KvmVcpu::prepare_entry(VcpuHost& host) {
    set_immediate_exit(false);
    entering_.store(true);
    if (kick_.load()) {
        // KVM still completes the port or memory access that it is in before it comes back.
        set_immediate_exit(true);
        return;
    }
    while (nmis_.load()) {
        nmis_.fetch_sub(1);
        call(fd_.get(), KVM_NMI, 0);
    }
    if (intr_.load() || acknowledged_) {
        deliver_intr(host);
    } else {
        run_->request_interrupt_window = 0;
    }
    if (limited_) limited_->prepare(run_->request_interrupt_window != 0);
    if (kick_.load() || completing_ || leaving_) set_immediate_exit(true);
}

int KvmVcpu::enter() {
    slots_generation_ = vm_.slots.generation();
    const int result = ioctl(fd_.get(), KVM_RUN, 0);
    const int error = errno;
    entering_.store(false, std::memory_order_release);
    return result < 0 ? error : 0;
}

/// KVM does not tell whether the guest got a vector when a signal interrupts KVM_RUN. If not, no instruction ran since:
/// interrupts are still enabled and the stack has not moved.
void KvmVcpu::settle_in_flight(int run_error) {
    if (!in_flight_) return;
    const bool untouched = run_->if_flag && run_->s.regs.regs.rsp == in_flight_rsp_;
    if (run_error == EINTR && untouched) return;
    in_flight_.reset();
}

/// While another CPU changes the memory slots, memory can seem to be missing for a moment. True when this exit was such
/// a case and is served.
bool KvmVcpu::serve_from_slots() {
    if (vm_.slots.generation() == slots_generation_ && slots_generation_ % 2 == 0) return false;
    bool served = false;
    if (run_->exit_reason == KVM_EXIT_MMIO) {
        const std::span data(reinterpret_cast<std::byte*>(run_->mmio.data), run_->mmio.len);
        served = run_->mmio.is_write ? vm_.slots.write(run_->mmio.phys_addr, data)
                                     : vm_.slots.read(run_->mmio.phys_addr, data);
    } else if (run_->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
        served = run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION;
    }
    if (served) counters_.memory_races.add();
    return served;
}

/// KVM counts nothing, but it comes back after each instruction when asked to.
void KvmVcpu::count_instructions(bool wanted) {
    if (wanted == counting_) return;
    counting_ = wanted;
    if (limited_) {
        limited_->step_always(wanted);
        return;
    }
    kvm_guest_debug debug{};
    if (wanted) debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    if (call(fd_.get(), KVM_SET_GUEST_DEBUG, &debug) < 0) {
        vm_.note(fail_errno("cannot count instructions: KVM has no single-stepping here", errno));
    }
}

Stop KvmVcpu::run(VcpuHost& host, uint64_t budget) {
    count_instructions(budget != ~uint64_t{0});
    if (budget == 0) return Stop::budget;
    thread_.store(bind_kick(run_));
    if (limited_) limited_->start();
    const Stop stop = run_until_stop(host, budget < ~instructions_ ? instructions_ + budget : ~uint64_t{0});
    if (limited_) limited_->stop();
    unbind_kick();
    return stop;
}

Stop KvmVcpu::run_until_stop(VcpuHost& host, uint64_t last_instruction) {
    while (instructions_ < last_instruction) {
        if (const std::string* failure = vm_.failure()) return give_up(*failure);
        prepare_entry(host);
        const int error = enter();
        settle_in_flight(error);
        if (limited_) limited_->returned();
        if (error == EINTR && std::exchange(completing_, false)) ++instructions_;
        if (error == EINTR && std::exchange(leaving_, false)) return Stop::unsupported;
        if (error == EINTR) {
            if (kick_.exchange(false)) {
                counters_.kicks.add();
                return Stop::kicked;
            }
            if (limited_ && limited_->interrupted() && vm_.make_rescuer) {
                if (const auto stopped = rescue(host, 1, Rescue::Cause::hang)) return *stopped;
            }
            continue;
        }
        if (error == EAGAIN) continue;
        if (error) return give_up(fmt::format("KVM_RUN failed: {}", std::strerror(error)));
        log_.add(*run_);
        if (run_->exit_reason == KVM_EXIT_MMIO || run_->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
            if (serve_from_slots()) continue;
            if (run_->exit_reason == KVM_EXIT_MMIO && !vm_.slots.a20()) run_->mmio.phys_addr &= ~uint64_t{0x100000};
        }
        if (limited_ && run_->exit_reason == KVM_EXIT_X86_WRMSR && run_->msr.reason == KVM_MSR_EXIT_REASON_FILTER) {
            if (auto why = limited_->watched_write()) {
                failure_ = std::move(*why);
                // KVM completes the instruction when it is entered next, and comes back at once.
                leaving_ = true;
            }
            continue;
        }
        const Next next = serve_exit(*run_, host, counters_);
        if (next == Next::debug && (limited_ || counting_)) {
            if (counting_) ++instructions_;
            completing_ = false;
            if (limited_ && limited_->debug_exit() && vm_.make_rescuer) {
                if (const auto stopped = rescue(host, 1, Rescue::Cause::hang)) return *stopped;
            }
            continue;
        }
        if (next == Next::emulate && vm_.make_rescuer) {
            if (limited_) limited_->progressed();
            if (const auto stopped = rescue(host, counting_ ? 1 : longest_rescue, Rescue::Cause::failure))
                return *stopped;
            continue;
        }
        // Some of these instructions end with a step's exit and some without.
        completing_ = counting_;
        if (limited_) limited_->progressed();
        if (next != Next::resume) return stop(next);
    }
    return Stop::budget;
}

std::optional<Stop> KvmVcpu::rescue(VcpuHost& host, uint64_t limit, Rescue::Cause cause) {
    if (!rescue_) {
        auto rescuer = vm_.make_rescuer();
        if (!rescuer) return give_up(describe_exit(*run_) + "; " + rescuer.error().message);
        rescue_.emplace(fd_.get(), *run_, vm_.layout, vm_.rules, std::move(*rescuer));
    }
    const auto report = rescue_->execute(host, limit, vm_.slots.a20(), cause);
    if (!report) return give_up(describe_exit(*run_) + "; it cannot be rescued: " + report.error().message);
    vm_.rescues.count(report->mnemonic);
    if (counting_) instructions_ += report->instructions;
    if (report->shutdown) return Stop::shutdown;
    return std::nullopt;
}

Stop KvmVcpu::stop(Next next) {
    switch (next) {
        case Next::halted: return Stop::halted;
        case Next::shutdown:
            if (limited_) {
                if (const auto why = limited_->explain_shutdown()) {
                    failure_ = *why;
                    return Stop::unsupported;
                }
            }
            return Stop::shutdown;
        case Next::emulate:
            if (!vm_.limits.emulates_kernel_code) break;
            return give_up(describe_exit(*run_) + "; run it on a host with VT-x or AMD-V");
        case Next::resume:
        case Next::debug:
        case Next::failed: break;
    }
    return give_up(describe_exit(*run_));
}

Stop KvmVcpu::give_up(std::string reason) {
    failure_ = fmt::format("CPU {}: {}\n", id_.value, reason);
    if (const auto now = state()) {
        failure_ += to_text(*now);
    } else {
        failure_ += now.error().message + "\n";
    }
    failure_ += "last exits:\n" + log_.text();
    return Stop::failed;
}

/// The registers that the next entry would have set.
void KvmVcpu::set_shared_registers() {
    const auto dirty = std::exchange(run_->kvm_dirty_regs, 0);
    if (dirty & KVM_SYNC_X86_REGS) call(fd_.get(), KVM_SET_REGS, &run_->s.regs.regs);
    if (dirty & KVM_SYNC_X86_SREGS) call(fd_.get(), KVM_SET_SREGS, &run_->s.regs.sregs);
    if (dirty & KVM_SYNC_X86_EVENTS) call(fd_.get(), KVM_SET_VCPU_EVENTS, &run_->s.regs.events);
}

/// The local APIC, with the interrupt of a timer that has run out: KVM keeps that to itself until the next run, so it
/// is made to look, until the timer is known not to have run out since.
Result<kvm_lapic_state> KvmVcpu::settled_local_apic() {
    kvm_lapic_state before{}, after{};
    if (call(fd_.get(), KVM_GET_LAPIC, &before) < 0) return fail_errno("cannot read a CPU's local APIC", errno);
    if (!timer_may_wait(before)) return before;
    set_shared_registers();
    const auto window = std::exchange(run_->request_interrupt_window, uint8_t{0});
    set_immediate_exit(false);
    constexpr int most = 100;  // a timer whose period is shorter than this takes
    for (int i = 0; i < most; ++i) {
        run_nothing(fd_.get());
        if (call(fd_.get(), KVM_GET_LAPIC, &after) < 0) return fail_errno("cannot read a CPU's local APIC", errno);
        if (!timer_ran_out(before, after)) break;
        before = after;
    }
    run_->request_interrupt_window = window;
    return after;
}

Result<CpuState> KvmVcpu::state() {
    const kvm_lapic_state lapic = TRY(settled_local_apic());
    set_shared_registers();
    auto state = TRY(read_state(fd_.get(), vm_.layout));
    state.lapic.assign(std::begin(lapic.regs), std::end(lapic.regs));
    if (const auto vector = acknowledged_ ? acknowledged_ : in_flight_; vector && !state.event_pending) {
        state.event_pending = true;
        state.event_vector = *vector;
    }
    state.nmi_pending = state.nmi_pending || nmis_.load() != 0;
    return state;
}

Result<void> KvmVcpu::set_state(const CpuState& state) {
    acknowledged_.reset();
    in_flight_.reset();
    nmis_.store(0);
    run_->ready_for_interrupt_injection = 0;
    run_->kvm_dirty_regs = 0;
    return write_state(fd_.get(), vm_.layout, state, id_.value);
}

}  // namespace viv::kvm
