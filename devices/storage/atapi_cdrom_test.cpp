#include "devices/storage/atapi_cdrom.hpp"

#include "devices/storage/atapi_rig_test.hpp"

using namespace viv;

TEST_CASE("A CD-ROM drive on an IDE channel keeps the device contracts, with and without a disc") {
    const size_t blocks = GENERATE(0, 40);
    check_device_contract([blocks] { return std::make_unique<AtapiRig>(blocks); });
}

TEST_CASE("After power-on and resets the signature is a packet device's, and it is not ready") {
    AtapiRig rig(10);
    const auto check_signature = [&] {
        CHECK(rig.in(0x171) == 0x01);
        CHECK(rig.in(0x172) == 0x01);
        CHECK(rig.in(0x173) == 0x01);
        CHECK(rig.in(0x174) == 0x14);
        CHECK(rig.in(0x175) == 0xEB);
        CHECK(rig.in(0x177) == 0x00);
        CHECK_FALSE(rig.irq());
    };
    check_signature();
    rig.send({0x12, 0, 0, 0, 36});
    CHECK(rig.in(0x376) == 0x58);
    SECTION("SRST") {
        rig.out(0x376, 0x04);
        CHECK(rig.in(0x376) == 0x80);
        rig.out(0x376, 0x00);
    }
    SECTION("DEVICE RESET") {
        rig.out(0x177, 0x08);
    }
    SECTION("EXECUTE DEVICE DIAGNOSTIC") {
        rig.out(0x177, 0x90);
        CHECK(rig.irq());
        CHECK(rig.in(0x177) == 0x00);
    }
    SECTION("RESET#") {
        rig.channel.reset(ResetKind::hard);
    }
    check_signature();
}

TEST_CASE("A CD-ROM drive alone answers for the slave with zeros") {
    AtapiRig rig(10);
    rig.out(0x176, 0xB0);
    for (uint16_t port = 0x171; port <= 0x177; ++port) CHECK(rig.in(port) == 0);
    CHECK(rig.in(0x376) == 0);
    rig.out(0x174, 0xA5);
    CHECK(rig.in(0x174) == 0);
    rig.out(0x176, 0xA0);
    CHECK(rig.in(0x174) == 0xA5);
}

TEST_CASE("A driver that takes it for a disk is told by the signature") {
    AtapiRig rig(10);
    const unsigned command = GENERATE(0xEC, 0x20);
    rig.out(0x176, 0xA0);
    rig.out(0x177, command);
    CHECK(rig.irq());
    CHECK(rig.in(0x177) == 0x51);
    CHECK(rig.in(0x171) == 0x04);
    CHECK(rig.in(0x174) == 0x14);
    CHECK(rig.in(0x175) == 0xEB);
}

TEST_CASE("IDENTIFY PACKET DEVICE: a removable CD-ROM drive with packets of 12 bytes") {
    AtapiRig rig(10);
    rig.out(0x176, 0xA0);
    rig.out(0x177, 0xA1);
    CHECK(rig.irq());
    CHECK(rig.in(0x177) == 0x58);
    const auto data = rig.data_in(512);
    CHECK(rig.in(0x177) == 0x50);
    CHECK((data[0] | data[1] << 8) == 0x85C0);
    CHECK(std::string(data.begin() + 20, data.begin() + 26) == "IV1V07");
    CHECK(std::string(data.begin() + 54, data.begin() + 62) == "iVavirmu");
    uint8_t sum = 0;
    for (const uint8_t byte : data) sum = static_cast<uint8_t>(sum + byte);
    CHECK(data[510] == 0xA5);
    CHECK(sum == 0);
}

TEST_CASE("PACKET asks for twelve bytes without an interrupt, then moves data under the byte count limit") {
    AtapiRig rig(10);
    rig.settle();
    rig.out(0x176, 0xA0);
    rig.out(0x171, 0x00);
    rig.out(0x174, 0x00);
    rig.out(0x175, 0x08);  // 2048
    rig.out(0x177, 0xA0);
    CHECK_FALSE(rig.irq());
    CHECK(rig.in(0x177) == 0x58);
    CHECK(rig.in(0x172) == 0x01);
    rig.data_out(PacketBytes{0x28, 0, 0, 0, 0, 3, 0, 0, 2});
    for (unsigned block = 3; block < 5; ++block) {
        CHECK(rig.irq());
        CHECK(rig.in(0x177) == 0x58);
        CHECK_FALSE(rig.irq());
        CHECK(rig.in(0x172) == 0x02);
        CHECK(rig.byte_count() == 2048);
        CHECK(rig.data_in(2048)[0] == block);
    }
    CHECK(rig.irq());
    CHECK(rig.in(0x177) == 0x50);
    CHECK(rig.in(0x172) == 0x03);
    CHECK(rig.in(0x171) == 0x00);
}

