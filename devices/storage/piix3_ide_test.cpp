#include "devices/storage/piix3_ide.hpp"

#include <array>
#include <cstring>

#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/storage/ata_disk.hpp"
#include "devices/storage/image/memory_image_test.hpp"

using namespace viv;

namespace {

constexpr PciAddress ide_at{0, 1, 1};
constexpr uint16_t bus_master = 0xC000;
constexpr uint8_t idle = 0x00, active = 0x01, error = 0x02, interrupt = 0x04;
constexpr uint64_t table = 0x1000, buffer = 0x10000;

/// Made before the bus master, and gone after it.
struct Cable {
    IrqPin irq;
    IdeChannel channel{IrqLine(irq)};
};

/// A disk on the first channel, 1 MiB of RAM, the bus master at C000h.
struct IdeBoard : Cable, PciBoard {
    IdeBoard() {
        auto content = std::make_unique<MemoryImage>(numbered_sectors(300));
        image = content.get();
        channel.attach(0, std::make_unique<AtaDisk>(channel.device_state(0), std::move(content),
                                                    AtaDisk::Place{0x1F0, 0, "VIV0"}));
        channel.reset(ResetKind::power_on);
        services.provide(channel, "primary");
        if (!memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        make_function(make_piix3_ide, 1, 1);
        set_config(ide_at, pci::BAR0 + 16, 4, bus_master);
        set_config(ide_at, pci::COMMAND, 2, pci::IO_SPACE | pci::BUS_MASTER);
    }

    void command(uint8_t opcode, uint8_t lba, uint8_t count) {
        BusDevice& block = channel.command_block();
        for (const auto& [at, value] :
             {std::pair{6, 0xE0}, {2, int{count}}, {3, int{lba}}, {4, 0}, {5, 0}, {7, int{opcode}}})
            block.write({static_cast<uint64_t>(at), 1}, static_cast<uint64_t>(value));
    }
    uint8_t status() { return static_cast<uint8_t>(channel.command_block().read({7, 1})); }
    uint8_t master_status() { return in(bus_master + 2); }
    struct Descriptor {
        uint32_t base, size;
    };
    void describe(std::vector<Descriptor> list) {
        for (size_t i = 0; i < list.size(); ++i) {
            memory.store(Gpa{table + 8 * i}, list[i].base);
            memory.store(Gpa{table + 8 * i + 4}, (list[i].size & 0xFFFF) | (i + 1 == list.size() ? 0x80000000 : 0));
        }
        ports.write(bus_master + 4, 4, table);
    }
    void start(bool to_memory) { out(bus_master, to_memory ? 0x09 : 0x01); }
    bool memory_has(uint64_t at, size_t sector, size_t bytes) {
        std::vector<std::byte> got(bytes);
        return memory.read(Gpa{at}, got) &&
               std::equal(got.begin(), got.end(), image->bytes.begin() + static_cast<ptrdiff_t>(sector * 512));
    }

    MemoryImage* image = nullptr;
};

}  // namespace

TEST_CASE("The IDE bus master keeps the device contract") {
    struct Bare : PciBoard {
        Bare() { make_function(make_piix3_ide, 1, 1); }
    };
    check_device_contract([] { return std::make_unique<Bare>(); });
}

TEST_CASE("READ DMA goes to memory along the table, whichever side starts first") {
    for (const bool drive_first : {true, false}) {
        IdeBoard board;
        board.describe({{buffer, 512}, {buffer + 0x8000, 1024}, {buffer + 0x4000, 512}});
        if (drive_first) board.command(0xC8, 7, 4);
        CHECK_FALSE(board.irq.level());
        board.start(true);
        if (!drive_first) board.command(0xC8, 7, 4);
        CHECK(board.master_status() == interrupt);
        CHECK(board.irq.level());
        CHECK(board.memory_has(buffer, 7, 512));
        CHECK(board.memory_has(buffer + 0x8000, 8, 1024));
        CHECK(board.memory_has(buffer + 0x4000, 10, 512));
        CHECK(board.status() == 0x50);
        board.out(bus_master, 0);
        board.out(bus_master + 2, interrupt);
        CHECK(board.master_status() == idle);
    }
}

TEST_CASE("WRITE DMA comes from memory") {
    IdeBoard board;
    std::vector<std::byte> data(256 * 512);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + i / 512);
    board.memory.write(Gpa{buffer}, data);
    board.describe({{buffer, 0}, {buffer + 0x10000, 0}});
    board.command(0xCA, 20, 0);  // 256 sectors
    board.start(false);
    CHECK(board.master_status() == interrupt);
    CHECK(board.status() == 0x50);
    CHECK(std::memcmp(board.image->bytes.data() + 20 * 512, data.data(), data.size()) == 0);
}

