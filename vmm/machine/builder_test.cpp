#include "vmm/machine/builder.hpp"

#include "vmm/boards/board.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

struct Card final : Device, ByteDevice {
    uint8_t read8(uint64_t offset) override { return static_cast<uint8_t>(offset); }
    void write8(uint64_t, uint8_t) override {}
    void reset(ResetKind) override {}
    TreeNode save() override { return {"state", {}, {}}; }
    Result<Commit> prepare_load(const TreeNode&) override {
        return Commit([] {});
    }
};

Result<std::unique_ptr<Device>> make_card(DeviceContext& context) {
    auto card = std::make_unique<Card>();
    for (size_t i = 0; i < context.ranges.size(); ++i) TRY(context.map(i, *card));
    TRY(context.need_u32("viv,speed"));
    if (!context.irqs.empty()) TRY(context.irq(0)).set(false);
    return std::unique_ptr<Device>(std::move(card));
}

struct NoControl final : SystemControl {
    void request_reset(std::string_view) override {}
    void request_power_off(std::string_view) override {}
    void request_exit(uint8_t) override {}
    void set_a20(A20Gate, bool) override {}
    bool a20() const override { return true; }
    void request_cpu_init(std::string_view) override {}
};

struct Bench {
    std::mutex lock;
    Bus ports{Bus::Kind::ports};
    Bus memory_bus{Bus::Kind::memory};
    GuestMemory memory;
    ManualClock clock;
    EventLoop loop{lock};
    Services services;
    NoControl system;
    IsaIrqs irqs;

    Result<std::vector<BuiltDevice>> build(const TreeNode& board) {
        const auto find = [](std::string_view name) -> DeviceMaker {
            return name == "test,card" ? make_card : nullptr;
        };
        return build_devices(board, {ports, memory_bus, memory, clock, loop, services, system, irqs, 0, find});
    }
};

TreeNode board_with_card(std::vector<uint32_t> reg, std::vector<uint32_t> interrupts = {}) {
    TreeNode board;
    TreeNode& isa = board.ensure_child("isa");
    isa.set_string("compatible", "isa");
    TreeNode& card = isa.ensure_child("card@300");
    card.set_string("compatible", "test,card");
    card.set_cells("reg", reg);
    if (!interrupts.empty()) card.set_cells("interrupts", interrupts);
    card.set_u32("viv,speed", 9);
    return board;
}

}  // namespace

TEST_CASE("A node becomes a device at its ports and memory") {
    Bench bench;
    const auto built = bench.build(board_with_card({1, 0x300, 4, 0, 0xD0000, 0x100}, {5}));
    REQUIRE(built);
    REQUIRE(built->size() == 1);
    CHECK(built->front().path == "/isa/card@300");
    CHECK(bench.ports.read(0x302, 1) == 2);
    CHECK(bench.memory_bus.read(0xD0010, 1) == 0x10);
}

TEST_CASE("Nodes at the root have 64-bit addresses; those that describe something else are no devices") {
    Bench bench;
    TreeNode board;
    board.ensure_child("chosen");
    board.ensure_child("cpus").ensure_child("cpu@0").set_string("compatible", "viv,x86");
    board.ensure_child("memory@0").set_string("device_type", "memory");
    TreeNode& card = board.ensure_child("card@100000000");
    card.set_string("compatible", "test,card");
    card.set_cells("reg", std::array<uint32_t, 4>{1, 0, 0, 0x1000});
    card.set_u32("viv,speed", 1);
    const auto built = bench.build(board);
    REQUIRE(built);
    CHECK(bench.memory_bus.read(0x100000005, 1) == 5);
}

TEST_CASE("A disabled node is left out") {
    Bench bench;
    TreeNode board = board_with_card({1, 0x300, 4});
    board.find("/isa/card")->set_string("status", "disabled");
    const auto built = bench.build(board);
    REQUIRE(built);
    CHECK(built->empty());
    CHECK(bench.ports.read(0x300, 1) == 0xFF);
}

TEST_CASE("A wrong tree is refused with the node's path and the reason") {
    const auto refused = [](const TreeNode& board, std::string_view reason) {
        Bench bench;
        const auto built = bench.build(board);
        REQUIRE_FALSE(built);
        INFO(built.error().message);
        CHECK(built.error().kind == ErrorKind::usage);
        CHECK(built.error().message.starts_with("/isa/card@300"));
        CHECK(built.error().message.find(reason) != std::string::npos);
    };
    TreeNode board = board_with_card({1, 0x300, 4});
    board.find("/isa/card")->set_string("compatible", "acme,flux");
    refused(board, "no device is compatible with \"acme,flux\"");

    board = board_with_card({1, 0x300, 4});
    board.find("/isa/card")->erase("compatible");
    refused(board, "`compatible` is missing");

    board = board_with_card({1, 0x300, 4});
    board.find("/isa/card")->erase("viv,speed");
    refused(board, "`viv,speed` is missing");

    refused(board_with_card({1, 0x300}), "an entry has 3");
    refused(board_with_card({1, 0x300, 0}), "is empty");
    refused(board_with_card({1, 0xFFFE, 4}), "does not fit on the port bus");
    refused(board_with_card({1, 0x300, 4, 1, 0x302, 2}), "overlaps 0x300-0x303 of /isa/card@300");
    refused(board_with_card({1, 0x300, 4}, {16}), "names IRQ 16");
}
