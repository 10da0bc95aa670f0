#pragma once

#include <memory>

#include "vmm/core/result.hpp"
#include "vmm/engine/engine.hpp"

namespace viv {

enum class EngineKind { automatic, kvm };

/// Makes the engine of a kind; `automatic` is the best that this host has. Errors say what the host lacks and what to
/// do.
Result<std::unique_ptr<Engine>> make_engine(EngineKind kind, const EngineConfig& config);

}  // namespace viv
