#include "devices/storage/ide.hpp"

#include "devices/storage/ide_rig_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "devices/test_board.hpp"

using namespace viv;

TEST_CASE("An IDE channel keeps the device contracts, whichever drives are on it") {
    const auto drives = GENERATE(0, 1, 2, 3);
    check_device_contract([drives] {
        return std::make_unique<IdeRig>(drives & 1 ? 4000 : 0, drives & 2 ? 100 : 0, ImageAccess::read_only);
    });
}

TEST_CASE("A channel without drives floats, and writes to it stick nowhere") {
    IdeRig rig(0);
    CHECK(rig.in(0x1F7) == 0x7F);
    CHECK(rig.in(0x3F6) == 0x7F);
    rig.out(0x1F6, 0xA0);
    rig.out(0x1F2, 0x55);
    rig.out(0x1F3, 0xAA);
    CHECK(rig.in(0x1F2) == 0x7F);
    CHECK(rig.in(0x1F3) == 0x7F);
    rig.out(0x1F7, 0xEC);
    rig.out(0x3F6, 0x04);
    rig.out(0x3F6, 0x00);
    CHECK(rig.in(0x1F7) == 0x7F);
    CHECK(rig.channel.command_block().read({0, 2}) == 0xFFFF);
    CHECK_FALSE(rig.irq());
}

TEST_CASE("Device 0 answers for a device 1 that is not there: status 0") {
    IdeRig rig(100);
    rig.out(0x1F6, 0xB0);
    CHECK(rig.in(0x1F7) == 0x00);
    CHECK(rig.in(0x3F6) == 0x00);
    rig.out(0x1F2, 0x55);
    CHECK(rig.in(0x1F2) == 0x55);
    rig.out(0x1F7, 0xEC);
    CHECK(rig.in(0x1F7) == 0x00);
    CHECK_FALSE(rig.irq());
    CHECK(rig.channel.command_block().read({0, 2}) == 0xFFFF);
    rig.channel.command_block().write({0, 2}, 0);
    rig.out(0x1F6, 0xA0);
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK_FALSE(rig.irq());
}

TEST_CASE("A slave alone works, and its master floats") {
    IdeRig rig(0, 100);
    CHECK(rig.in(0x1F7) == 0x7F);
    rig.out(0x1F6, 0xB0);
    CHECK(rig.in(0x1F7) == 0x50);
    rig.command28(0x20, 7, 1, 1);
    CHECK(rig.irq());
    CHECK(rig.same(rig.data_in(512), 7, 1));
}

TEST_CASE("After power-on, reset and diagnostics the signature is an ATA disk's") {
    IdeRig rig(100, 100);
    const auto check_signature = [&] {
        CHECK(rig.in(0x1F1) == 0x01);
        CHECK(rig.in(0x1F2) == 0x01);
        CHECK(rig.in(0x1F3) == 0x01);
        CHECK(rig.in(0x1F4) == 0x00);
        CHECK(rig.in(0x1F5) == 0x00);
        CHECK((rig.in(0x1F6) & 0x10) == 0);
        CHECK(rig.in(0x1F7) == 0x50);
    };
    check_signature();
    rig.command28(0x20, 50, 3, 1);
    rig.out(0x3F6, 0x04);
    CHECK(rig.in(0x3F6) == 0x80);
    CHECK_FALSE(rig.irq());
    rig.out(0x1F7, 0xEC);  // not while in reset
    rig.out(0x3F6, 0x00);
    check_signature();
    CHECK_FALSE(rig.irq());
    rig.out(0x1F6, 0xB0);
    rig.out(0x1F7, 0x90);
    CHECK(rig.irq());
    check_signature();
    CHECK_FALSE(rig.irq());
}

