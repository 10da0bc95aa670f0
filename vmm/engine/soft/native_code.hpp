#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "vmm/engine/soft/decode.hpp"

namespace viv::soft {

struct Cpu;

/// Which registers and control bits an instruction that the host executes depends on.
enum class Unit : uint8_t { general, x87, mmx, sse, sse_mmx, avx };

/// A guest instruction as a host function: it takes the registers it reads out of the Cpu, executes the very same
/// instruction with its memory operand at `memory`, and puts back what it wrote. x87 and MMX registers are live in the
/// host's FPU meanwhile.
struct NativeOp {
    void (*code)(Cpu* cpu, void* memory) = nullptr;
    Unit unit = Unit::general;
    bool reads_memory = false;
    bool writes_memory = false;
    bool waits = false;       // x87: reports pending exceptions
    bool arithmetic = false;  // may raise floating point exceptions
    uint16_t memory_size = 0;
    uint16_t alignment = 1;
    // VMASKMOV and VPMASKMOV: only the elements selected by the sign bits of `mask_register` are accessed.
    uint8_t element_size = 0;
    uint8_t mask_register = 0;
    uint8_t source_register = 0;  // of a store
};

/// Makes and keeps the host code, and moves the floating point state between guest and host. From any thread.
class NativeCode {
  public:
    NativeCode();
    ~NativeCode();
    NativeCode(const NativeCode&) = delete;
    NativeCode& operator=(const NativeCode&) = delete;

    /// The host function for a vector or general instruction; null when it cannot be made.
    const NativeOp* vector_op(const Decoded& decoded, Unit unit);
    /// The host function for an x87 instruction that touches registers or at most one memory operand.
    const NativeOp* x87_op(const Decoded& decoded);

    /// Around run(): the guest's MXCSR is in force between them, with its exceptions masked.
    void enter_guest(Cpu& cpu);
    void leave_guest(Cpu& cpu);
    /// Around callbacks: as leave_guest() and enter_guest().
    void release_fpu(Cpu& cpu);
    void resume(Cpu& cpu);

  private:
    using Function = void (*)(Cpu*, void*);
    const NativeOp* install(const std::string& code, std::unique_ptr<NativeOp> op);
    Function function_of(const std::string& code);
    struct Chunk;
    std::vector<std::unique_ptr<Chunk>> chunks_;
    std::unordered_map<std::string, Function> functions_;
    std::vector<std::unique_ptr<NativeOp>> ops_;
    std::mutex lock_;  // of what is above
};

/// Brings Cpu::fx.mxcsr up to date with the exception flags that the host has collected.
void sync_mxcsr(Cpu& cpu);
/// Puts a new guest MXCSR in force.
void load_mxcsr(Cpu& cpu, uint32_t value);
/// Loads the guest's x87 registers into the host's FPU, when they are not there.
void load_fpu(Cpu& cpu);
/// The same, with the exceptions unmasked that the guest has unmasked; none of their flags may be set.
void load_fpu_unmasked(Cpu& cpu);
/// Takes them out, into Cpu::fx.
void unload_fpu(Cpu& cpu);

}  // namespace viv::soft
