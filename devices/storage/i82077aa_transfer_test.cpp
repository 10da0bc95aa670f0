#include "devices/storage/i82077aa_rig_test.hpp"

using namespace viv;
using Bytes = std::vector<int>;

TEST_CASE("A BIOS-style driver reads sectors by DMA up to the terminal count") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.seek(0, 3);
    rig.dma.program(4 * 512);
    rig.transfer(0x46, 0, 3, 1, 2, 18);
    CHECK_FALSE(rig.irq());
    CHECK(rig.in(0x3F4) == 0x10);
    rig.wait();
    CHECK(rig.irq());
    CHECK(rig.in(0x3F4) == 0xD0);
    CHECK(rig.in(0x3F5) == 0x04);
    CHECK_FALSE(rig.irq());
    CHECK(rig.result() == Bytes{0, 0, 3, 1, 6, 2});
    CHECK(rig.read_sectors_match(medium, (3 * 2 + 1) * 18 + 1, 4));
}

TEST_CASE("A multi-track read goes over to the other side, and the result is the next cylinder's first sector") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.seek(0, 1);
    rig.dma.program(36 * 512);
    rig.transfer(0xE6, 0, 1, 0, 1, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x00, 0, 0, 2, 0, 1, 2});
    CHECK(rig.read_sectors_match(medium, 36, 36));
    // The first side's end is head 1, sector 1 of the same cylinder.
    rig.dma.program(18 * 512);
    rig.transfer(0xE6, 0, 1, 0, 1, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x04, 0, 0, 1, 1, 1, 2});
}

TEST_CASE("Without a terminal count the end of the track ends the command with an error") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    rig.dma.program(64 * 512);
    rig.transfer(0x46, 0, 0, 0, 17, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x40, 0x80, 0, 1, 0, 1, 2});
    CHECK(rig.dma.position == 2 * 512);
}

TEST_CASE("A terminal count within a sector ends the command there") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.dma.program(700);
    rig.transfer(0x46, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0, 0, 0, 0, 0, 3, 2});
    CHECK(std::equal(rig.dma.memory.begin(), rig.dma.memory.end(), medium.bytes.begin()));
}

TEST_CASE("A write reaches the medium, zeros fill a sector that the terminal count cuts") {
    FloppyRig rig;
    MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.dma.program(600);
    std::ranges::fill(rig.dma.memory, std::byte{0x5A});
    rig.transfer(0x45, 0, 0, 1, 3, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x04, 0, 0, 0, 1, 5, 2});
    const size_t at = (18 + 2) * 512;
    CHECK(medium.bytes[at] == std::byte{0x5A});
    CHECK(medium.bytes[at + 599] == std::byte{0x5A});
    CHECK(medium.bytes[at + 600] == std::byte{0});
    CHECK(medium.bytes[at + 1024] == numbered_sectors(2880)[at + 1024]);
    // Deleted data has no mark on the medium: it is data.
    rig.dma.program(512);
    rig.transfer(0x49, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK(rig.result()[0] == 0);
    CHECK(medium.bytes[0] == std::byte{0x5A});
}

TEST_CASE("A masked DMA channel holds the command until the driver unmasks it") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.transfer(0x46, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK_FALSE(rig.irq());
    CHECK(rig.dma.request);
    rig.dma.program(512);
    CHECK_FALSE(rig.dma.request);
    CHECK_FALSE(rig.irq());
    rig.wait();
    CHECK(rig.irq());
    CHECK(rig.result()[0] == 0);
    CHECK(rig.read_sectors_match(medium, 0, 1));
}

TEST_CASE("A reset ends a command that waits for DMA") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    rig.transfer(0x46, 0, 0, 0, 1, 18);
    rig.wait();
    rig.out(0x3F2, 0x00);
    CHECK_FALSE(rig.dma.request);
    rig.start();
    rig.dma.program(512);
    rig.transfer(0x46, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK(rig.result()[0] == 0);
}

TEST_CASE("Programmed I/O moves a sector byte by byte, each with an interrupt when the FIFO is off") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.command({0x03, 0xAF, 0x03});  // ND
    rig.transfer(0x46, 0, 0, 0, 18, 18);
    CHECK(rig.in(0x3F4) == 0x70);
    std::vector<std::byte> got;
    for (int i = 0; i < 512; ++i) {
        rig.clock.advance(std::chrono::microseconds(200));
        REQUIRE(rig.irq());
        REQUIRE(rig.in(0x3F4) == 0xF0);
        got.push_back(static_cast<std::byte>(rig.in(0x3F5)));
        REQUIRE_FALSE((i < 511 && rig.irq()));
    }
    CHECK(std::equal(got.begin(), got.end(), medium.bytes.begin() + 17 * 512));
    CHECK(rig.result() == Bytes{0x40, 0x80, 0, 1, 0, 1, 2});
}

