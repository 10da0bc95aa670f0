#include "devices/system/firmware_disk.hpp"

#include <algorithm>
#include <array>

#include "devices/storage/drive_registry.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/test_board.hpp"

using namespace viv;
using rom::FirmwareCommand;
using rom::FirmwareRequest;

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
    FakeDrive(DriveKind kind, uint8_t unit, size_t sectors, ImageAccess access = ImageAccess::writable)
        : image(numbered_sectors(sectors), access), kind_(kind), unit_(unit) {}
    [[nodiscard]] DriveKind drive_kind() const override { return kind_; }
    [[nodiscard]] DiskImage* medium() override { return empty ? nullptr : &image; }
    [[nodiscard]] DriveGeometry geometry() const override { return {80, 2, 18}; }
    [[nodiscard]] FloppyType floppy_type() const override {
        return kind_ == DriveKind::floppy ? FloppyType::d1440k : FloppyType::none;
    }
    [[nodiscard]] uint32_t block_size() const override { return kind_ == DriveKind::cdrom ? 2048 : 512; }
    [[nodiscard]] bool removable() const override { return kind_ != DriveKind::disk; }
    [[nodiscard]] uint16_t io_base() const override { return kind_ == DriveKind::floppy ? 0 : 0x1F0; }
    [[nodiscard]] uint8_t unit() const override { return unit_; }
    [[nodiscard]] bool medium_changed() const override { return changed; }
    void acknowledge_medium_change() override { changed = false; }
    [[nodiscard]] bool locked() const override { return lock; }
    bool set_locked(bool locked) override {
        lock = locked;
        return kind_ == DriveKind::cdrom;
    }
    bool open_tray() override {
        empty = kind_ == DriveKind::cdrom && !lock;
        return empty;
    }

    MemoryImage image;
    bool lock = false;
    bool empty = false;
    bool changed = false;

  private:
    DriveKind kind_;
    uint8_t unit_;
};

struct VideoWindow final : ByteDevice {
    uint8_t read8(uint64_t offset) override { return static_cast<uint8_t>(offset); }
    void write8(uint64_t offset, uint8_t value) override { bytes[offset & 0xFFF] = value; }
    std::array<uint8_t, 0x1000> bytes{};
};

struct Rig : ContractRig {
    Rig() {
        REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low"));
        REQUIRE(memory.add(Gpa{0xF0000}, 0x10000, GuestMemory::Kind::rom, "rom"));
        REQUIRE(memory.add(Gpa{0x100000}, 0x200000, GuestMemory::Kind::ram, "high"));
        REQUIRE(memory_bus.map(0xA0000, 0x1000, video, "video"));
        drives.add(floppy_b);
        drives.add(floppy_a);
        drives.add(disk);
        drives.add(cdrom);
        REQUIRE(ports.map(0xB40, 16, firmware, "firmware"));
        device = &firmware;
        windows.push_back({&firmware, 16});
    }

    FirmwareRequest run(FirmwareRequest request, uint64_t at = 0x500) {
        memory.store(Gpa{at}, request);
        ports.write(rom::firmware_doorbell_port, 4, at);
        return memory.load<FirmwareRequest>(Gpa{at});
    }
    FirmwareRequest run(FirmwareCommand command, uint8_t drive, uint64_t lba = 0, uint32_t count = 0,
                        uint64_t buffer = 0x10000) {
        FirmwareRequest request{};
        request.command = std::to_underlying(command);
        request.status = 0xEE;
        request.drive = drive;
        request.count = count;
        request.lba = lba;
        request.buffer = buffer;
        return run(request);
    }
    bool holds_sectors(uint64_t buffer, const FakeDrive& drive, size_t first, size_t count) {
        std::vector<std::byte> got(count * 512);
        memory.read(Gpa{buffer}, got);
        return std::equal(got.begin(), got.end(), drive.image.bytes.begin() + static_cast<ptrdiff_t>(first * 512));
    }

    GuestMemory memory;
    Bus ports{Bus::Kind::ports};
    Bus memory_bus{Bus::Kind::memory};
    FakeSystem system;
    DriveRegistry drives;
    FakeDrive floppy_a{DriveKind::floppy, 0, 2880};
    FakeDrive floppy_b{DriveKind::floppy, 1, 2880, ImageAccess::read_only};
    FakeDrive disk{DriveKind::disk, 0, 5000};
    FakeDrive cdrom{DriveKind::cdrom, 1, 400};
    VideoWindow video;
    FirmwareDisk firmware{memory, memory_bus, system, drives};
};

}  // namespace

