#include "devices/virtio/virtio_block.hpp"

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
};

struct Board : Medium, VirtioBoard {
    static constexpr uint64_t header = 0x1000, status_at = 0x1800, ranges = 0x2000;
    explicit Board(ImageAccess access = ImageAccess::writable)
        : VirtioBoard([this, access] {
              auto medium = std::make_unique<MemoryImage>(numbered_sectors(4000), access);
              image = medium.get();
              return std::make_unique<VirtioBlock>(std::make_unique<DiskDrive>(std::move(medium), "VIVBLK"), 3);
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
