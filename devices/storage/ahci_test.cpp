#include "devices/storage/ahci.hpp"

#include "devices/storage/ahci_rig_test.hpp"
#include "devices/storage/drive_registry.hpp"
#include "devices/storage/image/temporary_file_test.hpp"

using namespace viv;
using namespace viv::ahci;

namespace {

constexpr uint64_t buffer = AhciBoard::buffer;

uint16_t word_of(const std::vector<uint8_t>& bytes, size_t at) {
    return static_cast<uint16_t>(bytes[at] | bytes[at + 1] << 8);
}

struct Messages final : MsiSink {
    void send(uint64_t address, uint32_t data) override { sent.emplace_back(address, data); }
    std::vector<std::pair<uint64_t, uint32_t>> sent;
};

}  // namespace

TEST_CASE("An AHCI controller keeps the device contract, whatever hangs on it") {
    for (const size_t disks : {size_t{0}, size_t{2}}) {
        check_device_contract([disks] {
            auto board = std::make_unique<AhciBoard>(disks, disks * 30);
            board->device->reset(ResetKind::power_on);
            return board;
        });
    }
}

TEST_CASE("The controller is an ICH9's and says what it can") {
    AhciBoard board;
    CHECK(board.config(board.at, pci::VENDOR_ID) == 0x29228086);
    CHECK(board.config(board.at, pci::REVISION_ID) >> 8 == 0x010601);
    CHECK(board.reg(CAP) == 0xC9249F05);
    CHECK(board.reg(PI) == 0x3F);
    CHECK(board.reg(VS) == 0x00010301);
    CHECK(board.reg(GHC) == GHC_AE);
    board.set(GHC, 0);
    CHECK(board.reg(GHC) == GHC_AE);
    // Bytes and words of a register, and two at once.
    CHECK(board.memory_bus.read(board.base + 2, 1) == 0x24);
    CHECK(board.memory_bus.read(board.base + 2, 2) == 0xC924);
    CHECK(board.memory_bus.read(board.base + 0x0C, 8) == 0x00010301'0000003F);
    board.memory_bus.write(board.base + 0x100 + PxCLB + 1, 1, 0x5F);
    CHECK(board.port_reg(0, PxCLB) == 0x5C00);
}

TEST_CASE("A drive is there once it may spin up, and greets with its signature") {
    AhciBoard board(1, 10);
    CHECK(board.port_reg(0, PxSSTS) == 0);
    CHECK(board.status() == 0x7F);
    CHECK(board.port_reg(0, PxSIG) == 0xFFFFFFFF);
    board.set_port(0, PxFB, static_cast<uint32_t>(AhciBoard::received));
    board.set_port(0, PxCMD, SUD);
    CHECK(board.port_reg(0, PxSSTS) == 0x123);
    CHECK(board.status() == 0x150);
    CHECK(board.port_reg(0, PxSIG) == 0x00000101);
    CHECK(board.port_reg(0, PxSERR) == (DIAG_X | DIAG_N));
    CHECK(board.port_reg(0, PxIS) == (PCS | PRCS));
    // The FIS waits for a place to go.
    CHECK(board.fis(register_at, 1) == std::vector<uint8_t>{0});
    board.set_port(0, PxCMD, SUD | FRE);
    CHECK(board.port_reg(0, PxCMD) == (SUD | POD | FRE | FR));
    CHECK(board.fis(register_at, 14) == std::vector<uint8_t>{0x34, 0, 0x50, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0});
    board.set_port(0, PxSERR, 0xFFFFFFFF);
    CHECK(board.port_reg(0, PxIS) == 0);

    board.start(1);
    CHECK(board.port_reg(1, PxSIG) == 0xEB140101);
    CHECK(board.status(1) == 0x100);
    board.start(2);
    CHECK(board.port_reg(2, PxSSTS) == 0);
    CHECK(board.status(2) == 0x7F);
}

TEST_CASE("COMRESET takes the link down and a new one brings it back at the speed that is allowed") {
    AhciBoard board;
    board.start();
    board.set_port(0, PxCMD, SUD | FRE);
    board.set_port(0, PxSCTL, 0x301);
    CHECK(board.port_reg(0, PxSSTS) == 0);
    CHECK(board.status() == 0x7F);
    board.set_port(0, PxSCTL, 0x310);
    CHECK(board.port_reg(0, PxSSTS) == 0x113);
    CHECK(board.status() == 0x150);
    CHECK(board.port_reg(0, PxSERR) == (DIAG_X | DIAG_N));
    board.set_port(0, PxSCTL, 4);
    CHECK(board.port_reg(0, PxSSTS) == 4);
}

TEST_CASE("IDENTIFY comes by PIO: a setup FIS that interrupts, and no register FIS") {
    AhciBoard board;
    board.start();
    CHECK(board.run({.opcode = 0xEC}, {{buffer, 512}}) == PSS);
    CHECK(board.status() == 0x50);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK(board.transferred(0) == 512);
    const auto setup = board.fis(pio_setup_at, 20);
    CHECK(setup[0] == 0x5F);
    CHECK(setup[1] == 0x60);
    CHECK(setup[2] == 0x58);
    CHECK(setup[15] == 0x50);
    CHECK(word_of(setup, 16) == 512);
    const auto words = board.identify();
    CHECK((words[49] & 0x0300) == 0x0300);
    CHECK((words[60] | words[61] << 16) == 2000);
    CHECK(words[75] == 31);
    CHECK(words[76] == 0x0106);
    CHECK(words[93] == 0);
    CHECK(words[169] == 1);
    CHECK(words[217] == 1);
    unsigned sum = 0;
    for (const uint16_t word : words) sum += (word & 0xFF) + (word >> 8);
    CHECK((sum & 0xFF) == 0);
}

TEST_CASE("READ and WRITE DMA move sectors along the table of any cut") {
    AhciBoard board;
    board.start();
    CHECK(board.run({.opcode = 0x25, .lba = 700, .count = 4},
                    {{buffer, 512}, {buffer + 0x8000, 1024}, {buffer + 0x4002, 512}}) == DHRS);
    CHECK(board.has_sectors(buffer, 700, 1));
    CHECK(board.has_sectors(buffer + 0x8000, 701, 2));
    CHECK(board.has_sectors(buffer + 0x4002, 703, 1));
    CHECK(board.transferred(0) == 2048);
    const auto end = board.fis(register_at, 20);
    CHECK(end[0] == 0x34);
    CHECK(end[1] == 0x40);
    CHECK(end[2] == 0x50);

    std::vector<std::byte> data(300 * 512);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + i / 512);
    board.memory.write(Gpa{buffer}, data);
    CHECK(board.run({.opcode = 0x35, .lba = 100, .count = 300}, {{buffer, 2, true}, {buffer + 2, 300 * 512 - 2}}) ==
          (DHRS | DPS));
    CHECK(std::memcmp(board.images[0]->bytes.data() + 100 * 512, data.data(), data.size()) == 0);
    // 28-bit commands, with the high bits of the address in the device register.
    CHECK(board.run({.opcode = 0xC8, .lba = 5, .count = 1, .device = 0x40}, {{buffer, 512}}) == DHRS);
    CHECK(board.has_sectors(buffer, 5, 1));
}

