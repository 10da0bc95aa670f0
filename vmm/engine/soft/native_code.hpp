#pragma once

namespace viv::soft {

struct Cpu;

/// Host code that executes guest floating point and vector instructions.
class NativeCode {
  public:
    /// Takes the guest's x87 registers out of the host's FPU.
    void release_fpu(Cpu&) {}
    /// Around run(): the guest's MXCSR is in force between them.
    void enter_guest(Cpu&) {}
    void leave_guest(Cpu&) {}
};

}  // namespace viv::soft
