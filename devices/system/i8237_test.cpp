#include "devices/system/i8237.hpp"

#include "devices/system/dma_controller.hpp"
#include "devices/test_board.hpp"

using namespace viv;

namespace {

struct Dma : TestBoard {
    Dma() {
        constexpr auto io = DeviceRange::Space::ports;
        REQUIRE(memory.add({0}, 1 << 20, GuestMemory::Kind::ram, "ram").has_value());
        make(make_i8237, {{io, 0x00, 0x10}, {io, 0x80, 0x10}, {io, 0xC0, 0x20}});
        dma = services.find<DmaController>();
    }
    /// What a BIOS does: both controllers on, channel 4 cascades.
    void init() {
        out(0x0D, 0);
        out(0xDA, 0);
        out(0xD6, 0xC0);
        out(0xD4, 0x00);
    }
    void program(unsigned channel, uint8_t mode, uint32_t address, uint16_t count) {
        constexpr std::array<uint16_t, 8> page = {0x87, 0x83, 0x81, 0x82, 0x8F, 0x8B, 0x89, 0x8A};
        const bool second = channel >= 4;
        const auto port = [&](unsigned index) { return static_cast<uint16_t>(second ? 0xC0 + index * 2 : index); };
        const unsigned n = channel & 3;
        const uint32_t units = second ? address >> 1 : address;
        out(port(0x0A), static_cast<uint8_t>(4 | n));
        out(port(0x0C), 0);
        out(port(0x0B), static_cast<uint8_t>(mode | n));
        out(port(n * 2), static_cast<uint8_t>(units));
        out(port(n * 2), static_cast<uint8_t>(units >> 8));
        out(page[channel], static_cast<uint8_t>(address >> 16));
        out(port(n * 2 + 1), static_cast<uint8_t>(count));
        out(port(n * 2 + 1), static_cast<uint8_t>(count >> 8));
        out(port(0x0A), static_cast<uint8_t>(n));
    }
    uint16_t pair(uint16_t port) {
        out(0x0C, 0);
        const uint8_t low = in(port);
        return static_cast<uint16_t>(low | in(port) << 8);
    }
    std::vector<std::byte> bytes(size_t count) {
        std::vector<std::byte> result(count);
        for (size_t i = 0; i < count; ++i) result[i] = static_cast<std::byte>(i * 7 + 1);
        return result;
    }
    std::vector<std::byte> memory_at(uint64_t address, size_t count) {
        std::vector<std::byte> result(count);
        memory.read({address}, result);
        return result;
    }
    DmaController* dma = nullptr;
};

}  // namespace

TEST_CASE("8237A keeps the device contract") {
    check_device_contract([] { return std::make_unique<Dma>(); });
}

TEST_CASE("A floppy driver reads a sector through channel 2") {
    Dma board;
    board.init();
    CHECK_FALSE(board.dma->ready(2));
    board.program(2, 0x44, 0x27C00, 511);
    CHECK(board.dma->ready(2));
    const auto sector = board.bytes(600);
    CHECK(board.dma->write_memory(2, std::span(sector).first(100)) == 100);
    CHECK_FALSE(board.dma->terminal_count(2));
    CHECK(board.pair(4) == 0x7C00 + 100);
    CHECK(board.pair(5) == 511 - 100);
    CHECK(board.dma->write_memory(2, std::span(sector).subspan(100)) == 412);  // up to TC
    CHECK(board.dma->terminal_count(2));
    CHECK_FALSE(board.dma->ready(2));
    CHECK(board.memory_at(0x27C00, 512) == std::vector(sector.begin(), sector.begin() + 512));
    CHECK(board.memory_at(0x27E00, 1)[0] == std::byte{0});
    CHECK(board.pair(5) == 0xFFFF);
    CHECK(board.in(0x08) == 0x04);
    CHECK(board.in(0x08) == 0x00);  // reading the status clears TC
    CHECK(board.dma->write_memory(2, sector) == 0);
    CHECK_FALSE(board.dma->terminal_count(2));
}

TEST_CASE("8237A gives memory to the device, FFh where there is none") {
    Dma board;
    board.init();
    const auto data = board.bytes(256);
    board.memory.write({0x5000}, data);
    board.program(2, 0x48, 0x5000, 255);
    std::vector<std::byte> got(256);
    CHECK(board.dma->read_memory(2, got) == 256);
    CHECK(got == data);
    board.program(2, 0x48, 0xF00000, 15);
    CHECK(board.dma->read_memory(2, got) == 16);
    CHECK(std::ranges::all_of(std::span(got).first(16), [](std::byte b) { return b == std::byte{0xFF}; }));
}

