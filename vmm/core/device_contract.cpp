#include "vmm/core/device_contract.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <random>

#include "vmm/core/catch.hpp"

namespace viv {
namespace {

/// Deterministic noise on every window: what a guest gone mad does. Time moves on now and then when asked to.
void scribble(ContractRig& rig, uint32_t seed, unsigned accesses, Duration step) {
    std::mt19937 random(seed);
    constexpr uint8_t sizes[] = {1, 1, 1, 2, 4, 8};
    for (unsigned i = 0; i < accesses && !rig.windows.empty(); ++i) {
        const auto& window = rig.windows[random() % rig.windows.size()];
        uint8_t size = sizes[random() % std::size(sizes)];
        while (size > window.size) size /= 2;
        const uint64_t offset = random() % (window.size - size + 1);
        const uint64_t value = (uint64_t{random()} << 32 | random()) >> (64 - 8 * size);
        if (random() % 3 == 0) {
            window.device->read({offset, size});
        } else {
            window.device->write({offset, size}, value);
        }
        if (step.count() > 0 && random() % 8 == 0) rig.clock.advance(step);
    }
}

struct Recorder final : IrqSink {
    explicit Recorder(const std::vector<IrqPin*>& pins) : changes(pins.size(), 0) {
        for (unsigned i = 0; i < pins.size(); ++i) pins[i]->connect(*this, i);
        std::ranges::fill(changes, 0u);  // connecting reports a level that is already high
    }
    void set_irq_level(unsigned pin, bool) override { ++changes[pin]; }
    std::vector<unsigned> changes;
};

/// Damages one property at a time, anywhere in the tree, and calls `visit` for each damaged copy.
void for_each_damage(const TreeNode& root, TreeNode& node, const std::function<void(const TreeNode&)>& visit) {
    for (auto& [key, value] : node.properties) {
        auto saved = value;
        value.push_back(std::byte{1});
        visit(root);
        value = std::move(saved);
    }
    for (TreeNode& child : node.children) for_each_damage(root, child, visit);
}

}  // namespace

void check_device_contract(const std::function<std::unique_ptr<ContractRig>()>& make) {
    constexpr Duration step = std::chrono::microseconds(777);
    SECTION("contract: power-on reset equals fresh") {
        for (uint32_t seed = 1; seed <= 4; ++seed) {
            const auto rig = make();
            const auto fresh = make();
            scribble(*rig, seed, 2000, Duration{0});
            rig->device->reset(ResetKind::power_on);
            CHECK(to_dts(rig->device->save()) == to_dts(fresh->device->save()));
            for (size_t i = 0; i < rig->pins.size(); ++i) CHECK(rig->pins[i]->level() == fresh->pins[i]->level());
        }
    }
    SECTION("contract: save, load, save is identical") {
        for (uint32_t seed = 1; seed <= 4; ++seed) {
            const auto rig = make();
            scribble(*rig, seed, 2000, step);
            const TreeNode saved = rig->device->save();
            const auto other = make();
            other->clock.advance(rig->clock.now() - VirtualTime{});
            auto commit = other->device->prepare_load(saved);
            REQUIRE(commit.has_value());
            (*commit)();
            CHECK(to_dts(other->device->save()) == to_dts(saved));
            for (size_t i = 0; i < rig->pins.size(); ++i) CHECK(other->pins[i]->level() == rig->pins[i]->level());
            // Both go on alike: what is derived from the state (timers, caches) was rebuilt.
            scribble(*rig, seed + 100, 200, step);
            scribble(*other, seed + 100, 200, step);
            CHECK(to_dts(other->device->save()) == to_dts(rig->device->save()));
        }
    }
    SECTION("contract: any size at any offset is survived") {
        const auto rig = make();
        for (const auto& window : rig->windows) {
            for (uint64_t offset = 0; offset < std::min<uint64_t>(window.size, 4096); ++offset) {
                for (const uint8_t size : std::array<uint8_t, 4>{1, 2, 4, 8}) {
                    if (offset + size > window.size) continue;
                    window.device->read({offset, size});
                    window.device->write({offset, size}, ~uint64_t{0} >> (64 - 8 * size));
                    window.device->read({offset, size});
                    window.device->write({offset, size}, 0);
                }
            }
        }
        scribble(*rig, 99, 20000, step);
        CHECK(rig->device->prepare_load(rig->device->save()).has_value());
    }
    SECTION("contract: a load moves no line twice and none needlessly") {
        std::optional<Recorder> own, theirs;  // outlive the devices, whose lines fall when they go
        const auto rig = make();
        scribble(*rig, 5, 2000, step);
        const TreeNode saved = rig->device->save();
        own.emplace(rig->pins);
        auto commit = rig->device->prepare_load(saved);
        REQUIRE(commit.has_value());
        (*commit)();
        for (unsigned changes : own->changes) CHECK(changes == 0);

        const auto other = make();
        scribble(*other, 6, 2000, step);
        if (other->clock.now() < rig->clock.now()) other->clock.advance(rig->clock.now() - other->clock.now());
        theirs.emplace(other->pins);
        auto moved = other->device->prepare_load(saved);
        REQUIRE(moved.has_value());
        (*moved)();
        for (unsigned changes : theirs->changes) CHECK(changes <= 1);
    }
    SECTION("contract: a damaged state is refused and changes nothing") {
        const auto rig = make();
        scribble(*rig, 7, 2000, step);
        const TreeNode saved = rig->device->save();
        const auto other = make();
        scribble(*other, 8, 2000, step);
        const std::string before = to_dts(other->device->save());
        TreeNode damaged = saved;
        unsigned refused = 0;
        unsigned tried = 0;
        for_each_damage(damaged, damaged, [&](const TreeNode& node) {
            ++tried;
            refused += !other->device->prepare_load(node).has_value();
        });
        // Strings and byte lists of free length may still be readable; every scalar is not.
        if (tried > 0) CHECK(refused > 0);
        CHECK_FALSE((tried > 0 && other->device->prepare_load(TreeNode{"state", {}, {}}).has_value()));
        CHECK(to_dts(other->device->save()) == before);
    }
}

}  // namespace viv
