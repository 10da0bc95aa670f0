// The small ports of the board: 92h, the debug console and the exit port.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <unistd.h>

#include "devices/system/debug_console.hpp"
#include "devices/system/exit_port.hpp"
#include "devices/system/port92.hpp"
#include "devices/test_board.hpp"

using namespace viv;

namespace {

struct Port : TestBoard {
    Port(DeviceMaker maker, uint16_t port) { make(maker, {{DeviceRange::Space::ports, port, 1}}); }
};

using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("Port 92h keeps the device contract") {
    check_device_contract([] { return std::make_unique<Port>(make_port92, uint16_t{0x92}); });
}

TEST_CASE("Port 92h gates A20 and reads back") {
    Port board(make_port92, 0x92);
    CHECK(board.in(0x92) == 0x00);
    board.out(0x92, static_cast<uint8_t>(board.in(0x92) | 0x02));
    CHECK(board.system.a20_gates[1]);
    CHECK(board.in(0x92) == 0x02);
    board.out(0x92, 0x00);
    CHECK_FALSE(board.system.a20_gates[1]);
    CHECK(board.system.log.empty());
    CHECK_FALSE(board.system.a20_gates[0]);  // the keyboard controller's gate is its own
}

TEST_CASE("Port 92h resets the processor when bit 0 rises") {
    Port board(make_port92, 0x92);
    board.out(0x92, 0xFF);
    CHECK(board.system.log == Log{"init by port 92h"});
    CHECK(board.in(0x92) == 0x03);
    board.out(0x92, 0x03);
    CHECK(board.system.log.size() == 1);
    board.out(0x92, 0x02);
    board.out(0x92, 0x03);
    CHECK(board.system.log.size() == 2);
}

TEST_CASE("Port 92h closes its A20 gate at reset and opens it at load") {
    Port board(make_port92, 0x92);
    board.out(0x92, 0x02);
    const TreeNode saved = board.device->save();
    board.device->reset(ResetKind::hard);
    CHECK_FALSE(board.system.a20_gates[1]);
    auto commit = board.device->prepare_load(saved);
    REQUIRE(commit.has_value());
    CHECK_FALSE(board.system.a20_gates[1]);
    (*commit)();
    CHECK(board.system.a20_gates[1]);
    CHECK(board.system.log.empty());
}

TEST_CASE("A state with bits that do not exist is refused by the ports") {
    Port board(make_port92, 0x92);
    TreeNode saved = board.device->save();
    saved.set("value", {std::byte{0x80}});
    CHECK_FALSE(board.device->prepare_load(saved).has_value());
}

TEST_CASE("Exit port keeps the device contract") {
    check_device_contract([] { return std::make_unique<Port>(make_exit_port, uint16_t{0xF4}); });
}

TEST_CASE("Exit port ends the run with the byte as exit code") {
    Port board(make_exit_port, 0xF4);
    CHECK(board.in(0xF4) == 0xFF);
    CHECK(board.system.log.empty());
    board.out(0xF4, 42);
    CHECK(board.system.log == Log{"exit 42"});
}

TEST_CASE("Exit port takes the first byte of a wider write") {
    TestBoard board;
    board.make(make_exit_port, {{DeviceRange::Space::ports, 0xF4, 4}});
    board.ports.write(0xF4, 4, 0x01020307);
    CHECK(board.system.log == Log{"exit 7"});
}

TEST_CASE("Exit port with odd codes never says 0") {
    TestBoard board;
    board.node.set_flag("viv,odd-codes");
    board.make(make_exit_port, {{DeviceRange::Space::ports, 0xF4, 1}});
    board.out(0xF4, 0);
    board.out(0xF4, 3);
    CHECK(board.system.log == Log{"exit 1", "exit 7"});
}

TEST_CASE("Debug console keeps the device contract") {
    check_device_contract([] { return std::make_unique<Port>(make_debug_console, uint16_t{0x402}); });
}

TEST_CASE("Debug console says that it is there and passes characters on") {
    std::string path = std::filesystem::temp_directory_path() / "debug-console-XXXXXX";
    const int file = mkstemp(path.data());
    REQUIRE(file >= 0);
    close(file);
    {
        TestBoard board;
        board.node.set_string("viv,chardev", "file:" + path);
        board.make(make_debug_console, {{DeviceRange::Space::ports, 0x402, 1}});
        CHECK(board.in(0x402) == 0xE9);
        for (const char c : std::string_view("SeaBIOS\n")) board.out(0x402, static_cast<uint8_t>(c));
        board.loop.poll();
    }
    std::ifstream stream(path);
    CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == "SeaBIOS\n");
    unlink(path.c_str());
}

TEST_CASE("Debug console names the node and the spec it cannot open") {
    TestBoard board;
    board.node.set_string("viv,chardev", "file:/nonexistent/folder/log");
    const auto made = board.try_make(make_debug_console, {{DeviceRange::Space::ports, 0x402, 1}});
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().message.starts_with("/test: "));
    CHECK(made.error().message.find("/nonexistent/folder/log") != std::string::npos);
}
