#include "devices/system/cfi_flash.hpp"

#include "devices/storage/image/memory_image_test.hpp"
#include "devices/test_board.hpp"

using namespace viv;

namespace {

constexpr uint64_t base = 0xFFF0'0000, size = 0x8000;

struct Flash : TestBoard {
    explicit Flash(ImageAccess access = ImageAccess::writable) {
        auto made = std::make_unique<MemoryImage>(std::vector<std::byte>(size, std::byte{0xA5}), access);
        image = made.get();
        const auto store = memory.add_store(size, "flash");
        REQUIRE(store.has_value());
        std::ranges::copy(image->bytes, memory.bytes(*store).begin());
        flash = std::make_unique<CfiFlash>(memory, Gpa{base}, *store, std::move(made));
        device = flash.get();
        windows = {{flash.get(), size}};
        REQUIRE(memory_bus.map(base, size, *flash, "flash").has_value());
    }
    /// As an engine does: memory where there is some, else the bus.
    uint8_t get(uint64_t at) {
        uint8_t value = 0;
        if (memory.read(Gpa{base + at}, std::as_writable_bytes(std::span(&value, 1)))) return value;
        return static_cast<uint8_t>(memory_bus.read(base + at, 1));
    }
    void set(uint64_t at, uint8_t value) { memory_bus.write(base + at, 1, value); }
    void program(uint64_t at, uint8_t value) {
        set(at, 0x10);
        set(at, value);
    }
    void erase(uint64_t at) {
        set(at, 0x20);
        set(at, 0xD0);
    }
    uint8_t in_file(uint64_t at) const { return std::to_integer<uint8_t>(image->bytes[at]); }

    MemoryImage* image = nullptr;
    std::unique_ptr<CfiFlash> flash;
};

}  // namespace

TEST_CASE("CFI flash keeps the device contract") {
    check_device_contract([] { return std::make_unique<Flash>(); });
}

TEST_CASE("CFI flash is memory that cannot be written until a command comes") {
    Flash board;
    CHECK(board.memory.find(Gpa{base + 0x123}) != nullptr);
    CHECK(board.get(0x123) == 0xA5);
    board.set(0x123, 0x70);
    CHECK(board.memory.find(Gpa{base + 0x123}) == nullptr);
    CHECK(board.get(0x123) == 0x80);
    board.set(0, 0xFF);
    CHECK(board.get(0x123) == 0xA5);
}

TEST_CASE("CFI flash is told from RAM and ROM as firmware does it") {
    Flash board;
    board.set(0, 0x50);
    CHECK(board.get(0) == 0xA5);  // no RAM
    board.set(0, 0x70);
    CHECK(board.get(0) == 0x00);  // no ROM either
    board.set(0, 0xFF);
    CHECK(board.get(0) == 0xA5);
}

TEST_CASE("CFI flash erases blocks and programs bytes, and the file has it") {
    Flash board;
    board.erase(0x1234);
    CHECK(board.get(0x1234) == 0x80);
    board.set(0x1234, 0xFF);
    CHECK(board.get(0x0FFF) == 0xA5);
    CHECK(board.get(0x1000) == 0xFF);
    CHECK(board.get(0x1FFF) == 0xFF);
    CHECK(board.get(0x2000) == 0xA5);
    CHECK(board.in_file(0x1000) == 0xFF);
    CHECK(board.in_file(0x2000) == 0xA5);

    board.program(0x11FF, 0x3C);
    board.program(0x1200, 0x99);
    CHECK(board.in_file(0x11FF) == 0x3C);  // the next sector has begun
    CHECK(board.get(0x1200) == 0x80);
    board.set(0x1200, 0xFF);
    CHECK(board.get(0x11FF) == 0x3C);
    CHECK(board.in_file(0x1200) == 0x99);
}

TEST_CASE("CFI flash's programming clears bits and sets none") {
    Flash board;
    board.program(5, 0xF0);
    board.set(5, 0xFF);
    CHECK(board.get(5) == 0xA0);
    board.program(5, 0xFF);
    board.set(5, 0xFF);
    CHECK(board.get(5) == 0xA0);
    CHECK(board.in_file(5) == 0xA0);
}

TEST_CASE("CFI flash programs a buffer of bytes once it is confirmed") {
    Flash board;
    board.set(0, 0xE8);
    CHECK(board.get(0) == 0x80);
    board.set(0, 2);
    for (uint8_t i = 0; i < 3; ++i) board.set(0x40 + i, static_cast<uint8_t>(i << 4));
    CHECK(board.in_file(0x41) == 0xA5);
    board.set(0, 0xD0);
    CHECK(board.get(0) == 0x80);
    board.set(0, 0xFF);
    CHECK(board.get(0x41) == (0xA5 & 0x10));
    CHECK(board.get(0x42) == (0xA5 & 0x20));
    CHECK(board.get(0x43) == 0xA5);
    CHECK(board.in_file(0x42) == (0xA5 & 0x20));

    SECTION("without the confirmation nothing is programmed") {
        board.set(0, 0xE8);
        board.set(0, 0);
        board.set(0x80, 0);
        board.set(0, 0xFF);
        CHECK(board.get(0) == 0xB0);
        board.set(0, 0xFF);
        CHECK(board.get(0x80) == 0xA5);
    }
    SECTION("more than the buffer has is refused") {
        board.set(0, 0xE8);
        board.set(0, 32);
        CHECK(board.get(0) == 0xB0);
    }
}

TEST_CASE("CFI flash has an identifier and a query table") {
    Flash board;
    board.set(0, 0x90);
    CHECK(board.get(0) == 0x89);
    CHECK(board.get(1) == 0x18);
    board.set(0, 0x98);
    CHECK(board.get(0x10) == 'Q');
    CHECK(board.get(0x11) == 'R');
    CHECK(board.get(0x12) == 'Y');
    CHECK(board.get(0x13) == 1);
    CHECK(board.get(0x27) == 15);    // 32 KiB
    CHECK(board.get(0x2A) == 5);     // a buffer of 32 bytes
    CHECK(board.get(0x2C) == 1);     // one region:
    CHECK(board.get(0x2D) == 7);     // 8 blocks
    CHECK(board.get(0x2F) == 0x10);  // of 16 times 256 bytes
    CHECK(board.get(0x31) == 'P');
}

TEST_CASE("CFI flash that must not be written says so, and stays as it is") {
    Flash board(ImageAccess::read_only);
    board.program(7, 0);
    CHECK(board.get(7) == 0x92);
    board.set(0, 0x50);
    board.erase(0);
    CHECK(board.get(0) == 0xA2);
    board.set(0, 0xFF);
    CHECK(board.get(7) == 0xA5);
}

TEST_CASE("CFI flash tells the guest when the host could not write") {
    Flash board;
    board.image->bad_sector = 1;
    board.program(0x200, 0);
    board.set(0x200, 0x70);
    CHECK(board.get(0x200) == 0x90);
    board.set(0, 0x50);
    board.erase(0x200);
    CHECK(board.get(0) == 0xA0);
}

TEST_CASE("CFI flash is an array again after a reset, and the file is complete when it goes") {
    Flash board;
    board.program(9, 1);
    board.flash->reset(ResetKind::hard);
    CHECK(board.get(9) == 1);
    CHECK(board.in_file(9) == 1);
    board.memory_bus.unmap(base);
    board.device = nullptr;
    board.windows.clear();
    board.flash.reset();
    CHECK(board.memory.find(Gpa{base}) == nullptr);
}
