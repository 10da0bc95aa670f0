#pragma once

#include "vmm/engine/engine.hpp"
#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {

/// Around every call of the VcpuHost: time is accounted, the host's own floating point state is in place, and what the
/// call did to memory is noticed afterwards.
class HostCall {
  public:
    explicit HostCall(Cpu& cpu);
    ~HostCall();
    HostCall(const HostCall&) = delete;
    HostCall& operator=(const HostCall&) = delete;

  private:
    Cpu& cpu_;
};

}  // namespace viv::soft