TEST_CASE("Any byte count limit gives the same data") {
    AtapiRig rig(40);
    rig.settle();
    const unsigned limit = GENERATE(2u, 510u, 2047u, 4096u, 63488u, 65534u);
    const auto data = rig.command({0x28, 0, 0, 0, 0, 2, 0, 0, 35}, limit);
    REQUIRE(data);
    CHECK(std::ranges::equal(*data, std::span(rig.disc->bytes).subspan(2 * 2048, 35 * 2048), {}, {},
                             [](std::byte byte) { return std::to_integer<uint8_t>(byte); }));
}

TEST_CASE("A byte count limit of 0 or FFFFh is the largest even one") {
    AtapiRig rig(40);
    rig.settle();
    const unsigned limit = GENERATE(0u, 0xFFFFu);
    rig.send({0x28, 0, 0, 0, 0, 0, 0, 0, 40}, limit);
    CHECK(rig.byte_count() == 0xFFFE);
}

TEST_CASE("A response of odd length ends within a word") {
    AtapiRig rig(10);
    rig.send({0x12, 0, 0, 0, 5});
    CHECK(rig.byte_count() == 5);
    CHECK(rig.data_in(5) == std::vector<uint8_t>{0x05, 0x80, 0x00, 0x32, 31});
    CHECK(rig.in(0x177) == 0x50);
}

TEST_CASE("Parameters come in blocks under the limit, too") {
    AtapiRig rig(10);
    rig.settle();
    const std::vector<uint8_t> list{0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x06, 0x20, 0x09, 0, 0, 0, 0};
    REQUIRE(rig.command({0x55, 0x10, 0, 0, 0, 0, 0, 0, 16}, 6, list));
    const auto page = rig.command({0x5A, 0, 0x01, 0, 0, 0, 0, 0, 64});
    REQUIRE(page);
    CHECK(page->at(10) == 0x20);
    CHECK(page->at(11) == 0x09);
}

TEST_CASE("A command that fails sets CHK and the sense key, and REQUEST SENSE says more") {
    AtapiRig rig(10);
    rig.settle();
    rig.send({0xFF});
    CHECK(rig.irq());
    CHECK(rig.in(0x177) == 0x51);
    CHECK(rig.in(0x171) == 0x54);
    CHECK(rig.in(0x172) == 0x03);
    CHECK(rig.sense() == 0x052000);
    CHECK(rig.sense() == 0);
}

TEST_CASE("Overlapped packets are aborted") {
    AtapiRig rig(10);
    rig.settle();
    rig.out(0x171, 0x02);
    rig.out(0x177, 0xA0);
    CHECK(rig.irq());
    CHECK(rig.in(0x177) == 0x51);
    CHECK(rig.in(0x171) == 0x04);
}

TEST_CASE("The data of a packet with DMA are the bus master's, and there is one interrupt") {
    AtapiRig rig(10);
    rig.settle();
    rig.out(0x171, 0x01);
    rig.out(0x177, 0xA0);
    CHECK(rig.in(0x177) == 0x58);
    const std::array<uint8_t, 12> packet{0x28, 0, 0, 0, 0, 3, 0, 0, 2};
    rig.channel.command_block().write_block({0, 2}, std::as_bytes(std::span(packet)));
    CHECK_FALSE(rig.irq());
    REQUIRE(rig.channel.dma_request() == AtaDevice::DmaRequest::to_memory);
    CHECK(rig.channel.command_block().read({0, 2}) == 0xFFFF);
    std::vector<std::byte> data(5000);
    CHECK(rig.channel.read_dma(data) == 4096);
    CHECK(data[0] == std::byte{3});
    CHECK(data[2048] == std::byte{4});
    CHECK(rig.irq());
    CHECK(rig.in(0x177) == 0x50);
    CHECK(rig.channel.dma_request() == AtaDevice::DmaRequest::none);
}

TEST_CASE("A command in the middle of a transfer ends it") {
    AtapiRig rig(10);
    rig.settle();
    rig.send({0x28, 0, 0, 0, 0, 0, 0, 0, 10}, 2048);
    rig.data_in(1000);
    rig.out(0x177, 0xA1);
    CHECK(rig.data_in(2)[1] == 0x85);
    const auto data = rig.command({0x28, 0, 0, 0, 0, 7, 0, 0, 1});
    REQUIRE(data);
    CHECK(data->at(0) == 7);
}

