#include "vmm/engine/kvm/vcpu_state.hpp"

#include <fmt/format.h>
#include <x86intrin.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>
#include <thread>

namespace viv::kvm {
namespace {

constexpr uint32_t msr_tsc = 0x10;
constexpr uint64_t cr0_paging = 0x80000000;
constexpr uint64_t efer_long_mode = 0x100;

constexpr size_t xsave_legacy_size = 576;  // the legacy area and the header, SDM 1, 13.4

/// x87 and SSE as after RESET (SDM 3A, table 10-1) in an otherwise empty XSAVE image.
void reset_xsave(std::vector<uint8_t>& image) {
    const uint16_t fcw = 0x0040;
    const uint8_t abridged_tag_word = 0xFF;
    const uint32_t mxcsr = 0x1F80;
    std::ranges::fill(image, uint8_t{0});
    std::memcpy(image.data(), &fcw, sizeof fcw);
    image[4] = abridged_tag_word;
    std::memcpy(image.data() + 24, &mxcsr, sizeof mxcsr);
    image[512] = 3;  // XSTATE_BV: the image holds x87 and SSE
}

/// The registers of a local APIC after RESET (SDM 3A, 11.4.7.1), with LINT0 passing the 8259A's INTR to the bootstrap
/// processor, as the firmware of a PC sets it up ("virtual wire").
kvm_lapic_state reset_lapic(uint32_t apic_id, bool bootstrap, uint32_t version, uint64_t cr8) {
    kvm_lapic_state lapic{};
    const auto set = [&lapic](size_t offset, uint32_t value) {
        std::memcpy(lapic.regs + offset, &value, sizeof value);
    };
    constexpr uint32_t masked = 0x10000;
    constexpr uint32_t external_interrupt = 0x700;
    set(0x20, apic_id << 24);
    set(0x30, version);
    set(0x80, static_cast<uint32_t>(cr8) << 4);  // TPR, of which CR8 is the upper half
    set(0xE0, 0xFFFFFFFF);
    set(0xF0, 0xFF);
    for (size_t entry = 0x320; entry <= 0x370; entry += 0x10) set(entry, masked);
    if (bootstrap) set(0x350, external_interrupt);
    return lapic;
}

constexpr size_t interrupt_requests = 0x200, lvt_timer = 0x320, initial_count = 0x380, current_count = 0x390;
constexpr uint32_t lvt_masked = 0x10000, lvt_timer_mode = 0x60000;

uint32_t lapic_register(const kvm_lapic_state& lapic, size_t offset) {
    uint32_t value = 0;
    std::memcpy(&value, lapic.regs + offset, sizeof value);
    return value;
}

/// KVM starts a one-shot timer anew whose count has come to 0.
void end_one_shot(kvm_lapic_state& lapic) {
    const bool one_shot = (lapic_register(lapic, lvt_timer) & lvt_timer_mode) == 0;
    if (one_shot && lapic_register(lapic, current_count) == 0) std::memset(lapic.regs + initial_count, 0, 4);
}

Result<void> write_msrs(int vcpu, const StateLayout& layout, const std::vector<Msr>& listed) {
    std::vector<Msr> msrs;
    for (const Msr& power_on : layout.msrs) {
        if (power_on.index != msr_tsc && std::ranges::find(listed, power_on.index, &Msr::index) == listed.end()) {
            msrs.push_back(power_on);
        }
    }
    msrs.insert(msrs.end(), listed.begin(), listed.end());
    std::span<const Msr> rest = msrs;
    while (!rest.empty()) {
        MsrTable table;
        const size_t some = std::min(rest.size(), table.entries.size());
        table.count = static_cast<uint32_t>(some);
        for (size_t i = 0; i < some; ++i) table.entries[i] = {rest[i].index, 0, rest[i].value};
        const int count = call(vcpu, KVM_SET_MSRS, &table);
        if (count < 0) return fail_errno("cannot set a CPU's MSRs", errno);
        rest = rest.subspan(static_cast<size_t>(count));
        if (static_cast<size_t>(count) == some) continue;
        const Msr& refused = rest.front();
        const bool known = std::ranges::find(layout.msrs, refused.index, &Msr::index) != layout.msrs.end();
        // What the guest has left at 0 and KVM does not have, no guest misses.
        if (known || refused.value != 0) {
            return fail(
                fmt::format("this host's KVM refuses the value {:#x} for MSR {:#x}; the state is of another CPU model",
                            refused.value, refused.index));
        }
        rest = rest.subspan(1);
    }
    return {};
}

/// The guest has seen `wanted`. Where the counter is the host's it waits until that has come, and refuses what a guest
/// would notice.
Result<void> meet_tsc(uint64_t wanted, uint64_t hertz) {
    const auto ahead = static_cast<int64_t>(wanted - __rdtsc());
    const auto second = static_cast<int64_t>(hertz);
    if (ahead > second || ahead < -second) {
        return fail(fmt::format("this host's KVM cannot set the time stamp counter: it would jump by {} s",
                                -ahead / std::max<int64_t>(second, 1)));
    }
    while (__rdtsc() < wanted) std::this_thread::sleep_for(std::chrono::microseconds(50));
    return {};
}

/// The time stamp counter of a state that lists it, which is one that goes on where another CPU stopped.
Result<void> check_tsc(int vcpu, const StateLayout& layout, const std::vector<Msr>& listed) {
    const auto tsc = std::ranges::find(listed, msr_tsc, &Msr::index);
    if (tsc == listed.end()) return {};
    if (layout.fixed_tsc) return meet_tsc(tsc->value, layout.tsc_hertz);
    const auto now = TRY(read_msrs(vcpu, {Msr{msr_tsc, 0}}));
    const auto late = static_cast<int64_t>((now.empty() ? 0 : now.front().value) - tsc->value);
    constexpr int64_t noticeable = 100'000'000;  // a tenth of a second at 1 GHz
    if (late < 0 || late > noticeable) return fail("this host's KVM does not keep the time stamp counter it is given");
    return {};
}

Activity from_mp_state(uint32_t state) {
    switch (state) {
        case KVM_MP_STATE_UNINITIALIZED: return Activity::wait_for_sipi;
        case KVM_MP_STATE_INIT_RECEIVED:
        case KVM_MP_STATE_SIPI_RECEIVED: return Activity::init_received;
        case KVM_MP_STATE_HALTED: return Activity::halted;
        default: return Activity::running;
    }
}

uint32_t to_mp_state(Activity activity) {
    switch (activity) {
        case Activity::running: return KVM_MP_STATE_RUNNABLE;
        case Activity::halted: return KVM_MP_STATE_HALTED;
        case Activity::wait_for_sipi: return KVM_MP_STATE_UNINITIALIZED;
        case Activity::init_received: return KVM_MP_STATE_INIT_RECEIVED;
    }
    return KVM_MP_STATE_RUNNABLE;
}

void events_to_state(const kvm_vcpu_events& events, CpuState& state) {
    state.interrupt_shadow = events.interrupt.shadow != 0;
    state.nmi_blocked = events.nmi.masked != 0;
    state.nmi_pending = events.nmi.pending != 0 || events.nmi.injected != 0;
    if (events.exception.injected || events.exception.pending) {
        state.event_pending = true;
        state.event_is_exception = true;
        state.event_vector = events.exception.nr;
        state.event_has_error_code = events.exception.has_error_code != 0;
        state.event_error_code = state.event_has_error_code ? events.exception.error_code : 0;
    } else if (events.interrupt.injected) {
        state.event_pending = true;
        state.event_vector = events.interrupt.nr;
    }
}

kvm_vcpu_events to_events(const CpuState& state) {
    kvm_vcpu_events events{};
    events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    events.interrupt.shadow = state.interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0;
    events.nmi.masked = state.nmi_blocked;
    events.nmi.pending = state.nmi_pending;
    if (state.event_pending && state.event_is_exception) {
        events.exception.injected = 1;
        events.exception.nr = state.event_vector;
        events.exception.has_error_code = state.event_has_error_code;
        events.exception.error_code = state.event_error_code;
    } else if (state.event_pending) {
        events.interrupt.injected = 1;
        events.interrupt.nr = state.event_vector;
    }
    return events;
}

Result<void> write_xsave(int vcpu, const StateLayout& layout, const CpuState& state) {
    if (!state.xsave.empty() && (state.xsave.size() < xsave_legacy_size || state.xsave.size() > layout.xsave_size)) {
        return fail(fmt::format("the CPU state has {} bytes of XSAVE image, this host takes {} to {}",
                                state.xsave.size(), xsave_legacy_size, layout.xsave_size));
    }
    std::vector<uint8_t> image(layout.xsave_size);
    if (state.xsave.empty()) {
        reset_xsave(image);
    } else {
        std::ranges::copy(state.xsave, image.begin());
    }
    if (call(vcpu, KVM_SET_XSAVE, image.data()) < 0) return fail_errno("cannot set a CPU's XSAVE image", errno);
    return {};
}

}  // namespace

bool timer_may_wait(const kvm_lapic_state& lapic) {
    const uint32_t timer = lapic_register(lapic, lvt_timer);
    const uint32_t vector = timer & 0xFF;
    const bool requested = lapic_register(lapic, interrupt_requests + vector / 32 * 16) >> (vector % 32) & 1;
    return !(timer & lvt_masked) && lapic_register(lapic, initial_count) != 0 && !requested;
}

bool timer_ran_out(const kvm_lapic_state& before, const kvm_lapic_state& after) {
    const uint32_t had = lapic_register(before, current_count), has = lapic_register(after, current_count);
    const bool one_shot = (lapic_register(before, lvt_timer) & lvt_timer_mode) == 0;
    if (one_shot && had == 0) return false;  // that was earlier
    return has == 0 || has > had;
}

SegmentRegister from_kvm(const kvm_segment& s) {
    return {.selector = s.selector,
            .base = s.base,
            .limit = s.limit,
            .type = s.type,
            .code_or_data = s.s != 0,
            .dpl = s.dpl,
            .present = s.present != 0,
            .available = s.avl != 0,
            .long_mode = s.l != 0,
            .default_big = s.db != 0,
            .granularity = s.g != 0,
            .unusable = s.unusable != 0};
}

kvm_segment to_kvm(const SegmentRegister& s) {
    kvm_segment segment{};
    segment.base = s.base;
    segment.limit = s.limit;
    segment.selector = s.selector;
    segment.type = s.type;
    segment.present = s.present;
    segment.dpl = s.dpl;
    segment.db = s.default_big;
    segment.s = s.code_or_data;
    segment.l = s.long_mode;
    segment.g = s.granularity;
    segment.avl = s.available;
    segment.unusable = s.unusable;
    return segment;
}

void from_kvm(const kvm_regs& r, CpuState& state) {
    state.gpr = {r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi,
                 r.r8,  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15};
    state.rip = r.rip;
    state.rflags = r.rflags;
}

kvm_regs to_kvm(const CpuState& state) {
    const auto& g = state.gpr;
    return {.rax = g[RAX],
            .rbx = g[RBX],
            .rcx = g[RCX],
            .rdx = g[RDX],
            .rsi = g[RSI],
            .rdi = g[RDI],
            .rsp = g[RSP],
            .rbp = g[RBP],
            .r8 = g[R8],
            .r9 = g[R9],
            .r10 = g[R10],
            .r11 = g[R11],
            .r12 = g[R12],
            .r13 = g[R13],
            .r14 = g[R14],
            .r15 = g[R15],
            .rip = state.rip,
            .rflags = state.rflags};
}

std::vector<Msr> readable_msrs(int vcpu, const std::vector<uint32_t>& indices) {
    constexpr uint32_t apic_base = 0x1B;
    constexpr uint32_t efer = 0xC0000080;
    std::vector<Msr> found;
    MsrTable table;
    table.count = 1;
    for (const uint32_t index : indices) {
        if (index == apic_base || index == efer) continue;
        table.entries[0] = {index, 0, 0};
        if (call(vcpu, KVM_GET_MSRS, &table) == 1) found.push_back({index, table.entries[0].data});
    }
    std::ranges::sort(found, {}, &Msr::index);
    return found;
}

Result<std::vector<Msr>> read_msrs(int vcpu, const std::vector<Msr>& wanted) {
    MsrTable table;
    VIV_ASSERT(wanted.size() <= table.entries.size());
    table.count = static_cast<uint32_t>(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) table.entries[i].index = wanted[i].index;
    const int count = call(vcpu, KVM_GET_MSRS, &table);
    if (count < 0) return fail_errno("cannot read a CPU's MSRs", errno);
    std::vector<Msr> msrs;
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
        msrs.push_back({table.entries[i].index, table.entries[i].data});
    }
    return msrs;
}

