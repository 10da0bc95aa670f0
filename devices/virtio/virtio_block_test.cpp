#include "devices/virtio/virtio_block.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

constexpr uint64_t FLUSH = feature(9), CONFIG_WCE = feature(11), MQ = feature(12), DISCARD = feature(13),
                   WRITE_ZEROES = feature(14), RO = feature(5);
constexpr uint64_t usual = FLUSH | MQ | DISCARD | WRITE_ZEROES | INDIRECT_DESC;
enum Type : uint32_t { in = 0, out = 1, flush = 4, get_id = 8, discard = 11, write_zeroes = 13 };
constexpr uint8_t ok = 0, io_error = 1, unsupported = 2, none = 0xFF;

/// Made before the board that fills it in.
struct Medium {
    MemoryImage* image = nullptr;
    VirtioBlock* block = nullptr;
};

struct Board : Medium, VirtioBoard {
    static constexpr uint64_t header = 0x1000, status_at = 0x1800, ranges = 0x2000;
    explicit Board(ImageAccess access = ImageAccess::writable)
        : VirtioBoard([this, access] {
              auto medium = std::make_unique<MemoryImage>(numbered_sectors(4000), access);
              image = medium.get();
              auto made = std::make_unique<VirtioBlock>(std::make_unique<DiskDrive>(std::move(medium), "VIVBLK"), 3);
              block = made.get();
              return made;
          }) {}

    /// Runs a request; its status.
    uint8_t request(uint32_t type, uint64_t sector, std::vector<RingDriver::Piece> data, unsigned queue = 0,
                    RingDriver::Place place = RingDriver::Place::ring) {
        memory.store(Gpa{header}, type);
        memory.store(Gpa{header + 4}, uint32_t{0});
        memory.store(Gpa{header + 8}, sector);
        memory.store(Gpa{status_at}, none);
        data.insert(data.begin(), {header, 16, false});
        data.push_back({status_at, 1, true});
        const auto used = run(queue, data, place);
        REQUIRE(used);
        written = used->written;
        return memory.load<uint8_t>(Gpa{status_at});
    }
    void range(size_t index, uint64_t sector, uint32_t count, uint32_t flags = 0) {
        memory.store(Gpa{ranges + 16 * index}, sector);
        memory.store(Gpa{ranges + 16 * index + 8}, count);
        memory.store(Gpa{ranges + 16 * index + 12}, flags);
    }
    bool has_sectors(uint64_t address, size_t first, size_t bytes) {
        return std::memcmp(bytes_at(address, bytes).data(), image->bytes.data() + first * 512, bytes) == 0;
    }
    uint32_t written = 0;
};

constexpr uint64_t buffer = VirtioBoard::buffer;

}  // namespace

TEST_CASE("The virtio block device keeps the device contract") {
    check_device_contract(VirtioBoard::closed<Board>);
}

TEST_CASE("The configuration of a virtio disk tells its size, shape and limits") {
    Board board;
    CHECK(board.configuration(0, 8) == 4000);
    CHECK(board.configuration(8, 4) == VirtioBlock::most_segment_size);
    CHECK(board.configuration(12, 4) == VirtioBlock::most_segments);
    CHECK(board.configuration(16, 2) == 3);
    CHECK(board.configuration(18, 1) == 16);
    CHECK(board.configuration(19, 1) == 63);
    CHECK(board.configuration(20, 4) == 512);
    CHECK(board.configuration(24, 1) == 3);
    CHECK(board.configuration(34, 2) == 3);
    CHECK(board.configuration(36, 4) == VirtioBlock::most_discard_sectors);
    CHECK(board.configuration(56, 4) == 1);
    CHECK(board.configuration(60, 4) == 0);
    CHECK(board.configuration(0x1000 - 8, 8) == 0);
    CHECK((board.offered() & (DISCARD | WRITE_ZEROES | RO)) == (DISCARD | WRITE_ZEROES));
    CHECK((Board(ImageAccess::read_only).offered() & (DISCARD | WRITE_ZEROES | RO)) == RO);
}