TEST_CASE("INTRQ goes with status but not with alternate status, and nIEN holds it back") {
    IdeRig rig(100);
    rig.out(0x1F7, 0xEC);
    CHECK(rig.irq());
    CHECK(rig.in(0x3F6) == 0x58);
    CHECK(rig.irq());
    rig.out(0x3F6, 0x02);
    CHECK_FALSE(rig.irq());
    rig.out(0x3F6, 0x00);
    CHECK(rig.irq());
    CHECK(rig.in(0x1F7) == 0x58);
    CHECK_FALSE(rig.irq());
}

TEST_CASE("Only the selected drive drives INTRQ") {
    IdeRig rig(100, 100);
    rig.out(0x1F7, 0xEC);
    CHECK(rig.irq());
    rig.out(0x1F6, 0xB0);
    CHECK_FALSE(rig.irq());
    rig.out(0x1F6, 0xA0);
    CHECK(rig.irq());
}

TEST_CASE("Register writes reach both drives, commands the selected one") {
    IdeRig rig(100, 200);
    rig.out(0x1F2, 0x12);
    rig.out(0x1F6, 0xB0);
    CHECK(rig.in(0x1F2) == 0x12);
    rig.command28(0x20, 150, 1, 1);
    CHECK(rig.same(rig.data_in(512), 150, 1));
    rig.command28(0x20, 150, 1, 0);
    CHECK(rig.in(0x1F7) == 0x51);
    CHECK(rig.in(0x1F1) == 0x10);
}

TEST_CASE("HOB shows what was written before, until the next register write") {
    IdeRig rig(100);
    rig.out(0x1F3, 0x11);
    rig.out(0x1F3, 0x22);
    CHECK(rig.in(0x1F3) == 0x22);
    rig.out(0x3F6, 0x80);
    CHECK(rig.in(0x1F3) == 0x11);
    rig.out(0x1F5, 0);
    CHECK(rig.in(0x1F3) == 0x22);
}

TEST_CASE("The data port is 16 or 32 bits wide, by single accesses or by string") {
    IdeRig rig(100);
    BusDevice& port = rig.channel.command_block();
    rig.command28(0x20, 9, 2);
    std::vector<std::byte> got;
    for (int i = 0; i < 128; ++i) {
        const uint64_t value = port.read({0, 4});
        for (int k = 0; k < 4; ++k) got.push_back(static_cast<std::byte>(value >> (8 * k)));
    }
    CHECK(rig.same(got, 9));
    // The next sector follows at once, in one string over its end: behind it there is nothing.
    got.assign(520, std::byte{0});
    port.read_block({0, 4}, got);
    CHECK(rig.same(std::span(got).first(512), 10));
    CHECK(got[512] == std::byte{0xFF});
    CHECK(rig.in(0x1F7) == 0x50);
}

TEST_CASE("A byte access takes a whole word unless the drive is set to 8 bits") {
    IdeRig rig(100);
    const auto& bytes = rig.images[0]->bytes;
    rig.command28(0x20, 9, 1);
    CHECK(static_cast<std::byte>(rig.in(0x1F0)) == bytes[9 * 512]);
    CHECK(static_cast<std::byte>(rig.in(0x1F0)) == bytes[9 * 512 + 2]);
    rig.out(0x1F1, 0x01);
    rig.out(0x1F7, 0xEF);
    CHECK(rig.in(0x1F7) == 0x50);
    rig.command28(0x20, 9, 1);
    for (unsigned i = 0; i < 512; ++i) REQUIRE(static_cast<std::byte>(rig.in(0x1F0)) == bytes[9 * 512 + i]);
    CHECK(rig.in(0x1F7) == 0x50);
    rig.command28(0x30, 9, 1);
    for (unsigned i = 0; i < 512; ++i) rig.out(0x1F0, i & 0xFF);
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK(bytes[9 * 512 + 77] == std::byte{77});
}

TEST_CASE("Data accesses that nobody waits for are harmless") {
    IdeRig rig(100);
    CHECK(rig.channel.command_block().read({0, 2}) == 0xFFFF);
    rig.channel.command_block().write({0, 4}, 0x12345678);
    rig.command28(0x20, 0, 1);
    rig.channel.command_block().write({0, 2}, 0x1234);
    CHECK(rig.same(rig.data_in(512), 0));
    CHECK(rig.images[0]->bytes == numbered_sectors(100));
}

