#include "devices/storage/image/disk_queue.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <mutex>
#include <optional>
#include <tuple>

#include "devices/storage/disk_drive.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/machine_lock.hpp"

using namespace viv;

namespace {

using Kind = DiskRequest::Kind;

/// A machine's memory and loop, without CPUs.
struct Host {
    Host() {
        REQUIRE(memory.add(Gpa{0}, 0x40000, GuestMemory::Kind::ram, "RAM"));
        REQUIRE(memory.add(Gpa{0x40000}, 0x20000, GuestMemory::Kind::ram, "more RAM"));
        REQUIRE(memory.add(Gpa{0x80000}, 0x1000, GuestMemory::Kind::rom, "ROM"));
    }
    DiskRequest request(Kind kind, uint64_t offset, std::vector<DiskRequest::Piece> pieces) {
        return {.kind = kind, .offset = offset, .pieces = std::move(pieces), .memory = &memory};
    }
    /// Starts a request and serves the loop until it has ended.
    DiskStatus run(DiskQueue& queue, DiskRequest request) {
        std::optional<DiskStatus> ended;
        {
            const auto hold = hold_machine(lock);
            queue.start(std::move(request), [&](DiskStatus status) { ended = status; });
            queue.submit();
        }
        while (!ended) loop.wait();
        return *ended;
    }
    std::byte at(uint64_t address) { return memory.load<std::byte>(Gpa{address}); }

    std::mutex lock;
    EventLoop loop{lock};
    GuestMemory memory;
    DiskWork work{loop, memory};
};

/// Every way in which a disk of these sectors can be made to work.
template <class Test>
void in_all_ways(std::span<const std::byte> content, Test test) {
    for (const DiskCache cache : {DiskCache::writeback, DiskCache::none, DiskCache::writethrough, DiskCache::unsafe}) {
        for (const DiskWay way : {DiskWay::automatic, DiskWay::threads}) {
            Host host;
            const TemporaryFile file(content);
            auto image = open_disk_image(file.path(), ImageAccess::writable, cache);
            REQUIRE(image);
            DiskQueue queue(std::move(*image), &host.work, way);
            test(host, queue);
        }
    }
    for (const bool beside : {false, true}) {
        Host host;
        DiskQueue queue(std::make_unique<MemoryImage>(std::vector(content.begin(), content.end())),
                        beside ? &host.work : nullptr);
        test(host, queue);
    }
    Host host;
    const TemporaryFile file(content);
    auto image = open_disk_image(file.path(), ImageAccess::snapshot);
    REQUIRE(image);
    DiskQueue queue(std::move(*image), &host.work);
    test(host, queue);
    CHECK(file.content() == std::vector(content.begin(), content.end()));
}

}  // namespace

TEST_CASE("Requests move sectors between a disk and guest memory, however they are made") {
    in_all_ways(numbered_sectors(64), [](Host& host, DiskQueue& queue) {
        // Over the edge of two regions, and in pieces.
        CHECK(host.run(queue, host.request(Kind::read, 512 * 5, {{Gpa{0x3FE00}, 1024}, {Gpa{0x1001}, 512}})) ==
              DiskStatus::ok);
        CHECK(host.memory.load<uint32_t>(Gpa{0x3FE00}) == 5);
        CHECK(host.memory.load<uint32_t>(Gpa{0x40000}) == 6);
        CHECK(host.memory.load<uint32_t>(Gpa{0x1001}) == 7);
        host.memory.store(Gpa{0x2000}, uint32_t{0xABCD});
        CHECK(host.run(queue, host.request(Kind::write, 512 * 9, {{Gpa{0x2000}, 4096}})) == DiskStatus::ok);
        CHECK(host.run(queue, host.request(Kind::flush, 0, {})) == DiskStatus::ok);
        auto durable = host.request(Kind::write, 0, {{Gpa{0x2000}, 512}});
        durable.durable = true;
        CHECK(host.run(queue, std::move(durable)) == DiskStatus::ok);
        std::array<std::byte, 512> sector{};
        CHECK(queue.read(512 * 9, sector) == DiskStatus::ok);
        CHECK(sector[0] == std::byte{0xCD});
        CHECK(queue.read(0, sector) == DiskStatus::ok);
        CHECK(sector[1] == std::byte{0xAB});
        auto zeros = host.request(Kind::write_zeros, 512 * 9, {});
        zeros.length = 512;
        zeros.durable = true;
        CHECK(host.run(queue, std::move(zeros)) == DiskStatus::ok);
        CHECK(queue.read(512 * 9, sector) == DiskStatus::ok);
        CHECK(std::ranges::all_of(sector, [](std::byte byte) { return byte == std::byte{0}; }));
        auto discard = host.request(Kind::discard, 512 * 16, {});
        discard.length = 4096;
        CHECK(host.run(queue, std::move(discard)) == DiskStatus::ok);
        CHECK(queue.under_way() == 0);
    });
}