TEST_CASE("8237A wraps the address within its page and keeps the page") {
    Dma board;
    board.init();
    board.program(1, 0x44, 0x3FFF0, 31);
    const auto data = board.bytes(32);
    CHECK(board.dma->write_memory(1, data) == 32);
    CHECK(board.memory_at(0x3FFF0, 16) == std::vector(data.begin(), data.begin() + 16));
    CHECK(board.memory_at(0x30000, 16) == std::vector(data.begin() + 16, data.end()));
    CHECK(board.memory_at(0x40000, 1)[0] == std::byte{0});
    CHECK(board.in(0x83) == 3);
}

TEST_CASE("8237A counts down addresses in decrement mode") {
    Dma board;
    board.init();
    board.program(3, 0x64, 0x1000, 3);
    const auto data = board.bytes(4);
    CHECK(board.dma->write_memory(3, data) == 4);
    const auto got = board.memory_at(0x0FFD, 4);
    CHECK(std::equal(got.rbegin(), got.rend(), data.begin()));
}

TEST_CASE("8237A moves words on channels 5 to 7, in pages of 128 KiB") {
    Dma board;
    board.init();
    board.program(5, 0x44, 0x3FFFC, 3);  // page 3, of which D0 is ignored
    CHECK(board.in(0x8B) == 3);
    const auto data = board.bytes(8);
    // The word address 1FFFEh keeps 16 bits, FFFEh; with page 2 that is byte 3FFFCh again.
    CHECK(board.dma->write_memory(5, data) == 8);
    CHECK(board.memory_at(0x3FFFC, 4) == std::vector(data.begin(), data.begin() + 4));
    CHECK(board.memory_at(0x20000, 4) == std::vector(data.begin() + 4, data.end()));
    CHECK(board.in(0xD0) == 0x02);
    board.program(7, 0x48, 0x20000, 9);
    std::vector<std::byte> got(5);
    CHECK(board.dma->read_memory(7, got) == 4);  // whole words only
}

TEST_CASE("8237A starts over by itself when autoinitialized") {
    Dma board;
    board.init();
    board.program(1, 0x54, 0x2000, 7);
    const auto data = board.bytes(20);
    CHECK(board.dma->write_memory(1, data) == 8);
    CHECK(board.dma->terminal_count(1));
    CHECK(board.dma->ready(1));
    CHECK(board.pair(2) == 0x2000);
    CHECK(board.pair(3) == 7);
    CHECK(board.dma->write_memory(1, std::span(data).subspan(8, 3)) == 3);
    CHECK_FALSE(board.dma->terminal_count(1));
    CHECK(board.in(0x08) == 0x02);
}

TEST_CASE("8237A verifies without touching memory") {
    Dma board;
    board.init();
    board.program(2, 0x40, 0x3000, 15);
    CHECK(board.dma->write_memory(2, board.bytes(16)) == 16);
    CHECK(board.dma->terminal_count(2));
    CHECK(board.memory_at(0x3000, 1)[0] == std::byte{0});
    board.program(2, 0x48, 0x3000, 15);  // the other direction than the device's
    CHECK(board.dma->write_memory(2, board.bytes(16)) == 16);
    CHECK(board.memory_at(0x3000, 1)[0] == std::byte{0});
}

TEST_CASE("8237A serves nobody while masked, disabled or not cascaded") {
    Dma board;
    board.program(2, 0x44, 0x1000, 15);
    CHECK_FALSE(board.dma->ready(2));  // channel 4 is masked
    board.init();
    board.program(2, 0x44, 0x1000, 15);
    CHECK(board.dma->ready(2));
    board.out(0x08, 0x04);
    CHECK_FALSE(board.dma->ready(2));
    board.out(0x08, 0x00);
    board.out(0x0A, 0x06);
    CHECK_FALSE(board.dma->ready(2));
    CHECK(board.in(0x0F) == 0xFF);
    board.out(0x0E, 0);
    CHECK(board.in(0x0F) == 0xF0);
    CHECK(board.dma->ready(2));
    board.out(0x0F, 0x04);
    CHECK_FALSE(board.dma->ready(2));
    board.out(0x0F, 0x00);
    board.out(0xD0, 0x04);  // the second controller off
    CHECK_FALSE(board.dma->ready(2));
    board.out(0xD0, 0x00);
    board.out(0xD6, 0x40);  // channel 4 not in cascade mode
    CHECK_FALSE(board.dma->ready(2));
    board.out(0xD6, 0xC0);
    board.out(0x0B, 0xC2);  // channel 2 belongs to a bus master
    CHECK_FALSE(board.dma->ready(2));
    CHECK_FALSE(board.dma->ready(4));
}