TEST_CASE("Sectors are read and written, through both layouts, any queue and any cut of the buffers") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED, RING_PACKED | EVENT_IDX, EVENT_IDX}) {
        Board board;
        board.start(usual | layout);
        CHECK(board.request(in, 17, {{buffer, 1024, true}}) == ok);
        CHECK(board.written == 1025);
        CHECK(board.has_sectors(buffer, 17, 1024));
        CHECK(board.request(in, 3998, {{buffer, 1000, true}, {buffer + 0x1000, 24, true}}, 2,
                            RingDriver::Place::table) == ok);
        CHECK(board.has_sectors(buffer, 3998, 1000));
        const std::vector<uint8_t> text(512, 0x5A);
        board.put(buffer, text);
        CHECK(board.request(out, 99, {{buffer, 500, false}, {buffer + 500, 12, false}}, 1) == ok);
        CHECK(board.written == 1);
        CHECK(board.has_sectors(buffer, 99, 512));
        CHECK(board.image->bytes[99 * 512 + 511] == std::byte{0x5A});
        CHECK(board.image->bytes[100 * 512] == std::byte{100});
    }
}

TEST_CASE("Header and status may be cut and joined as the driver likes") {
    Board board;
    board.start(usual);
    board.memory.store(Gpa{0x1000}, uint32_t{out});
    board.memory.store(Gpa{0x1008}, uint64_t{50});
    // Header and data in one buffer, cut in the middle of the header.
    const auto used = board.run(0, {{0x1000, 7, false}, {0x1007, 521, false}, {0x3000, 1, true}});
    REQUIRE(used);
    CHECK(board.memory.load<uint8_t>(Gpa{0x3000}) == ok);
    CHECK(board.has_sectors(0x1010, 50, 512));
    // Data and status in one buffer.
    board.memory.store(Gpa{0x1000}, uint32_t{in});
    REQUIRE(board.run(0, {{0x1000, 16, false}, {0x3000, 513, true}})->written == 513);
    CHECK(board.has_sectors(0x3000, 50, 512));
    CHECK(board.memory.load<uint8_t>(Gpa{0x3200}) == ok);
    // No room for a status, and no header.
    CHECK(board.run(0, {{0x1000, 16, false}})->written == 0);
    CHECK(board.run(0, {{0x1000, 15, false}, {0x3000, 1, true}})->written == 1);
    CHECK(board.memory.load<uint8_t>(Gpa{0x3000}) == io_error);
}

TEST_CASE("What a virtio disk cannot do ends in a status") {
    Board board;
    board.start(usual);
    CHECK(board.request(in, 4000, {{buffer, 512, true}}) == io_error);
    CHECK(board.request(in, 3999, {{buffer, 1024, true}}) == io_error);
    CHECK(board.request(in, ~uint64_t{0}, {{buffer, 512, true}}) == io_error);
    CHECK(board.request(in, uint64_t{1} << 55, {{buffer, 512, true}}) == io_error);
    CHECK(board.request(out, 4000, {{buffer, 512, false}}) == io_error);
    CHECK(board.request(in, 0, {{buffer, 511, true}}) == io_error);
    CHECK(board.request(out, 0, {{buffer, 513, false}}) == io_error);
    CHECK(board.request(77, 0, {}) == unsupported);
    CHECK(board.request(get_id, 0, {{buffer, 19, true}}) == io_error);
    board.image->bad_sector = 50;
    CHECK(board.request(in, 48, {{buffer, 2048, true}}) == io_error);
    CHECK(board.written == 1);
    CHECK(board.request(out, 48, {{buffer, 2048, false}}) == io_error);
    board.image->flush_fault = DiskStatus::io_error;
    CHECK(board.request(flush, 0, {}) == io_error);
    Board locked(ImageAccess::read_only);
    locked.start(usual);
    CHECK(locked.request(in, 0, {{buffer, 512, true}}) == ok);
    CHECK(locked.request(out, 0, {{buffer, 512, false}}) == io_error);
    locked.range(0, 0, 8);
    CHECK(locked.request(discard, 0, {{Board::ranges, 16, false}}) == unsupported);
}

