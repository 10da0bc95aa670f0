#include "devices/virtio/virtio_pci.hpp"

#include <array>

#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_entropy.hpp"
#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

struct Source {
    SeededEntropy source{1};
};

struct Board : Source, VirtioBoard {
    Board() : VirtioBoard([this] { return std::make_unique<VirtioEntropy>(source); }) {}

    /// Where a vendor capability of this kind is.
    unsigned capability(uint32_t type) {
        for (unsigned next = config(at, pci::CAPABILITIES, 1); next != 0; next = config(at, next + 1, 1)) {
            if (config(at, next, 1) == 9 && config(at, next + 3, 1) == type) return next;
        }
        return 0;
    }
    uint64_t port(uint16_t offset, uint8_t size) { return ports.read(legacy + offset, size); }
    void set_port(uint16_t offset, uint8_t size, uint64_t value) { ports.write(legacy + offset, size, value); }
};

}  // namespace

TEST_CASE("Every structure of the modern interface has a capability") {
    Board board;
    CHECK(board.config(Board::at, 0) == 0x10051AF4);
    CHECK(board.config(Board::at, 0x2C) == 0x00041AF4);
    CHECK(board.config(Board::at, 8) == 0x00FF0000);
    const std::array<std::pair<uint32_t, uint32_t>, 4> structures{{{1, 0x0000}, {3, 0x1000}, {4, 0x2000}, {2, 0x3000}}};
    for (const auto& [type, offset] : structures) {
        const unsigned at = board.capability(type);
        REQUIRE(at != 0);
        CHECK(board.config(Board::at, at + 4, 1) == VirtioPci::modern_bar);
        CHECK(board.config(Board::at, at + 8) == offset);
        CHECK(board.config(Board::at, at + 12) == 0x1000);
    }
    CHECK(board.config(Board::at, board.capability(2) + 16) == 4);
}

TEST_CASE("Common registers read back whole and in parts") {
    Board board;
    board.set(22, 2, 0);
    board.set(32, 4, 0x11223344);
    board.set(36, 4, 0x55);
    CHECK(board.get(32, 8) == 0x5511223344);
    board.set(33, 1, 0xAA);
    CHECK(board.get(32, 4) == 0x1122AA44);
    CHECK(board.get(24, 2) == 64);
    board.set(24, 2, 65);
    CHECK(board.get(24, 2) == 64);
    board.set(24, 2, 32);
    CHECK(board.get(24, 2) == 32);
    CHECK(board.get(18, 2) == 1);
    board.set(22, 2, 1);
    CHECK(board.get(24, 2) == 0);
    CHECK(board.get(26, 2) == NO_VECTOR);
    board.set(16, 2, 1);
    CHECK(board.get(16, 2) == 1);
    board.set(16, 2, 2);
    CHECK(board.get(16, 2) == NO_VECTOR);
}

TEST_CASE("Features are taken only if they were offered, with version 1") {
    Board board;
    CHECK(board.offered() == queue_features);
    const auto taken = [&](uint64_t bits) {
        board.set_status(0);
        board.set_status(ACKNOWLEDGE | DRIVER);
        board.accept(bits);
        board.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        return (board.status() & FEATURES_OK) != 0;
    };
    CHECK(taken(VERSION_1));
    CHECK(taken(queue_features));
    CHECK_FALSE(taken(0));
    CHECK_FALSE(taken(VERSION_1 | feature(0)));
    CHECK_FALSE(taken(VERSION_1 | feature(63)));
    // From then on they stand.
    REQUIRE(taken(VERSION_1));
    board.accept(queue_features);
    board.set(8, 4, 0);
    CHECK(board.get(12, 4) == 0);
    board.set_status(0);
    CHECK(board.status() == 0);
    CHECK(board.get(12, 4) == 0);
}

TEST_CASE("INTx stands until ISR has been read") {
    Board board;
    board.start(0);
    REQUIRE(board.run(0, {{Board::buffer, 8, true}}));
    CHECK(board.wire.level);
    CHECK(board.isr() == ISR_QUEUE);
    CHECK_FALSE(board.wire.level);
    CHECK(board.isr() == 0);
}

