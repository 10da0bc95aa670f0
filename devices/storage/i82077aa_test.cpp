#include "devices/storage/i82077aa.hpp"

#include "devices/storage/i82077aa_rig_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "devices/system/i8237.hpp"
#include "devices/test_board.hpp"

using namespace viv;
using Bytes = std::vector<int>;

TEST_CASE("The floppy controller keeps the device contracts") {
    check_device_contract([] {
        auto rig = std::make_unique<FloppyRig>();
        rig->insert(2880, 0, ImageAccess::read_only);
        return rig;
    });
}

TEST_CASE("The floppy controller keeps the device contracts in the middle of commands") {
    check_device_contract([] {
        auto rig = std::make_unique<FloppyRig>(FloppyType::d1440k, FloppyType::d2880k);
        rig->insert(2880, 0, ImageAccess::read_only);
        // The windows offer the FIFO alone, so that random bytes make commands.
        rig->windows = {{&rig->chip.main_ports(), 6}};
        return rig;
    });
}

TEST_CASE("After reset the controller interrupts once and four senses tell of the drives") {
    FloppyRig rig;
    CHECK(rig.in(0x3F4) == 0);
    rig.out(0x3F2, 0x0C);
    CHECK_FALSE(rig.irq());
    rig.wait();
    CHECK(rig.irq());
    CHECK(rig.in(0x3F4) == 0x80);
    CHECK(rig.sense() == Bytes{0xC0, 0});
    CHECK_FALSE(rig.irq());
    CHECK(rig.sense() == Bytes{0xC1, 0});
    CHECK(rig.sense() == Bytes{0xC2, 0});
    CHECK(rig.sense() == Bytes{0xC3, 0});
    CHECK_FALSE(rig.irq());
    CHECK(rig.sense() == Bytes{0x80});
}

TEST_CASE("DSR resets by itself, DOR holds the reset") {
    FloppyRig rig;
    rig.start();
    rig.out(0x3F4, 0x80);
    CHECK(rig.in(0x3F4) == 0);
    rig.wait();
    CHECK(rig.irq());
    rig.out(0x3F2, 0x08);
    CHECK_FALSE(rig.irq());
    rig.wait();
    CHECK(rig.in(0x3F4) == 0);
    CHECK(rig.in(0x3F2) == 0x08);
}

TEST_CASE("DMAGATE in DOR gates the interrupt") {
    FloppyRig rig;
    rig.out(0x3F2, 0x04);
    rig.wait();
    CHECK_FALSE(rig.irq());
    rig.out(0x3F2, 0x0C);
    CHECK(rig.irq());
}

TEST_CASE("With polling off a reset does not interrupt, and LOCK keeps the FIFO set-up over it") {
    FloppyRig rig;
    rig.start();
    rig.command({0x13, 0x00, 0x57, 0x10});  // EIS, FIFO on, polling off, threshold 8
    rig.command({0x94});
    CHECK(rig.result() == Bytes{0x10});
    rig.out(0x3F4, 0x80);
    rig.wait();
    CHECK(rig.irq());  // POLL is not what LOCK protects
    for (int i = 0; i < 4; ++i) rig.sense();
    rig.command({0x0E});
    CHECK(rig.result() == Bytes{0, 0, 0, 0, 0xAF, 0x02, 0, 0x80, 0x07, 0x10});
    rig.command({0x14});
    CHECK(rig.result() == Bytes{0x00});
    rig.command({0x13, 0x00, 0x57, 0x10});
    rig.out(0x3F2, 0x08);
    rig.out(0x3F2, 0x0C);
    rig.wait();
    rig.command({0x0E});
    CHECK(rig.result() == Bytes{0, 0, 0, 0, 0xAF, 0x02, 0, 0x00, 0x20, 0x00});
}

TEST_CASE("A driver that asks which chip it is finds an 82077AA") {
    FloppyRig rig;
    rig.start();
    rig.command({0x10});
    CHECK(rig.result() == Bytes{0x90});
    rig.command({0x18});  // PART ID is the 82078's
    CHECK(rig.result() == Bytes{0x80});
    rig.command({0x12, 0x80 | 0x04});  // perpendicular, drive 0
    rig.command({0x0E});
    CHECK(rig.result()[7] == 0x04);
    rig.command({0x12, 0x03});
    rig.command({0x0E});
    CHECK(rig.result()[7] == 0x07);
    for (const unsigned wrong : {0x00u, 0x01u, 0x0Bu, 0x1Fu, 0x48u, 0xA3u, 0xFFu}) {
        rig.command({wrong});
        CHECK(rig.result() == Bytes{0x80});
    }
    CHECK_FALSE(rig.irq());
}

