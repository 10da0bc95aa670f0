#include "vmm/machine/engine_choice.hpp"

#include "vmm/engine/kvm/kvm_engine.hpp"

namespace viv {

Result<std::unique_ptr<Engine>> make_engine(EngineKind kind, const EngineConfig& config) {
    switch (kind) {
        case EngineKind::automatic:
        case EngineKind::kvm: return make_kvm_engine(config);
    }
    return fail("unknown engine");
}

}  // namespace viv