TEST_CASE("With MSI-X a queue has a message of its own") {
    Board board;
    board.enable_vectors();
    board.start(0);
    REQUIRE(board.run(0, {{Board::buffer, 8, true}}));
    CHECK_FALSE(board.wire.level);
    CHECK(board.messages.sent == std::vector<std::pair<uint64_t, uint32_t>>{{0xFEE00000, 0x40}});
    board.set(22, 2, 0);
    board.set(26, 2, NO_VECTOR);
    REQUIRE(board.run(0, {{Board::buffer, 8, true}}));
    CHECK(board.messages.sent.size() == 1);
}

TEST_CASE("Nothing is done before the driver is ready, or before memory may be reached") {
    Board board;
    board.start(0);
    board.set_config(Board::at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    CHECK_FALSE(board.run(0, {{Board::buffer, 8, true}}));
    board.save_and_load();
    board.set_config(Board::at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    CHECK(board.rings.at(0).take());

    board.set_status(0);
    board.set_status(ACKNOWLEDGE | DRIVER);
    board.accept(VERSION_1);
    board.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    board.start_queue(0, 16);
    CHECK_FALSE(board.run(0, {{Board::buffer, 8, true}}));
    board.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    CHECK(board.rings.at(0).take());
}

TEST_CASE("A broken queue needs a reset, and the driver is told") {
    Board board;
    board.enable_vectors();
    board.set(16, 2, 1);
    board.start(0);
    board.set(16, 2, 1);
    CHECK_FALSE(board.run(0, {{~uint64_t{0}, 8, true}}));
    CHECK(board.status() == (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | DEVICE_NEEDS_RESET));
    CHECK(board.messages.sent == std::vector<std::pair<uint64_t, uint32_t>>{{0xFEE00000, 0x41}});
    CHECK_FALSE(board.run(0, {{Board::buffer, 8, true}}));
    board.start(RING_PACKED);
    CHECK(board.status() == (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK));
    CHECK(board.run(0, {{Board::buffer, 8, true}}));
}

TEST_CASE("A queue can be reset alone") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        Board board;
        board.start(layout | RING_RESET);
        for (unsigned i = 0; i < 21; ++i) REQUIRE(board.run(0, {{Board::buffer, 8, true}}));
        board.set(22, 2, 0);
        board.set(58, 2, 1);
        CHECK(board.get(58, 2) == 0);
        CHECK(board.get(28, 2) == 0);
        CHECK(board.get(24, 2) == 64);
        CHECK_FALSE(board.run(0, {{Board::buffer, 8, true}}));
        board.start_queue(0, 8);
        CHECK(board.run(0, {{Board::buffer, 8, true}}));
    }
    // Only if that was negotiated.
    Board board;
    board.start(0);
    board.set(22, 2, 0);
    board.set(58, 2, 1);
    CHECK(board.get(28, 2) == 1);
}

