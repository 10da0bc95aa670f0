#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "vmm/core/result.hpp"
#include "vmm/engine/cpu_state.hpp"
#include "vmm/engine/engine.hpp"

namespace viv {

/// A CPU whose engine does not know the instruction that it is in front of.
class StrandedCpu {
  public:
    virtual ~StrandedCpu() = default;

    /// Parts of the state that cost a system call each, and that few instructions need.
    enum class Part : uint8_t { vectors, xcr0, msrs };
    /// Fills in CpuState::xsave, xcr0 or msrs.
    virtual Result<void> load(Part part) = 0;

    /// General, segment and control registers, interrupt_shadow and nmi_blocked are there from the beginning. DR6 is as
    /// after RESET, and no event is pending.
    CpuState state;
    /// The rescuer changed state.xsave.
    bool vectors_changed = false;
    /// The bytes at RIP as the engine fetched them; may be none.
    std::span<const uint8_t> code;
    bool a20 = true;
    /// Of the processor that the guest sees.
    VendorRules rules;
};

/// Executes on behalf of an engine what that cannot execute. It takes no interrupts and has no local APIC: those stay
/// with the engine. It belongs to one CPU.
class Rescuer {
  public:
    virtual ~Rescuer() = default;
    struct Report {
        std::string_view mnemonic;  // of the first instruction; lives for ever
        uint64_t instructions = 0;
        bool shutdown = false;  // triple fault
    };
    /// Executes the instruction, and up to `limit` in all while more of the kind follow. What they raise is delivered.
    /// Errors: an instruction that the rescuer does not know either; nothing is changed then.
    virtual Result<Report> rescue(StrandedCpu& cpu, VcpuHost& host, uint64_t limit) = 0;
};

/// Makes the rescuer of one CPU, when it is first needed, on the thread that runs the CPU.
using RescuerFactory = std::function<Result<std::unique_ptr<Rescuer>>()>;

}  // namespace viv