TEST_CASE("The serial of a virtio disk has twenty bytes, filled up with zeros") {
    Board board;
    board.start(usual);
    board.memory.store(Gpa{buffer + 19}, uint8_t{7});
    CHECK(board.request(get_id, 0, {{buffer, 20, true}}) == ok);
    const auto text = board.bytes_at(buffer, 20);
    CHECK(std::memcmp(text.data(), "VIVBLK\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20) == 0);
}

TEST_CASE("Write-through makes every write durable, write-back waits for a flush") {
    Board board;
    board.start(usual | CONFIG_WCE);
    CHECK(board.configuration(32, 1) == 1);
    CHECK(board.request(out, 1, {{buffer, 512, false}}) == ok);
    CHECK(board.image->flushes == 0);
    CHECK(board.request(flush, 0, {}) == ok);
    CHECK(board.image->flushes == 1);
    board.set(VirtioPci::configuration + 32, 1, 0);
    CHECK(board.image->flushes == 2);
    CHECK(board.request(out, 1, {{buffer, 512, false}}) == ok);
    CHECK(board.image->flushes == 3);
    CHECK(board.configuration(32, 1) == 0);
    // Without either feature nobody would ever ask for it.
    board.start(0);
    CHECK(board.configuration(32, 1) == 1);
    CHECK(board.request(out, 1, {{buffer, 512, false}}) == ok);
    CHECK(board.image->flushes == 4);
    // Nor does who cannot flush, until it says that it wants a cache all the same.
    board.start(CONFIG_WCE);
    CHECK(board.configuration(32, 1) == 0);
    CHECK(board.request(out, 1, {{buffer, 512, false}}) == ok);
    CHECK(board.image->flushes == 5);
    board.set(VirtioPci::configuration + 32, 1, 1);
    CHECK(board.configuration(32, 1) == 1);
    CHECK(board.request(out, 1, {{buffer, 512, false}}) == ok);
    CHECK(board.image->flushes == 5);
    board.save_and_load();
    CHECK(board.configuration(32, 1) == 1);
}

TEST_CASE("Ranges are discarded and zeroed, all or none of a request") {
    Board board;
    board.start(usual);
    auto expected = board.image->bytes;
    const auto clear = [&](size_t first, size_t count) {
        std::fill_n(expected.begin() + static_cast<ptrdiff_t>(first * 512), count * 512, std::byte{0});
    };
    board.range(0, 100, 10);
    board.range(1, 3990, 10);
    CHECK(board.request(discard, 0, {{Board::ranges, 32, false}}) == ok);
    clear(100, 10);
    clear(3990, 10);
    CHECK(board.image->bytes == expected);
    board.range(0, 200, 3, 1);
    CHECK(board.request(write_zeroes, 0, {{Board::ranges, 16, false}}) == ok);
    clear(200, 3);
    CHECK(board.image->bytes == expected);
    board.range(0, 300, 1);
    board.range(1, 3999, 2);
    CHECK(board.request(discard, 0, {{Board::ranges, 32, false}}) == io_error);
    board.range(1, ~uint64_t{0}, 1);
    CHECK(board.request(discard, 0, {{Board::ranges, 32, false}}) == io_error);
    CHECK(board.request(discard, 0, {{Board::ranges, 15, false}}) == io_error);
    CHECK(board.request(discard, 0, {}) == io_error);
    CHECK(board.request(discard, 0, {{0x8000, 16 * (VirtioBlock::most_discard_segments + 1), false}}) == io_error);
    CHECK(board.request(write_zeroes, 0, {{Board::ranges, 32, false}}) == io_error);
    board.range(0, 300, 1, 2);
    CHECK(board.request(write_zeroes, 0, {{Board::ranges, 16, false}}) == unsupported);
    board.range(0, 300, 1, 1);
    CHECK(board.request(discard, 0, {{Board::ranges, 16, false}}) == unsupported);
    CHECK(board.image->bytes == expected);
}

TEST_CASE("A virtio disk's node says what it is") {
    const TemporaryFile file(numbered_sectors(200));
    PciBoard board;
    DriveRegistry drives;
    board.services.provide<DriveRegistry>(drives);
    board.node.set_string("viv,function", "block");
    board.node.set_string("viv,image", file.path());
    board.node.set_flag("viv,snapshot");
    board.make_function(make_virtio_pci, 6);
    REQUIRE(drives.entries().size() == 1);
    CHECK(drives.entries()[0].name == "disk0");
    CHECK(drives.entries()[0].drive->geometry() == DriveGeometry{3, 1, 63});
    board.node.set_u32("viv,queues", 17);
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
}

namespace {

struct FileMedium {
    TemporaryFile file{numbered_sectors(4000)};
    std::unique_ptr<DiskWork> work;
    VirtioBlock* block = nullptr;
};

/// A disk on a host's file, whose transfers are made beside the machine.
struct BesideBoard : FileMedium, VirtioBoard {
    static constexpr uint64_t headers = 0x100000, statuses = 0x108000;
    explicit BesideBoard(DiskWay way = DiskWay::automatic)
        : VirtioBoard([this, way] {
              work = std::make_unique<DiskWork>(loop, memory);
              auto image = open_disk_image(file.path(), ImageAccess::writable);
              VIV_ASSERT(image.has_value());
              auto queue = std::make_unique<DiskQueue>(std::move(*image), work.get(), way);
              auto made = std::make_unique<VirtioBlock>(std::make_unique<DiskDrive>(std::move(queue), "VIVBLK"), 3);
              block = made.get();
              return made;
          }) {}

    /// Makes a request available, without telling of it; its ID.
    uint16_t add(unsigned queue, unsigned number, uint32_t type, uint64_t sector, std::vector<RingDriver::Piece> data) {
        const uint64_t header = headers + 16 * number;
        memory.store(Gpa{header}, type);
        memory.store(Gpa{header + 8}, sector);
        memory.store(Gpa{statuses + number}, none);
        data.insert(data.begin(), {header, 16, false});
        data.push_back({statuses + number, 1, true});
        return rings.at(queue).add(data);
    }
    uint8_t status_of(unsigned number) { return memory.load<uint8_t>(Gpa{statuses + number}); }
    void wait_for(unsigned number) {
        while (status_of(number) == none) loop.wait();
    }
    void range(size_t index, uint64_t sector, uint32_t count, uint32_t flags = 0) {
        memory.store(Gpa{Board::ranges + 16 * index}, sector);
        memory.store(Gpa{Board::ranges + 16 * index + 8}, count);
        memory.store(Gpa{Board::ranges + 16 * index + 12}, flags);
    }
    /// Adds and tells of reads on queue 0.
    void read_many(unsigned count) {
        for (unsigned i = 0; i < count; ++i) add(0, i, Type::in, i, {{buffer + 512 * i, 512, true}});
        tell(0);
    }
};

}  // namespace

TEST_CASE("Many requests of a virtio disk are under way, and each comes back once") {
    for (const uint64_t layout :
         {uint64_t{0}, RING_PACKED, RING_PACKED | EVENT_IDX, IN_ORDER, RING_PACKED | IN_ORDER}) {
        for (const DiskWay way : {DiskWay::automatic, DiskWay::threads}) {
            BesideBoard board(way);
            board.start(usual | layout, 64);
            std::array<std::vector<uint16_t>, 2> given;
            for (unsigned i = 0; i < 40; ++i) {
                given.at(i % 2).push_back(board.add(i % 2, i, in, 3 * i, {{buffer + 0x1000 * i, 1024, true}}));
            }
            board.tell(0);
            board.tell(1);
            for (unsigned i = 0; i < 40; ++i) {
                board.wait_for(i);
                CHECK(board.status_of(i) == ok);
                CHECK(board.memory.load<uint16_t>(Gpa{buffer + 0x1000 * i}) == 3 * i);
                CHECK(board.memory.load<uint16_t>(Gpa{buffer + 0x1000 * i + 512}) == 3 * i + 1);
            }
            board.work->drain();
            for (const unsigned queue : {0u, 1u}) {
                std::vector<uint16_t> back;
                while (const auto used = board.rings.at(queue).take()) {
                    CHECK(used->written == 1025);
                    back.push_back(used->id);
                }
                if (!(layout & IN_ORDER)) {
                    std::ranges::sort(back);
                    std::ranges::sort(given.at(queue));
                }
                CHECK(back == given.at(queue));
            }
        }
    }
}

TEST_CASE("More requests than a disk takes at a time wait in their queue") {
    BesideBoard board(DiskWay::threads);
    board.start(usual, 1024 / 4);
    // Three queues of 85 requests are more than DiskQueue::depth.
    for (unsigned i = 0; i < 255; ++i) board.add(i % 3, i, in, i, {{buffer + 512 * i, 512, true}});
    for (const unsigned queue : {0u, 1u, 2u}) board.tell(queue);
    CHECK(board.work->under_way() <= DiskQueue::depth);
    for (unsigned i = 0; i < 255; ++i) {
        while (board.status_of(i) == none) {
            board.loop.wait();
            board.clock.advance(std::chrono::milliseconds(1));
        }
        CHECK(board.memory.load<uint16_t>(Gpa{buffer + 512 * i}) == i);
    }
}

TEST_CASE("A reset ends what is under way, and nothing is written into memory after it") {
    for (const unsigned kind : {0u, 1u, 2u, 3u}) {
        BesideBoard board(DiskWay::threads);
        board.start(usual | RING_RESET, 256);
        board.read_many(80);
        switch (kind) {
            case 0: board.set_status(0); break;
            case 1: board.device->reset(ResetKind::hard); break;
            case 2:
                board.set(22, 2, 0);
                board.set(58, 2, 1);
                break;
            default: board.set_config(VirtioBoard::at, pci::COMMAND, 2, pci::MEMORY_SPACE); break;
        }
        CHECK(board.work->under_way() == 0);
        // Whatever was under way has ended; what the driver puts there from now on stays.
        const std::vector<uint8_t> text(80 * 512, 0x77);
        board.put(buffer, text);
        const auto ring = board.bytes_at(board.rings.at(0).device(), 0x1000);
        for (int i = 0; i < 200; ++i) board.loop.poll();
        CHECK(board.bytes_at(buffer, text.size()) == text);
        CHECK(board.bytes_at(board.rings.at(0).device(), 0x1000) == ring);
    }
}

TEST_CASE("Write-through and flush beside the machine are durable before they are done") {
    BesideBoard board;
    board.start(usual | CONFIG_WCE, 64);
    board.set(VirtioPci::configuration + 32, 1, 0);
    board.put(buffer, std::vector<uint8_t>(1024, 0x31));
    board.add(0, 0, out, 70, {{buffer, 1024, false}});
    board.tell(0);
    board.wait_for(0);
    CHECK(board.status_of(0) == ok);
    board.add(0, 1, flush, 0, {});
    board.tell(0);
    board.wait_for(1);
    CHECK(board.status_of(1) == ok);
    CHECK(board.file.content().at(70 * 512 + 1023) == std::byte{0x31});
    board.range(0, 70, 1);
    board.add(0, 2, write_zeroes, 0, {{Board::ranges, 16, false}});
    board.add(1, 3, discard, 0, {{Board::ranges, 16, false}});
    board.tell(0);
    board.wait_for(2);
    CHECK(board.status_of(2) == ok);
    board.tell(1);
    board.wait_for(3);
    CHECK(board.status_of(3) == ok);
    CHECK(board.file.content().at(70 * 512) == std::byte{0});
    CHECK(board.file.content().at(71 * 512) == std::byte{0x31});
}

TEST_CASE("A driver is told when its disk has grown") {
    Board board;
    board.start(usual);
    const uint64_t generation = board.get(21, 1);
    board.enable_vectors();
    board.set(16, 2, 1);
    DiskDrive& drive = board.block->disk();
    REQUIRE(drive.can_grow());
    for (const uint64_t sectors : {4000, 3000}) CHECK_FALSE(drive.grow(sectors * 512));
    CHECK(board.get(21, 1) == generation);
    CHECK(board.request(in, 4000, {{buffer, 512, true}}) == io_error);
    board.messages.sent.clear();
    REQUIRE(drive.grow(5040 * 512));
    CHECK(board.configuration(0, 8) == 5040);
    CHECK(board.configuration(16, 2) == 5);  // cylinders
    CHECK(board.get(21, 1) != generation);
    REQUIRE(board.messages.sent.size() == 1);
    CHECK(board.messages.sent[0].second == 0x41);
    CHECK(board.request(out, 5039, {{buffer, 512, false}}) == ok);
    CHECK(board.request(in, 5040, {{buffer, 512, true}}) == io_error);
    board.save_and_load();
    CHECK(board.configuration(0, 8) == 5040);
    CHECK(board.request(in, 5039, {{buffer, 512, true}}) == ok);
    CHECK_FALSE(Board(ImageAccess::read_only).block->disk().grow(5040 * 512));
    CHECK_FALSE(DiskDrive(std::make_unique<MemoryImage>(size_t{4096}), "X").grow(8192));
}

TEST_CASE("A saved machine goes on with a disk that has grown since, and not with a smaller one") {
    Board before, after;
    before.start(usual);
    const TreeNode saved = before.device->save();
    REQUIRE(after.block->disk().grow(5000 * 512));
    auto commit = after.device->prepare_load(saved);
    REQUIRE(commit);
    (*commit)();
    CHECK(after.configuration(0, 8) == 5000);
    const auto refused = before.device->prepare_load(after.device->save());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("5000 sectors") != std::string::npos);
}

namespace {

/// An engine that takes notifications, if it is in the mood.
struct TestDoorbells final : Doorbells {
    bool add_doorbell(uint64_t address, uint8_t size, int event) override {
        if (refuses) return false;
        CHECK(size == 2);
        bells[address] = event;
        return true;
    }
    void remove_doorbell(uint64_t address, uint8_t /*size*/, int event) override {
        CHECK(bells.at(address) == event);
        bells.erase(address);
    }
    void ring(uint64_t address) { REQUIRE(eventfd_write(bells.at(address), 1) == 0); }
    std::map<uint64_t, int> bells;
    bool refuses = false;
};

}  // namespace

TEST_CASE("Notifications come as events once the driver is at work, and stop with it") {
    TestDoorbells doorbells;
    Board board;
    static_cast<VirtioPci&>(*board.device).use_doorbells(doorbells, board.loop);
    board.start(usual);
    CHECK(doorbells.bells.empty());
    CHECK(board.request(in, 17, {{buffer, 512, true}}) == ok);
    REQUIRE(doorbells.bells.size() == 3);
    const uint64_t first = VirtioBoard::base + VirtioPci::notify;
    const auto give = [&](uint64_t sector) {
        board.memory.store(Gpa{Board::header}, uint32_t{in});
        board.memory.store(Gpa{Board::header + 8}, sector);
        board.memory.store(Gpa{Board::status_at}, none);
        board.rings.at(1).add({{Board::header, 16, false}, {buffer, 512, true}, {Board::status_at, 1, true}});
    };
    const auto status = [&] { return board.memory.load<uint8_t>(Gpa{Board::status_at}); };
    give(20);
    doorbells.ring(first + 4);
    CHECK(status() == none);
    for (int i = 0; i < 4; ++i) board.loop.poll();
    CHECK(status() == ok);
    CHECK(board.has_sectors(buffer, 20, 512));
    // A save knows of what came, but was not served yet.
    give(21);
    doorbells.ring(first + 4);
    board.save_and_load();
    CHECK(doorbells.bells.empty());
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(status() == ok);
    CHECK(board.has_sectors(buffer, 21, 512));
    // They move with the BAR, and are gone with the driver.
    board.tell(0);
    REQUIRE(doorbells.bells.size() == 3);
    board.set_config(VirtioBoard::at, pci::BAR0 + 16, 4, 0xE4000000);
    CHECK(doorbells.bells.empty());
    board.memory_bus.write(0xE4000000 + VirtioPci::notify, 2, 0);
    CHECK(doorbells.bells.contains(0xE4000000 + VirtioPci::notify));
    board.memory_bus.write(0xE4000000 + 20, 1, 0);
    CHECK(doorbells.bells.empty());
}

TEST_CASE("An engine that takes no notifications is asked once") {
    TestDoorbells doorbells;
    doorbells.refuses = true;
    Board board;
    static_cast<VirtioPci&>(*board.device).use_doorbells(doorbells, board.loop);
    board.start(usual);
    CHECK(board.request(in, 17, {{buffer, 512, true}}) == ok);
    doorbells.refuses = false;
    CHECK(board.request(in, 18, {{buffer, 512, true}}) == ok);
    CHECK(doorbells.bells.empty());
}