TEST_CASE("Programmed I/O with the FIFO serves as many bytes as the threshold leaves") {
    FloppyRig rig;
    MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.command({0x03, 0xAF, 0x03});
    rig.command({0x13, 0, 0x07, 0});  // threshold 8
    rig.transfer(0x45, 0, 0, 0, 18, 18);
    unsigned written = 0;
    unsigned services = 0;
    for (int turns = 0; turns < 1000 && written < 512; ++turns) {
        rig.clock.advance(std::chrono::microseconds(200));
        if (!rig.irq()) continue;
        ++services;
        while ((rig.in(0x3F4) & 0xF0) == 0xB0) {
            rig.out(0x3F5, static_cast<uint8_t>(written));
            ++written;
        }
    }
    CHECK(written == 512);
    CHECK(services == 512 / 8);
    CHECK(rig.result() == Bytes{0x40, 0x80, 0, 1, 0, 1, 2});
    CHECK(medium.bytes[17 * 512 + 300] == static_cast<std::byte>(300 & 0xFF));
}

TEST_CASE("What the CPU does to the FIFO outside its turn is ignored") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    rig.dma.program(512);
    rig.transfer(0x46, 0, 0, 0, 1, 18);
    CHECK(rig.in(0x3F5) == 0xFF);
    rig.out(0x3F5, 0x08);
    rig.wait();
    rig.out(0x3F5, 0x08);
    CHECK(rig.result() == Bytes{0, 0, 0, 0, 0, 2, 2});
}

TEST_CASE("Linux's way of finding the format: wrong data rates find no address mark") {
    FloppyRig rig;
    rig.insert(1440);  // 720K
    rig.start(0);
    rig.command({0x4A, 0});
    rig.wait();
    CHECK(rig.irq());
    CHECK(rig.result() == Bytes{0x40, 0x01, 0, 0, 0, 0, 0});
    rig.out(0x3F7, 2);
    rig.command({0x4A, 0});
    rig.wait();
    const Bytes id = rig.result();
    CHECK(id[0] == 0);
    CHECK(id[3] == 0);
    CHECK((id[5] >= 1 && id[5] <= 9));
    CHECK(id[6] == 2);
    rig.dma.program(512);
    rig.transfer(0x46, 0, 0, 0, 10, 18);  // it has nine sectors
    rig.wait();
    CHECK(rig.result() == Bytes{0x40, 0x04, 0, 0, 0, 10, 2});
}

TEST_CASE("Each kind of medium reads in its drive at its rate") {
    struct Case {
        FloppyType drive;
        size_t sectors;
        uint8_t rate;
        uint8_t per_track;
        uint8_t heads;
        uint8_t track_step;
    };
    for (const auto& [type, sectors, rate, per_track, heads, track_step] : std::initializer_list<Case>{
             {FloppyType::d360k, 320, 2, 8, 1, 1},
             {FloppyType::d360k, 720, 2, 9, 2, 1},
             {FloppyType::d1200k, 720, 1, 9, 2, 2},
             {FloppyType::d1200k, 2400, 0, 15, 2, 1},
             {FloppyType::d720k, 1440, 2, 9, 2, 1},
             {FloppyType::d1440k, 2880, 0, 18, 2, 1},
             {FloppyType::d1440k, 3360, 0, 21, 2, 1},
             {FloppyType::d2880k, 5760, 3, 36, 2, 1},
         }) {
        INFO(sectors);
        FloppyRig rig(type);
        const MemoryImage& medium = rig.insert(sectors);
        rig.start(rate);
        rig.seek(0, 5u * track_step);
        rig.dma.program(512);
        rig.transfer(0x46, 0, 5, heads - 1u, per_track, per_track);
        rig.wait();
        CHECK(rig.result()[0] == (heads - 1) << 2);
        CHECK(rig.read_sectors_match(medium, (5u * heads + heads - 1u) * per_track + per_track - 1u, 1));
    }
}

TEST_CASE("The wrong cylinder, side, sector size or recording is not found") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    const auto attempt = [&](std::initializer_list<unsigned> bytes) {
        rig.dma.program(512);
        rig.command(bytes);
        rig.wait();
        Bytes result = rig.result();
        result.resize(3);
        return result;
    };
    CHECK(attempt({0x46, 0, 1, 0, 1, 2, 18, 0x1B, 0xFF}) == Bytes{0x40, 0x04, 0x10});  // heads are on 0
    CHECK(attempt({0x46, 0, 0, 1, 1, 2, 18, 0x1B, 0xFF}) == Bytes{0x40, 0x04, 0});     // head IDs differ
    CHECK(attempt({0x46, 0, 0, 0, 1, 3, 18, 0x1B, 0xFF}) == Bytes{0x40, 0x04, 0});     // 1024-byte sectors
    CHECK(attempt({0x46, 0, 0, 0, 0, 2, 18, 0x1B, 0xFF}) == Bytes{0x40, 0x04, 0});
    CHECK(attempt({0x06, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF}) == Bytes{0x40, 0x01, 0});  // FM
    CHECK(attempt({0x46, 1, 0, 0, 1, 2, 18, 0x1B, 0xFF}) == Bytes{0x41, 0x01, 0});  // no drive 1
    rig.seek(0, 82);
    CHECK(attempt({0x46, 0, 82, 0, 1, 2, 18, 0x1B, 0xFF}) == Bytes{0x40, 0x01, 0});  // nothing recorded there
    REQUIRE(rig.chip.drive(0)->eject());
    CHECK(attempt({0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF}) == Bytes{0x40, 0x01, 0});
}

