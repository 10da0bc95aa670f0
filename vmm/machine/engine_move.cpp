// Moving a running machine from one engine to another, and the threads that each kind needs.

#include <fmt/format.h>

#include <utility>

#include "vmm/core/log.hpp"
#include "vmm/machine/machine.hpp"

namespace viv {

void Machine::request_engine(EngineKind kind) {
    if (phase_ == Phase::stopped) return;
    pending_engine_ = kind;
    if (!chosen_.one_loop && parked_ == cpus_.size() && phase_ == Phase::paused) {
        carry_out_requests();
    } else {
        kick_cpus();
    }
}

/// All CPUs are at rest. Nothing is changed when it fails.
Result<void> Machine::move_to_engine(EngineKind kind) {
    ChosenEngine made = TRY(viv::make_engine(
        kind, {.memory = memory_, .cpus = static_cast<uint32_t>(cpus_.size()), .cpu_model = cpu_model_},
        engine_clock_));
    std::vector<std::unique_ptr<Vcpu>> fresh;
    for (uint32_t i = 0; i < cpus_.size(); ++i) {
        fresh.push_back(TRY(made.engine->create_vcpu(VcpuId{i})));
        const CpuState state = TRY(cpus_[i]->state());
        TRY(fresh.back()->set_state(state));
    }
    std::swap(cpus_, fresh);
    std::swap(chosen_, made);
    engine_ = chosen_.engine.get();
    engine_->set_a20(a20());
    if (ioapic_) {
        ioapic_->connect(*engine_);
        forward_ioapic_routes();
    }
    if (pic_) cpus_.front()->set_intr(pic_->intr());
    // What the engine before knew about written pages goes with it.
    for (const auto& region : memory_.regions()) memory_.mark_dirty(region.base, region.size);
    fresh.clear();  // before their engine
    ++engine_moves_;
    return {};
}

void Machine::carry_out_move() {
    const EngineKind kind = *std::exchange(pending_engine_, std::nullopt);
    const std::string reason = std::exchange(move_reason_, {});
    const auto moved = move_to_engine(kind);
    if (!moved && !reason.empty()) {
        stop({Outcome::Kind::died, 0, fmt::format("{}; and {}", reason, moved.error().message)});
    } else if (!moved) {
        log_line(fmt::format("staying on the {} engine: {}", engine_->name(), moved.error().message));
    } else if (!reason.empty()) {
        log_line(fmt::format("going on with the {} engine: {}", engine_->name(), reason));
    }
}

/// Makes the threads beside that of the first CPU. Under the lock.
void Machine::start_other_threads() {
    loop_thread_ = std::jthread([this] { loop_.run(); });
    for (size_t i = 1; i < cpus_.size(); ++i) cpu_threads_.emplace_back([this, i] { cpu_thread(i); });
}

/// Ends them, for the first CPU's thread to do all the work.
void Machine::end_other_threads(std::unique_lock<std::mutex>& hold) {
    hold.unlock();
    while (cpu_threads_.size() > 1) cpu_threads_.pop_back();  // joins
    if (loop_thread_.joinable()) {
        loop_.stop();
        loop_thread_.join();
        loop_.restart();
    }
    hold.lock();
}

void Machine::cpu_thread(size_t index) {
    std::unique_lock hold(lock_);
    while (phase_ != Phase::stopped) {
        if (!chosen_.one_loop) {
            if (index == 0) start_other_threads();
            run_cpu(index, hold);
            if (index != 0) return;
            end_other_threads(hold);
        } else {
            run_one_loop(hold);
        }
    }
}

}  // namespace viv
