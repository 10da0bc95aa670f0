#include "devices/system/coprocessor_errors.hpp"

#include "devices/test_board.hpp"

using namespace viv;

namespace {

struct Board : TestBoard {
    Board() {
        isa.pins[13].connect(wire, 0);
        make(make_coprocessor_errors, {{DeviceRange::Space::ports, 0xF0, 1}}, {13});
        errors = services.find<CoprocessorErrors>();
    }
    Wire& wire = new_wire();
    CoprocessorErrors* errors = nullptr;
};

}  // namespace

TEST_CASE("The coprocessor's error port keeps the device contract") {
    check_device_contract([] { return std::make_unique<Board>(); });
}

TEST_CASE("FERR# raises IRQ 13 until port F0h is written, which asserts IGNNE# as long as FERR# stays") {
    Board board;
    CHECK_FALSE(board.errors->set_ferr(true));
    CHECK(board.wire.level);
    board.out(0xF0, 0);
    CHECK_FALSE(board.wire.level);
    CHECK(board.errors->set_ferr(true));
    CHECK_FALSE(board.wire.level);
    CHECK_FALSE(board.errors->set_ferr(false));
    CHECK_FALSE(board.errors->set_ferr(true));
    CHECK(board.wire.level);
    CHECK(board.wire.rises == 2);
}

TEST_CASE("A write to port F0h without an error does nothing") {
    Board board;
    board.out(0xF0, 0);
    CHECK_FALSE(board.errors->set_ferr(true));
    CHECK(board.wire.level);
}

TEST_CASE("IRQ 13 goes away with port F0h only") {
    Board board;
    board.errors->set_ferr(true);
    board.errors->set_ferr(false);
    CHECK(board.wire.level);
}
