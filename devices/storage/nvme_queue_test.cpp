// Commands that are under way beside the machine.
#include <algorithm>
#include <array>
#include <set>

#include <unistd.h>

#include "devices/storage/image/temporary_file_test.hpp"
#include "devices/storage/nvme_rig_test.hpp"

using namespace viv;
using namespace viv::nvme;

namespace {

constexpr uint64_t buffer = NvmeBoard::buffer;
constexpr uint8_t op_flush = 0, op_write = 1, op_read = 2, op_write_zeroes = 8, op_dataset_management = 9;

struct FileMedium {
    TemporaryFile file{numbered_sectors(4000)};
    std::unique_ptr<DiskWork> work;
};

/// A disk on a host's file.
struct BesideBoard : FileMedium, NvmeBoard {
    explicit BesideBoard(DiskWay way = DiskWay::automatic)
        : NvmeBoard([this, way] {
              work = std::make_unique<DiskWork>(loop, memory);
              auto opened = open_disk_image(file.path(), ImageAccess::writable);
              VIV_ASSERT(opened.has_value());
              return std::make_unique<DiskQueue>(std::move(*opened), work.get(), way);
          }) {
        start();
    }
    Message wait_for(unsigned queue) {
        for (;;) {
            if (const auto message = take(queue)) return *message;
            loop.wait();
            clock.advance(std::chrono::milliseconds(1));
        }
    }
    uint16_t finish(unsigned queue, const Command& command) {
        put(queue, command);
        tell(queue);
        return wait_for(queue).status;
    }
    std::byte in_file(size_t block) { return file.content().at(block * 512); }
};

}  // namespace

TEST_CASE("Commands of many NVMe queues are under way, and each is told of once") {
    for (const DiskWay way : {DiskWay::automatic, DiskWay::threads}) {
        BesideBoard board(way);
        std::array<std::set<uint16_t>, 5> given;
        for (uint16_t queue = 1; queue < given.size(); ++queue) board.start_queue(queue, queue);
        for (unsigned i = 0; i < 60; ++i) {
            const unsigned queue = 1 + i % 4;
            given.at(queue).insert(board.put(queue, NvmeBoard::transfer(op_read, 3 * i, 2, buffer + 0x1000 * i)));
        }
        for (unsigned queue = 1; queue < given.size(); ++queue) board.tell(queue);
        for (unsigned i = 0; i < 60; ++i) {
            const unsigned queue = 1 + i % 4;
            const auto message = board.wait_for(queue);
            CHECK(message.status == 0);
            CHECK(message.queue == queue);
            CHECK(given.at(queue).erase(message.identifier) == 1);
        }
        for (unsigned i = 0; i < 60; ++i) {
            CHECK(board.memory.load<uint16_t>(Gpa{buffer + 0x1000 * i}) == 3 * i);
            CHECK(board.memory.load<uint16_t>(Gpa{buffer + 0x1000 * i + 512}) == 3 * i + 1);
        }
        board.work->drain();
        for (unsigned queue = 1; queue < given.size(); ++queue) CHECK_FALSE(board.take(queue));
        CHECK(board.reg(CSTS) == CSTS_RDY);
    }
}

TEST_CASE("No more NVMe commands are under way than their completion queue has room for") {
    BesideBoard board(DiskWay::threads);
    board.start_queue(1);
    // A second queue of commands whose ends are told in the same place.
    REQUIRE(board.admin_command({.opcode = 1,
                                 .prp1 = NvmeBoard::commands_of(2),
                                 .w10 = (NvmeBoard::entries - 1) << 16 | 2,
                                 .w11 = 1 << 16 | 1}) == 0);
    std::set<uint16_t> given;
    for (unsigned i = 0; i < 30; ++i) {
        given.insert(board.put(1 + i % 2, NvmeBoard::transfer(op_read, i, 1, buffer + 512 * i)));
    }
    board.tell(1);
    board.tell(2);
    CHECK(board.work->under_way() <= 15);
    board.work->drain();
    for (int i = 0; i < 50; ++i) {
        board.loop.poll();
        board.clock.advance(std::chrono::milliseconds(1));
    }
    board.work->drain();
    // The queue is full now, and nobody has taken anything.
    CHECK(board.work->under_way() == 0);
    for (unsigned i = 0; i < 30; ++i) {
        const auto message = board.wait_for(1);
        CHECK(message.status == 0);
        CHECK(given.erase(message.identifier) == 1);
    }
    for (unsigned i = 0; i < 30; ++i) CHECK(board.memory.load<uint16_t>(Gpa{buffer + 512 * i}) == i);
}