TEST_CASE("TRIM takes its ranges by DMA, also from a disk that is not serial") {
    IdeBoard board;
    const auto words = [&](size_t at) {
        board.command(0xEC, 0, 0);
        std::array<uint16_t, 256> identity{};
        for (auto& word : identity) word = static_cast<uint16_t>(board.channel.command_block().read({0, 2}));
        return identity.at(at);
    };
    CHECK((words(80) & 0x80) != 0);
    CHECK(words(169) == 1);
    CHECK((words(69) & 0x4000) != 0);
    const auto trim = [&](std::vector<uint64_t> ranges, uint8_t feature = 1, uint8_t blocks = 1) {
        board.memory.write(Gpa{buffer}, std::vector<std::byte>(size_t{512} * 16));
        for (size_t i = 0; i < ranges.size(); ++i) board.memory.store(Gpa{buffer + 8 * i}, ranges[i]);
        board.describe({{buffer, blocks * 512u}});
        BusDevice& block = board.channel.command_block();
        block.write({2, 1}, 0);  // of the count: the high byte
        block.write({1, 1}, feature);
        board.command(0x06, 0, blocks);
        board.start(false);
        board.out(bus_master, 0);
        board.out(bus_master + 2, interrupt);
        return board.status();
    };
    const auto range = [](uint64_t first, uint64_t count) { return first | count << 48; };
    auto expected = board.image->bytes;
    CHECK(trim({range(10, 5), range(0, 0), range(290, 10)}) == 0x50);
    std::fill_n(expected.begin() + 10 * 512, 5 * 512, std::byte{0});
    std::fill_n(expected.begin() + 290 * 512, 10 * 512, std::byte{0});
    CHECK(board.image->bytes == expected);
    // Behind the end, another feature, more blocks than word 105 has.
    CHECK(trim({range(299, 2)}) == 0x51);
    CHECK(board.channel.command_block().read({1, 1}) == 0x10);
    CHECK(trim({range(20, 1)}, 0) == 0x51);
    CHECK(trim({range(20, 1)}, 1, 9) == 0x51);
    CHECK(board.channel.command_block().read({1, 1}) == 0x04);
    CHECK(board.image->bytes == expected);
}

TEST_CASE("A table that is too long leaves the engine active, one that is too short leaves the drive waiting") {
    IdeBoard board;
    board.describe({{buffer, 4096}});
    board.command(0xC8, 0, 1);
    board.start(true);
    CHECK(board.master_status() == (active | interrupt));
    board.out(bus_master, 0);
    CHECK(board.master_status() == interrupt);
    board.out(bus_master + 2, interrupt);

    board.describe({{buffer, 512}});
    board.command(0xC8, 0, 2);
    board.start(true);
    CHECK(board.master_status() == idle);
    CHECK_FALSE(board.irq.level());
    CHECK((board.status() & 0x08) != 0);
    // The data port has nothing to do with it.
    CHECK(board.channel.command_block().read({0, 2}) == 0xFFFF);
    board.out(bus_master, 0);
    board.describe({{buffer + 512, 512}});
    board.start(true);
    CHECK(board.master_status() == interrupt);
    CHECK(board.memory_has(buffer, 0, 1024));
}

