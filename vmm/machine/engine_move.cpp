// Moving a running machine from one engine to another.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "devices/pci/pci_bus.hpp"
#include "vmm/core/log.hpp"
#include "vmm/machine/machine.hpp"

namespace viv {

void Machine::request_engine(EngineKind kind, MoveEnd done) {
    if (phase_ == Phase::stopped) return;
    move_end_ = std::move(done);
    ask_for_engine(kind);
}

void Machine::ask_for_engine(EngineKind kind) {
    if (phase_ == Phase::stopped) return;
    pending_engine_ = kind;
    if (!one_loop() && parked_ == cpus_.size() && phase_ == Phase::paused) {
        carry_out_requests();
    } else {
        kick_cpus();
    }
}

namespace {

uint64_t* time_stamp_counter_of(CpuState& state) {
    const auto msr = std::ranges::find(state.msrs, uint32_t{0x10}, &Msr::index);
    return msr == state.msrs.end() ? nullptr : &msr->value;
}

/// A CPU's state, and the guest time at which it was taken.
struct Moment {
    CpuState state;
    VirtualTime taken;
};

/// Moves the time stamp counters on to `now`. Those that go together were not read together, but go on together.
void pass_time(std::vector<Moment>& cpus, VirtualTime now, uint64_t hertz) {
    const uint64_t* first = nullptr;
    for (Moment& cpu : cpus) {
        uint64_t* tsc = time_stamp_counter_of(cpu.state);
        if (!tsc) continue;
        *tsc += ticks_in((now - cpu.taken).count(), hertz);
        if (!first) first = tsc;
        const uint64_t apart = *tsc > *first ? *tsc - *first : *first - *tsc;
        if (now != cpu.taken && apart < hertz / 1000) *tsc = *first;
        cpu.taken = now;
    }
}

}  // namespace

/// All CPUs are at rest. Nothing is changed when it fails.
Result<void> Machine::move_to_engine(EngineKind kind) {
    // The counter's rate is part of the machine; what it shows, of each CPU's state.
    const TimeStampCounter tsc{engine_->time_stamp_counter().hertz, std::nullopt};
    const EngineConfig config{.memory = memory_,
                              .cpus = static_cast<uint32_t>(cpus_.size()),
                              .cpu_model = cpu_model_,
                              .tsc = tsc,
                              .trace = trace_.get(),
                              .processor = processor_};
    ChosenEngine made = TRY(viv::make_engine(kind, config, engine_clock_));
    std::vector<std::unique_ptr<Vcpu>> fresh;
    for (uint32_t i = 0; i < cpus_.size(); ++i) fresh.push_back(TRY(made.engine->create_vcpu(VcpuId{i})));
    // Making them takes milliseconds, which local timers should not notice.
    std::vector<Moment> moments;
    for (const auto& cpu : cpus_) {
        CpuState state = TRY(cpu->state());
        moments.push_back({std::move(state), clock_->now()});
    }
    for (size_t i = 0; i < cpus_.size(); ++i) {
        pass_time(moments, clock_->now(), tsc.hertz);
        TRY(fresh[i]->set_state(moments[i].state));
    }
    past_instructions_ = instructions();
    past_counters_ = engine_counters();
    std::swap(cpus_, fresh);
    std::swap(chosen_, made);
    engine_ = chosen_.engine.get();
    doorbells_.use(*engine_);
    engine_->set_a20(a20());
    if (ioapic_) {
        ioapic_->connect(*engine_);
        forward_ioapic_routes();
    }
    if (pci_) pci_->connect(*engine_);
    if (pic_) cpus_.front()->set_intr(pic_->intr());
    // What the engine before knew about written pages goes with it.
    for (const auto& region : memory_.regions()) memory_.mark_dirty(region.base, region.size);
    fresh.clear();  // before their engine
    ++engine_moves_;
    return {};
}

std::string Machine::newly_missing_features() {
    const auto now = engine_->processor();
    if (!processor_ || !now) return {};
    const CpuFeatureSet missing = processor_->supported - now->supported - told_missing_ -
                                  CpuFeatureSet{CpuFeature::ht};  // says how many there are
    told_missing_ = told_missing_ | missing;
    return missing.names();
}

void Machine::carry_out_move() {
    const EngineKind kind = *std::exchange(pending_engine_, std::nullopt);
    const std::string reason = std::exchange(move_reason_, {});
    MoveEnd end = std::exchange(move_end_, {});
    const auto moved = move_to_engine(kind);
    const std::string missing = moved ? newly_missing_features() : std::string();
    const std::string lost =
        missing.empty() ? "" : fmt::format("it lacks CPU features that the guest has seen: {}", missing);
    if (reason.empty()) {
        if (!lost.empty()) log_line(fmt::format("the {} engine took over; {}", engine_->name(), lost));
    } else {
        if (moved) {
            log_line(fmt::format("going on with the {} engine: {}{}{}", engine_->name(), reason,
                                 lost.empty() ? "" : "; ", lost));
        } else {
            stop({Outcome::Kind::died, 0, fmt::format("{}; and {}", reason, moved.error().message)});
        }
    }
    if (end) end(moved);
}

}  // namespace viv