TEST_CASE("What takes NVMe queues away waits for what is under way, and nothing is written into memory after it") {
    for (const unsigned kind : {0u, 1u, 2u, 3u}) {
        CAPTURE(kind);
        BesideBoard board(DiskWay::threads);
        board.start_queue(1);
        for (unsigned i = 0; i < 15; ++i) board.put(1, NvmeBoard::transfer(op_read, i, 8, buffer + 0x1000 * i));
        board.tell(1);
        switch (kind) {
            case 0: board.set(CC, 0); break;
            case 1: board.device->reset(ResetKind::hard); break;
            case 2: CHECK(board.admin_command({.opcode = 0, .w10 = 1}) == 0); break;
            default: board.set_config(NvmeBoard::at, pci::COMMAND, 2, pci::MEMORY_SPACE); break;
        }
        CHECK(board.work->under_way() == 0);
        if (kind >= 2) {
            // Those that had begun have ended, and the host hears of it.
            CHECK(board.memory.load<uint16_t>(Gpa{buffer}) == 0);
            CHECK(board.memory.load<uint32_t>(Gpa{NvmeBoard::done_of(1) + 12}) != 0);
        }
        const std::vector<std::byte> text(15 * 0x1000, std::byte{0x77});
        board.memory.write(Gpa{buffer}, text);
        const auto done = board.bytes_at(NvmeBoard::done_of(1), 0x1000);
        for (int i = 0; i < 200; ++i) board.loop.poll();
        const auto now = board.bytes_at(buffer, text.size());
        CHECK(std::ranges::all_of(now, [](uint8_t byte) { return byte == 0x77; }));
        CHECK(board.bytes_at(NvmeBoard::done_of(1), 0x1000) == done);
    }
}

TEST_CASE("NVMe commands beside the machine do what those within an access do") {
    BesideBoard board;
    board.start_queue(1);
    board.memory.write(Gpa{buffer}, std::vector<std::byte>(4096, std::byte{0x31}));
    auto through = NvmeBoard::transfer(op_write, 70, 4, buffer);
    through.w12 |= 1u << 30;  // FUA
    CHECK(board.finish(1, through) == 0);
    CHECK(board.in_file(70) == std::byte{0x31});
    CHECK(board.in_file(73) == std::byte{0x31});
    CHECK(board.finish(1, {.opcode = op_flush, .name_space = 1}) == 0);
    CHECK(board.finish(1, NvmeBoard::transfer(op_write_zeroes, 70, 1, buffer)) == 0);
    CHECK(board.in_file(70) == std::byte{0});
    CHECK(board.in_file(71) == std::byte{0x31});
    // Several ranges are one command.
    const std::array<uint32_t, 8> ranges{0, 1, 71, 0, 0, 1, 73, 0};
    board.memory.write(Gpa{buffer}, std::as_bytes(std::span(ranges)));
    CHECK(board.finish(1, {.opcode = op_dataset_management, .name_space = 1, .w10 = 1, .w11 = 4}) == 0);
    CHECK(board.in_file(72) == std::byte{0x31});
    CHECK_FALSE(board.take(1));
    CHECK(board.finish(1, NvmeBoard::transfer(op_read, 0, 1, 0x400000)) ==
          static_cast<uint16_t>(Status::data_transfer_error));
    // The disk becomes shorter than it was.
    REQUIRE(truncate(board.file.path().c_str(), 100 * 512) == 0);
    CHECK(board.finish(1, NvmeBoard::transfer(op_read, 200, 1, buffer)) == static_cast<uint16_t>(Status::read_error));
    CHECK(board.work->under_way() == 0);
}