TEST_CASE("A transfer goes on after save and load") {
    AtapiRig rig(40);
    rig.settle();
    rig.send({0x28, 0, 0, 0, 0, 0, 0, 0, 40}, 4096);
    rig.data_in(5000);
    const TreeNode saved = rig.channel.save();
    AtapiRig other(40);
    auto commit = other.channel.prepare_load(saved);
    REQUIRE(commit);
    (*commit)();
    const auto rest = other.data_in(40 * 2048 - 5000);
    CHECK(std::ranges::equal(rest, std::span(other.disc->bytes).subspan(5000), {}, {},
                             [](std::byte byte) { return std::to_integer<uint8_t>(byte); }));
    CHECK(other.in(0x177) == 0x50);
}

TEST_CASE("A state that the drive never has is refused") {
    AtapiRig rig(40);
    rig.settle();
    rig.send({0x28, 0, 0, 0, 0, 0, 0, 0, 40}, 4096);
    const auto refuses = [&](auto&& change) {
        TreeNode saved = rig.channel.save();
        TreeNode* optical = saved.child("devices")->child("0")->child("optical");
        REQUIRE(optical);
        change(*optical);
        CHECK_FALSE(rig.channel.prepare_load(saved));
    };
    const auto number = [](uint64_t value, size_t size) {
        std::vector<std::byte> bytes(size);
        for (size_t i = 0; i < size; ++i) bytes[size - 1 - i] = static_cast<std::byte>(value >> (8 * i));
        return bytes;
    };
    refuses([&](TreeNode& node) { node.set("transfer", number(9, 1)); });
    refuses([&](TreeNode& node) { node.set("done", number(40 * 2048 + 1, 8)); });
    refuses([&](TreeNode& node) { node.set("length", number(100, 8)); });
    refuses([&](TreeNode& node) { node.set("frame-parts", number(0, 1)); });
    refuses([&](TreeNode& node) { node.set("first-block", number(0xFFFFFFFF, 4)); });
    refuses([&](TreeNode& node) { node.set("transfer", number(1, 1)); });
    refuses([&](TreeNode& node) { node.set("event", number(7, 1)); });
}

TEST_CASE("SLEEP ends with a reset, and DEVICE RESET is one") {
    AtapiRig rig(10);
    rig.settle();
    rig.out(0x177, 0xE6);
    CHECK(rig.in(0x177) == 0x50);
    rig.out(0x177, 0xA0);
    CHECK(rig.in(0x177) == 0x50);
    rig.out(0x177, 0x08);
    CHECK(rig.in(0x177) == 0x00);
    CHECK_FALSE(rig.command({0x00}));
    CHECK(rig.sense() == 0x062900);
}

TEST_CASE("DEVICE RESET of a slave leaves it selected") {
    IrqPin pin;
    IdeChannel channel{IrqLine(pin)};
    channel.attach(1, std::make_unique<AtapiCdrom>(channel.device_state(1), CdromDrive::Place{}));
    channel.command_block().write({6, 1}, 0xB0);
    channel.command_block().write({7, 1}, 0x08);
    CHECK((channel.command_block().read({6, 1}) & 0x10) == 0x10);
    CHECK(channel.command_block().read({5, 1}) == 0xEB);
}

TEST_CASE("An open tray stays open over a reset of the machine, and power-on closes it") {
    AtapiRig rig(10);
    rig.settle();
    REQUIRE(rig.command({0x1B, 0, 0, 0, 0x02}));
    CHECK_FALSE(rig.cdrom->drive().medium());
    rig.channel.reset(ResetKind::hard);
    CHECK_FALSE(rig.cdrom->drive().medium());
    rig.channel.reset(ResetKind::power_on);
    CHECK(rig.cdrom->drive().medium());
}

TEST_CASE("SET FEATURES takes the transfer modes that there are") {
    AtapiRig rig(10);
    const auto set = [&rig](unsigned feature, unsigned count) {
        rig.out(0x171, feature);
        rig.out(0x172, count);
        rig.out(0x177, 0xEF);
        return rig.in(0x177);
    };
    CHECK(set(0x03, 0x0C) == 0x50);
    CHECK(set(0x03, 0x22) == 0x50);
    CHECK(set(0x03, 0x42) == 0x50);
    CHECK(set(0x03, 0x23) == 0x51);
    CHECK(set(0x66, 0) == 0x50);
    CHECK(set(0xCC, 0) == 0x50);
    CHECK(set(0x5D, 0) == 0x51);
}
