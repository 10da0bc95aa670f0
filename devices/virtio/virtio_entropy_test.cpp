#include "devices/virtio/virtio_entropy.hpp"

#include <algorithm>

#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

struct Source {
    SeededEntropy source{42};
};

struct Board : Source, VirtioBoard {
    Board() : VirtioBoard([this] { return std::make_unique<VirtioEntropy>(source); }) {}
    std::vector<uint8_t> expected(uint64_t position, size_t size) {
        std::vector<uint8_t> bytes(size);
        source.fill(position, std::as_writable_bytes(std::span(bytes)));
        return bytes;
    }
};

}  // namespace

TEST_CASE("The virtio entropy device keeps the device contract") {
    check_device_contract(VirtioBoard::closed<Board>);
}

TEST_CASE("Buffers are filled with the source's bytes, in order") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        Board board;
        board.start(layout | INDIRECT_DESC);
        CHECK(board.run(0, {{VirtioBoard::buffer, 10, true}})->written == 10);
        CHECK(board.bytes_at(VirtioBoard::buffer, 10) == board.expected(0, 10));
        const auto used = board.run(0,
                                    {{VirtioBoard::buffer, 7, false},
                                     {VirtioBoard::buffer + 0x100, 30, true},
                                     {VirtioBoard::buffer + 0x200, 70, true}},
                                    RingDriver::Place::table);
        REQUIRE(used);
        CHECK(used->written == 100);
        CHECK(board.bytes_at(VirtioBoard::buffer + 0x100, 30) == board.expected(10, 30));
        CHECK(board.bytes_at(VirtioBoard::buffer + 0x200, 70) == board.expected(40, 70));
    }
}

TEST_CASE("A large buffer gets part of it, and an empty one nothing") {
    Board board;
    board.start(0);
    CHECK(board.run(0, {{VirtioBoard::buffer, 0x100000, true}})->written == VirtioEntropy::most_bytes);
    CHECK(board.run(0, {{VirtioBoard::buffer, 16, false}})->written == 0);
}

TEST_CASE("No reset makes the entropy device repeat itself, but a new machine does") {
    Board board;
    board.start(0);
    board.run(0, {{VirtioBoard::buffer, 16, true}});
    board.device->reset(ResetKind::hard);
    board.open();
    board.start(0);
    board.run(0, {{VirtioBoard::buffer, 16, true}});
    CHECK(board.bytes_at(VirtioBoard::buffer, 16) == board.expected(16, 16));
    board.save_and_load();
    board.run(0, {{VirtioBoard::buffer, 16, true}});
    CHECK(board.bytes_at(VirtioBoard::buffer, 16) == board.expected(32, 16));
    board.device->reset(ResetKind::power_on);
    board.open();
    board.start(0);
    board.run(0, {{VirtioBoard::buffer, 16, true}});
    CHECK(board.bytes_at(VirtioBoard::buffer, 16) == board.expected(0, 16));
}
