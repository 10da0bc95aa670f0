#pragma once

#include <functional>
#include <string>
#include <utility>

#include "vmm/core/result.hpp"
#include "vmm/core/state.hpp"
#include "vmm/core/tree.hpp"

namespace viv {

/// `power_on` makes a device as new; `hard` is the RESET# wire, which battery-backed memory and inserted media survive.
enum class ResetKind { power_on, hard };

/// A device of the board: something that can be reset, saved and loaded. What a guest reaches of it are BusDevices.
class Device {
  public:
    /// The second half of a load, which cannot fail.
    using Commit = std::move_only_function<void()>;

    Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    virtual ~Device() = default;

    virtual void reset(ResetKind kind) = 0;
    /// The state as a node whose name is "state"; the machine renames it.
    [[nodiscard]] virtual TreeNode save() = 0;
    /// Reads and validates everything and changes nothing; the returned Commit changes everything, and moves each
    /// interrupt line at most once, straight to its new level.
    virtual Result<Commit> prepare_load(const TreeNode& node) = 0;
};

/// A Device whose whole state is one plain struct. Derived classes validate what a hostile file could hold (indices,
/// counts) and rebuild what is derived (timers, interrupt lines) after a load.
template <class S>
class StatefulDevice : public Device {
  public:
    [[nodiscard]] TreeNode save() override {
        before_save();
        return write_state("state", state_);
    }
    Result<Commit> prepare_load(const TreeNode& node) override {
        auto staged = TRY(read_state<S>(node));
        TRY(validate(staged));
        return Commit([this, staged = std::move(staged)]() mutable {
            state_ = std::move(staged);
            after_load();
        });
    }

  protected:
    /// Brings lazily computed fields up to date.
    virtual void before_save() {}
    /// Refuses what the device itself could never have saved.
    virtual Result<void> validate(const S& /*staged*/) const { return {}; }
    virtual void after_load() = 0;

    S state_;
};

}  // namespace viv