TEST_CASE("8237A tells a waiting device when its channel becomes ready") {
    Dma board;
    unsigned calls = 0;
    board.dma->on_ready(2, [&] { ++calls; });
    board.init();
    board.program(2, 0x44, 0x1000, 15);
    CHECK(calls == 1);
    board.out(0x0A, 0x02);
    CHECK(calls == 1);
    board.out(0x0A, 0x06);
    board.out(0x0E, 0);
    CHECK(calls == 2);
    board.out(0xD4, 0x04);
    board.out(0xD4, 0x00);
    CHECK(calls == 3);
}

TEST_CASE("8237A shows DREQ in its status") {
    Dma board;
    board.init();
    board.dma->set_request(2, true);
    board.dma->set_request(6, true);
    CHECK(board.in(0x08) == 0x40);
    CHECK(board.in(0xD0) == 0x40);
    board.device->reset(ResetKind::hard);
    CHECK(board.in(0x08) == 0x40);  // a wire
    board.dma->set_request(2, false);
    CHECK(board.in(0x08) == 0x00);
}

TEST_CASE("8237A flip-flop chooses bytes and is one for all channels") {
    Dma board;
    board.out(0x0C, 0);
    board.out(0x00, 0x34);
    board.out(0x02, 0x56);  // the high byte of channel 1
    board.out(0x0C, 0);
    CHECK(board.in(0x00) == 0x34);
    CHECK(board.in(0x00) == 0x00);
    CHECK(board.in(0x02) == 0x00);
    CHECK(board.in(0x02) == 0x56);
    board.out16(0x04, 0x1234);  // a 16-bit OUT reaches address and count, one byte each
    CHECK(board.pair(4) == 0x0034);
    CHECK(board.pair(5) == 0x1200);
}

TEST_CASE("8237A master clear masks all and keeps addresses and modes") {
    Dma board;
    board.init();
    board.program(2, 0x44, 0x1000, 15);
    board.dma->write_memory(2, board.bytes(4));
    board.out(0x08, 0x10);
    board.out(0x0D, 0);
    CHECK(board.in(0x0D) == 0x00);
    CHECK(board.in(0x0F) == 0xFF);
    CHECK(board.pair(4) == 0x1004);
    board.out(0x0A, 0x02);
    CHECK(board.dma->write_memory(2, board.bytes(100)) == 12);
}

TEST_CASE("8237A software request runs a block channel to its terminal count") {
    Dma board;
    board.init();
    board.program(0, 0x84, 0x1000, 99);
    board.out(0x0A, 0x04);
    board.out(0x09, 0x04);
    CHECK(board.in(0x08) == 0x01);
    CHECK(board.pair(0) == 0x1064);
    board.program(0, 0x44, 0x1000, 99);  // single mode: no
    board.out(0x09, 0x04);
    CHECK(board.in(0x08) == 0x00);
    CHECK(board.pair(0) == 0x1000);
}

TEST_CASE("8237A page registers keep what is written, POST codes too") {
    Dma board;
    for (uint16_t port = 0x80; port < 0x90; ++port) board.out(port, static_cast<uint8_t>(port ^ 0x55));
    for (uint16_t port = 0x80; port < 0x90; ++port) CHECK(board.in(port) == (port ^ 0x55));
    board.out(0xC1, 0x12);  // odd ports of the second controller are empty
    CHECK(board.in(0xC1) == 0xFF);
}

TEST_CASE("8237A refuses a state with too many channels") {
    Dma board;
    TreeNode saved = board.device->save();
    saved.child("controllers")->child("0")->set("mask", {std::byte{0x1F}});
    CHECK_FALSE(board.device->prepare_load(saved).has_value());
}
