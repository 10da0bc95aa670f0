#pragma once

#include <memory>

#include "vmm/core/result.hpp"
#include "vmm/engine/rescuer.hpp"

namespace viv {

/// A software CPU that executes single instructions for another engine, on `memory`. It offers all that the software
/// CPU has, since the other engine's CPUID is what the guest goes by.
Result<std::unique_ptr<Rescuer>> make_soft_rescuer(GuestMemory& memory);

}  // namespace viv
