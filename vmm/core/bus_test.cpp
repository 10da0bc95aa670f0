#include "vmm/core/bus.hpp"

#include <thread>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {
struct Recorder final : BusDevice {
    uint64_t read(Access access) override {
        last = access;
        return 0x1122334455667788;
    }
    void write(Access access, uint64_t value) override {
        last = access;
        written.push_back(value);
    }
    Access last;
    std::vector<uint64_t> written;
};
struct Bytes final : ByteDevice {
    uint8_t read8(uint64_t offset) override { return static_cast<uint8_t>(0xA0 + offset); }
    void write8(uint64_t offset, uint8_t value) override { written.emplace_back(offset, value); }
    std::vector<std::pair<uint64_t, uint8_t>> written;
};
}  // namespace

TEST_CASE("A port read reaches the device with its offset and is masked to its size") {
    Bus bus(Bus::Kind::ports);
    Recorder device;
    REQUIRE(bus.map(0x3F8, 8, device, "serial"));
    CHECK(bus.read(0x3FA, 2) == 0x7788);
    CHECK(device.last.offset == 2);
    CHECK(device.last.size == 2);
}

TEST_CASE("Unmapped reads are all-ones, unmapped writes are dropped, and both are counted") {
    Bus bus(Bus::Kind::memory);
    CHECK(bus.read(0xFED00000, 4) == 0xFFFFFFFF);
    bus.write(0xFED00000, 2, 0x1234);
    CHECK(bus.counters().unmapped_reads == 4);
    CHECK(bus.counters().unmapped_writes == 2);
}

TEST_CASE("An access across a region's edge is split and each byte has the answer of its place") {
    Bus bus(Bus::Kind::ports);
    Bytes device;
    REQUIRE(bus.map(0x60, 2, device, "low"));
    CHECK(bus.read(0x61, 2) == 0xFFA1);
    bus.write(0x61, 4, 0x44332211);
    REQUIRE(device.written.size() == 1);
    CHECK(device.written[0] == std::pair<uint64_t, uint8_t>{1, 0x11});
    CHECK(bus.read(0xFFFF, 4) == 0xFFFFFFFF);
}

TEST_CASE("A byte device sees a wide access as ascending bytes") {
    Bus bus(Bus::Kind::ports);
    Bytes device;
    REQUIRE(bus.map(0x3D4, 2, device, "crtc"));
    bus.write(0x3D4, 2, 0x0E0C);
    REQUIRE(device.written.size() == 2);
    CHECK(device.written[1] == std::pair<uint64_t, uint8_t>{1, 0x0E});
    CHECK(bus.read(0x3D4, 2) == 0xA1A0);
}

TEST_CASE("Mapping refuses overlaps and ranges beyond the bus, by name") {
    Bus bus(Bus::Kind::ports);
    Recorder device;
    REQUIRE(bus.map(0x3F0, 6, device, "floppy"));
    const auto overlap = bus.map(0x3F5, 2, device, "ide");
    REQUIRE_FALSE(overlap);
    CHECK(overlap.error().message.find("overlaps 0x3f0-0x3f5 of floppy") != std::string::npos);
    CHECK_FALSE(bus.map(0xFFFF, 2, device, "end"));
    CHECK_FALSE(bus.map(0x10, 0, device, "empty"));
    bus.unmap(0x3F0);
    CHECK(bus.map(0x3F5, 2, device, "ide"));
    CHECK(bus.read(0x3F0, 1) == 0xFF);
}

TEST_CASE("Memory dispatch finds the right region after another was hit") {
    Bus bus(Bus::Kind::memory);
    Bytes low, high;
    REQUIRE(bus.map(0xFEC00000, 0x1000, high, "ioapic"));
    REQUIRE(bus.map(0xA0000, 0x20000, low, "vga"));
    CHECK(bus.read(0xA0001, 1) == 0xA1);
    CHECK(bus.read(0xFEC00002, 1) == 0xA2);
    CHECK(bus.read(0x9FFFF, 1) == 0xFF);
    bus.unmap(0xFEC00000);
    CHECK(bus.read(0xFEC00002, 1) == 0xFF);
    CHECK(bus.covers(0x9FFFF, 2));
    CHECK_FALSE(bus.covers(0xC0000, 16));
}

TEST_CASE("String I/O moves elements through one port") {
    Bus bus(Bus::Kind::ports);
    Recorder device;
    REQUIRE(bus.map(0x1F0, 1 + 1, device, "ide"));
    std::array<std::byte, 6> data{};
    bus.read_block(0x1F0, 2, data);
    CHECK(data[0] == std::byte{0x88});
    CHECK(data[5] == std::byte{0x77});
    bus.write_block(0x1F0, 2, data);
    CHECK(device.written == std::vector<uint64_t>{0x7788, 0x7788, 0x7788});
}

TEST_CASE("Each access holds the machine lock") {
    std::mutex lock;
    Bus bus(Bus::Kind::ports, &lock);
    struct Probe final : BusDevice {
        explicit Probe(std::mutex& m) : mutex(m) {}
        uint64_t read(Access) override {
            bool free = false;
            std::thread([&] { free = mutex.try_lock(); }).join();
            return free;
        }
        void write(Access, uint64_t) override {}
        std::mutex& mutex;
    } probe(lock);
    REQUIRE(bus.map(0, 1, probe, "probe"));
    CHECK(bus.read(0, 1) == 0);
}
