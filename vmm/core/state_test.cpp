#include "vmm/core/state.hpp"

#include "vmm/core/catch.hpp"
#include "vmm/core/device.hpp"

using namespace viv;

namespace {
enum class Mode : uint8_t { idle, busy = 9 };
struct Channel {
    uint16_t count = 0;
    bool masked = true;
    static void fields(auto& self, auto&& visit) {
        visit("count", self.count);
        visit("masked", self.masked);
    }
    bool operator==(const Channel&) const = default;
};
struct State {
    uint8_t imr = 0xFF;
    int64_t offset = -5;
    Mode mode = Mode::busy;
    VirtualTime start{1ll << 40};
    std::array<uint32_t, 3> regs{1, 2, 0xFFFFFFFF};
    std::vector<uint8_t> fifo{9, 8};
    std::array<Channel, 2> channels{};
    std::vector<Channel> queue{Channel{3, false}};
    std::optional<VirtualTime> deadline;
    std::string label = "x y";
    static void fields(auto& self, auto&& visit) {
        visit("imr", self.imr);
        visit("offset", self.offset);
        visit("mode", self.mode);
        visit("start", self.start);
        visit("regs", self.regs);
        visit("fifo", self.fifo);
        visit("channels", self.channels);
        visit("queue", self.queue);
        visit("deadline", self.deadline);
        visit("label", self.label);
    }
    bool operator==(const State&) const = default;
};
struct Gadget final : StatefulDevice<State> {
    void reset(ResetKind) override { state_ = {}; }
    void after_load() override { ++loads; }
    Result<void> validate(const State& s) const override {
        if (s.fifo.size() > 16) return fail("saved state: fifo holds more than 16 bytes");
        return {};
    }
    State& state() { return state_; }
    int loads = 0;
};
}  // namespace

TEST_CASE("A state goes through a flattened tree and comes back equal") {
    State state;
    state.imr = 0x42;
    state.channels[1].count = 777;
    state.deadline = VirtualTime{-1};
    const auto blob = to_fdt(write_state("gadget", state));
    const auto node = from_fdt(blob);
    REQUIRE(node);
    const auto back = read_state<State>(*node);
    REQUIRE(back);
    CHECK(*back == state);
    state.deadline.reset();
    CHECK(read_state<State>(write_state("gadget", state)).value() == state);
}

TEST_CASE("A missing field or a wrong size is named with its path") {
    TreeNode node = write_state("gadget", State{});
    node.child("channels")->child("1")->erase("count");
    const auto missing = read_state<State>(node);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().message == "saved state: gadget/channels/1/count is missing");
    node = write_state("gadget", State{});
    node.set("regs", {std::byte{1}});
    CHECK(read_state<State>(node).error().message == "saved state: gadget/regs has the wrong size");
    node = write_state("gadget", State{});
    node.child("channels")->child("0")->set("masked", {std::byte{2}});
    CHECK(read_state<State>(node).error().message == "saved state: gadget/channels/0/masked is not 0 or 1");
}

TEST_CASE("Preparing a load changes nothing, a refused one never will") {
    Gadget a, b;
    a.state().imr = 1;
    auto commit = b.prepare_load(a.save());
    REQUIRE(commit);
    CHECK(b.state().imr == 0xFF);
    (*commit)();
    CHECK(b.state().imr == 1);
    CHECK(b.loads == 1);
    a.state().fifo.resize(17);
    CHECK_FALSE(b.prepare_load(a.save()));
}
