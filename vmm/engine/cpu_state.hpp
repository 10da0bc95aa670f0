#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "vmm/core/state.hpp"

namespace viv {

/// A segment register with its hidden part (Intel SDM 3A, 3.4.3). Real-mode and system segments alike.
struct SegmentRegister {
    uint16_t selector = 0;
    uint64_t base = 0;
    uint32_t limit = 0xFFFF;   // in bytes, granularity applied
    uint8_t type = 3;          // descriptor type field, 4 bits
    bool code_or_data = true;  // the S bit
    uint8_t dpl = 0;
    bool present = true;
    bool available = false;
    bool long_mode = false;    // L
    bool default_big = false;  // D/B
    bool granularity = false;  // G, as loaded
    bool unusable = false;     // a null selector outside 64-bit code

    static void fields(auto& self, auto&& visit) {
        visit("selector", self.selector);
        visit("base", self.base);
        visit("limit", self.limit);
        visit("type", self.type);
        visit("code-or-data", self.code_or_data);
        visit("dpl", self.dpl);
        visit("present", self.present);
        visit("available", self.available);
        visit("long-mode", self.long_mode);
        visit("default-big", self.default_big);
        visit("granularity", self.granularity);
        visit("unusable", self.unusable);
    }
    bool operator==(const SegmentRegister&) const = default;
};

struct DescriptorTableRegister {
    uint64_t base = 0;
    uint16_t limit = 0xFFFF;
    static void fields(auto& self, auto&& visit) {
        visit("base", self.base);
        visit("limit", self.limit);
    }
    bool operator==(const DescriptorTableRegister&) const = default;
};

/// Indices into CpuState::gpr, in encoding order.
enum Gpr : uint8_t { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

struct Msr {
    uint32_t index = 0;
    uint64_t value = 0;
    static void fields(auto& self, auto&& visit) {
        visit("index", self.index);
        visit("value", self.value);
    }
    bool operator==(const Msr&) const = default;
};

/// What a CPU is doing (Intel SDM 3A, 9.4 and 8.10).
enum class Activity : uint8_t { running, halted, wait_for_sipi, init_received };

/// The whole architectural state of one x86 CPU, for both engines. The defaults are those after RESET (SDM 3A, table
/// 10-1).
struct CpuState {
    std::array<uint64_t, 16> gpr{};
    uint64_t rip = 0xFFF0;
    uint64_t rflags = 2;

    SegmentRegister cs{.selector = 0xF000, .base = 0xFFFF0000, .type = 11};
    SegmentRegister ds, es, fs, gs, ss;
    SegmentRegister ldtr{.type = 2, .code_or_data = false};
    SegmentRegister tr{.type = 11, .code_or_data = false};
    DescriptorTableRegister gdtr, idtr;

    uint64_t cr0 = 0x60000010;
    uint64_t cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
    uint64_t efer = 0;
    uint64_t xcr0 = 1;
    uint64_t apic_base = 0xFEE00900;
    std::array<uint64_t, 4> dr{};
    uint64_t dr6 = 0xFFFF0FF0, dr7 = 0x400;

    /// x87, SSE and what XCR0 adds, in the standard (non-compacted) XSAVE format: the legacy area, the header, then the
    /// components at the offsets that CPUID leaf 0Dh gives. Empty means: as after RESET.
    std::vector<uint8_t> xsave;
    /// MSRs other than those above, ascending.
    std::vector<Msr> msrs;
    /// The register page of the local APIC (SDM 3A, table 11-1), 1024 bytes; empty when there is none.
    std::vector<uint8_t> lapic;

    Activity activity = Activity::running;
    bool interrupt_shadow = false;  // after STI or MOV SS
    bool nmi_blocked = false;
    bool nmi_pending = false;
    /// An exception or interrupt that is to be delivered before the next instruction.
    bool event_pending = false;
    bool event_is_exception = false;
    uint8_t event_vector = 0;
    bool event_has_error_code = false;
    uint32_t event_error_code = 0;

    static void fields(auto& self, auto&& visit) {
        visit("gpr", self.gpr);
        visit("rip", self.rip);
        visit("rflags", self.rflags);
        visit("cs", self.cs);
        visit("ds", self.ds);
        visit("es", self.es);
        visit("fs", self.fs);
        visit("gs", self.gs);
        visit("ss", self.ss);
        visit("ldtr", self.ldtr);
        visit("tr", self.tr);
        visit("gdtr", self.gdtr);
        visit("idtr", self.idtr);
        visit("cr0", self.cr0);
        visit("cr2", self.cr2);
        visit("cr3", self.cr3);
        visit("cr4", self.cr4);
        visit("cr8", self.cr8);
        visit("efer", self.efer);
        visit("xcr0", self.xcr0);
        visit("apic-base", self.apic_base);
        visit("dr", self.dr);
        visit("dr6", self.dr6);
        visit("dr7", self.dr7);
        visit("xsave", self.xsave);
        visit("msrs", self.msrs);
        visit("lapic", self.lapic);
        visit("activity", self.activity);
        visit("interrupt-shadow", self.interrupt_shadow);
        visit("nmi-blocked", self.nmi_blocked);
        visit("nmi-pending", self.nmi_pending);
        visit("event-pending", self.event_pending);
        visit("event-is-exception", self.event_is_exception);
        visit("event-vector", self.event_vector);
        visit("event-has-error-code", self.event_has_error_code);
        visit("event-error-code", self.event_error_code);
    }
    bool operator==(const CpuState&) const = default;
};

/// The state of a bootstrap (or, waiting for SIPI, an application) processor after RESET.
CpuState reset_state(bool bootstrap);

/// Registers, segments and control registers as text of a few lines, for reports.
std::string to_text(const CpuState& state);

}  // namespace viv
