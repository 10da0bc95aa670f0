#pragma once

#include <asmjit/x86.h>

#include <array>

#include "vmm/core/result.hpp"
#include "vmm/engine/soft/cpu.hpp"

/// The host's side of compiled code.
namespace viv::soft {

namespace x86 = asmjit::x86;
using x86::Gp;

inline const Gp cpu_register = x86::rdi;
constexpr unsigned guest_rip = 17;  // Cpu::gpr: RIP of the block

inline x86::Mem field(size_t offset, uint32_t size = 8) {
    return x86::Mem(cpu_register, static_cast<int32_t>(offset), size);
}
inline x86::Mem slot(unsigned guest) {
    return field(offsetof(Cpu, gpr) + 8 * guest);
}
inline Gp sized(const Gp& reg, unsigned size) {
    switch (size) {
        case 1: return reg.r8();
        case 2: return reg.r16();
        case 4: return reg.r32();
        default: return reg.r64();
    }
}
inline x86::Mem at(const Gp& address, unsigned size) {
    return x86::Mem(address, 0, size);
}

/// Which host register has the value of which guest register, within a row of instructions.
class HostRegisters {
  public:
    explicit HostRegisters(x86::Assembler& assembler) : a_(assembler) {}

    /// Comes before each instruction: what it uses stays until the next one.
    void next_instruction() { ++now_; }
    /// A host register with the guest's value.
    Gp read(unsigned guest) {
        if (Entry* entry = find(guest)) return use(*entry);
        Entry& entry = take(guest);
        a_.mov(use(entry), slot(guest));
        return use(entry);
    }
    /// One that is going to be written in full.
    Gp write(unsigned guest) {
        if (Entry* entry = find(guest)) return use(*entry);
        return use(take(guest));
    }
    /// The value in the host register is the guest's from now on.
    void store(unsigned guest) { a_.mov(slot(guest), use(*find(guest))); }
    /// A host register for the rest of the instruction.
    Gp scratch() { return use(take(nobody)); }

  private:
    static constexpr unsigned nobody = 255;
    struct Entry {
        uint8_t host;
        unsigned guest = nobody;
        unsigned used = 0;
    };
    Entry* find(unsigned guest) {
        for (Entry& entry : entries_) {
            if (entry.guest == guest) return &entry;
        }
        return nullptr;
    }
    Gp use(Entry& entry) {
        entry.used = now_;
        return x86::gpq(entry.host);
    }
    /// The one that was not used for longest.
    Entry& take(unsigned guest) {
        Entry* oldest = &entries_[0];
        for (Entry& entry : entries_) {
            if (entry.used < oldest->used) oldest = &entry;
        }
        VIV_ASSERT(oldest->used < now_);
        oldest->guest = guest;
        return *oldest;
    }

    x86::Assembler& a_;
    std::array<Entry, 5> entries_{
        Entry{x86::Gp::kIdR8}, {x86::Gp::kIdR9}, {x86::Gp::kIdR10}, {x86::Gp::kIdR11}, {x86::Gp::kIdSi}};
    unsigned now_ = 1;
};

}  // namespace viv::soft
