#include "vmm/machine/engine_choice.hpp"

#include <fmt/format.h>

#include "vmm/engine/kvm/kvm_engine.hpp"
#include "vmm/engine/soft/soft_engine.hpp"
#include "vmm/engine/soft/soft_rescuer.hpp"

namespace viv {
namespace {

Result<ChosenEngine> make_soft(const EngineConfig& config, EngineClock clock, std::string reason) {
    auto engine = std::visit([&](auto* kind) { return make_soft_engine(config, *kind); }, clock);
    if (!engine) return std::unexpected(engine.error());
    return ChosenEngine{std::move(*engine), std::move(reason)};
}

Result<ChosenEngine> make_kvm(const EngineConfig& config) {
    auto make_rescuer = [&memory = config.memory] { return make_soft_rescuer(memory); };
    EngineConfig with_successor = config;
    with_successor.successor = soft_cpu_features();
    auto engine = TRY(make_kvm_engine(with_successor, make_rescuer));
    return ChosenEngine{std::move(engine), {}};
}

}  // namespace

Result<ChosenEngine> make_engine(EngineKind kind, const EngineConfig& config, EngineClock clock) {
    const bool virtual_time = std::holds_alternative<VirtualClock*>(clock);
    switch (kind) {
        case EngineKind::soft: return make_soft(config, clock, {});
        case EngineKind::kvm:
            if (virtual_time) {
                return fail_usage(
                    "the kvm engine cannot run on virtual time: it does not count instructions; use --engine soft or "
                    "--clock host");
            }
            return make_kvm(config);
        case EngineKind::automatic: break;
    }
    if (virtual_time) return make_soft(config, clock, "virtual time needs the software CPU");
    auto kvm = make_kvm(config);
    if (!kvm) return make_soft(config, clock, kvm.error().message);
    if (std::string drawback = kvm->engine->drawback(); !drawback.empty()) {
        // With KVM's time stamp counter, so that the machine could move there.
        EngineConfig movable = config;
        movable.tsc = kvm->engine->time_stamp_counter();
        return make_soft(movable, clock, std::move(drawback));
    }
    return kvm;
}

}  // namespace viv