TEST_CASE("Recalibrate and seek interrupt when they end, and SENSE INTERRUPT tells the cylinder") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    rig.command({0x07, 0});
    CHECK_FALSE(rig.irq());
    CHECK(rig.in(0x3F4) == 0x81);
    rig.wait();
    CHECK(rig.irq());
    CHECK(rig.in(0x3F4) == 0x80);
    CHECK(rig.sense() == Bytes{0x20, 0});
    CHECK_FALSE(rig.irq());
    rig.seek(0, 40);
    rig.command({0x04, 0x04});
    CHECK(rig.result() == Bytes{0x2C});
    rig.command({0xCF, 0, 5});  // relative, inwards
    rig.wait();
    CHECK(rig.sense() == Bytes{0x20, 45});
    rig.command({0x8F, 0, 10});
    rig.wait();
    CHECK(rig.sense() == Bytes{0x20, 35});
    rig.command({0x07, 0});
    rig.wait();
    CHECK(rig.sense() == Bytes{0x20, 0});
    rig.command({0x04, 0x00});
    CHECK(rig.result() == Bytes{0x38});
}

TEST_CASE("Two drives seek at the same time and each is told of") {
    FloppyRig rig(FloppyType::d1440k, FloppyType::d1440k);
    rig.insert(2880, 0);
    rig.insert(2880, 1);
    rig.start();
    rig.command({0x0F, 0, 10});
    rig.command({0x0F, 1, 20});
    CHECK(rig.in(0x3F4) == 0x83);
    rig.wait();
    CHECK(rig.irq());
    CHECK(rig.sense() == Bytes{0x20, 10});
    CHECK(rig.irq());
    CHECK(rig.sense() == Bytes{0x21, 20});
    CHECK_FALSE(rig.irq());
}

TEST_CASE("Recalibrating a drive that is not there ends with an equipment check") {
    FloppyRig rig;
    rig.start();
    rig.command({0x07, 1});
    rig.wait();
    CHECK(rig.sense() == Bytes{0x71, 0});
    rig.command({0x04, 1});
    CHECK(rig.result() == Bytes{0x29});
}

TEST_CASE("The change line drops with the first step after a medium is in") {
    FloppyRig rig;
    rig.start();
    CHECK((rig.in(0x3F7) & 0x80) != 0);
    rig.seek(0, 1);
    CHECK((rig.in(0x3F7) & 0x80) != 0);
    rig.insert(2880);
    CHECK((rig.in(0x3F7) & 0x80) != 0);
    rig.seek(0, 1);  // no step pulse
    CHECK((rig.in(0x3F7) & 0x80) != 0);
    rig.seek(0, 0);
    CHECK((rig.in(0x3F7) & 0x80) == 0);
    CHECK_FALSE(rig.chip.drive(0)->medium_changed());
    REQUIRE(rig.chip.drive(0)->insert(std::make_unique<MemoryImage>(numbered_sectors(2880))));
    CHECK((rig.in(0x3F7) & 0x80) != 0);
    CHECK(rig.chip.drive(0)->medium_changed());
    rig.chip.drive(0)->acknowledge_medium_change();
    CHECK_FALSE(rig.chip.drive(0)->medium_changed());
    CHECK((rig.in(0x3F7) & 0x80) != 0);
    rig.out(0x3F2, 0x0D);  // nobody drives the line of drive 1
    CHECK((rig.in(0x3F7) & 0x80) == 0);
    REQUIRE(rig.chip.drive(0)->eject());
    CHECK(rig.chip.drive(0)->medium() == nullptr);
}

TEST_CASE("The registers that AT mode leaves alone float, the others read back") {
    FloppyRig rig;
    CHECK(rig.in(0x3F0) == 0xFF);
    CHECK(rig.in(0x3F1) == 0xFF);
    rig.out(0x3F0, 0);
    rig.out(0x3F3, 0xFE);
    CHECK(rig.in(0x3F3) == 0xFE);
    CHECK(rig.in(0x3F5) == 0xFF);
    rig.out(0x3F5, 0x08);  // in reset
    rig.out(0x3F2, 0x1C);
    CHECK(rig.in(0x3F2) == 0x1C);
    rig.wait();
    CHECK(rig.in(0x3F4) == 0x80);
}

