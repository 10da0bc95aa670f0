// Queued commands, and what else a disk has on a serial wire only.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "devices/storage/ahci_rig_test.hpp"

using namespace viv;
using namespace viv::ahci;

namespace {

constexpr uint64_t buffer = AhciBoard::buffer;

AhciBoard::Command queued(uint8_t opcode, uint64_t lba, uint16_t sectors, unsigned tag, uint8_t device = 0x40) {
    return {
        .opcode = opcode, .lba = lba, .count = static_cast<uint16_t>(tag << 3), .features = sectors, .device = device};
}

/// Issues slots of queued commands as a driver does.
void issue(AhciBoard& board, uint32_t slots) {
    board.set_port(0, PxSACT, slots);
    board.issue(slots);
}

}  // namespace

TEST_CASE("Queued commands of all 32 tags run and end by Set Device Bits") {
    AhciBoard board;
    board.start();
    for (unsigned tag = 0; tag < 32; ++tag) {
        board.prepare(tag, queued(0x60, 1000 + tag * 5, 2, tag), {{buffer + tag * 1024, 1024}});
    }
    issue(board, 0xFFFFFFFF);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK(board.port_reg(0, PxSACT) == 0);
    CHECK(board.acknowledge() == SDBS);
    CHECK((board.status() & 0x89) == 0);
    bool all = true;
    for (unsigned tag = 0; tag < 32; ++tag) all = all && board.has_sectors(buffer + tag * 1024, 1000 + tag * 5, 2);
    CHECK(all);
    const auto bits = board.fis(device_bits_at, 8);
    CHECK(bits[0] == 0xA1);
    CHECK(bits[1] == 0x40);
    const auto setup = board.fis(dma_setup_at, 28);
    CHECK(setup[0] == 0x41);
    CHECK(setup[1] == 0x20);
    CHECK((setup[20] | setup[21] << 8) == 1024);
}

TEST_CASE("A queued write arrives, and with FUA it is on the medium") {
    AhciBoard board;
    board.start();
    std::vector<std::byte> data(8 * 512, std::byte{0x3C});
    board.memory.write(Gpa{buffer}, data);
    board.prepare(3, queued(0x61, 60, 8, 3), {{buffer, 4096}});
    issue(board, 8);
    CHECK(board.acknowledge() == SDBS);
    CHECK(std::memcmp(board.images[0]->bytes.data() + 60 * 512, data.data(), data.size()) == 0);
    CHECK(board.images[0]->flushes == 0);
    board.prepare(4, queued(0x61, 60, 8, 4, 0xC0), {{buffer, 4096}});
    issue(board, 16);
    CHECK(board.acknowledge() == SDBS);
    CHECK(board.images[0]->flushes == 1);
    CHECK(board.run({.opcode = 0x3D, .lba = 61, .count = 1}, {{buffer, 512}}) == DHRS);
    CHECK(board.images[0]->flushes == 2);
}

TEST_CASE("A queued command that fails stays active, and its log says which and where") {
    AhciBoard board;
    board.start();
    board.images[0]->bad_sector = 523;
    for (unsigned tag = 1; tag < 4; ++tag) {
        board.prepare(tag, queued(0x60, 510 + tag * 4, 4, tag), {{buffer + tag * 2048, 2048}});
    }
    issue(board, 0x0E);
    CHECK(board.acknowledge() == (SDBS | TFES));
    CHECK(board.port_reg(0, PxSACT) == 8);
    CHECK(board.has_sectors(buffer + 2 * 2048, 518, 4));
    CHECK((board.status() & 0xFF01) == 0x4001);
    board.restart();
    CHECK(board.port_reg(0, PxSACT) == 0);
    // Until the log is read there is nothing else.
    CHECK((board.run({.opcode = 0xE7}) & TFES) != 0);
    CHECK((board.status() & 0xFF01) == 0x0401);
    board.restart();
    CHECK(board.run({.opcode = 0x2F, .lba = 0x10, .count = 1}, {{buffer, 512}}) == PSS);
    const auto log = board.bytes_at(buffer, 512);
    CHECK(log[0] == 3);
    CHECK((log[2] & 1) == 1);
    CHECK(log[3] == 0x40);
    CHECK((log[4] | log[5] << 8) == 523);
    unsigned sum = 0;
    for (const uint8_t byte : log) sum += byte;
    CHECK((sum & 0xFF) == 0);
    CHECK(board.run({.opcode = 0xE7}) == DHRS);
    CHECK(board.run({.opcode = 0x47, .lba = 0x10, .count = 1}, {{buffer, 512}}) == DHRS);
    CHECK(board.bytes_at(buffer, 1)[0] == 0x80);
}

