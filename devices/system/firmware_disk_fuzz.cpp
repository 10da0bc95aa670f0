#include <cstdint>
#include <cstring>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/storage/drive_registry.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/system/firmware_disk.hpp"

using namespace viv;

namespace {

struct FakeSystem final : SystemControl {
    void request_reset(std::string_view) override {}
    void request_power_off(std::string_view) override {}
    void request_exit(uint8_t) override {}
    void set_a20(A20Gate, bool enabled) override { a20_on = enabled; }
    [[nodiscard]] bool a20() const override { return a20_on; }
    void request_cpu_init(std::string_view) override {}
    bool a20_on = true;
};

struct FakeDrive final : Drive {
    explicit FakeDrive(DriveKind kind) : kind_(kind) {}
    [[nodiscard]] DriveKind drive_kind() const override { return kind_; }
    [[nodiscard]] DiskImage* medium() override { return &image; }
    [[nodiscard]] DriveGeometry geometry() const override { return {4, 2, 9}; }
    [[nodiscard]] uint32_t block_size() const override { return kind_ == DriveKind::cdrom ? 2048 : 512; }

  private:
    DriveKind kind_;
    MemoryImage image{size_t{72} * 512};
};

}  // namespace

// The input is a row of operations: a kind, then a request block and the address it is rung at, or a port access.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    GuestMemory memory;
    VIV_ASSERT(memory.add(Gpa{0}, 0x20000, GuestMemory::Kind::ram, "low"));
    VIV_ASSERT(memory.add(Gpa{0x100000}, 0x2000, GuestMemory::Kind::ram, "high"));
    Bus ports{Bus::Kind::ports};
    Bus memory_bus{Bus::Kind::memory};
    FakeSystem system;
    DriveRegistry drives;
    FakeDrive floppy{DriveKind::floppy};
    FakeDrive disk{DriveKind::disk};
    FakeDrive cdrom{DriveKind::cdrom};
    for (FakeDrive* drive : {&floppy, &disk, &cdrom}) drives.add(*drive);
    FirmwareDisk firmware(memory, memory_bus, system, drives);
    VIV_ASSERT(ports.map(0xB40, 16, firmware, "firmware"));

    FuzzInput input(data, size);
    const auto take = [&input](void* to, size_t bytes) { input.bytes(to, bytes); };
    for (unsigned steps = 0; steps < 256 && !input.empty(); ++steps) {
        uint8_t kind = 0;
        take(&kind, 1);
        if (kind & 1) {
            rom::FirmwareRequest request{};
            uint32_t at = 0;
            take(&request, 24);
            take(&at, 3);
            if (kind & 2) request.drive = "\x00\x80\xE0\x01"[kind >> 6];
            if (kind & 4) request.count &= 0xFF;
            if (kind & 8) request.lba &= 0x7F;
            if (kind & 16) request.buffer &= 0x1FFFFF;
            memory.store(Gpa{at}, request);
            ports.write(rom::firmware_doorbell_port, 4, at);
        } else {
            uint32_t value = 0;
            take(&value, 4);
            system.a20_on = (kind & 2) != 0;
            const uint64_t port = 0xB40u + (kind >> 4);
            const auto width = static_cast<uint8_t>(1u << (kind >> 2 & 3));
            if (value & 1) ports.read(port, width);
            ports.write(port, width, value);
        }
    }
    return 0;
}