TEST_CASE("A hard reset keeps the medium's line and the heads, and clears LOCK") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    rig.seek(0, 7);
    rig.command({0x94});
    rig.result();
    rig.chip.reset(ResetKind::hard);
    CHECK_FALSE(rig.irq());
    CHECK(rig.in(0x3F2) == 0);
    rig.start();
    CHECK((rig.in(0x3F7) & 0x80) == 0);
    rig.command({0x04, 0});
    CHECK(rig.result() == Bytes{0x28});
    rig.command({0x0E});
    CHECK((rig.result()[7] & 0x80) == 0);
}

TEST_CASE("A state that the controller never has is refused") {
    FloppyRig rig;
    rig.insert(2880);
    rig.start();
    const TreeNode good = rig.chip.save();
    CHECK(rig.chip.prepare_load(good));
    for (const auto& [key, value] : std::initializer_list<std::pair<const char*, unsigned>>{
             {"phase", 9}, {"command-length", 9}, {"result-length", 11}, {"result-position", 10}, {"phase", 2}}) {
        TreeNode bad = good;
        bad.set(key, {static_cast<std::byte>(value)});
        INFO(key);
        CHECK_FALSE(rig.chip.prepare_load(bad));
    }
    for (const auto& [key, value] :
         std::initializer_list<std::pair<const char*, unsigned>>{{"drive", 4}, {"head", 2}}) {
        TreeNode bad = good;
        bad.child("transfer")->set(key, {static_cast<std::byte>(value)});
        CHECK_FALSE(rig.chip.prepare_load(bad));
    }
    TreeNode bad = good;
    bad.child("transfer")->set("buffer", std::vector<std::byte>(513));
    CHECK_FALSE(rig.chip.prepare_load(bad));
    bad = good;
    bad.child("drives")->child("0")->set("cylinder", {std::byte{84}});
    CHECK_FALSE(rig.chip.prepare_load(bad));
}

namespace {

struct FloppyBoard : TestBoard {
    FloppyBoard() {
        services.provide<DmaController>(dma);
        services.provide<DriveRegistry>(drives);
        node.set_u32("viv,dma", 2);
    }
    Result<std::unique_ptr<Device>> try_controller() {
        return try_make(make_i82077aa, {{DeviceRange::Space::ports, 0x3F0, 6}, {DeviceRange::Space::ports, 0x3F7, 1}},
                        {6});
    }
    FakeDma dma;
    DriveRegistry drives;
};

}  // namespace

TEST_CASE("The board's node makes drive A always and drive B when it asks for it") {
    FloppyBoard board;
    auto made = board.try_controller();
    REQUIRE(made);
    REQUIRE(board.drives.entries().size() == 1);
    Drive* drive = board.drives.find(uint8_t{0});
    CHECK(drive->floppy_type() == FloppyType::d1440k);
    CHECK(drive->medium() == nullptr);
    board.out(0x3F2, 0x0C);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.isa.pins[6].level());
    CHECK(board.in(0x3F7) == 0xFF);
}

TEST_CASE("The board's node gives drives their images and types") {
    const TemporaryFile medium(std::vector<std::byte>(1200 * 1024));
    const TemporaryFile other(std::vector<std::byte>(1000));
    FloppyBoard board;
    TreeNode& first = board.node.ensure_child("drive@0");
    first.set_string("viv,image", medium.path());
    first.set_flag("viv,read-only");
    TreeNode& second = board.node.ensure_child("drive@1");
    second.set_string("viv,image", other.path());
    second.set_string("viv,drive-type", "2.88M");
    auto made = board.try_controller();
    REQUIRE(made);
    CHECK(board.drives.find(uint8_t{0})->floppy_type() == FloppyType::d1200k);
    CHECK(board.drives.find(uint8_t{0})->geometry() == DriveGeometry{80, 2, 15});
    CHECK(board.drives.find(uint8_t{0})->medium()->read_only());
    CHECK(board.drives.find(uint8_t{1})->floppy_type() == FloppyType::d2880k);
    // The short image is a 1.44M medium whose end is empty.
    DiskImage& padded = *board.drives.find(uint8_t{1})->medium();
    CHECK(padded.size() == 1440 * 1024);
    std::vector<std::byte> out(1024, std::byte{1});
    CHECK(padded.read(512, out) == DiskStatus::ok);
    CHECK(out == std::vector<std::byte>(1024));
    CHECK(padded.write(1024, out) == DiskStatus::out_of_range);
    CHECK(padded.write(0, std::span(out).first(512)) == DiskStatus::ok);
}