TEST_CASE("The firmware device keeps the device contracts") {
    check_device_contract([] { return std::make_unique<Rig>(); });
}

TEST_CASE("Describe tells the geometry, the kind and the medium of each drive") {
    Rig rig;
    auto answer = rig.run(FirmwareCommand::describe, 0x00);
    CHECK(answer.status == 0);
    CHECK(answer.cylinders == 80);
    CHECK(answer.heads == 2);
    CHECK(answer.sectors_per_track == 18);
    CHECK(answer.bytes_per_sector == 512);
    CHECK(answer.total_sectors == 2880);
    CHECK(answer.drive_type == 4);
    CHECK(answer.media == (rom::media_present | rom::media_removable));
    answer = rig.run(FirmwareCommand::describe, 0x01);
    CHECK(answer.unit == 1);
    CHECK(answer.media == (rom::media_present | rom::media_removable | rom::media_read_only));
    answer = rig.run(FirmwareCommand::describe, 0x80);
    CHECK(answer.drive_type == 0);
    CHECK(answer.media == rom::media_present);
    CHECK(answer.io_base == 0x1F0);
    answer = rig.run(FirmwareCommand::describe, rom::drive_cdrom);
    CHECK(answer.bytes_per_sector == 2048);
    CHECK(answer.total_sectors == 100);
    CHECK((answer.media & rom::media_read_only) != 0);
}

TEST_CASE("Describe of a drive that is not there says absent") {
    Rig rig;
    for (const uint8_t drive : std::to_array<uint8_t>({0x02, 0x7F, 0x81, 0xE1, 0xFF})) {
        const auto answer = rig.run(FirmwareCommand::describe, drive);
        CHECK(answer.drive_type == rom::drive_type_absent);
        CHECK(answer.status == 0x01);
        CHECK(answer.media == 0);
    }
}

TEST_CASE("A changed medium shows until it is acknowledged") {
    Rig rig;
    rig.floppy_a.changed = true;
    CHECK((rig.run(FirmwareCommand::describe, 0).media & rom::media_changed) != 0);
    CHECK(rig.run(FirmwareCommand::acknowledge, 0).status == 0);
    CHECK((rig.run(FirmwareCommand::describe, 0).media & rom::media_changed) == 0);
}

TEST_CASE("A read brings the sectors to the buffer and counts them") {
    Rig rig;
    auto answer = rig.run(FirmwareCommand::read, 0x80, 7, 200, 0x12345);
    CHECK(answer.status == 0);
    CHECK(answer.count == 200);
    CHECK(rig.holds_sectors(0x12345, rig.disk, 7, 200));
    answer = rig.run(FirmwareCommand::read, rom::drive_cdrom, 16, 2, 0x40000);
    CHECK(answer.status == 0);
    CHECK(rig.holds_sectors(0x40000, rig.cdrom, 64, 8));
}

TEST_CASE("A write takes the sectors from the buffer, format fills them with F6h, flush reaches the image") {
    Rig rig;
    std::vector<std::byte> data(1024, std::byte{0x5A});
    rig.memory.write(Gpa{0x20000}, data);
    CHECK(rig.run(FirmwareCommand::write, 0x80, 100, 2, 0x20000).count == 2);
    CHECK(std::equal(data.begin(), data.end(), rig.disk.image.bytes.begin() + 51200));
    CHECK(rig.run(FirmwareCommand::format, 0x00, 18, 18).status == 0);
    CHECK(rig.floppy_a.image.bytes[18 * 512] == std::byte{0xF6});
    CHECK(rig.floppy_a.image.bytes[36 * 512 - 1] == std::byte{0xF6});
    CHECK(rig.floppy_a.image.bytes[36 * 512] == std::byte{36});
    CHECK(rig.run(FirmwareCommand::flush, 0x80).status == 0);
    CHECK(rig.disk.image.flushes == 1);
    rig.disk.image.flush_fault = DiskStatus::io_error;
    CHECK(rig.run(FirmwareCommand::flush, 0x80).status == 0xCC);
}

TEST_CASE("Verify reads the medium and leaves memory alone") {
    Rig rig;
    rig.memory.store<uint32_t>(Gpa{0x10000}, 0xA5A5A5A5);
    const auto answer = rig.run(FirmwareCommand::verify, 0x80, 9, 3);
    CHECK(answer.status == 0);
    CHECK(answer.count == 3);
    CHECK(rig.memory.load<uint32_t>(Gpa{0x10000}) == 0xA5A5A5A5);
    rig.disk.image.bad_sector = 10;
    CHECK(rig.run(FirmwareCommand::verify, 0x80, 9, 3).status == 0x10);
}