TEST_CASE("What a disk cannot do ends in a status") {
    in_all_ways(numbered_sectors(64), [](Host& host, DiskQueue& queue) {
        CHECK(host.run(queue, host.request(Kind::read, 512 * 63, {{Gpa{0}, 1024}})) == DiskStatus::out_of_range);
        CHECK(host.run(queue, host.request(Kind::write, ~uint64_t{0} - 100, {{Gpa{0}, 512}})) ==
              DiskStatus::out_of_range);
        CHECK(host.run(queue, host.request(Kind::read, 0, {{Gpa{0x70000}, 512}})) == DiskStatus::io_error);
        CHECK(host.run(queue, host.request(Kind::read, 0, {{Gpa{0x80000}, 512}})) == DiskStatus::io_error);
        CHECK(host.run(queue, host.request(Kind::write, 0, {{Gpa{0x80000}, 512}})) == DiskStatus::ok);
        CHECK(host.run(queue, host.request(Kind::read, 0, {})) == DiskStatus::ok);
    });
    Host host;
    const TemporaryFile file(numbered_sectors(4));
    auto image = open_disk_image(file.path(), ImageAccess::read_only);
    REQUIRE(image);
    DiskQueue queue(std::move(*image), &host.work);
    CHECK(host.run(queue, host.request(Kind::write, 0, {{Gpa{0}, 512}})) == DiskStatus::read_only);
    CHECK(host.run(queue, host.request(Kind::flush, 0, {})) == DiskStatus::ok);
}

TEST_CASE("A request of more pieces than the host takes is made all the same") {
    in_all_ways(numbered_sectors(64), [](Host& host, DiskQueue& queue) {
        std::vector<DiskRequest::Piece> pieces;
        for (uint64_t i = 0; i < 1100; ++i) pieces.push_back({Gpa{0x10000 + 32 * (1099 - i)}, 16});
        pieces.push_back({Gpa{0x9000}, 512 * 40 - 1100 * 16});
        CHECK(host.run(queue, host.request(Kind::read, 0, std::move(pieces))) == DiskStatus::ok);
        CHECK(host.at(0x10000 + 32 * (1099 - 64)) == std::byte{2});
        CHECK(host.memory.load<uint32_t>(Gpa{0x9000 + 512 * 40 - 1100 * 16 - 512}) == 39);
    });
}

TEST_CASE("A part of a sector at the end reads with zeros and is not written, beside the machine too") {
    std::vector<std::byte> content = numbered_sectors(3);
    content.resize(1100);
    for (const DiskWay way : {DiskWay::automatic, DiskWay::threads}) {
        Host host;
        const TemporaryFile file(content);
        auto image = open_disk_image(file.path(), ImageAccess::writable);
        REQUIRE(image);
        DiskQueue queue(std::move(*image), &host.work, way);
        host.memory.store(Gpa{511}, uint8_t{1});
        CHECK(host.run(queue, host.request(Kind::read, 1024, {{Gpa{0}, 512}})) == DiskStatus::ok);
        CHECK(host.at(0) == std::byte{2});
        CHECK(host.at(511) == std::byte{0});
        CHECK(host.run(queue, host.request(Kind::write, 1024, {{Gpa{0}, 512}})) == DiskStatus::out_of_range);
    }
}

TEST_CASE("Many requests are under way; drain() ends them all, and nothing comes later") {
    for (const DiskWay way : {DiskWay::automatic, DiskWay::threads}) {
        Host host;
        const TemporaryFile file(numbered_sectors(400));
        auto image = open_disk_image(file.path(), ImageAccess::writable);
        REQUIRE(image);
        DiskQueue queue(std::move(*image), &host.work, way);
        const auto hold = hold_machine(host.lock);
        unsigned ended = 0, rows = 0;
        bool was_draining = false;
        queue.on_told([&] {
            ++rows;
            was_draining = was_draining || queue.draining();
        });
        for (uint64_t i = 0; i < DiskQueue::depth; ++i) {
            CHECK_FALSE(queue.full());
            queue.start(host.request(Kind::read, 512 * i, {{Gpa{512 * i}, 512}}), [&](DiskStatus status) {
                CHECK(status == DiskStatus::ok);
                ++ended;
            });
        }
        CHECK(queue.full());
        CHECK(queue.under_way() == DiskQueue::depth);
        CHECK(host.work.under_way() == DiskQueue::depth);
        host.work.drain();
        CHECK(ended == DiskQueue::depth);
        CHECK(rows >= 1);
        CHECK(was_draining);
        CHECK(queue.under_way() == 0);
        for (uint64_t i = 0; i < DiskQueue::depth; ++i) CHECK(host.memory.load<uint16_t>(Gpa{512 * i}) == i);
        host.memory.store(Gpa{0}, uint64_t{0x1122334455667788});
        queue.submit();
        host.work.drain();
        CHECK(host.memory.load<uint64_t>(Gpa{0}) == 0x1122334455667788);
    }
}

