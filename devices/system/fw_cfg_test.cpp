#include "devices/system/fw_cfg.hpp"

#include <bit>
#include <cstring>

#include "devices/test_board.hpp"

using namespace viv;

namespace {

std::vector<std::byte> bytes(std::string_view characters) {
    const auto view = std::as_bytes(std::span(characters));
    return {view.begin(), view.end()};
}

struct Config : TestBoard {
    Config() {
        REQUIRE(memory.add({0}, 1 << 20, GuestMemory::Kind::ram, "ram").has_value());
        REQUIRE(memory.add({0xF0000000}, 0x1000, GuestMemory::Kind::rom, "rom").has_value());
        make(make_fw_cfg, {{DeviceRange::Space::ports, 0x510, 0xC}});
        config = services.find<FwCfg>();
        config->add_file("etc/table-loader", bytes("loader"));
        config->add_file("bootorder", bytes("disk"));
        config->add_file("etc/acpi/tables", std::vector<std::byte>(5000, std::byte{0x5A}));
        config->add_item(FwCfgKey::cpu_count, bytes({"\x04\x00", 2}));
    }
    std::string read(uint16_t key, size_t size) {
        out16(0x510, key);
        return more(size);
    }
    std::string more(size_t size) {
        std::string text(size, '\0');
        ports.read_block(0x511, 1, std::as_writable_bytes(std::span(text)));
        return text;
    }
    /// Rings the DMA doorbell as Linux and SeaBIOS do; returns the control word after it.
    uint32_t dma(uint32_t control, uint32_t length, uint64_t address) {
        memory.store({0x1000}, std::byteswap(control));
        memory.store({0x1004}, std::byteswap(length));
        memory.store({0x1008}, std::byteswap(address));
        ports.write(0x514, 4, 0);
        ports.write(0x518, 4, std::byteswap(uint32_t{0x1000}));
        return std::byteswap(memory.load<uint32_t>({0x1000}));
    }
    std::string memory_at(uint64_t address, size_t size) {
        std::string text(size, '\0');
        memory.read({address}, std::as_writable_bytes(std::span(text)));
        return text;
    }
    FwCfg* config = nullptr;
};

constexpr uint32_t dma_error = 1, dma_read = 2, dma_skip = 4, dma_select = 8, dma_write = 16;

}  // namespace

TEST_CASE("fw_cfg keeps the device contract") {
    check_device_contract([] { return std::make_unique<Config>(); });
}

TEST_CASE("A driver finds fw_cfg by its signatures") {
    Config board;
    CHECK(board.read(0x00, 4) == "QEMU");
    CHECK(board.read(0x01, 4) == std::string("\x03\0\0\0", 4));
    CHECK(board.ports.read(0x514, 4) == std::byteswap(0x51454D55u));  // "QEMU", big-endian
    CHECK(board.ports.read(0x518, 4) == std::byteswap(0x20434647u));
    CHECK(board.ports.read(0x514, 8) == std::byteswap(0x51454D5520434647u));
    CHECK(board.in(0x51B) == 'G');
}

TEST_CASE("fw_cfg lists its files by name, with big-endian sizes and keys") {
    Config board;
    CHECK(board.read(0x19, 4) == std::string("\0\0\0\3", 4));
    const auto entry = [&](std::string_view head, std::string_view name) {
        std::string expected(head);
        expected += name;
        expected.resize(64);
        CHECK(board.more(64) == expected);
    };
    entry({"\0\0\0\x04\0\x20\0\0", 8}, "bootorder");
    entry({"\0\0\x13\x88\0\x21\0\0", 8}, "etc/acpi/tables");
    entry({"\0\0\0\x06\0\x22\0\0", 8}, "etc/table-loader");
    CHECK(board.read(0x20, 4) == "disk");
    CHECK(board.read(0x22, 6) == "loader");
}

TEST_CASE("fw_cfg reads zeros after the end of an item, and of keys that nobody has") {
    Config board;
    CHECK(board.read(0x20, 8) == std::string("disk\0\0\0\0", 8));
    CHECK(board.read(0x05, 3) == std::string("\x04\0\0", 3));
    for (const uint16_t key : {uint16_t{0x23}, uint16_t{0x55}, uint16_t{0x8000}, uint16_t{0xBFFF}}) {
        CHECK(board.read(key, 4) == std::string(4, '\0'));
    }
    CHECK(board.read(0x4000, 4) == "QEMU");  // the write channel bit is ignored
}

TEST_CASE("fw_cfg replaces a file of the same name and finds it again") {
    Config board;
    board.config->add_file("bootorder", bytes("cd"));
    CHECK(board.read(0x20, 4) == std::string("cd\0\0", 4));
    REQUIRE(board.config->file("bootorder"));
    CHECK(board.config->file("bootorder")->size() == 2);
    CHECK(board.config->file("etc/none") == nullptr);
    board.config->add_file("a", bytes("x"));  // files move up in the order of names
    CHECK(board.read(0x21, 2) == "cd");
}

