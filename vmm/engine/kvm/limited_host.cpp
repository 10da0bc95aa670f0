#include "vmm/engine/kvm/limited_host.hpp"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace viv::kvm {
namespace {

constexpr auto busy_period = std::chrono::microseconds(1000);
// While the CPU is halted, and while exits show that it does not hang: a signal costs as much as three exits.
constexpr auto idle_period = std::chrono::microseconds(10'000);
constexpr uint64_t many_exits = 10;
// Steps take twenty times as long as running freely, so they come in bursts: the first finds the windows of common
// idle loops, the longest those of a loop of 3200 instructions. Between bursts the CPU runs freely eight times as long.
constexpr int first_burst = 200;  // about one busy_period
constexpr int longest_burst = 3200;
constexpr int free_share = 8;
constexpr int trust = 100;  // periods without a suspicion after one that was wrong
// A step takes microseconds. On a busy host a signal may come before KVM has done anything, any number of times.
constexpr auto longest_step = std::chrono::microseconds(500);

constexpr uint64_t cr0_protection = 1;
constexpr uint64_t cr0_paging = 0x80000000;
constexpr uint64_t efer_long_mode = 0x100;
constexpr uint64_t efer_long_mode_active = 0x400;
constexpr uint64_t trap_flag = 0x100;

uint64_t general_register(const kvm_regs& regs, unsigned number) {
    const uint64_t values[] = {regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi};
    return values[number & 7];
}

/// What this thread has had of a processor.
std::chrono::nanoseconds thread_time() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace

void LimitedHost::start() {
    const pid_t thread = bind_kick(&run_);
    if (timer_thread_ != thread) {
        timer_.reset();
        if (auto timer = KickTimer::create()) timer_.emplace(std::move(*timer));
        timer_thread_ = thread;
    }
    set_idle(false);
}

void LimitedHost::stop() {
    if (timer_) timer_->set_period(std::chrono::microseconds(0));
}

void LimitedHost::set_idle(bool idle) {
    if (timer_) timer_->set_period(idle ? idle_period : busy_period);
}

void LimitedHost::prepare(bool window_wanted) {
    if (window_wanted && !window_wanted_) {
        burst_ = steps_left_ = first_burst;
        // With LINT0 masked the local APIC passes no INTR, and no window will ever come.
        kvm_lapic_state lapic{};
        uint32_t lint0 = 0;
        if (call(vcpu_, KVM_GET_LAPIC, &lapic) == 0) std::memcpy(&lint0, lapic.regs + 0x350, sizeof lint0);
        lint0_open_ = (lint0 & 0x10000) == 0;
        set_idle(false);
    }
    window_wanted_ = window_wanted;
    bool step = step_always_ || (window_wanted && limits_.late_interrupt_windows && lint0_open_ && steps_left_ > 0) ||
                (suspicion_ && suspicion_->step) || unfinished_step_;
    if (step) {
        // A step over HLT comes back before the CPU halts, and it then halts after the interrupt.
        constexpr uint8_t hlt = 0xF4;
        step_from_ = run_.s.regs.sregs.cs.base + run_.s.regs.regs.rip;
        step = opcode_at(step_from_) != hlt;
    }
    if (stepping_ == Stepping::off) guest_steps_ = run_.s.regs.regs.rflags & trap_flag;
    set_debugging(step ? Stepping::on : Stepping::off);
    if (step) step_start_ = {run_.s.regs.regs.rip, run_.s.regs.regs.rsp, run_.s.regs.sregs.cs.selector};
}

void LimitedHost::set_debugging(Stepping stepping) {
    if (stepping == stepping_ && !debugging_stale_) return;
    kvm_guest_debug debug{};
    if (stepping == Stepping::on) debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    for (size_t i = 0; i < breakpoints_.size(); ++i) {
        if (!breakpoints_[i].used) continue;
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        debug.arch.debugreg[i] = breakpoints_[i].address;
        debug.arch.debugreg[7] |= uint64_t{2} << (i * 2);
    }
    call(vcpu_, KVM_SET_GUEST_DEBUG, &debug);
    stepping_ = stepping;
    debugging_stale_ = false;
}

void LimitedHost::returned() {
    if (stepping_ == Stepping::off || guest_steps_) return;
    const auto& now = run_.s.regs;
    const bool long_mode = now.sregs.efer & efer_long_mode_active;
    const uint64_t stack_mask = long_mode ? ~uint64_t{0} : now.sregs.ss.db ? 0xFFFFFFFF : 0xFFFF;
    // IP, CS and FLAGS, in 16-bit, 32-bit and 64-bit frames (SDM 3A, 6.12 and 6.14); above the last are RSP and SS.
    const auto take_back = [&]<class Word>(Word, uint64_t top) {
        std::array<Word, 3> frame{};
        if (top < sizeof frame || (now.regs.rsp & stack_mask) > top - sizeof frame) return false;
        const auto address = physical((long_mode ? 0 : now.sregs.ss.base) + top - sizeof frame);
        if (!address || !memory_.read(*address, std::as_writable_bytes(std::span(frame)))) return false;
        if (frame[0] != static_cast<Word>(step_start_.rip) || static_cast<uint16_t>(frame[1]) != step_start_.cs ||
            !(frame[2] & trap_flag))
            return false;
        frame[2] = static_cast<Word>(frame[2] & ~trap_flag);
        return memory_.write(*address, std::as_bytes(std::span(frame)));
    };
    const uint64_t top = step_start_.rsp & stack_mask;
    if (long_mode) {
        take_back(uint64_t{}, (top & ~uint64_t{15}) - 2 * sizeof(uint64_t));
    } else if (!take_back(uint16_t{}, top)) {
        take_back(uint32_t{}, top);
    }
}

std::optional<uint64_t> LimitedHost::physical(uint64_t linear) const {
    if (!(run_.s.regs.sregs.cr0 & cr0_paging)) return linear & 0xFFFFFFFF;
    kvm_translation translation{};
    translation.linear_address = linear;
    if (call(vcpu_, KVM_TRANSLATE, &translation) < 0 || !translation.valid) return std::nullopt;
    return translation.physical_address;
}

uint64_t LimitedHost::address_here() const {
    const auto& shared = run_.s.regs;
    const bool small_code = !(shared.sregs.cr0 & cr0_protection) || (!shared.sregs.cs.db && !shared.sregs.cs.l);
    return shared.sregs.cs.base + (small_code ? shared.regs.rip & 0xFFFF : shared.regs.rip);
}

/// Zeros where nothing can be read.
std::array<uint8_t, 2> LimitedHost::code_here() const {
    std::array<uint8_t, 2> code{};
    if (!memory_.read(address_here(), std::as_writable_bytes(std::span(code)))) return {};
    return code;
}

/// Whether the CPU is at an instruction that may go to itself and change nothing else.
bool LimitedHost::branches_here() const {
    const auto address = physical(address_here());
    std::array<uint8_t, 2> code{};
    if (!address || !memory_.read(*address, std::as_writable_bytes(std::span(code)))) return true;
    const auto within = [](uint8_t byte, uint8_t first, uint8_t last) { return byte >= first && byte <= last; };
    // Jcc, LOOP and JCXZ, JMP near and far, indirect, with a prefix, and Jcc of 0F xx
    return within(code[0], 0x70, 0x7F) || within(code[0], 0xE0, 0xE3) || within(code[0], 0xE9, 0xEB) ||
           code[0] == 0xFF || code[0] == 0x66 || code[0] == 0x67 || within(code[0], 0xF2, 0xF3) ||
           within(code[0], 0x40, 0x4F) || (code[0] == 0x0F && within(code[1], 0x80, 0x8F));
}

/// By what is known: places where it has hung, and INT 80h to FFh in real mode.
bool LimitedHost::hangs_here() {
    const uint64_t address = address_here();
    const auto known =
        std::ranges::find_if(breakpoints_, [=](const Breakpoint& b) { return b.used && b.address == address; });
    const std::array<uint8_t, 2> code = code_here();
    if (known != breakpoints_.end() && known->code == code) {
        known->last_hit = ++hits_;
        return true;
    }
    if (known != breakpoints_.end()) {
        *known = {};  // other code is there now
        debugging_stale_ = true;
    }
    constexpr uint8_t int_n = 0xCD;
    const bool real_mode = !(run_.s.regs.sregs.cr0 & cr0_protection);
    if (!limits_.hangs_on_high_interrupts || !real_mode || code[0] != int_n || code[1] < 0x80) return false;
    learn();
    return true;
}

void LimitedHost::learn() {
    if (run_.s.regs.sregs.cr0 & cr0_paging) return;  // code_here() takes linear addresses for physical ones
    const auto oldest = std::ranges::min_element(breakpoints_, {}, &Breakpoint::last_hit);
    *oldest = {address_here(), ++hits_, true, code_here()};
    debugging_stale_ = true;
}

std::optional<uint8_t> LimitedHost::opcode_at(uint64_t address) const {
    uint8_t opcode = 0;
    if (!memory_.read(address, std::as_writable_bytes(std::span(&opcode, 1)))) return std::nullopt;
    return opcode;
}

bool LimitedHost::interrupted() {
    if (steps_left_ == 0 && --free_periods_ <= 0) {
        burst_ = std::min(burst_ * 2, longest_burst);
        steps_left_ = burst_;
    }
    const uint64_t known_places = hits_;
    if (hangs_here()) {
        // The hang of an INT has cleared IF and nobody knows what it was; a program that calls its system had it set.
        // At a breakpoint, from the second time on, it is what it is.
        constexpr uint64_t interrupt_flag = 0x200;
        run_.s.regs.regs.rflags |= interrupt_flag;
        run_.kvm_dirty_regs |= KVM_SYNC_X86_REGS;
        return hits_ != known_places;
    }
    const bool halted = opcode_at(address_here() - 1) == 0xF4;
    const bool exits = std::exchange(exits_, 0) >= many_exits;
    set_idle(halted || (exits && !window_wanted_));
    if (halted || !stands_still()) return false;
    learn();
    return true;
}

/// Whether the CPU has not moved since the last time, though it was to step.
bool LimitedHost::stands_still() {
    const kvm_regs& regs = run_.s.regs.regs;
    if (trusted_periods_ > 0 && --trusted_periods_ > 0) return false;
    const bool same = suspicion_ && std::memcmp(&suspicion_->regs, &regs, sizeof regs) == 0;
    if (same && suspicion_->step && stepping_ == Stepping::on) {
        if (thread_time() - suspicion_->since < longest_step) return false;
        suspicion_.reset();
        return true;
    }
    // One that waits for INIT or SIPI, or halts, is at no instruction.
    suspicion_.reset();
    if (runs()) suspicion_ = {regs, same, thread_time()};
    return false;
}

bool LimitedHost::runs() const {
    kvm_mp_state state{};
    return call(vcpu_, KVM_GET_MP_STATE, &state) == 0 && state.mp_state == KVM_MP_STATE_RUNNABLE;
}

bool LimitedHost::debug_exit() {
    counters_.steps.add();
    unfinished_step_ = false;
    if (steps_left_ > 0 && --steps_left_ == 0) free_periods_ = free_share * burst_ / first_burst;
    if (const auto suspicion = std::exchange(suspicion_, std::nullopt)) {
        // VMCALL's step ends, too, and the CPU is where it was.
        const bool unmoved = std::memcmp(&suspicion->regs, &run_.s.regs.regs, sizeof suspicion->regs) == 0;
        if (suspicion->step && unmoved && !branches_here()) {
            learn();
            return true;
        }
        trusted_periods_ = trust;
    }
    // KVM drops the interrupt shadow when it steps over STI, and would deliver between the STI and HLT of an idle loop.
    constexpr uint8_t sti = 0xFB;
    constexpr uint8_t pop_ss = 0x17;
    if (const auto opcode = opcode_at(step_from_); opcode == sti || opcode == pop_ss) {
        run_.ready_for_interrupt_injection = 0;
    }
    return hangs_here();
}

std::optional<std::string> LimitedHost::watched_write() {
    MsrTable msr;
    msr.count = 1;
    msr.entries[0] = {run_.msr.index, 0, run_.msr.data};
    run_.msr.error = call(vcpu_, KVM_SET_MSRS, &msr) != 1;
    msr.count = 2;
    msr.entries[0].index = msr_efer;
    msr.entries[1].index = msr_lstar;
    if (run_.msr.error || call(vcpu_, KVM_GET_MSRS, &msr) != 2) return std::nullopt;
    constexpr uint64_t system_calls = 1;
    if (!(msr.entries[0].data & system_calls) || msr.entries[1].data == 0) return std::nullopt;
    return "the guest sets up SYSCALL, which this host's KVM does not have";
}

std::optional<std::string> LimitedHost::explain_shutdown() const {
    if (!limits_.no_legacy_paging) return std::nullopt;
    kvm_regs regs{};
    kvm_sregs sregs{};
    if (call(vcpu_, KVM_GET_REGS, &regs) < 0 || call(vcpu_, KVM_GET_SREGS, &sregs) < 0) return std::nullopt;
    std::array<uint8_t, 15> bytes{};
    const bool small_code = !(sregs.cr0 & cr0_protection) || !sregs.cs.db;
    const uint64_t rip = small_code ? regs.rip & 0xFFFF : regs.rip;
    if (!memory_.read(sregs.cs.base + rip, std::as_writable_bytes(std::span(bytes)))) return std::nullopt;
    // MOV CR0,r32 is 0F 22 /0, with prefixes that do not matter.
    constexpr std::array<uint8_t, 11> prefixes = {0x66, 0x67, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0xF2, 0xF3, 0xF0};
    std::span<const uint8_t> code = bytes;
    while (code.size() > 3 && std::ranges::find(prefixes, code[0]) != prefixes.end()) code = code.subspan(1);
    const bool moves_to_cr0 = code[0] == 0x0F && code[1] == 0x22 && (code[2] & 0xF8) == 0xC0;
    if (!moves_to_cr0 || !(general_register(regs, code[2]) & cr0_paging) || sregs.efer & efer_long_mode)
        return std::nullopt;
    return "the guest turns on 32-bit paging, which this host's KVM does not have";
}

}  // namespace viv::kvm