TEST_CASE("What cannot be a floppy is refused by name and with advice") {
    const TemporaryFile large(std::vector<std::byte>(4 << 20));
    const TemporaryFile small(std::vector<std::byte>(360 * 1024));
    FloppyBoard board;
    TreeNode& node = board.node.ensure_child("drive@0");
    const auto refusal = [&] {
        auto made = board.try_controller();
        REQUIRE_FALSE(made);
        return made.error().message;
    };
    node.set_string("viv,image", large.path());
    CHECK(refusal().find("attach it as a hard disk") != std::string::npos);
    node.set_string("viv,image", small.path());
    node.set_string("viv,drive-type", "1.44M");
    CHECK(refusal().find("set viv,drive-type to \"360K\"") != std::string::npos);
    node.set_string("viv,drive-type", "3.5");
    CHECK(refusal().find("it can be 360K, 1.2M") != std::string::npos);
    node.set_string("viv,drive-type", "1.2M");
    CHECK(board.try_controller());
    node.set_string("viv,image", "/nonexistent.img");
    CHECK(refusal().find("No such file") != std::string::npos);
    board.node.set_u32("viv,dma", 5);
    CHECK(refusal().find("8-bit DMA channel") != std::string::npos);
}

TEST_CASE("A driver reads a sector through the board's own DMA controller") {
    const TemporaryFile medium(numbered_sectors(2880));
    TestBoard board;
    DriveRegistry drives;
    board.services.provide<DriveRegistry>(drives);
    REQUIRE(board.memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "ram"));
    board.make(make_i8237, {{DeviceRange::Space::ports, 0x00, 0x10},
                            {DeviceRange::Space::ports, 0x80, 0x10},
                            {DeviceRange::Space::ports, 0xC0, 0x20}});
    board.node.set_u32("viv,dma", 2);
    board.node.ensure_child("drive@0").set_string("viv,image", medium.path());
    board.make(make_i82077aa, {{DeviceRange::Space::ports, 0x3F0, 6}, {DeviceRange::Space::ports, 0x3F7, 1}}, {6});
    // What POST leaves: channel 4 cascades.
    board.out(0xD6, 0xC0);
    board.out(0xD4, 0x00);
    const auto program = [&](uint8_t mode, uint32_t address, uint16_t bytes) {
        board.out(0x0A, 0x06);
        board.out(0x0C, 0);
        board.out(0x0B, mode);
        board.out(0x04, static_cast<uint8_t>(address));
        board.out(0x04, static_cast<uint8_t>(address >> 8));
        board.out(0x81, static_cast<uint8_t>(address >> 16));
        board.out(0x05, static_cast<uint8_t>(bytes - 1));
        board.out(0x05, static_cast<uint8_t>((bytes - 1) >> 8));
        board.out(0x0A, 0x02);
    };
    const auto command = [&](std::initializer_list<uint8_t> bytes) {
        for (const uint8_t byte : bytes) {
            REQUIRE((board.in(0x3F4) & 0xC0) == 0x80);
            board.out(0x3F5, byte);
        }
    };
    const auto result = [&] {
        Bytes bytes;
        while ((board.in(0x3F4) & 0xD0) == 0xD0) bytes.push_back(board.in(0x3F5));
        return bytes;
    };
    board.out(0x3F2, 0x1C);
    board.clock.advance(std::chrono::milliseconds(1));
    for (int i = 0; i < 4; ++i) {
        command({0x08});
        CHECK(result() == Bytes{0xC0 | i, 0});
    }
    board.out(0x3F7, 0);
    program(0x46, 0x12000, 1024);
    command({0xE6, 0x00, 0, 0, 5, 2, 18, 0x1B, 0xFF});
    board.clock.advance(std::chrono::milliseconds(5));
    CHECK(board.isa.pins[6].level());
    CHECK(result() == Bytes{0, 0, 0, 0, 0, 7, 2});
    CHECK(board.memory.load<uint32_t>(Gpa{0x12000}) == 4);
    CHECK(board.memory.load<uint32_t>(Gpa{0x12200}) == 5);
    CHECK(board.memory.load<uint32_t>(Gpa{0x12400}) == 0);
    board.memory.store<uint32_t>(Gpa{0x12000}, 0xCAFEF00D);
    program(0x4A, 0x12000, 512);
    command({0x45, 0x00, 0, 0, 9, 2, 18, 0x1B, 0xFF});
    board.clock.advance(std::chrono::milliseconds(5));
    CHECK(result()[0] == 0);
    program(0x46, 0x20000, 512);
    command({0x46, 0x00, 0, 0, 9, 2, 18, 0x1B, 0xFF});
    board.clock.advance(std::chrono::milliseconds(5));
    CHECK(result()[0] == 0);
    CHECK(board.memory.load<uint32_t>(Gpa{0x20000}) == 0xCAFEF00D);
}
