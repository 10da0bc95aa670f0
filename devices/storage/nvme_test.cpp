#include "devices/storage/nvme.hpp"

#include <algorithm>

#include "devices/storage/drive_registry.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "devices/storage/nvme_rig_test.hpp"

using namespace viv;
using namespace viv::nvme;

namespace {

constexpr uint64_t buffer = NvmeBoard::buffer, list = NvmeBoard::list;

uint16_t code(Status status) {
    return static_cast<uint16_t>(status);
}

/// A board with one I/O queue.
struct Started : NvmeBoard {
    explicit Started(ImageAccess access = ImageAccess::writable) : NvmeBoard(access) {
        start();
        start_queue(1);
    }
};

}  // namespace

TEST_CASE("An NVMe controller keeps the device contract") {
    check_device_contract([] {
        auto board = std::make_unique<NvmeBoard>();
        board->device->reset(ResetKind::power_on);
        return board;
    });
}

TEST_CASE("The controller is found by its class and says what it can") {
    NvmeBoard board;
    CHECK(board.config(board.at, pci::REVISION_ID) >> 8 == 0x010802);
    CHECK(board.memory_bus.read(board.base, 8) == 0x00000020'010103FF);
    CHECK(board.reg(VS) == 0x00010400);
    CHECK(board.memory_bus.read(board.base + VS + 2, 2) == 1);
    board.set(ASQ, 0x12345678);
    board.set(ASQ_HIGH, 0x9A);
    CHECK(board.memory_bus.read(board.base + ASQ, 8) == 0x9A'12345000);
    board.set(AQA, 0xFFFFFFFF);
    CHECK(board.reg(AQA) == 0x0FFF0FFF);
    CHECK(board.reg(CSTS) == 0);
}

TEST_CASE("It becomes ready when it is enabled, and forgets its queues when it is not") {
    Started board;
    CHECK(board.reg(CSTS) == CSTS_RDY);
    board.set(CC, entry_sizes);
    CHECK(board.reg(CSTS) == 0);
    CHECK(board.reg(ASQ) == NvmeBoard::admin);
    board.start();
    CHECK(board.reg(CSTS) == CSTS_RDY);
    // The I/O queue is not there any more: to ring for it is an error that nobody waits for.
    board.ring_submissions(1, 1);
    CHECK(board.reg(CSTS) == CSTS_RDY);
    board.set(CC, 0);
    board.set(CC, CC_EN | 1u << 7);  // pages of 8 KiB
    CHECK(board.reg(CSTS) == CSTS_CFS);
}

TEST_CASE("A shutdown flushes and says when it is complete") {
    Started board;
    board.set(CC, entry_sizes | CC_EN | 1u << 14);
    CHECK(board.reg(CSTS) == (CSTS_RDY | CSTS_shutdown_complete));
    CHECK(board.image->flushes == 1);
}

TEST_CASE("Blocks are read and written through one page, two, and a list") {
    Started board;
    CHECK(board.run(1, NvmeBoard::transfer(2, 100, 1, buffer)) == 0);
    CHECK(board.has_blocks(buffer, 100, 512));
    // From the middle of a page on.
    board.memory.store(Gpa{list}, buffer + 0x8000);
    board.memory.store(Gpa{list + 8}, buffer + 0x5000);
    CHECK(board.run(1, NvmeBoard::transfer(2, 200, 16, buffer + 0x804, list)) == 0);
    CHECK(board.has_blocks(buffer + 0x804, 200, 0x7FC));
    CHECK(std::memcmp(board.bytes_at(buffer + 0x8000, 0x1000).data(), board.image->bytes.data() + 200 * 512 + 0x7FC,
                      0x1000) == 0);
    CHECK(std::memcmp(board.bytes_at(buffer + 0x5000, 0x804).data(), board.image->bytes.data() + 200 * 512 + 0x17FC,
                      0x804) == 0);

    std::vector<std::byte> data(1024 * 512);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + i / 512);
    board.memory.write(Gpa{buffer}, data);
    // The list begins near the end of its page and goes on elsewhere.
    const uint64_t first = list + 0x1000 - 24, second = list + 0x4000;
    for (uint64_t i = 1; i < 128; ++i) {
        const uint64_t entry = i <= 2 ? first + 8 * (i - 1) : second + 8 * (i - 3);
        board.memory.store(Gpa{entry}, buffer + i * 0x1000);
    }
    board.memory.store(Gpa{first + 16}, second);
    CHECK(board.run(1, NvmeBoard::transfer(1, 1000, 1024, buffer, first)) == 0);
    CHECK(std::memcmp(board.image->bytes.data() + 1000 * 512, data.data(), data.size()) == 0);
    CHECK(board.image->flushes == 0);
    auto through = NvmeBoard::transfer(1, 1000, 1, buffer);
    through.w12 |= 1u << 30;
    CHECK(board.run(1, through) == 0);
    CHECK(board.image->flushes == 1);
}

TEST_CASE("What a command may not ask for has its own status, and the next one runs") {
    Started board;
    const auto status_of = [&](const NvmeBoard::Command& command) { return board.run(1, command); };
    CHECK(status_of(NvmeBoard::transfer(2, 4000, 1, buffer)) == code(Status::out_of_range));
    CHECK(status_of(NvmeBoard::transfer(2, ~uint64_t{0}, 2, buffer)) == code(Status::out_of_range));
    CHECK(status_of(NvmeBoard::transfer(1, 3999, 2, buffer)) == code(Status::out_of_range));
    CHECK(status_of(NvmeBoard::transfer(2, 0, 1025, buffer, list)) == code(Status::invalid_field));
    CHECK(status_of(NvmeBoard::transfer(2, 0, 1, buffer + 2)) == code(Status::invalid_prp_offset));
    CHECK(status_of(NvmeBoard::transfer(2, 0, 16, buffer, buffer + 0x804)) == code(Status::invalid_prp_offset));
    CHECK(status_of(NvmeBoard::transfer(2, 0, 24, buffer, list + 4)) == code(Status::invalid_prp_offset));
    CHECK(status_of(NvmeBoard::transfer(2, 0, 1, 0x400000)) == code(Status::data_transfer_error));
    CHECK(status_of(NvmeBoard::transfer(1, 0, 1, ~uint64_t{0} & ~uint64_t{3})) == code(Status::data_transfer_error));
    CHECK(status_of(NvmeBoard::transfer(2, 0, 24, buffer, 0xFFFFFFFF'FFFFF000)) == code(Status::data_transfer_error));
    auto wrong = NvmeBoard::transfer(2, 0, 1, buffer);
    wrong.name_space = 2;
    CHECK(status_of(wrong) == code(Status::invalid_namespace));
    wrong.name_space = every_namespace;
    CHECK(status_of(wrong) == code(Status::invalid_namespace));
    CHECK(status_of({.opcode = 0x7F, .name_space = 1}) == code(Status::invalid_opcode));
    CHECK(status_of({.opcode = 0x02, .name_space = 1, .flags = 0x4000}) == code(Status::invalid_field));  // an SGL
    CHECK(status_of({.opcode = 0x02, .name_space = 1, .flags = 0x0100}) == code(Status::invalid_field));  // fused
    CHECK(status_of(NvmeBoard::transfer(2, 7, 1, buffer)) == 0);
    CHECK(board.has_blocks(buffer, 7, 512));
}

TEST_CASE("A list that leads to itself ends with the command") {
    Started board;
    const uint64_t last = list + 0xFF8;
    board.memory.store(Gpa{last}, list);
    for (uint64_t i = 0; i < 511; ++i) board.memory.store(Gpa{list + 8 * i}, buffer);
    CHECK(board.run(1, NvmeBoard::transfer(2, 0, 1024, buffer, last)) == 0);
    board.memory.store(Gpa{last}, last);
    CHECK(board.run(1, NvmeBoard::transfer(2, 0, 1024, buffer, last)) == code(Status::invalid_prp_offset));
}

TEST_CASE("Host errors are the medium's") {
    Started board;
    board.image->bad_sector = 50;
    CHECK(board.run(1, NvmeBoard::transfer(2, 48, 4, buffer)) == code(Status::read_error));
    CHECK(board.run(1, NvmeBoard::transfer(1, 48, 4, buffer)) == code(Status::write_fault));
    board.image->fault = DiskStatus::no_space;
    CHECK(board.run(1, NvmeBoard::transfer(1, 48, 4, buffer)) == code(Status::capacity_exceeded));
    board.image->flush_fault = DiskStatus::io_error;
    CHECK(board.run(1, {.opcode = 0, .name_space = every_namespace}) == code(Status::write_fault));
    Started locked(ImageAccess::read_only);
    CHECK(locked.run(1, NvmeBoard::transfer(1, 48, 4, buffer)) == code(Status::write_protected));
    CHECK(locked.run(1, {.opcode = 8, .name_space = 1}) == code(Status::write_protected));
    CHECK(locked.run(1, {.opcode = 9, .name_space = 1, .w11 = 4}) == code(Status::write_protected));
}

TEST_CASE("Flush, Compare, Write Zeroes and Dataset Management") {
    Started board;
    CHECK(board.run(1, {.opcode = 0, .name_space = 1}) == 0);
    CHECK(board.image->flushes == 1);
    CHECK(board.run(1, NvmeBoard::transfer(2, 10, 4, buffer)) == 0);
    CHECK(board.run(1, NvmeBoard::transfer(5, 10, 4, buffer)) == 0);
    CHECK(board.run(1, NvmeBoard::transfer(5, 11, 4, buffer)) == code(Status::compare_failure));
    auto expected = board.image->bytes;
    std::fill_n(expected.begin() + 20 * 512, 2000 * 512, std::byte{0});
    CHECK(board.run(1, NvmeBoard::transfer(8, 20, 2000, buffer)) == 0);
    CHECK(board.image->bytes == expected);
    const auto range = [&](size_t index, uint64_t block, uint32_t count) {
        board.memory.store(Gpa{buffer + 16 * index}, uint64_t{count} << 32);
        board.memory.store(Gpa{buffer + 16 * index + 8}, block);
    };
    range(0, 3000, 10);
    range(1, 3990, 10);
    CHECK(board.run(1, {.opcode = 9, .name_space = 1, .w10 = 1, .w11 = 0}) == 0);
    CHECK(board.image->bytes == expected);
    CHECK(board.run(1, {.opcode = 9, .name_space = 1, .w10 = 1, .w11 = 4}) == 0);
    std::fill_n(expected.begin() + 3000 * 512, 10 * 512, std::byte{0});
    std::fill_n(expected.begin() + 3990 * 512, 10 * 512, std::byte{0});
    CHECK(board.image->bytes == expected);
    range(0, 3999, 2);
    CHECK(board.run(1, {.opcode = 9, .name_space = 1, .w10 = 0, .w11 = 4}) == code(Status::out_of_range));
    range(0, ~uint64_t{0}, 0xFFFFFFFF);
    CHECK(board.run(1, {.opcode = 9, .name_space = 1, .w10 = 0, .w11 = 4}) == code(Status::out_of_range));
    CHECK(board.image->bytes == expected);
}

TEST_CASE("Queues wrap, and the phase turns with each round") {
    Started board;
    for (unsigned i = 0; i < 50; ++i) REQUIRE(board.run(1, NvmeBoard::transfer(2, i, 1, buffer)) == 0);
    CHECK(board.has_blocks(buffer, 49, 512));
}

TEST_CASE("A full completion queue holds commands until the host has taken some") {
    NvmeBoard board;
    board.start();
    // Four completions at most, three in use.
    REQUIRE(board.admin_command({.opcode = 5, .prp1 = NvmeBoard::done_of(1), .w10 = 3u << 16 | 1, .w11 = 3}) == 0);
    REQUIRE(board.admin_command(
                {.opcode = 1, .prp1 = NvmeBoard::commands_of(1), .w10 = 15u << 16 | 1, .w11 = 1u << 16 | 1}) == 0);
    for (unsigned i = 0; i < 8; ++i) board.put(1, NvmeBoard::transfer(2, i, 1, buffer + i * 512));
    board.tell(1);
    CHECK(board.has_blocks(buffer + 2 * 512, 2, 512));
    CHECK_FALSE(board.has_blocks(buffer + 3 * 512, 3, 512));
    board.ring_completions(1, 2);
    CHECK(board.has_blocks(buffer + 4 * 512, 4, 512));
    CHECK_FALSE(board.has_blocks(buffer + 5 * 512, 5, 512));
    // More than there is cannot be taken.
    board.ring_completions(1, 3);
    board.ring_completions(1, 1);
    CHECK(board.has_blocks(buffer + 7 * 512, 7, 512));
}

TEST_CASE("INTx is up while there are completions that were not taken, unless it is masked") {
    Started board;
    CHECK_FALSE(board.wire.level);
    board.put(1, NvmeBoard::transfer(2, 0, 1, buffer));
    board.tell(1);
    CHECK(board.wire.level);
    board.set(INTMS, 1);
    CHECK(board.reg(INTMC) == 1);
    CHECK_FALSE(board.wire.level);
    board.set(INTMC, 1);
    CHECK(board.wire.level);
    REQUIRE(board.take(1));
    CHECK_FALSE(board.wire.level);
}

TEST_CASE("With MSI-X each queue has a message of its own") {
    NvmeBoard board;
    board.enable_vectors();
    board.start();
    board.start_queue(1, 3);
    board.start_queue(2, 16);
    board.messages.sent.clear();
    board.run(1, NvmeBoard::transfer(2, 0, 1, buffer));
    CHECK(board.messages.sent == std::vector<std::pair<uint64_t, uint32_t>>{{0xFEE00000, 0x43}});
    for (unsigned i = 0; i < 5; ++i) board.put(2, NvmeBoard::transfer(2, i, 1, buffer));
    board.tell(2);
    CHECK(board.messages.sent.size() == 2);
    CHECK(board.messages.sent.back().second == 0x50);
    CHECK_FALSE(board.wire.level);
}

TEST_CASE("Queues where no memory is are the end of the controller until it is reset") {
    NvmeBoard board;
    SECTION("commands") {
        board.start();
        board.set(CC, 0);
        board.set(ASQ, 0x7FFFF000);
        board.set(CC, entry_sizes | CC_EN);
        board.ring_submissions(0, 1);
    }
    SECTION("completions") {
        board.start();
        board.set(CC, 0);
        board.set(ACQ_HIGH, 0xFFFFFFFF);
        board.set(CC, entry_sizes | CC_EN);
        board.queues = {};
        board.put(0, {.opcode = 6, .w10 = 1});
        board.tell(0);
    }
    CHECK(board.reg(CSTS) == (CSTS_RDY | CSTS_CFS));
    board.set(CC, 0);
    CHECK(board.reg(CSTS) == 0);
    board.set(ACQ_HIGH, 0);
    board.memory.write(Gpa{NvmeBoard::admin_done}, std::vector<std::byte>(256));
    board.start();
    CHECK(board.admin_command({.opcode = 6, .w10 = 1}) == 0);
}

TEST_CASE("No command runs before the function may be bus master") {
    Started board;
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    board.put(1, NvmeBoard::transfer(2, 9, 1, buffer));
    board.tell(1);
    CHECK_FALSE(board.take(1));
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    CHECK(board.take(1));
    CHECK(board.has_blocks(buffer, 9, 512));
}

TEST_CASE("Too many large commands at once go on a moment later, also after a save and a load") {
    NvmeBoard board;
    board.start();
    for (uint16_t queue = 1; queue <= 16; ++queue) board.start_queue(queue);
    for (uint64_t i = 0; i < 128; ++i) board.memory.store(Gpa{list + 8 * i}, buffer);
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    for (uint16_t queue = 1; queue <= 16; ++queue) {
        for (unsigned i = 0; i < 15; ++i) board.put(queue, NvmeBoard::transfer(2, 0, 1024, buffer, list));
        board.tell(queue);
    }
    board.set_config(board.at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    const auto ended = [&] {
        unsigned count = 0;
        for (unsigned queue = 1; queue <= 16; ++queue) {
            for (uint64_t i = 0; i < 15; ++i)
                count += static_cast<unsigned>(board.number_at(NvmeBoard::done_of(queue) + 16 * i + 12) >> 16 & 1);
        }
        return count;
    };
    CHECK(ended() > 100);
    CHECK(ended() < 200);
    auto commit = board.device->prepare_load(board.device->save());
    REQUIRE(commit.has_value());
    (*commit)();
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(ended() == 240);
}

TEST_CASE("A state that the NVMe controller never has is refused") {
    Started board;
    const TreeNode saved = board.device->save();
    const auto refused = [&](std::initializer_list<const char*> path, const char* key, uint32_t value) {
        TreeNode wrong = saved;
        TreeNode* node = &wrong;
        for (const char* name : path) {
            node = node->child(name);
            REQUIRE(node);
        }
        REQUIRE(node->has(key));
        std::vector<std::byte> bytes(node->property(key)->size());
        for (size_t i = 0; i < bytes.size() && i < 4; ++i) {
            bytes[bytes.size() - 1 - i] = static_cast<std::byte>(value >> (8 * i));
        }
        node->set(key, bytes);
        return !board.device->prepare_load(wrong).has_value();
    };
    CHECK(refused({}, "configuration", 2));
    CHECK(refused({}, "status", 0x80));
    CHECK(refused({}, "admin-submissions", 0x123));
    CHECK(refused({"session", "submissions", "1"}, "head", 16));
    CHECK(refused({"session", "submissions", "1"}, "completions", 17));
    CHECK(refused({"session", "submissions", "1"}, "completions", 2));
    CHECK(refused({"session", "submissions", "0"}, "size", 0));
    CHECK(refused({"session", "completions", "1"}, "vector", 17));
    CHECK(refused({"session", "completions", "1"}, "size", 1));
    CHECK(refused({"session", "completions", "0"}, "base", 0x10));
    CHECK(refused({"session"}, "events", 4));
}

TEST_CASE("An NVMe controller's node says what its disk is") {
    const TemporaryFile file(numbered_sectors(200));
    PciBoard board;
    DriveRegistry drives;
    board.services.provide<DriveRegistry>(drives);
    board.node.set_string("viv,image", file.path());
    board.node.set_flag("viv,read-only");
    board.make_function(make_nvme, 6, 2);
    REQUIRE(drives.entries().size() == 1);
    CHECK(drives.entries()[0].name == "disk0");
    CHECK(drives.entries()[0].drive->medium()->read_only());
    CHECK(drives.entries()[0].drive->geometry() == DriveGeometry{3, 1, 63});
    board.node.set_cells("reg", std::array<uint32_t, 2>{7, 0});
    board.node.erase("viv,image");
    CHECK_FALSE(board.try_make(make_nvme, {}));
}
