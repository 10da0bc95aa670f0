#pragma once

#include <memory>
#include <string>
#include <variant>

#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"
#include "vmm/engine/engine.hpp"

namespace viv {

enum class EngineKind { automatic, kvm, soft };

/// The machine's clock, as the engine has to know it: the software CPU retires its instructions into a virtual one.
using EngineClock = std::variant<HostClock*, VirtualClock*>;

struct ChosenEngine {
    std::unique_ptr<Engine> engine;
    /// Why it is this one, in one line; empty when it was asked for by name.
    std::string reason;
};

/// Makes the engine of a kind. `automatic` is KVM where it runs guest code natively, and the software CPU elsewhere and
/// on virtual time. Errors say what the host lacks and what to do.
Result<ChosenEngine> make_engine(EngineKind kind, const EngineConfig& config, EngineClock clock);

}  // namespace viv