TEST_CASE("A queued command behind the end fails, and a reset clears its log") {
    AhciBoard board;
    board.start();
    board.prepare(7, queued(0x61, 1999, 2, 7), {{buffer, 1024}});
    issue(board, 0x80);
    CHECK((board.acknowledge() & TFES) != 0);
    board.set_port(0, PxCMD, SUD | FRE);
    board.set_port(0, PxSCTL, 1);
    board.set_port(0, PxSCTL, 0);
    board.set_port(0, PxSERR, 0xFFFFFFFF);
    board.restart();
    CHECK(board.run({.opcode = 0xE7}) == DHRS);
}

TEST_CASE("Queued commands beside the machine are under way together, and each ends by Set Device Bits") {
    AhciBoard board(1, 0, AhciBoard::Way::beside);
    board.start();
    std::vector<std::byte> data(512, std::byte{0x3C});
    board.memory.write(Gpa{buffer + 31 * 1024}, data);
    for (unsigned tag = 0; tag < 31; ++tag) {
        board.prepare(tag, queued(0x60, 1000 + tag * 5, 2, tag),
                      {{buffer + tag * 1024, 512}, {buffer + tag * 1024 + 512, 512}});
    }
    board.prepare(31, queued(0x61, 60, 1, 31, 0xC0), {{buffer + 31 * 1024, 512}});
    issue(board, 0xFFFFFFFF);
    CHECK(board.port_reg(0, PxCI) == 0);
    while (board.port_reg(0, PxSACT) != 0) board.loop.wait();
    CHECK(board.acknowledge() == SDBS);
    CHECK((board.status() & 0x89) == 0);
    bool all = true;
    for (unsigned tag = 0; tag < 31; ++tag) all = all && board.has_sectors(buffer + tag * 1024, 1000 + tag * 5, 2);
    CHECK(all);
    CHECK(board.has_sectors(buffer + 31 * 1024, 60, 1));
    CHECK(board.images[0]->flushes == 1);
    CHECK(board.work->under_way() == 0);
}

TEST_CASE("A queued command that fails beside the machine stays active, and those behind it are silent") {
    AhciBoard board(1, 0, AhciBoard::Way::beside);
    board.start();
    board.images[0]->bad_sector = 523;
    for (const uint8_t opcode : {uint8_t{0x60}, uint8_t{0x61}}) {
        CAPTURE(opcode);
        for (unsigned tag = 1; tag < 5; ++tag) {
            board.prepare(tag, queued(opcode, 510 + tag * 4, 4, tag), {{buffer + tag * 2048, 2048}});
        }
        issue(board, 0x1E);
        board.work->drain();
        CHECK(board.acknowledge() == (SDBS | TFES));
        CHECK(board.port_reg(0, PxSACT) == 0x18);
        CHECK(board.has_sectors(buffer + 2 * 2048, 518, 4));
        CHECK((board.status() & 1) == 1);
        board.restart();
        CHECK(board.port_reg(0, PxSACT) == 0);
        CHECK(board.run({.opcode = 0x2F, .lba = 0x10, .count = 1}, {{buffer, 512}}) == PSS);
        const auto log = board.bytes_at(buffer, 512);
        CHECK(log[0] == 3);
        CHECK((log[2] & 1) == 1);
        // Of a write the place is that of its first sector: it is not tried again.
        CHECK((log[4] | log[5] << 8) == (opcode == 0x60 ? 523 : 522));
    }
    // What the drive would not take runs within the access.
    board.prepare(7, queued(0x61, 1999, 2, 7), {{buffer, 1024}});
    issue(board, 0x80);
    CHECK((board.acknowledge() & TFES) != 0);
}

TEST_CASE("A flush beside the machine keeps the drive busy, and its failure is told once") {
    AhciBoard board(1, 0, AhciBoard::Way::beside);
    board.start();
    const int gate = eventfd(0, 0);
    board.images[0]->before_flush = [gate] {
        eventfd_t count = 0;
        static_cast<void>(eventfd_read(gate, &count));
    };
    board.prepare(0, {.opcode = 0xE7});
    board.prepare(1, {.opcode = 0xE5});
    board.issue(3);
    // Of the two slots the second has its turn first.
    CHECK((board.status() & 0x80) == 0x80);
    CHECK(board.port_reg(0, PxCI) == 1);
    // The next one waits for it.
    board.issue(2);
    CHECK(board.port_reg(0, PxCI) == 3);
    eventfd_write(gate, 1);
    board.work->drain();
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK((board.status() & 0x81) == 0);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK(board.images[0]->flushes == 1);
    CHECK((board.acknowledge() & DHRS) != 0);
    board.images[0]->before_flush = {};
    close(gate);
    board.images[0]->flush_fault = DiskStatus::io_error;
    board.issue(1);
    board.work->drain();
    CHECK((board.acknowledge() & TFES) != 0);
    CHECK((board.status() & 0x21) == 0x21);
    CHECK(board.port_reg(0, PxCI) == 1);
}