TEST_CASE("Transfers that pass the end move what there is and say sector not found") {
    Rig rig;
    auto answer = rig.run(FirmwareCommand::read, 0x80, 4998, 5);
    CHECK(answer.status == 0x04);
    CHECK(answer.count == 2);
    CHECK(rig.holds_sectors(0x10000, rig.disk, 4998, 2));
    answer = rig.run(FirmwareCommand::read, 0x80, ~uint64_t{0}, 5);
    CHECK(answer.status == 0x04);
    CHECK(answer.count == 0);
}

TEST_CASE("A bad sector ends the transfer with the count of good ones before it") {
    Rig rig;
    rig.disk.image.bad_sector = 160;
    auto answer = rig.run(FirmwareCommand::read, 0x80, 10, 200, 0x10000);
    CHECK(answer.status == 0x10);
    CHECK(answer.count == 150);
    CHECK(rig.holds_sectors(0x10000, rig.disk, 10, 150));
    rig.disk.image.fault = DiskStatus::no_space;
    answer = rig.run(FirmwareCommand::write, 0x80, 159, 2, 0x10000);
    CHECK(answer.status == 0xCC);
    CHECK(answer.count == 1);
}

TEST_CASE("Writing to a read-only medium or a CD-ROM is refused as write protected") {
    Rig rig;
    for (const auto command : {FirmwareCommand::write, FirmwareCommand::format}) {
        CHECK(rig.run(command, 0x01, 0, 1).status == 0x03);
        const auto answer = rig.run(command, rom::drive_cdrom, 0, 1);
        CHECK(answer.status == 0x03);
        CHECK(answer.count == 0);
    }
    CHECK(rig.floppy_b.image.bytes == numbered_sectors(2880));
}

TEST_CASE("A CD-ROM is read in sectors of 512 bytes where the request says so") {
    Rig rig;
    FirmwareRequest request{};
    request.command = std::to_underlying(FirmwareCommand::read);
    request.drive = rom::drive_cdrom;
    request.flags = rom::transfer_in_sectors;
    request.lba = 67;
    request.count = 5;
    request.buffer = 0x40000;
    const auto answer = rig.run(request);
    CHECK(answer.status == 0);
    CHECK(answer.count == 5);
    CHECK(rig.holds_sectors(0x40000, rig.cdrom, 67, 5));
    request.lba = 398;
    CHECK(rig.run(request).status == 0x04);
    CHECK(rig.run(request).count == 2);
}

TEST_CASE("A tray opens unless the medium is locked in or fixed") {
    Rig rig;
    CHECK(rig.run(FirmwareCommand::lock, rom::drive_cdrom).status == 0);
    CHECK((rig.run(FirmwareCommand::describe, rom::drive_cdrom).media & rom::media_locked) != 0);
    CHECK(rig.run(FirmwareCommand::eject, rom::drive_cdrom).status == 0xB1);
    CHECK(rig.run(FirmwareCommand::unlock, rom::drive_cdrom).status == 0);
    CHECK(rig.run(FirmwareCommand::eject, rom::drive_cdrom).status == 0);
    CHECK(rig.run(FirmwareCommand::eject, rom::drive_cdrom).status == 0x31);
    for (const uint8_t drive : std::to_array<uint8_t>({0x00, 0x80})) {
        CHECK(rig.run(FirmwareCommand::eject, drive).status == 0xB2);
        CHECK(rig.run(FirmwareCommand::lock, drive).status == 0xB2);
    }
}

TEST_CASE("An empty drive is a timeout for floppies and no medium for others") {
    Rig rig;
    rig.floppy_a.empty = rig.cdrom.empty = true;
    CHECK(rig.run(FirmwareCommand::read, 0, 0, 1).status == 0x80);
    CHECK(rig.run(FirmwareCommand::read, rom::drive_cdrom, 0, 1).status == 0x31);
    const auto answer = rig.run(FirmwareCommand::describe, 0);
    CHECK(answer.status == 0);
    CHECK((answer.media & rom::media_present) == 0);
    CHECK(answer.drive_type == 4);
}