TEST_CASE("A hard reset makes the channel as new") {
    IdeRig rig(100);
    rig.out(0x1F2, 8);
    rig.out(0x1F7, 0xC6);
    rig.command28(0x30, 0, 2);
    rig.out(0x3F6, 0x02);
    rig.channel.reset(ResetKind::hard);
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK((rig.identify()[59] & 0x0100) == 0);
    CHECK(rig.in(0x3F6) == 0x50);
}

TEST_CASE("A disk transfer goes on after save and load") {
    IdeRig rig(100);
    rig.command28(0x20, 20, 2);
    const auto first = rig.data_in(100);
    IdeRig other(100);
    auto commit = other.channel.prepare_load(rig.channel.save());
    if (!commit) FAIL(commit.error().message);
    (*commit)();
    CHECK(other.irq());
    const auto rest = other.data_in(924);
    CHECK(other.same(first, 20));
    CHECK(std::equal(rest.begin(), rest.end(), other.images[0]->bytes.begin() + 20 * 512 + 100));
}

TEST_CASE("A state that the drives never have is refused") {
    IdeRig rig(100);
    rig.command28(0x20, 0, 1);
    const TreeNode good = rig.channel.save();
    TreeNode bad = good;
    bad.set("selected", {std::byte{2}});
    CHECK_FALSE(rig.channel.prepare_load(bad));
    for (const auto& [key, value] : std::initializer_list<std::pair<const char*, std::vector<std::byte>>>{
             {"phase", {std::byte{3}}},
             {"power", {std::byte{9}}},
             {"buffer", std::vector<std::byte>(65537)},
             {"buffer", {}},
             {"position", {std::byte{0}, std::byte{0}, std::byte{2}, std::byte{1}}},
             {"sectors-per-block", {std::byte{0}, std::byte{0}}},
             {"multiple", {std::byte{200}}},
             {"heads", {std::byte{0}, std::byte{0}, std::byte{0}, std::byte{4}}},
             {"remaining", {std::byte{1}, std::byte{0}, std::byte{0}, std::byte{0}}},
         }) {
        bad = good;
        bad.child("devices")->child("0")->set(key, value);
        INFO(key);
        CHECK_FALSE(rig.channel.prepare_load(bad));
    }
}

TEST_CASE("The board's node makes the drives that have images and registers them") {
    const TemporaryFile file(numbered_sectors(200));
    TestBoard board;
    DriveRegistry drives;
    board.services.provide<DriveRegistry>(drives);
    board.node.ensure_child("drive@0");
    TreeNode& slave = board.node.ensure_child("drive@1");
    slave.set_string("viv,image", file.path());
    slave.set_flag("viv,snapshot");
    slave.set_string("viv,serial", "S/N 42");
    board.make(make_piix_ide, {{DeviceRange::Space::ports, 0x170, 8}, {DeviceRange::Space::ports, 0x376, 1}}, {15});
    REQUIRE(drives.entries().size() == 1);
    const auto& entry = drives.entries().front();
    CHECK(entry.bios_number == 0x80);
    CHECK(entry.name == "disk0");
    CHECK(entry.drive->io_base() == 0x170);
    CHECK(entry.drive->unit() == 1);
    board.out(0x176, 0xB0);
    CHECK(board.in(0x376) == 0x50);
    board.out(0x177, 0xEC);
    CHECK(board.isa.pins[15].level());
    for (int i = 0; i < 10; ++i) board.in16(0x170);
    CHECK(board.in16(0x170) == ('S' << 8 | '/'));
    slave.set_string("viv,image", "/nonexistent.img");
    CHECK_FALSE(board.try_make(make_piix_ide,
                               {{DeviceRange::Space::ports, 0x1F0, 8}, {DeviceRange::Space::ports, 0x3F6, 1}}, {14}));
}