TEST_CASE("A write-protected medium refuses writes and formats, and says so in ST3") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880, 0, ImageAccess::read_only);
    rig.start();
    for (const unsigned opcode : {0x45u, 0x49u}) {
        rig.dma.program(512);
        rig.transfer(opcode, 0, 0, 0, 1, 18);
        rig.wait();
        CHECK(rig.result() == Bytes{0x40, 0x02, 0, 0, 0, 1, 2});
    }
    rig.dma.program(72);
    rig.command({0x4D, 0, 2, 18, 0x54, 0xF6});
    rig.wait();
    CHECK(rig.result()[1] == 0x02);
    rig.command({0x04, 0});
    CHECK(rig.result() == Bytes{0x78});
    CHECK(medium.bytes == numbered_sectors(2880));
}

TEST_CASE("Errors of the host's disk are data errors of the medium") {
    FloppyRig rig;
    MemoryImage& medium = rig.insert(2880);
    medium.bad_sector = 1;
    rig.start();
    rig.dma.program(4 * 512);
    rig.transfer(0x46, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x40, 0x20, 0x20, 0, 0, 2, 2});
    CHECK(rig.dma.position == 512);
    medium.fault = DiskStatus::no_space;
    rig.dma.program(512);
    rig.transfer(0x45, 0, 0, 0, 2, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x40, 0x20, 0, 0, 0, 2, 2});
    rig.dma.program(512);
    rig.transfer(0x51, 0, 0, 0, 2, 18, 1);
    rig.wait();
    CHECK(rig.result()[1] == 0x20);
}

TEST_CASE("Format fills the sectors whose IDs it is given") {
    FloppyRig rig;
    MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.seek(0, 2);
    rig.dma.program(72);
    for (unsigned i = 0; i < 18; ++i) {
        const unsigned id[] = {2, 1, 18 - i, 2};
        for (unsigned k = 0; k < 4; ++k) rig.dma.memory[i * 4 + k] = static_cast<std::byte>(id[k]);
    }
    rig.command({0x4D, 4, 2, 18, 0x54, 0xF6});
    rig.wait();
    const Bytes result = rig.result();
    CHECK(result[0] == 0x04);
    CHECK(result[1] == 0);
    const size_t track = (2 * 2 + 1) * 18 * 512;
    CHECK(std::all_of(medium.bytes.begin() + static_cast<ptrdiff_t>(track),
                      medium.bytes.begin() + static_cast<ptrdiff_t>(track + 18 * 512),
                      [](std::byte byte) { return byte == std::byte{0xF6}; }));
    CHECK(medium.bytes[track - 1] != std::byte{0xF6});
    CHECK(medium.bytes[track + 18 * 512 + 1] == numbered_sectors(2880)[track + 18 * 512 + 1]);
}

TEST_CASE("Format of what the image has no place for ends in an error") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.dma.program(36);
    rig.command({0x4D, 0, 2, 9, 0x50, 0xF6});
    rig.wait();
    CHECK(rig.result()[1] == 0x04);
    rig.dma.program(72);
    rig.dma.memory[2] = std::byte{40};
    rig.command({0x4D, 0, 2, 18, 0x54, 0xF6});
    rig.wait();
    CHECK(rig.result()[1] == 0x04);
    rig.dma.program(2);
    rig.command({0x4D, 0, 2, 18, 0x54, 0xF6});
    rig.wait();
    CHECK(rig.result()[1] == 0x10);
    CHECK(medium.bytes == numbered_sectors(2880));
}

TEST_CASE("Verify reads without moving anything") {
    FloppyRig rig;
    MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.transfer(0x56, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x00, 0, 0, 1, 0, 1, 2});
    rig.command({0x56, 0x80, 0, 0, 3, 2, 18, 0x1B, 2});  // EC: two sectors
    rig.wait();
    CHECK(rig.result() == Bytes{0x00, 0, 0, 0, 0, 5, 2});
    medium.bad_sector = 4;
    rig.transfer(0x56, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x40, 0x20, 0x20, 0, 0, 5, 2});
}