TEST_CASE("Absurd requests end in a status") {
    Rig rig;
    CHECK(rig.run(FirmwareCommand::read, 0x80, 0, 0xFFFFFFFF).status == 0x01);
    CHECK(rig.run(FirmwareCommand::read, 0x80, 0, 2049).count == 0);
    CHECK(rig.run(FirmwareCommand::read, 0x80, 0, 2048).status == 0x00);
    CHECK(rig.run(FirmwareCommand::read, 0x80, 0, 0).status == 0x00);
    CHECK(rig.run(static_cast<FirmwareCommand>(0x99), 0x80, 0, 1).status == 0x01);
    CHECK(rig.run(FirmwareCommand::read, 0x42, 0, 1).status == 0x01);
    // Buffers in ROM, behind nothing, and around the end of the address space.
    CHECK(rig.run(FirmwareCommand::read, 0x80, 0, 8, 0xF8000).status == 0x00);
    CHECK(rig.memory.load<uint32_t>(Gpa{0xF8000}) == 0);
    for (const uint64_t buffer : {uint64_t{0x4000000000}, ~uint64_t{0} - 600, uint64_t{0x2FFF00}}) {
        CHECK(rig.run(FirmwareCommand::read, 0x80, 0, 8, buffer).status == 0x00);
        CHECK(rig.run(FirmwareCommand::write, 0x80, 0, 1, buffer).status == 0x00);
    }
    // A request block behind nothing is answered by nobody.
    rig.ports.write(rom::firmware_doorbell_port, 4, 0xFFFFFFF0);
    rig.ports.write(rom::firmware_doorbell_port, 2, 0x500);
    rig.ports.write(rom::firmware_doorbell_port + 1, 4, 0x500);
}

TEST_CASE("Without A20 the buffer and the request wrap at one megabyte") {
    Rig rig;
    rig.system.a20_on = false;
    rig.memory.store<uint32_t>(Gpa{0x100000}, 0x11111111);
    CHECK(rig.run(FirmwareCommand::read, 0x80, 5, 1, 0x100000).status == 0);
    CHECK(rig.memory.load<uint32_t>(Gpa{0x100000}) == 0x11111111);
    CHECK(rig.holds_sectors(0, rig.disk, 5, 1));
    rig.system.a20_on = true;
    CHECK(rig.run(FirmwareCommand::read, 0x80, 5, 1, 0x100000).status == 0);
    CHECK(rig.holds_sectors(0x100000, rig.disk, 5, 1));
}

TEST_CASE("A read into the video window reaches the display") {
    Rig rig;
    CHECK(rig.run(FirmwareCommand::read, 0x80, 3, 1, 0xA0010).status == 0);
    CHECK(rig.video.bytes[0x10] == 3);
    CHECK(rig.video.bytes[0x10 + 100] == static_cast<uint8_t>(3 + 100));
    CHECK(rig.run(FirmwareCommand::write, 0x80, 3, 1, 0xA0020).status == 0);
    CHECK(rig.disk.image.bytes[3 * 512] == std::byte{0x20});
}

TEST_CASE("Boot devices come in the order that was set, each once, absent ones left out") {
    Rig rig;
    const auto order = [&] {
        std::vector<int> drives;
        for (uint32_t i = 0; i < 10; ++i) {
            const auto answer = rig.run(FirmwareCommand::boot_device, 0, 0, i);
            if (answer.status != 0) break;
            drives.push_back(answer.drive);
        }
        return drives;
    };
    CHECK(order() == std::vector<int>{0x00, 0x80, 0xE0});
    rig.firmware.set_boot_order({"cdrom", "floppy1", "disk7", "disk0", "disk", "network", "cdrom0"});
    CHECK(order() == std::vector<int>{0xE0, 0x01, 0x80});
    CHECK(rig.firmware.boot_order().size() == 7);
    rig.firmware.set_boot_order({});
    CHECK(order().empty());
    CHECK(rig.run(FirmwareCommand::boot_device, 0, 0, 0xFFFFFFFF).status == 1);
}