TEST_CASE("PIO reads and writes tell of every block") {
    AhciBoard board;
    board.start();
    CHECK(board.run({.opcode = 0x20, .lba = 3, .count = 3}, {{buffer, 1536}}) == PSS);
    CHECK(board.has_sectors(buffer, 3, 3));
    CHECK(board.status() == 0x50);
    CHECK(board.run({.opcode = 0x30, .lba = 50, .count = 2}, {{buffer, 1024}}) == (PSS | DHRS));
    CHECK(board.has_sectors(buffer, 50, 2));
    CHECK(board.fis(register_at, 3)[2] == 0x50);
}

TEST_CASE("Slots take turns, and those that are issued together all run") {
    AhciBoard board;
    board.start();
    for (unsigned slot = 0; slot < 32; ++slot) {
        board.prepare(slot, {.opcode = 0x25, .lba = slot * 3, .count = 1}, {{buffer + slot * 512, 512}});
    }
    board.issue(0xFFFFFFFF);
    CHECK(board.port_reg(0, PxCI) == 0);
    bool all = true;
    for (unsigned slot = 0; slot < 32; ++slot) all = all && board.has_sectors(buffer + slot * 512, slot * 3, 1);
    CHECK(all);
    CHECK((board.port_reg(0, PxCMD) >> 8 & 31) == 0);
}

