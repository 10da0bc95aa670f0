#include "devices/system/test_device.hpp"

#include "devices/test_board.hpp"

using namespace viv;

namespace {

struct Board : TestBoard {
    Board() {
        using enum DeviceRange::Space;
        make(make_test_device, {{ports, 0xE0, 4}, {ports, 0xE4, 4}, {ports, 0x2000, 24}, {memory, 0xFF000000, 0x10000}},
             {});
        for (size_t i = 0; i < isa.pins.size(); ++i) this->pins.push_back(&isa.pins[i]);
    }
};

}  // namespace

TEST_CASE("Test device keeps the device contract") {
    check_device_contract([] { return std::make_unique<Board>(); });
}

TEST_CASE("Test device keeps what is written to its port, in any size") {
    Board board;
    board.ports.write(0xE0, 4, 0x12345678);
    CHECK(board.ports.read(0xE0, 4) == 0x12345678);
    CHECK(board.in(0xE1) == 0x56);
    board.out16(0xE2, 0xABCD);
    board.out(0xE0, 0xFF);
    CHECK(board.ports.read(0xE0, 4) == 0xABCD56FF);
    board.ports.write(0xE4, 4, 0x1000);
    CHECK(board.ports.read(0xE0, 4) == 0xABCD56FF);
}

TEST_CASE("Test device raises and lowers interrupt wires but the cascade") {
    Board board;
    board.out(0x200E, 1);
    CHECK(board.isa.pins[14].level());
    board.out(0x200E, 0x80);
    CHECK(board.isa.pins[14].level());
    board.out(0x2000, 1);
    board.out(0x2002, 1);
    board.out(0x2017, 1);
    CHECK(board.isa.pins[0].level());
    CHECK_FALSE(board.isa.pins[2].level());
    board.out(0x200E, 0);
    CHECK_FALSE(board.isa.pins[14].level());
    board.device->reset(ResetKind::hard);
    CHECK_FALSE(board.isa.pins[0].level());
}

TEST_CASE("Test device has memory that is no RAM") {
    Board board;
    board.memory_bus.write(0xFF00FFF8, 8, 0x1122334455667788);
    CHECK(board.memory_bus.read(0xFF00FFFC, 4) == 0x11223344);
    CHECK(board.memory_bus.read(0xFF000000, 8) == 0);
}

TEST_CASE("Test device refuses a saved memory of the wrong size") {
    Board board;
    TreeNode saved = board.device->save();
    saved.set("memory", std::vector<std::byte>(100));
    CHECK_FALSE(board.device->prepare_load(saved).has_value());
}