TEST_CASE("fw_cfg data register takes bytes only, and drops writes") {
    Config board;
    board.out16(0x510, 0x0000);
    CHECK(board.in(0x511) == 'Q');
    CHECK(board.ports.read(0x510, 2) == 0xFFFF);
    CHECK(board.in(0x510) == 0xFF);
    board.out(0x511, 0x55);
    board.out(0x510, 0x01);  // not a selector of 16 bits
    CHECK(board.in(0x511) == 'E');
}

TEST_CASE("fw_cfg DMA selects and reads") {
    Config board;
    CHECK(board.dma(0x20u << 16 | dma_select | dma_read, 4, 0x2000) == 0);
    CHECK(board.memory_at(0x2000, 5) == std::string("disk\0", 5));
    CHECK(board.dma(0x21u << 16 | dma_select | dma_read, 5000, 0x3000) == 0);
    CHECK(board.memory_at(0x3000, 5000) == std::string(5000, 'Z'));
    CHECK(board.memory_at(0x3000 + 5000, 1) == std::string(1, '\0'));
}

TEST_CASE("fw_cfg DMA goes on where the last one ended, skips, and fills with zeros") {
    Config board;
    board.memory.write({0x2000}, std::vector<std::byte>(64, std::byte{0xFF}));
    CHECK(board.dma(0x22u << 16 | dma_select, 0, 0) == 0);
    CHECK(board.dma(dma_skip, 2, 0) == 0);
    CHECK(board.dma(dma_read, 2, 0x2000) == 0);
    CHECK(board.memory_at(0x2000, 3) == "ad\xFF");
    CHECK(board.more(1) == "e");  // the data register shares the offset
    CHECK(board.dma(dma_read, 5, 0x2000) == 0);
    CHECK(board.memory_at(0x2000, 6) == std::string("r\0\0\0\0\xFF", 6));
    CHECK(board.dma(dma_skip, 0xFFFFFFFF, 0) == 0);
    CHECK(board.dma(dma_skip, 0xFFFFFFFF, 0) == 0);
    CHECK(board.more(1) == std::string(1, '\0'));
}

TEST_CASE("fw_cfg DMA takes one 64-bit write too, and forgets the high half after each transfer") {
    Config board;
    board.memory.store({0x1000}, std::byteswap(0x00200000u | dma_select | dma_read));
    board.memory.store({0x1004}, std::byteswap(4u));
    board.memory.store({0x1008}, std::byteswap(uint64_t{0x2000}));
    board.ports.write(0x514, 8, std::byteswap(uint64_t{0x1000}));
    CHECK(board.memory_at(0x2000, 4) == "disk");
    board.ports.write(0x514, 4, std::byteswap(1u));  // a high half for one transfer, to nowhere
    board.ports.write(0x518, 4, std::byteswap(0x1000u));
    board.memory.store({0x1000}, std::byteswap(0x00220000u | dma_select | dma_read));
    board.ports.write(0x518, 4, std::byteswap(0x1000u));
    CHECK(board.memory_at(0x2000, 4) == "load");
}

TEST_CASE("fw_cfg DMA reports errors: writes, ROM, no memory, and absurd lengths") {
    Config board;
    CHECK(board.dma(0x20u << 16 | dma_select | dma_write, 4, 0x2000) == dma_error);
    CHECK(board.read(0x20, 4) == "disk");
    CHECK(board.dma(0x20u << 16 | dma_select | dma_read, 4, 0xF0000000) == dma_error);
    CHECK(board.dma(0x20u << 16 | dma_select | dma_read, 4, 0x80000000) == dma_error);
    CHECK(board.dma(0x20u << 16 | dma_select | dma_read, 4, ~uint64_t{0}) == dma_error);
    CHECK(board.dma(0x20u << 16 | dma_select | dma_read, 0xFFFFFFFF, 0x2000) == dma_error);
    CHECK(board.memory_at(0x2000, 4) == std::string(4, '\0'));
    CHECK(board.dma(0x20u << 16 | dma_select | dma_read, 4, 0x2000) == 0);
}

TEST_CASE("fw_cfg DMA whose control block is nowhere does nothing") {
    Config board;
    board.ports.write(0x518, 4, std::byteswap(0x80000000u));
    board.ports.write(0x514, 8, ~uint64_t{0});
    CHECK(board.read(0x00, 4) == "QEMU");
}

TEST_CASE("fw_cfg makes a live file anew each time that it is selected") {
    Config board;
    unsigned made = 0;
    board.config->add_live_file("zz/live", [&made] { return bytes(made++ ? "after!" : "before"); });
    CHECK(*board.config->file("zz/live") == bytes("before"));
    CHECK(made == 1);
    CHECK(board.read(0x23, 3) == "aft");
    CHECK(board.more(3) == "er!");
    CHECK(made == 2);
    board.dma(dma_select | dma_skip | 0x23 << 16, 1, 0);
    CHECK(made == 3);
}