TEST_CASE("What stops an AHCI port waits for what is under way, and nothing is written into memory after it") {
    for (const unsigned kind : {0u, 1u, 2u, 3u, 4u}) {
        CAPTURE(kind);
        AhciBoard board(1, 0, AhciBoard::Way::beside);
        board.start();
        for (unsigned tag = 0; tag < 32; ++tag)
            board.prepare(tag, queued(0x60, tag, 2, tag), {{buffer + tag * 1024, 1024}});
        issue(board, 0xFFFFFFFF);
        switch (kind) {
            case 0: board.set_port(0, PxCMD, SUD | FRE); break;
            case 1: board.set(GHC, GHC_HR); break;
            case 2: board.device->reset(ResetKind::hard); break;
            case 3: board.set_port(0, PxSCTL, 1); break;
            default: board.set_config(AhciBoard::at, pci::COMMAND, 2, pci::MEMORY_SPACE); break;
        }
        CHECK(board.work->under_way() == 0);
        const std::vector<std::byte> text(32 * 1024, std::byte{0x77});
        board.memory.write(Gpa{buffer}, text);
        const auto frames = board.bytes_at(AhciBoard::received, 0x100);
        for (int i = 0; i < 200; ++i) board.loop.poll();
        const auto now = board.bytes_at(buffer, text.size());
        CHECK(std::ranges::all_of(now, [](uint8_t byte) { return byte == 0x77; }));
        CHECK(board.bytes_at(AhciBoard::received, 0x100) == frames);
    }
}

TEST_CASE("Logs that do not exist are aborted, and the directory says which do") {
    AhciBoard board;
    board.start();
    CHECK(board.run({.opcode = 0x2F, .lba = 0x00, .count = 1}, {{buffer, 512}}) == PSS);
    const auto directory = board.bytes_at(buffer, 512);
    CHECK(directory[0] == 1);
    CHECK(directory[0x20] == 1);
    CHECK(directory[0x60] == 0);
    for (const AhciBoard::Command wrong : {AhciBoard::Command{.opcode = 0x2F, .lba = 0x30, .count = 1},
                                           {.opcode = 0x2F, .lba = 0x110, .count = 1},
                                           {.opcode = 0x2F, .lba = 0x10, .count = 0},
                                           {.opcode = 0x2F, .lba = 0x10, .count = 0xFFFF}}) {
        CHECK((board.run(wrong, {{buffer, 512}}) & TFES) != 0);
        board.restart();
    }
}

TEST_CASE("TRIM clears its ranges and no others, and none that are not there") {
    AhciBoard board;
    board.start();
    const auto before = board.images[0]->bytes;
    const auto range = [](uint64_t lba, uint64_t count) { return lba | count << 48; };
    board.memory.write(Gpa{buffer}, std::vector<std::byte>(512));
    board.memory.store(Gpa{buffer}, range(10, 5));
    board.memory.store(Gpa{buffer + 8}, range(0, 0));
    board.memory.store(Gpa{buffer + 16}, range(1990, 10));
    CHECK(board.run({.opcode = 0x06, .count = 1, .features = 1}, {{buffer, 512}}) == DHRS);
    auto expected = before;
    std::fill_n(expected.begin() + 10 * 512, 5 * 512, std::byte{0});
    std::fill_n(expected.begin() + 1990 * 512, 10 * 512, std::byte{0});
    CHECK(board.images[0]->bytes == expected);
    board.memory.store(Gpa{buffer}, range(1999, 2));
    CHECK((board.run({.opcode = 0x06, .count = 1, .features = 1}, {{buffer, 512}}) & TFES) != 0);
    CHECK(board.images[0]->bytes == expected);
    board.restart();
    board.memory.store(Gpa{buffer}, range(0xFFFF'FFFFFFFF, 0xFFFF));
    CHECK((board.run({.opcode = 0x06, .count = 1, .features = 1}, {{buffer, 512}}) & TFES) != 0);
    board.restart();
    CHECK((board.run({.opcode = 0x06, .count = 9, .features = 1}, {{buffer, 8192}}) & TFES) != 0);
    board.restart();
    CHECK((board.run({.opcode = 0x06, .count = 1, .features = 0}, {{buffer, 512}}) & TFES) != 0);
}

TEST_CASE("SMART says that all is well, while it is enabled") {
    AhciBoard board;
    board.start();
    const auto smart = [&](uint16_t feature) {
        return board.run({.opcode = 0xB0, .lba = 0xC24F00, .features = feature, .device = 0}, {{buffer, 512}});
    };
    CHECK(smart(0xDA) == DHRS);
    CHECK(board.fis(register_at, 7)[5] == 0x4F);
    CHECK(board.fis(register_at, 7)[6] == 0xC2);
    CHECK(smart(0xD0) == PSS);
    CHECK((board.identify()[85] & 1) == 1);
    CHECK(smart(0xD9) == DHRS);
    CHECK((board.identify()[85] & 1) == 0);
    CHECK((smart(0xDA) & TFES) != 0);
    board.restart();
    CHECK(smart(0xD8) == DHRS);
    CHECK(smart(0xDA) == DHRS);
    CHECK((board.run({.opcode = 0xB0, .features = 0xDA}) & TFES) != 0);
}