TEST_CASE("Read track gives the sectors in their order and tells when the ID differs") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.dma.program(18 * 512);
    rig.transfer(0x42, 0, 0, 0, 1, 18);
    rig.wait();
    CHECK(rig.result()[1] == 0);
    CHECK(rig.read_sectors_match(medium, 0, 18));
    rig.dma.program(2 * 512);
    rig.transfer(0x42, 0, 0, 0, 7, 18);
    rig.wait();
    CHECK(rig.result()[1] == 0x04);
    CHECK(rig.read_sectors_match(medium, 0, 2));
}

TEST_CASE("Deleted-data reads take a normal sector and stop, or skip all") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.dma.program(4 * 512);
    rig.transfer(0x4C, 0, 0, 0, 5, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x00, 0, 0x40, 0, 0, 6, 2});
    CHECK(rig.read_sectors_match(medium, 4, 1));
    rig.dma.program(4 * 512);
    rig.transfer(0x6C, 0, 0, 0, 5, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x00, 0, 0x40, 1, 0, 1, 2});
    CHECK(rig.dma.position == 0);
}

TEST_CASE("Scans compare the host's data with the medium") {
    FloppyRig rig;
    MemoryImage& medium = rig.insert(2880);
    std::fill(medium.bytes.begin(), medium.bytes.begin() + 18 * 512, std::byte{0x10});
    std::fill(medium.bytes.begin() + 3 * 512, medium.bytes.begin() + 4 * 512, std::byte{0x20});
    rig.start();
    const auto scan = [&](unsigned opcode, unsigned wanted, unsigned step) {
        rig.dma.program(18 * 512);
        std::ranges::fill(rig.dma.memory, static_cast<std::byte>(wanted));
        rig.transfer(opcode, 0, 0, 0, 2, 18, step);
        rig.wait();
        return rig.result();
    };
    CHECK(scan(0x51, 0x20, 1) == Bytes{0, 0, 0x08, 0, 0, 4, 2});  // equal in sector 4
    CHECK(scan(0x51, 0x20, 2) == Bytes{0, 0, 0x08, 0, 0, 4, 2});  // 2, 4
    CHECK(scan(0x5D, 0x18, 1) == Bytes{0, 0, 0x00, 0, 0, 4, 2});  // 20h is higher
    CHECK(scan(0x59, 0x18, 1) == Bytes{0, 0, 0x00, 0, 0, 2, 2});  // 10h is lower at once
    CHECK(scan(0x51, 0x33, 1)[2] == 0x04);                        // nowhere
    CHECK(scan(0x51, 0xFF, 1) == Bytes{0, 0, 0x08, 0, 0, 2, 2});  // FFh equals anything
}

TEST_CASE("An implied seek moves the heads and shows in ST0") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.command({0x13, 0, 0x60, 0});
    rig.dma.program(512);
    rig.transfer(0x46, 0, 50, 0, 1, 18);
    rig.wait();
    CHECK(rig.result() == Bytes{0x20, 0, 0, 50, 0, 2, 2});
    CHECK(rig.read_sectors_match(medium, 50 * 36, 1));
    rig.command({0x0E});
    CHECK(rig.result()[0] == 50);
}

TEST_CASE("A seek of the same drive in the middle of a write cannot write elsewhere") {
    FloppyRig rig;
    const MemoryImage& medium = rig.insert(2880);
    rig.start();
    rig.command({0x03, 0xAF, 0x03});
    rig.command({0x0F, 0, 79});  // ends after the write has begun
    rig.transfer(0x45, 0, 0, 0, 1, 18);
    rig.clock.advance(std::chrono::microseconds(150));
    for (int i = 0; i < 512; ++i) {
        rig.out(0x3F5, 0xAA);
        rig.clock.advance(std::chrono::microseconds(5));
    }
    rig.wait();
    CHECK(rig.result()[1] == 0x04);
    CHECK(medium.bytes == numbered_sectors(2880));
}

TEST_CASE("A floppy transfer goes on after save and load") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    rig.command({0x03, 0xAF, 0x03});
    rig.transfer(0x46, 0, 0, 0, 1, 18);
    rig.clock.advance(std::chrono::microseconds(101));
    REQUIRE(rig.irq());
    CHECK(rig.in(0x3F5) == 0);
    FloppyRig other;
    const MemoryImage& medium = other.insert(2880);
    other.clock.advance(rig.clock.now() - VirtualTime{});
    auto commit = other.chip.prepare_load(rig.chip.save());
    if (!commit) FAIL(commit.error().message);
    (*commit)();
    for (unsigned i = 1; i < 20; ++i) {
        other.clock.advance(std::chrono::microseconds(5));
        CHECK(static_cast<std::byte>(other.in(0x3F5)) == medium.bytes[i]);
    }
}