TEST_CASE("Errors of the drive interrupt, errors of the table stop the engine") {
    IdeBoard board;
    board.describe({{buffer, 4096}});
    SECTION("a sector that cannot be read") {
        board.image->bad_sector = 3;
        board.start(true);
        board.command(0xC8, 1, 8);
        CHECK((board.master_status() & interrupt) != 0);
        CHECK((board.status() & 0x01) != 0);
    }
    SECTION("a place behind the end") {
        board.start(true);
        board.command(0xC8, 255, 100);
        CHECK((board.status() & 0x01) != 0);
    }
    SECTION("a table where no memory is") {
        board.ports.write(bus_master + 4, 4, 0x200000);
        board.start(true);
        board.command(0xC8, 0, 1);
        CHECK(board.master_status() == error);
    }
    SECTION("a buffer where no memory is") {
        board.describe({{0x200000, 512}});
        board.start(true);
        board.command(0xC8, 0, 1);
        CHECK((board.master_status() & error) != 0);
    }
    SECTION("a table over the end of its 64 KiB") {
        board.memory.store(Gpa{0x1FFF8}, uint64_t{0x00000200'00030000});
        board.ports.write(bus_master + 4, 4, 0x1FFF8);
        board.start(true);
        board.command(0xC8, 0, 2);
        CHECK(board.master_status() == error);
    }
    SECTION("the wrong direction") {
        board.start(false);
        board.command(0xC8, 0, 1);
        CHECK(board.master_status() == active);
        CHECK((board.status() & 0x08) != 0);
    }
}

TEST_CASE("Nothing moves before the function may be bus master") {
    IdeBoard board;
    board.set_config(ide_at, pci::COMMAND, 2, pci::IO_SPACE);
    board.describe({{buffer, 512}});
    board.command(0xC8, 2, 1);
    board.start(true);
    CHECK(board.master_status() == active);
    board.set_config(ide_at, pci::COMMAND, 2, pci::IO_SPACE | pci::BUS_MASTER);
    CHECK(board.master_status() == interrupt);
    CHECK(board.memory_has(buffer, 2, 512));
}

TEST_CASE("Every interrupt of the channel shows, and registers keep what exists") {
    IdeBoard board;
    board.command(0x20, 0, 1);  // READ SECTORS
    CHECK(board.master_status() == interrupt);
    board.out(bus_master + 2, 0x64);
    CHECK(board.master_status() == 0x60);
    board.ports.write(bus_master + 12, 4, 0xFFFFFFFF);
    CHECK(board.ports.read(bus_master + 12, 4) == 0xFFFFFFFC);
    CHECK(board.config(ide_at, pci::VENDOR_ID) == 0x70108086);
    CHECK(board.config(ide_at, pci::REVISION_ID) == 0x01018000);
    board.set_config(ide_at, 0x40, 4, 0xFFFFFFFF);
    CHECK(board.config(ide_at, 0x40) == 0xF3FFF3FF);
}

TEST_CASE("A drive tells its DMA modes and keeps the one that is selected") {
    IdeBoard board;
    const auto identify = [&](unsigned word) {
        board.command(0xEC, 0, 0);
        std::array<uint16_t, 256> words{};
        board.channel.command_block().read_block({0, 2}, std::as_writable_bytes(std::span(words)));
        return words[word];
    };
    CHECK((identify(49) & 0x0100) != 0);
    CHECK(identify(63) == 0x0407);
    CHECK(identify(88) == 0x003F);
    board.channel.command_block().write({1, 1}, 0x03);
    board.command(0xEF, 0, 0x42);
    CHECK(board.status() == 0x50);
    CHECK(identify(63) == 0x0007);
    CHECK(identify(88) == 0x043F);
    board.channel.command_block().write({1, 1}, 0x03);
    board.command(0xEF, 0, 0x47);
    CHECK((board.status() & 0x01) != 0);
}