TEST_CASE("Option ROMs go where the BIOS asks, if they fit, and then there is a network to boot from") {
    Rig rig;
    REQUIRE(rig.memory.add(Gpa{0xC8000}, 0x28000, GuestMemory::Kind::ram, "shadow"));
    CHECK(rig.run(FirmwareCommand::option_rom, 0, 0, 0).status == 1);
    std::vector<std::byte> image(1024, std::byte{0x5A});
    rig.firmware.set_option_roms({{image, 0x0018}});
    rig.firmware.set_boot_order({"network", "disk"});
    CHECK(rig.run(FirmwareCommand::boot_device, 0, 0, 0).drive == rom::drive_network);
    CHECK(rig.run(FirmwareCommand::boot_device, 0, 0, 1).drive == 0x80);
    CHECK(rig.run(FirmwareCommand::option_rom, 0, 0, 0, 0).status == 4);
    CHECK(rig.run(FirmwareCommand::option_rom, 0, 0, 0, rom::option_rom_end - 512).status == 4);
    CHECK(rig.run(FirmwareCommand::option_rom, 0, 0, 0, rom::option_rom_end + 512).status == 4);
    const auto answer = rig.run(FirmwareCommand::option_rom, 0, 0, 0, rom::option_rom_base);
    CHECK(answer.status == 0);
    CHECK(answer.lba == 0x0018);
    CHECK(rig.memory.load<uint16_t>(Gpa{rom::option_rom_base + 1022}) == 0x5A5A);
    CHECK(rig.memory.load<uint16_t>(Gpa{rom::option_rom_base + 1024}) == 0);
    CHECK(rig.run(FirmwareCommand::option_rom, 0, 0, 1, rom::option_rom_base).status == 1);
}

TEST_CASE("The ports tell the boot menu, its wait and the version") {
    Rig rig;
    CHECK(rig.ports.read(rom::firmware_flags_port, 1) == 0);
    CHECK(rig.ports.read(rom::firmware_menu_wait_port, 4) == 0);
    CHECK(rig.ports.read(rom::firmware_version_port, 4) == rom::firmware_version);
    CHECK(rig.ports.read(rom::firmware_doorbell_port, 4) == 0xFFFFFFFF);
    rig.firmware.set_boot_menu(FirmwarePort::BootMenu::always, 1500);
    CHECK(rig.ports.read(rom::firmware_flags_port, 1) == rom::boot_menu_requested);
    CHECK(rig.ports.read(rom::firmware_menu_wait_port, 4) == 1500);
    CHECK(rig.ports.read(rom::firmware_menu_wait_port + 1, 1) == 1500 >> 8);
}

TEST_CASE("Boot progress and key reports reach the machine, made-up ones do not") {
    Rig rig;
    std::vector<rom::BootProgress> progress;
    std::vector<rom::KeyReport> keys;
    rig.firmware.on_boot_progress([&](rom::BootProgress at) { progress.push_back(at); });
    rig.firmware.on_key([&](rom::KeyReport report) { keys.push_back(report); });
    CHECK_FALSE(rig.firmware.boot_progress());
    for (const unsigned value : {0u, 1u, 2u, 4u, 255u}) rig.ports.write(rom::firmware_progress_port, 1, value);
    for (const unsigned value : {0u, 2u, 1u, 3u}) rig.ports.write(rom::firmware_keyboard_port, 1, value);
    CHECK(progress == std::vector{rom::BootProgress::loading, rom::BootProgress::starting});
    CHECK(keys == std::vector{rom::KeyReport::stored, rom::KeyReport::dropped});
    CHECK(rig.firmware.boot_progress() == rom::BootProgress::starting);
    rig.device->reset(ResetKind::hard);
    CHECK_FALSE(rig.firmware.boot_progress());
}

TEST_CASE("A saved progress that no BIOS reports is refused") {
    Rig rig;
    TreeNode node = rig.device->save();
    node.set("progress", {std::byte{9}});
    CHECK_FALSE(rig.device->prepare_load(node));
}

TEST_CASE("Drives are numbered by kind: floppies by unit, others in the order they come") {
    Rig rig;
    CHECK(rig.drives.find(uint8_t{0x00}) == &rig.floppy_a);
    CHECK(rig.drives.find(uint8_t{0x01}) == &rig.floppy_b);
    CHECK(rig.drives.find("floppy1")->drive == &rig.floppy_b);
    FakeDrive second{DriveKind::disk, 1, 10};
    rig.drives.add(second);
    CHECK(rig.drives.find(uint8_t{0x81}) == &second);
    CHECK(rig.drives.find("disk1")->bios_number == 0x81);
    CHECK(rig.drives.find("disk2") == nullptr);
}

TEST_CASE("The board's node makes the firmware device and provides its service") {
    TestBoard board;
    CHECK_FALSE(board.try_make(make_firmware_disk, {{DeviceRange::Space::ports, 0xB40, 16}}));
    DriveRegistry drives;
    board.services.provide<DriveRegistry>(drives);
    board.make(make_firmware_disk, {{DeviceRange::Space::ports, 0xB40, 16}});
    CHECK(board.services.find<FirmwarePort>());
    CHECK(board.ports.read(rom::firmware_version_port, 4) == rom::firmware_version);
}
