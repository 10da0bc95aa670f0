#include "devices/network/link/pcap_file.hpp"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "devices/network/link/link.hpp"
#include "devices/test_board.hpp"
#include "vmm/core/log.hpp"

using namespace viv;

namespace {

using Bytes = std::vector<uint8_t>;

/// A name for a file that goes with the test.
struct TemporaryName {
    TemporaryName() {
        const int fd = mkstemp(path.data());
        REQUIRE(fd >= 0);
        close(fd);
    }
    ~TemporaryName() { unlink(path.c_str()); }
    std::string path = std::filesystem::temp_directory_path() / "vivarium-pcap-XXXXXX";
};

struct Record {
    int64_t time;
    Bytes frame;
};

/// Reads a file as its specification says, and fails where it is none.
std::vector<Record> parse(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    size_t at = 0;
    const auto number = [&](size_t size) {
        REQUIRE(at + size <= bytes.size());
        uint32_t value = 0;
        std::memcpy(&value, &bytes[at], size);
        at += size;
        return value;
    };
    CHECK(number(4) == 0xA1B23C4D);
    CHECK(number(2) == 2);
    CHECK(number(2) == 4);
    CHECK(number(4) == 0);
    CHECK(number(4) == 0);
    CHECK(number(4) == NetworkLink::most_frame);
    CHECK(number(4) == 1);
    std::vector<Record> records;
    while (at < bytes.size()) {
        const int64_t seconds = number(4);
        const int64_t nanoseconds = number(4);
        CHECK(nanoseconds < 1'000'000'000);
        const uint32_t captured = number(4);
        CHECK(number(4) == captured);
        REQUIRE(at + captured <= bytes.size());
        records.push_back({seconds * 1'000'000'000 + nanoseconds, Bytes(&bytes[at], &bytes[at] + captured)});
        at += captured;
    }
    return records;
}

}  // namespace

TEST_CASE("A link records every frame either way with the machine's time") {
    const TemporaryName file;
    std::mutex lock;
    EventLoop loop(lock);
    ManualClock clock;
    auto opened = open_network_link("loopback", {loop, clock, {}, {}, nullptr, file.path});
    REQUIRE(opened);
    NetworkLink& link = **opened;
    CHECK(parse(file.path).empty());
    clock.advance(std::chrono::nanoseconds(5'000'000'123));
    link.send(Bytes(60, 0xAA));
    clock.advance(std::chrono::nanoseconds(7));
    loop.poll();
    link.send(Bytes(13, 0xBB));  // no frame
    link.set_up(false);
    link.send(Bytes(61, 0xCC));  // not on any cable
    const auto records = parse(file.path);
    REQUIRE(records.size() == 2);
    CHECK(records[0].time == 5'000'000'123);
    CHECK(records[1].time == 5'000'000'130);
    CHECK(records[0].frame == Bytes(60, 0xAA));
    CHECK(records[1].frame == Bytes(60, 0xAA));
}

TEST_CASE("A record of frames has an end, which is told once") {
    const TemporaryName file;
    ManualClock clock;
    std::vector<std::string> told;
    auto before = set_log_sink([&told](std::string_view line) { told.emplace_back(line); });
    {
        auto opened = PcapFile::open(file.path, clock, 24 + 2 * (16 + 100));
        REQUIRE(opened);
        for (uint8_t i = 0; i < 5; ++i) (*opened)->record(Bytes(100, i));
    }
    set_log_sink(std::move(before));
    const auto records = parse(file.path);
    REQUIRE(records.size() == 2);
    CHECK(records[1].frame == Bytes(100, 1));
    REQUIRE(told.size() == 1);
    CHECK(told[0].find(file.path) != std::string::npos);
}

TEST_CASE("A record of frames that cannot be made is refused by name") {
    std::mutex lock;
    EventLoop loop(lock);
    ManualClock clock;
    const auto opened = open_network_link("none", {loop, clock, {}, {}, nullptr, "/there/is/no/folder"});
    REQUIRE(!opened);
    CHECK(opened.error().message.find("/there/is/no/folder") != std::string::npos);
}