TEST_CASE("The configuration access capability reaches the registers without a BAR") {
    Board board;
    const unsigned at = board.capability(5);
    REQUIRE(at != 0);
    const auto select = [&](uint8_t bar, uint32_t offset, uint32_t length) {
        board.set_config(Board::at, at + 4, 1, bar);
        board.set_config(Board::at, at + 8, 4, offset);
        board.set_config(Board::at, at + 12, 4, length);
    };
    board.set_config(Board::at, pci::COMMAND, 2, 0);
    select(4, 18, 2);
    CHECK(board.config(Board::at, at + 16, 2) == 1);
    select(4, 20, 1);
    board.set_config(Board::at, at + 16, 1, ACKNOWLEDGE);
    CHECK(board.config(Board::at, at + 16, 1) == ACKNOWLEDGE);
    // What names nothing does nothing.
    for (const auto& [bar, offset, length] :
         {std::array<uint32_t, 3>{1, 20, 1}, {4, 20, 3}, {4, 0x4000, 1}, {4, 0xFFFFFFFC, 4}, {4, 21, 2}, {4, 20, 0}}) {
        select(static_cast<uint8_t>(bar), offset, length);
        board.set_config(Board::at, at + 16, 4, 0);
        board.config(Board::at, at + 16);
    }
    board.set_config(Board::at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    CHECK(board.status() == ACKNOWLEDGE);
}

TEST_CASE("A driver of before version 1.0 works through the ports") {
    Board board;
    for (const bool with_vectors : {false, true}) {
        if (with_vectors) board.enable_vectors();
        board.set_port(18, 1, 0);
        board.set_port(18, 1, ACKNOWLEDGE | DRIVER);
        CHECK(board.port(0, 4) == ((queue_features | ANY_LAYOUT) & 0xFFFFFFFF));
        board.set_port(4, 4, 0);
        board.set_port(14, 2, 0);
        CHECK(board.port(12, 2) == 64);
        // 64 descriptors, the available ring behind them, the used ring on the next page.
        constexpr uint64_t ring = 0x30000;
        board.memory.write(Gpa{ring}, std::vector<std::byte>(0x3000));
        board.set_port(8, 4, ring >> 12);
        CHECK(board.port(8, 4) == ring >> 12);
        if (with_vectors) {
            board.set_port(22, 2, 1);
            CHECK(board.port(22, 2) == 1);
        }
        board.set_port(18, 1, ACKNOWLEDGE | DRIVER | DRIVER_OK);
        board.memory.store(Gpa{ring}, Board::buffer);
        board.memory.store(Gpa{ring + 8}, uint32_t{16});
        board.memory.store(Gpa{ring + 12}, DESC_WRITE);
        board.memory.store(Gpa{ring + 0x402}, uint16_t{1});
        board.set_port(16, 2, 0);
        CHECK(board.memory.load<uint16_t>(Gpa{ring + 0x1002}) == 1);
        CHECK(board.memory.load<uint32_t>(Gpa{ring + 0x1008}) == 16);
        if (with_vectors) {
            CHECK(board.messages.sent.back().second == 0x41);
        } else {
            CHECK(board.wire.level);
            CHECK(board.port(19, 1) == ISR_QUEUE);
            CHECK_FALSE(board.wire.level);
        }
    }
}

TEST_CASE("Too much at once goes on a moment later, also after a save and a load") {
    Board board;
    board.start(RING_PACKED, 64);
    const auto fill = [&] {
        for (unsigned i = 0; i < 64; ++i) board.rings.at(0).add({{0x100000, 0x200000, true}});
        board.tell(0);
    };
    const auto taken = [&] {
        unsigned count = 0;
        while (board.rings.at(0).take()) ++count;
        return count;
    };
    fill();
    const unsigned first = taken();
    CHECK(first > 20);
    CHECK(first < 60);
    board.save_and_load();
    board.tell(0);
    CHECK(taken() == 0);
    board.clock.advance(std::chrono::microseconds(10));
    CHECK(first + taken() == 64);
}

TEST_CASE("A state that the virtio device never has is refused") {
    Board board;
    board.start(RING_PACKED);
    const TreeNode saved = board.device->save();
    const auto refused = [&](std::initializer_list<const char*> path, const char* key, uint8_t value) {
        TreeNode wrong = saved;
        TreeNode* node = &wrong;
        for (const char* name : path) {
            node = node->child(name);
            REQUIRE(node);
        }
        REQUIRE(node->has(key));
        std::vector<std::byte> bytes(node->property(key)->size());
        bytes.back() = static_cast<std::byte>(value);
        node->set(key, bytes);
        return !board.device->prepare_load(wrong).has_value();
    };
    CHECK(refused({"virtio"}, "isr", 4));
    CHECK(refused({"virtio"}, "isr", 1));
    CHECK(refused({"virtio"}, "waiting", 2));
    CHECK(refused({"virtio"}, "features", 1));
    CHECK(refused({"virtio"}, "configuration-vector", 2));
    CHECK(refused({"virtio", "queues", "0"}, "size", 65));
    CHECK(refused({"virtio", "queues", "0"}, "size", 0));
    CHECK(refused({"virtio", "queues", "0"}, "taken", 16));
    CHECK(refused({"virtio", "queues", "0"}, "used", 16));
    CHECK(refused({"virtio", "queues", "0"}, "vector", 2));
    TreeNode without = saved;
    std::erase_if(without.children, [](const TreeNode& node) { return node.name == "function"; });
    CHECK_FALSE(board.device->prepare_load(without));
}

TEST_CASE("A virtio node says what the device is") {
    PciBoard board;
    SeededEntropy source(1);
    board.services.provide<EntropySource>(source);
    board.node.set_cells("reg", std::array<uint32_t, 2>{5, 0});
    CHECK(board.try_make(make_virtio_pci, {}).error().message.find("viv,function") != std::string::npos);
    board.node.set_string("viv,function", "teapot");
    CHECK(board.try_make(make_virtio_pci, {}).error().message.find("teapot") != std::string::npos);
    board.node.set_string("viv,function", "entropy");
    board.node.set_flag("viv,split");
    auto made = board.try_make(make_virtio_pci, {});
    REQUIRE(made);
    CHECK(board.config({0, 5, 0}, 0) == 0x10051AF4);
}
