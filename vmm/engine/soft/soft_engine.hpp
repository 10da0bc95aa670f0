#pragma once

#include <memory>

#include "vmm/core/clock.hpp"
#include "vmm/engine/cpu_model.hpp"
#include "vmm/engine/engine.hpp"

namespace viv {

/// The software CPU. `clock` is guest time: for the time stamp counter and the local APICs' timers. Each CPU is run by
/// a thread of its own, and run() waits inside while it is halted. The clock's timers, all calls of the engine but
/// those "from any thread", and changes of the memory's regions come under the machine lock, which
/// VcpuHost::hold_memory() takes.
Result<std::unique_ptr<Engine>> make_soft_engine(const EngineConfig& config, HostClock& clock);

/// The same on virtual time, where CPUs take turns: one run() at a time does something, whatever thread it is called
/// from. The engine retires its instructions into `clock`, before every callback into the host and
/// at the end of every run(), and ends a run() with Stop::kicked when something was armed that is due earlier than
/// what was due when it began. The machine only skips and runs what is due.
Result<std::unique_ptr<Engine>> make_soft_engine(const EngineConfig& config, VirtualClock& clock);

/// The features that the software CPU has on this host.
CpuFeatureSet soft_cpu_features();

}  // namespace viv
