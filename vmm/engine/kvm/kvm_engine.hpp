#pragma once

#include <memory>

#include "vmm/core/result.hpp"
#include "vmm/engine/engine.hpp"
#include "vmm/engine/rescuer.hpp"

namespace viv {

/// An engine that runs guest code natively through /dev/kvm. Errors say what the host lacks and what to do about it.
/// `make_rescuer` is for instructions that the host's KVM cannot execute; without it they end the run.
/// `config.memory` must outlive the engine; memory that is added before the first CPU is cheaper than memory added
/// later.
Result<std::unique_ptr<Engine>> make_kvm_engine(const EngineConfig& config, RescuerFactory make_rescuer = {});

}  // namespace viv