TEST_CASE("An error stops the port until the driver has started it again") {
    AhciBoard board;
    board.start();
    board.prepare(0, {.opcode = 0x25, .lba = 1999, .count = 2}, {{buffer, 1024}});
    board.prepare(1, {.opcode = 0x25, .lba = 1, .count = 1}, {{buffer, 512}});
    board.prepare(31, {.opcode = 0x25, .lba = 1, .count = 1}, {{buffer, 512}});
    board.issue(1u << 31 | 1);
    CHECK((board.port_reg(0, PxIS) & TFES) != 0);
    CHECK((board.status() & 0xFF01) == 0x1001);  // ID not found
    const uint32_t left = board.port_reg(0, PxCI);
    CHECK((left & 1) != 0);
    board.issue(2);
    CHECK(board.port_reg(0, PxCI) == (left | 2));
    CHECK((board.port_reg(0, PxCMD) & (CR | ST)) == (CR | ST));
    board.restart();
    CHECK(board.port_reg(0, PxCI) == 0);
    board.issue(2);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK(board.status() == 0x50);
}

TEST_CASE("A command without memory for it stops the port with the right reason") {
    AhciBoard board;
    board.start();
    SECTION("a table that is too short") {
        CHECK((board.run({.opcode = 0x25, .lba = 0, .count = 4}, {{buffer, 1024}}) & OFS) != 0);
        CHECK(board.has_sectors(buffer, 0, 2));
    }
    SECTION("data behind the memory") {
        CHECK((board.run({.opcode = 0x25, .lba = 0, .count = 4}, {{0x0FFE00, 2048}}) & HBFS) != 0);
    }
    SECTION("data around the end of the address space") {
        CHECK((board.run({.opcode = 0x35, .lba = 0, .count = 4}, {{~uint64_t{0} - 511, 2048}}) & HBFS) != 0);
    }
    SECTION("a command table that is not there") {
        board.prepare(0, {.opcode = 0x25, .count = 1}, {{buffer, 512}});
        board.memory.store(Gpa{AhciBoard::lists + 8}, uint64_t{0xFFFFFFFF'FFFFFF80});
        board.issue(1);
        CHECK((board.acknowledge() & HBFS) != 0);
    }
    SECTION("a command list that is not there") {
        board.set_port(0, PxCLBU, 0xFFFFFFFF);
        board.issue(1);
        CHECK((board.acknowledge() & HBFS) != 0);
    }
    SECTION("no place for what is received") {
        board.set_port(0, PxFBU, 0xFFFFFFFF);
        CHECK((board.run({.opcode = 0xE7}) & HBFS) != 0);
    }
    SECTION("a FIS that drives do not take") {
        board.prepare(0, {.opcode = 0xEC}, {{buffer, 512}});
        board.memory.store(Gpa{AhciBoard::table_of(0)}, uint8_t{0x46});
        board.issue(1);
        CHECK((board.acknowledge() & IFS) != 0);
    }
    board.issue(2);
    CHECK((board.port_reg(0, PxCI) & 2) != 0);
    board.set_port(0, PxCLBU, 0);
    board.set_port(0, PxFBU, 0);
    // The drive may be in the middle of its transfer: the driver resets the link.
    board.set_port(0, PxCMD, SUD | FRE);
    board.set_port(0, PxSCTL, 1);
    board.set_port(0, PxSCTL, 0);
    board.restart();
    board.acknowledge();
    board.set_port(0, PxSERR, 0xFFFFFFFF);
    CHECK(board.run({.opcode = 0x25, .lba = 9, .count = 1}, {{buffer, 512}}) == DHRS);
    CHECK(board.has_sectors(buffer, 9, 1));
}

TEST_CASE("A software reset takes two FISes and ends with the signature") {
    AhciBoard board;
    board.start();
    std::array<uint8_t, 20> control{0x27, 0x00};
    control[15] = 0x04;
    board.prepare_fis(0, control, {}, 1u << 8 | 1u << 10);
    board.issue(1);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK((board.status() & 0x88) == 0);
    control[15] = 0;
    board.prepare_fis(1, control, {});
    board.issue(2);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK(board.status() == 0x150);
    CHECK(board.acknowledge() == 0);
    CHECK(board.fis(register_at, 14) == std::vector<uint8_t>{0x34, 0, 0x50, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0});
    // A command during the reset has no answer.
    control[15] = 4;
    board.prepare_fis(0, control, {});
    board.issue(1);
    board.prepare(1, {.opcode = 0xE7});
    board.issue(2);
    CHECK(board.port_reg(0, PxCI) == 2);
    CHECK((board.status() & 0x80) != 0);
    board.set_port(0, PxCMD, SUD | FRE);
    board.set_port(0, PxCMD, SUD | FRE | CLO);
    CHECK((board.status() & 0x88) == 0);
}

TEST_CASE("Resets and sleep: what a sleeping drive is told waits for a reset, diagnostics give the signature") {
    AhciBoard board;
    board.start();
    CHECK(board.run({.opcode = 0x90}) == DHRS);
    CHECK(board.status() == 0x150);
    CHECK(board.run({.opcode = 0xE6}) == DHRS);
    board.run({.opcode = 0xE7});
    CHECK(board.port_reg(0, PxCI) == 1);
    CHECK((board.status() & 0x80) != 0);
    board.set(GHC, GHC_HR);
    CHECK(board.reg(GHC) == GHC_AE);
    CHECK(board.port_reg(0, PxSSTS) == 0);
    CHECK(board.port_reg(0, PxCLB) == AhciBoard::lists);
    board.start();
    CHECK(board.run({.opcode = 0xE7}) == DHRS);
    CHECK(board.images[0]->flushes == 2);  // one to sleep
}

TEST_CASE("The interrupt is a level over ports, enables and GHC.IE") {
    AhciBoard board(2);
    board.start(0);
    board.start(1);
    CHECK_FALSE(board.wire.level);
    board.prepare(0, {.opcode = 0xE7}, {}, 0, 0);
    board.prepare(0, {.opcode = 0xE7}, {}, 0, 1);
    board.issue(1, 0);
    board.issue(1, 1);
    CHECK(board.wire.level);
    CHECK(board.reg(IS) == 3);
    board.set(GHC, 0);
    CHECK_FALSE(board.wire.level);
    board.set(GHC, GHC_IE);
    CHECK(board.wire.level);
    // The controller's bit comes back while the port still wants it.
    board.set(IS, 1);
    CHECK(board.reg(IS) == 3);
    board.acknowledge(0);
    CHECK(board.wire.level);
    board.acknowledge(1);
    CHECK_FALSE(board.wire.level);
    board.set_port(0, PxIE, SDBS);
    board.issue(1, 0);
    CHECK_FALSE(board.wire.level);
    CHECK(board.port_reg(0, PxIS) == DHRS);
}

TEST_CASE("With MSI there is a message for what comes, and another when a port is left") {
    AhciBoard board(2);
    Messages messages;
    board.bus().connect(messages);
    const uint8_t capability = static_cast<uint8_t>(board.config(board.at, pci::CAPABILITIES));
    board.set_config(board.at, capability + 4, 4, 0xFEE00000);
    board.set_config(board.at, capability + 12, 2, 0x41);
    board.set_config(board.at, capability + 2, 2, 1);
    board.start(0);
    board.start(1);
    board.prepare(0, {.opcode = 0xE7}, {}, 0, 0);
    board.prepare(0, {.opcode = 0xE7}, {}, 0, 1);
    messages.sent.clear();
    board.issue(1, 0);
    CHECK(messages.sent == std::vector<std::pair<uint64_t, uint32_t>>{{0xFEE00000, 0x41}});
    board.issue(1, 1);
    board.set_port(0, PxIS, 0xFFFFFFFF);
    board.set(IS, 1);
    CHECK(messages.sent.size() == 2);
    board.set_port(1, PxIS, 0xFFFFFFFF);
    board.set(IS, 2);
    CHECK(messages.sent.size() == 2);
    CHECK_FALSE(board.wire.level);
    board.issue(1, 0);
    CHECK(messages.sent.size() == 3);
}

TEST_CASE("Nothing runs before the function may be bus master") {
    AhciBoard board;
    board.start();
    board.prepare(0, {.opcode = 0x25, .lba = 8, .count = 1}, {{buffer, 512}});
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    board.issue(1);
    CHECK(board.port_reg(0, PxCI) == 1);
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK(board.has_sectors(buffer, 8, 1));
}

TEST_CASE("Packets go from the command table, their data by DMA or by PIO") {
    AhciBoard board(1, 100);
    board.start(1);
    const auto words = board.identify(1, 0xA1);
    CHECK(words[0] == 0x85C0);
    CHECK(words[76] == 0x0006);
    // After power-on the first command says so.
    CHECK((board.packet({0x00}, {}, 1) & TFES) != 0);
    CHECK((board.status(1) & 0xFF01) == 0x6401);
    board.restart(1);
    CHECK(board.packet({0x03, 0, 0, 0, 18}, {{buffer, 18}}, 1) == DHRS);
    CHECK(board.bytes_at(buffer, 13)[12] == 0x29);
    CHECK(board.transferred(0, 1) == 18);

    CHECK(board.packet({0x28, 0, 0, 0, 0, 7, 0, 0, 40}, {{buffer, 40 * 2048}}, 1) == DHRS);
    const auto got = board.bytes_at(buffer, 40 * 2048);
    CHECK(std::memcmp(got.data(), board.disc->bytes.data() + 7 * 2048, got.size()) == 0);
    CHECK(board.transferred(0, 1) == 40 * 2048);

    const uint32_t said = board.packet({0x28, 0, 0, 0, 0, 3, 0, 0, 2}, {{buffer, 4096}}, 1, 0);
    CHECK(said == (DHRS | PSS));
    CHECK(std::memcmp(board.bytes_at(buffer, 4096).data(), board.disc->bytes.data() + 3 * 2048, 4096) == 0);
    CHECK(board.status(1) == 0x50);
    // Parameters the other way: MODE SELECT.
    const std::array<uint8_t, 20> parameters{0, 0, 0, 0, 0, 0, 0, 0, 0x01, 10, 0, 9};
    board.memory.write(Gpa{buffer}, std::as_bytes(std::span(parameters)));
    CHECK(board.packet({0x55, 0x10, 0, 0, 0, 0, 0, 0, 20}, {{buffer, 20}}, 1) == DHRS);
    CHECK(board.packet({0x5A, 0, 0x01, 0, 0, 0, 0, 0, 20}, {{buffer, 20}}, 1) == DHRS);
    CHECK(board.bytes_at(buffer + 8, 4) == std::vector<uint8_t>{0x01, 10, 0, 9});
    // A disk's command tells what it is.
    CHECK((board.run({.opcode = 0xEC}, {{buffer, 512}}, 1) & TFES) != 0);
    CHECK(board.fis(register_at, 7, 1)[5] == 0x14);
}

TEST_CASE("Too much at once goes on a moment later") {
    AhciBoard board(3);
    const std::vector<AhciBoard::Prd> list(16, {buffer, 64000});
    for (unsigned port = 0; port < 3; ++port) board.start(port);
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    for (unsigned slot = 0; slot < 32; ++slot) {
        for (unsigned port = 0; port < 3; ++port) board.prepare(slot, {.opcode = 0x25, .count = 2000}, list, 0, port);
    }
    for (unsigned port = 0; port < 3; ++port) board.issue(0xFFFFFFFF, port);
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    CHECK(board.port_reg(0, PxCI) == 0);
    CHECK(board.port_reg(2, PxCI) != 0);
    // The rest is not lost with a saved machine.
    auto commit = board.device->prepare_load(board.device->save());
    REQUIRE(commit.has_value());
    (*commit)();
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.port_reg(2, PxCI) == 0);
    CHECK(board.port_reg(2, PxIS) == DHRS);
}

TEST_CASE("A state that the AHCI controller never has is refused") {
    AhciBoard board;
    board.start();
    const TreeNode saved = board.device->save();
    REQUIRE(board.device->prepare_load(saved).has_value());
    const auto refused = [&](const char* path, const char* key, uint32_t value) {
        TreeNode wrong = saved;
        TreeNode* node = &wrong;
        for (std::string rest = path; !rest.empty();) {
            const size_t slash = rest.find('/');
            node = node->child(rest.substr(0, slash));
            REQUIRE(node);
            rest = slash == std::string::npos ? "" : rest.substr(slash + 1);
        }
        REQUIRE(node->has(key));
        const size_t size = node->property(key)->size();
        std::vector<std::byte> bytes(size);
        for (size_t i = 0; i < size && i < 4; ++i) bytes[size - 1 - i] = static_cast<std::byte>(value >> (8 * i));
        node->set(key, bytes);
        return !board.device->prepare_load(wrong).has_value();
    };
    CHECK(refused("", "control", 0));
    CHECK(refused("", "interrupts", 0x40));
    CHECK(refused("ports/0", "command-list", 0x123));
    CHECK(refused("ports/0", "slot", 32));
    CHECK(refused("ports/0", "speed", 3));
    CHECK(refused("ports/1", "speed", 2));
    CHECK(refused("ports/0", "errors", 1));
    CHECK(refused("ports/0/drive", "tag", 32));
    CHECK(refused("ports/0/drive", "phase", 9));
}

TEST_CASE("A SATA disk's transfers go beside the machine where the machine lets them, a parallel one's do not") {
    const TemporaryFile file(numbered_sectors(200));
    for (const bool gives : {false, true}) {
        std::unique_ptr<DiskWork> work;
        PciBoard board;
        DriveRegistry drives;
        work = std::make_unique<DiskWork>(board.loop, board.memory);
        board.services.provide<DriveRegistry>(drives);
        if (gives) board.services.provide<DiskWork>(*work);
        TreeNode& node = board.node.ensure_child("drive@0");
        node.set_string("viv,image", file.path());
        node.set_flag("viv,snapshot");
        node.set_string("viv,aio", "threads");
        board.make_function(make_ahci, 6);
        REQUIRE(drives.entries().size() == 1);
        const auto* disk = dynamic_cast<DiskQueue*>(drives.entries()[0].drive->medium());
        REQUIRE(disk);
        CHECK(disk->beside() == gives);
        AtaDeviceState state;
        auto queue = std::make_unique<DiskQueue>(std::make_unique<MemoryImage>(size_t{512}), work.get());
        CHECK(AtaDisk(state, std::move(queue), {}, AtaWire::parallel).queue() == nullptr);
        node.set_string("viv,aio", "sometimes");
        board.node.set_cells("reg", std::array<uint32_t, 2>{8, 0});
        CHECK_FALSE(board.try_make(make_ahci, {}));
    }
}

TEST_CASE("A SATA controller's node makes the drives that have images and registers them") {
    const TemporaryFile file(numbered_sectors(200));
    PciBoard board;
    DriveRegistry drives;
    board.services.provide<DriveRegistry>(drives);
    board.node.ensure_child("drive@1").set_string("viv,image", file.path());
    board.node.ensure_child("drive@1").set_flag("viv,snapshot");
    board.node.ensure_child("drive@5").set_string("viv,drive-type", "cdrom");
    board.make_function(make_ahci, 6);
    REQUIRE(drives.entries().size() == 2);
    CHECK(drives.entries()[0].name == "disk0");
    CHECK(drives.entries()[0].bios_number == 0x80);
    CHECK(drives.entries()[0].drive->medium()->sectors() == 200);
    CHECK(drives.entries()[1].name == "cdrom0");
    CHECK(drives.entries()[1].drive->medium() == nullptr);
    board.node.ensure_child("drive@1").set_string("viv,image", "/nonexistent.img");
    board.node.set_cells("reg", std::array<uint32_t, 2>{7, 0});
    CHECK_FALSE(board.try_make(make_ahci, {}));
}