Result<void> read_xsave(int vcpu, const StateLayout& layout, std::vector<uint8_t>& image) {
    image.resize(layout.xsave_size);
    const unsigned long get_xsave = layout.xsave_size > sizeof(kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
    if (call(vcpu, get_xsave, image.data()) < 0) return fail_errno("cannot read a CPU's XSAVE image", errno);
    return {};
}

Result<uint64_t> read_xcr0(int vcpu, const StateLayout& layout) {
    if (!layout.has_xcrs) return 1;
    kvm_xcrs xcrs{};
    if (call(vcpu, KVM_GET_XCRS, &xcrs) < 0) return fail_errno("cannot read a CPU's XCR0", errno);
    return xcrs.xcrs[0].value;
}

Result<CpuState> read_state(int vcpu, const StateLayout& layout) {
    kvm_regs regs{};
    kvm_sregs sregs{};
    kvm_vcpu_events events{};
    kvm_mp_state mp{};
    if (call(vcpu, KVM_GET_REGS, &regs) < 0) return fail_errno("cannot read a CPU's registers", errno);
    if (call(vcpu, KVM_GET_SREGS, &sregs) < 0) return fail_errno("cannot read a CPU's system registers", errno);
    if (call(vcpu, KVM_GET_VCPU_EVENTS, &events) < 0) return fail_errno("cannot read a CPU's pending events", errno);
    if (call(vcpu, KVM_GET_MP_STATE, &mp) < 0) return fail_errno("cannot read a CPU's activity", errno);

    CpuState state;
    from_kvm(regs, state);
    state.cs = from_kvm(sregs.cs);
    state.ds = from_kvm(sregs.ds);
    state.es = from_kvm(sregs.es);
    state.fs = from_kvm(sregs.fs);
    state.gs = from_kvm(sregs.gs);
    state.ss = from_kvm(sregs.ss);
    state.tr = from_kvm(sregs.tr);
    state.ldtr = from_kvm(sregs.ldt);
    state.gdtr = {sregs.gdt.base, sregs.gdt.limit};
    state.idtr = {sregs.idt.base, sregs.idt.limit};
    state.cr0 = sregs.cr0;
    state.cr2 = sregs.cr2;
    state.cr3 = sregs.cr3;
    state.cr4 = sregs.cr4;
    state.cr8 = sregs.cr8;
    state.efer = sregs.efer;
    state.apic_base = sregs.apic_base;
    state.activity = from_mp_state(mp.mp_state);
    events_to_state(events, state);

    state.xcr0 = TRY(read_xcr0(vcpu, layout));
    if (layout.has_debug_registers) {
        kvm_debugregs debug{};
        if (call(vcpu, KVM_GET_DEBUGREGS, &debug) < 0) return fail_errno("cannot read a CPU's debug registers", errno);
        std::copy_n(debug.db, 4, state.dr.begin());
        state.dr6 = debug.dr6;
        state.dr7 = debug.dr7;
    }
    TRY(read_xsave(vcpu, layout, state.xsave));
    state.msrs = TRY(read_msrs(vcpu, layout.msrs));
    if (layout.has_local_apic) {
        kvm_lapic_state lapic{};
        if (call(vcpu, KVM_GET_LAPIC, &lapic) < 0) return fail_errno("cannot read a CPU's local APIC", errno);
        state.lapic.assign(std::begin(lapic.regs), std::end(lapic.regs));
    }
    return state;
}

Result<void> write_state(int vcpu, const StateLayout& layout, const CpuState& state, uint32_t apic_id) {
    if (!state.lapic.empty() && state.lapic.size() != sizeof(kvm_lapic_state)) {
        return fail(fmt::format("the CPU state has {} bytes of local APIC, it must be {}", state.lapic.size(),
                                sizeof(kvm_lapic_state)));
    }
    kvm_sregs sregs{};
    sregs.cs = to_kvm(state.cs);
    sregs.ds = to_kvm(state.ds);
    sregs.es = to_kvm(state.es);
    sregs.fs = to_kvm(state.fs);
    sregs.gs = to_kvm(state.gs);
    sregs.ss = to_kvm(state.ss);
    sregs.tr = to_kvm(state.tr);
    sregs.ldt = to_kvm(state.ldtr);
    sregs.gdt = {.base = state.gdtr.base, .limit = state.gdtr.limit, .padding = {}};
    sregs.idt = {.base = state.idtr.base, .limit = state.idtr.limit, .padding = {}};
    sregs.cr0 = state.cr0;
    sregs.cr2 = state.cr2;
    sregs.cr3 = state.cr3;
    sregs.cr4 = state.cr4;
    sregs.cr8 = state.cr8;
    sregs.efer = state.efer;
    sregs.apic_base = state.apic_base;
    const auto control_registers = [](const kvm_sregs& s) {
        return fmt::format("CR0 {:#x}, CR4 {:#x}, EFER {:#x}", s.cr0, s.cr4, s.efer);
    };
    if (!layout.has_legacy_paging && (state.cr0 & cr0_paging) && !(state.efer & efer_long_mode)) {
        return fail("this host's KVM has no 32-bit paging");
    }
    if (call(vcpu, KVM_SET_SREGS, &sregs) < 0) {
        return fail_errno(fmt::format("this host's KVM refuses {}", control_registers(sregs)), errno);
    }
    kvm_sregs kept{};
    if (call(vcpu, KVM_GET_SREGS, &kept) < 0) return fail_errno("cannot read a CPU's system registers", errno);
    if (kept.cr0 != sregs.cr0 || kept.cr4 != sregs.cr4 || kept.efer != sregs.efer) {
        return fail(fmt::format("this host's KVM makes {} of {}", control_registers(kept), control_registers(sregs)));
    }
    const kvm_regs regs = to_kvm(state);
    if (call(vcpu, KVM_SET_REGS, &regs) < 0) return fail_errno("cannot set a CPU's registers", errno);
    if (layout.has_xcrs) {
        kvm_xcrs xcrs{};
        xcrs.nr_xcrs = 1;
        xcrs.xcrs[0].value = state.xcr0;
        if (call(vcpu, KVM_SET_XCRS, &xcrs) < 0) return fail_errno("cannot set a CPU's XCR0", errno);
    }
    TRY(write_xsave(vcpu, layout, state));
    if (layout.has_local_apic) {
        kvm_lapic_state lapic{};
        if (state.lapic.empty()) {
            if (call(vcpu, KVM_GET_LAPIC, &lapic) < 0) return fail_errno("cannot read a CPU's local APIC", errno);
            uint32_t version = 0;
            std::memcpy(&version, lapic.regs + 0x30, sizeof version);
            lapic = reset_lapic(apic_id, apic_id == 0, version, state.cr8);
        } else {
            std::memcpy(lapic.regs, state.lapic.data(), sizeof lapic.regs);
            end_one_shot(lapic);
        }
        if (call(vcpu, KVM_SET_LAPIC, &lapic) < 0) return fail_errno("cannot set a CPU's local APIC", errno);
    }
    // After the local APIC: the TSC deadline arms its timer.
    TRY(write_msrs(vcpu, layout, state.msrs));
    TRY(check_tsc(vcpu, layout, state.msrs));
    if (layout.has_debug_registers) {
        kvm_debugregs debug{};
        std::ranges::copy(state.dr, debug.db);
        debug.dr6 = state.dr6;
        debug.dr7 = state.dr7;
        if (call(vcpu, KVM_SET_DEBUGREGS, &debug) < 0) return fail_errno("cannot set a CPU's debug registers", errno);
    }
    // What is to be delivered ends a halt, and KVM does not look.
    const bool woken = state.activity == Activity::halted && state.event_pending;
    const kvm_mp_state mp{to_mp_state(woken ? Activity::running : state.activity)};
    if (call(vcpu, KVM_SET_MP_STATE, &mp) < 0) return fail_errno("cannot set a CPU's activity", errno);
    const kvm_vcpu_events events = to_events(state);
    if (call(vcpu, KVM_SET_VCPU_EVENTS, &events) < 0) return fail_errno("cannot set a CPU's pending events", errno);
    return {};
}

}  // namespace viv::kvm