TEST_CASE("Memory that goes away is not written to any more") {
    Host host;
    const TemporaryFile file(numbered_sectors(200));
    auto image = open_disk_image(file.path(), ImageAccess::writable);
    REQUIRE(image);
    DiskQueue queue(std::move(*image), &host.work, DiskWay::threads);
    const auto hold = hold_machine(host.lock);
    unsigned ended = 0;
    for (uint64_t i = 0; i < 100; ++i) {
        queue.start(host.request(Kind::read, 512 * i, {{Gpa{0x40000 + 512 * i}, 512}}), [&](DiskStatus) { ++ended; });
    }
    queue.submit();
    host.memory.remove(Gpa{0x40000});
    host.work.drain();
    CHECK(ended == 100);
}

TEST_CASE("Reads under way are noted as writes of guest memory once they have ended") {
    Host host;
    const TemporaryFile file(numbered_sectors(8));
    auto image = open_disk_image(file.path(), ImageAccess::writable);
    REQUIRE(image);
    DiskQueue queue(std::move(*image), &host.work);
    const uint32_t before = host.memory.write_generation(Gpa{0x3000});
    const uint32_t other = host.memory.write_generation(Gpa{0x5000});
    CHECK(host.run(queue, host.request(Kind::read, 0, {{Gpa{0x2E00}, 1024}})) == DiskStatus::ok);
    CHECK(host.memory.write_generation(Gpa{0x3000}) != before);
    CHECK(host.run(queue, host.request(Kind::write, 0, {{Gpa{0x5000}, 1024}})) == DiskStatus::ok);
    CHECK(host.memory.write_generation(Gpa{0x5000}) == other);
}

TEST_CASE("A file that was cut short under a running machine is an error of the disk, told once") {
    std::vector<std::string> lines;
    auto previous = set_log_sink([&](std::string_view line) { lines.emplace_back(line); });
    {
        Host host;
        const TemporaryFile file(numbered_sectors(64));
        auto image = open_disk_image(file.path(), ImageAccess::writable);
        REQUIRE(image);
        DiskQueue queue(std::move(*image), &host.work, DiskWay::threads);
        REQUIRE(truncate(file.path().c_str(), 512 * 10) == 0);
        for (int i = 0; i < 5; ++i) {
            CHECK(host.run(queue, host.request(Kind::read, 512 * 9, {{Gpa{0}, 1024}})) == DiskStatus::io_error);
        }
        CHECK(queue.host_errors() == 5);
    }
    set_log_sink(std::move(previous));
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find("cannot read at byte 4608") != std::string::npos);
}

TEST_CASE("A disk's cache has four names") {
    CHECK(disk_cache_of("none") == DiskCache::none);
    CHECK(disk_cache_of("unsafe") == DiskCache::unsafe);
    const auto wrong = disk_cache_of("off");
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().message.find("writethrough") != std::string::npos);
    const TemporaryFile file(numbered_sectors(4));
    for (const auto& [cache, flushes, direct] : {std::tuple{DiskCache::writeback, true, false},
                                                 {DiskCache::writethrough, true, false},
                                                 {DiskCache::unsafe, false, false},
                                                 {DiskCache::none, true, true}}) {
        auto image = open_disk_image(file.path(), ImageAccess::writable, cache);
        REQUIRE(image);
        CHECK((*image)->host_file().flushes == flushes);
        if (!direct) CHECK((*image)->host_file().direct < 0);
        const bool dsync = fcntl((*image)->host_file().fd, F_GETFL) & O_DSYNC;
        CHECK(dsync == (cache == DiskCache::writethrough));
    }
}

TEST_CASE("A guest cannot make a raw image begin like a qcow2 image, beside the machine either") {
    for (const DiskWay way : {DiskWay::automatic, DiskWay::threads}) {
        Host host;
        const std::vector<std::byte> content = numbered_sectors(16);
        const TemporaryFile file(content);
        auto image = open_disk_image(file.path(), ImageAccess::writable);
        REQUIRE(image);
        DiskQueue queue(std::move(*image), &host.work, way);
        const std::array<char, 4> magic{'Q', 'F', 'I', '\xFB'};
        host.memory.write(Gpa{0x1000}, std::as_bytes(std::span(magic)));
        auto previous = set_log_sink([](std::string_view) {});
        CHECK(host.run(queue, host.request(Kind::write, 0, {{Gpa{0x1000}, 4096}})) == DiskStatus::read_only);
        CHECK(host.run(queue, host.request(Kind::write, 0, {{Gpa{0x1000}, 512}})) == DiskStatus::read_only);
        set_log_sink(std::move(previous));
        CHECK(file.content() == content);
        host.memory.store(Gpa{0x1000}, uint32_t{0xEB});
        CHECK(host.run(queue, host.request(Kind::write, 0, {{Gpa{0x1000}, 1024}})) == DiskStatus::ok);
        CHECK(file.content().at(0) == std::byte{0xEB});
        CHECK(file.content().at(1024) == content.at(1024));
    }
}
