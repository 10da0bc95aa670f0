#include "devices/storage/cdrom_drive.hpp"

#include <optional>

#include "devices/storage/atapi_rig_test.hpp"
#include "devices/storage/cd_frame.hpp"

using namespace viv;

namespace {

using Bytes = std::vector<uint8_t>;

/// A drive and the wire's part of a command.
struct DriveRig {
    explicit DriveRig(size_t blocks, bool settled = true) {
        if (blocks > 0) load(blocks);
        if (settled) state.reset_attention = false;
    }
    void load(size_t blocks) {
        auto image = numbered_disc(blocks);
        disc = image.get();
        drive.load(std::move(image));
    }
    std::optional<Bytes> command(const PacketBytes& packet, const Bytes& parameters = {}) {
        auto outcome = drive.execute(packet);
        if (outcome == CdromDrive::Outcome::data_out) {
            REQUIRE(drive.remaining() == parameters.size());
            outcome = drive.take(parameters);
        }
        Bytes data;
        if (outcome == CdromDrive::Outcome::data_in) {
            data.resize(drive.remaining());
            if (!drive.give(data)) return std::nullopt;
            REQUIRE(drive.remaining() == 0);
        } else if (outcome == CdromDrive::Outcome::failed) {
            return std::nullopt;
        }
        return data;
    }
    unsigned sense() {
        const auto data = command({0x03, 0, 0, 0, 18});
        REQUIRE(data);
        return data->at(2) << 16 | data->at(12) << 8 | data->at(13);
    }
    /// What a command that must fail leaves in the sense data.
    unsigned failure(const PacketBytes& packet, const Bytes& parameters = {}) {
        REQUIRE_FALSE(command(packet, parameters));
        return sense();
    }
    /// The media event and the state of the tray (GET EVENT STATUS NOTIFICATION).
    std::pair<unsigned, unsigned> event() {
        const auto data = command({0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8});
        REQUIRE(data);
        REQUIRE(data->size() == 8);
        CHECK((data->at(2) & 0x87) == 0x04);
        return {data->at(4), data->at(5)};
    }

    OpticalState state;
    CdromDrive drive{state, {0x170, 0, "VIV1700"}};
    MemoryImage* disc = nullptr;
};

uint32_t number(const Bytes& bytes, size_t at, size_t size) {
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | bytes.at(at + i);
    return value;
}

/// A disc of which only the size is real.
class HugeDisc final : public DiskImage {
  public:
    explicit HugeDisc(uint64_t blocks) : size_(blocks * 2048) {}
    [[nodiscard]] uint64_t size() const override { return size_; }
    [[nodiscard]] bool read_only() const override { return true; }
    [[nodiscard]] const std::string& name() const override { return name_; }
    DiskStatus read(uint64_t offset, std::span<std::byte> out) override {
        if (offset > size_ || out.size() > size_ - offset) return DiskStatus::out_of_range;
        std::ranges::fill(out, std::byte{0});
        return DiskStatus::ok;
    }
    DiskStatus write(uint64_t, std::span<const std::byte>) override { return DiskStatus::read_only; }
    DiskStatus flush() override { return DiskStatus::ok; }

  private:
    uint64_t size_;
    std::string name_ = "huge";
};

}  // namespace

TEST_CASE("Power-on is reported once, but not to INQUIRY and the commands like it") {
    DriveRig rig(10, false);
    CHECK(rig.command({0x12, 0, 0, 0, 36}));
    CHECK(rig.command({0x46, 0, 0, 0, 0, 0, 0, 0, 64}));
    CHECK(rig.event().second == 2);
    CHECK(rig.failure({0x00}) == 0x062900);
    CHECK(rig.command({0x00}));
}

TEST_CASE("REQUEST SENSE itself may take the report of power-on") {
    DriveRig rig(10, false);
    CHECK(rig.sense() == 0x062900);
    CHECK(rig.command({0x00}));
    CHECK(rig.sense() == 0);
}

TEST_CASE("INQUIRY tells of a removable CD-ROM drive") {
    DriveRig rig(0);
    const auto data = rig.command({0x12, 0, 0, 0, 255});
    REQUIRE(data);
    REQUIRE(data->size() == 36);
    CHECK(data->at(0) == 0x05);
    CHECK(data->at(1) == 0x80);
    CHECK(std::string(data->begin() + 8, data->begin() + 23) == "VIVARIUMCD-ROM ");
    CHECK(rig.command({0x12, 0, 0, 0, 0})->empty());
    const auto serial = rig.command({0x12, 1, 0x80, 0, 255});
    REQUIRE(serial);
    CHECK(std::string(serial->begin() + 4, serial->end()) == "VIV1700");
    CHECK(rig.command({0x12, 1, 0x00, 0, 255}) == Bytes{0x05, 0, 0, 2, 0, 0x80});
    CHECK(rig.failure({0x12, 1, 0x83, 0, 255}) == 0x052400);
}

TEST_CASE("An empty drive answers all that needs a disc with no medium") {
    DriveRig rig(0);
    const unsigned opcode =
        GENERATE(0x00u, 0x25u, 0x28u, 0x2Bu, 0x42u, 0x43u, 0x44u, 0x51u, 0x52u, 0xA8u, 0xADu, 0xB9u, 0xBEu);
    CHECK(rig.failure({static_cast<uint8_t>(opcode)}) == 0x023A01);
    REQUIRE(rig.command({0x1B, 0, 0, 0, 0x02}));
    CHECK(rig.failure({static_cast<uint8_t>(opcode)}) == 0x023A02);
}

TEST_CASE("READ CAPACITY names the last block") {
    DriveRig rig(10);
    CHECK(rig.command({0x25}) == Bytes{0, 0, 0, 9, 0, 0, 8, 0});
}

TEST_CASE("READ(10), READ(12) and READ CD read the same blocks") {
    DriveRig rig(40);
    const auto ten = rig.command({0x28, 0, 0, 0, 0, 17, 0, 0, 3});
    REQUIRE(ten);
    CHECK(ten->size() == 3 * 2048);
    CHECK(ten->at(0) == 17);
    CHECK(ten->at(2 * 2048) == 19);
    CHECK(rig.command({0xA8, 0, 0, 0, 0, 17, 0, 0, 0, 3}) == ten);
    CHECK(rig.command({0xBE, 0, 0, 0, 0, 17, 0, 0, 3, 0x10}) == ten);
    CHECK(rig.command({0xB9, 0, 0, 0, 2, 17, 0, 2, 20, 0x10}) == ten);
    CHECK(rig.command({0x28, 0, 0, 0, 0, 17, 0, 0, 0})->empty());
}

TEST_CASE("READ CD composes raw frames") {
    DriveRig rig(40);
    const auto frames = rig.command({0xBE, 0x08, 0, 0, 0, 5, 0, 0, 2, 0xF8});
    REQUIRE(frames);
    REQUIRE(frames->size() == 2 * 2352);
    std::array<uint8_t, 2048> data{};
    std::copy_n(frames->begin() + 16, 2048, data.begin());
    const auto expected = cd_mode1_frame(5, data);
    CHECK(std::equal(expected.begin(), expected.end(), frames->begin()));
    CHECK(data[0] == 5);
    CHECK(frames->at(2352 + 14) == 0x06);  // 00:02:06
    CHECK(rig.command({0xBE, 0, 0, 0, 0, 5, 0, 0, 2, 0x20})->size() == 8);
    CHECK(rig.command({0xBE, 0, 0, 0, 0, 5, 0, 0, 2, 0x00})->empty());
    CHECK(rig.failure({0xBE, 0x04, 0, 0, 0, 5, 0, 0, 1, 0xF8}) == 0x056400);  // CD-DA
    CHECK(rig.failure({0xBE, 0, 0, 0, 0, 5, 0, 0, 1, 0xF8, 1}) == 0x052400);  // sub-channels
    CHECK(rig.failure({0xBE, 0, 0, 0, 0, 5, 0, 0, 1, 0xFA}) == 0x052400);     // C2 errors
}

TEST_CASE("Blocks behind the end are out of range") {
    DriveRig rig(10);
    CHECK(rig.command({0x28, 0, 0, 0, 0, 9, 0, 0, 1}));
    CHECK(rig.failure({0x28, 0, 0, 0, 0, 9, 0, 0, 2}) == 0x052100);
    CHECK(rig.failure({0x28, 0, 0, 0, 0, 10, 0, 0, 1}) == 0x052100);
    CHECK(rig.failure({0xA8, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}) == 0x052100);
    CHECK(rig.failure({0xBE, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x10}) == 0x052100);
    CHECK(rig.failure({0x2B, 0, 0, 0, 0, 10}) == 0x052100);
    CHECK(rig.failure({0x2F, 0, 0, 0, 0, 9, 0, 0, 2}) == 0x052100);
    CHECK(rig.failure({0x44, 0, 0, 0, 0, 10, 0, 0, 8}) == 0x052100);
    CHECK(rig.failure({0xB9, 0, 0, 0, 2, 5, 0, 2, 4, 0x10}) == 0x052400);
}

TEST_CASE("A block that the host cannot read is a medium error with its address") {
    DriveRig rig(40);
    rig.disc->bad_sector = 21 * 4 + 2;
    const unsigned parts = GENERATE(0x10u, 0xF8u);
    CHECK_FALSE(rig.command({0xBE, 0, 0, 0, 0, 19, 0, 0, 4, static_cast<uint8_t>(parts)}));
    const auto data = rig.command({0x03, 0, 0, 0, 18});
    REQUIRE(data);
    CHECK(data->at(0) == 0xF0);
    CHECK(data->at(2) == 0x03);
    CHECK(number(*data, 3, 4) == 21);
    CHECK(data->at(12) == 0x11);
}

TEST_CASE("An image that ends within a block reads with zeros behind") {
    OpticalState state;
    CdromDrive drive{state, {}};
    drive.load(std::make_unique<MemoryImage>(std::vector<std::byte>(3 * 2048 + 512, std::byte{7})));
    CHECK(drive.medium()->size() == 4 * 2048);
    Bytes block(2048);
    state.reset_attention = false;
    REQUIRE(drive.execute(PacketBytes{0x28, 0, 0, 0, 0, 3, 0, 0, 1}) == CdromDrive::Outcome::data_in);
    REQUIRE(drive.give(block));
    CHECK(block[511] == 7);
    CHECK(block[512] == 0);
    CHECK(block[2047] == 0);
}

TEST_CASE("READ TOC: one data track and the lead-out, as blocks or times") {
    DriveRig rig(1000);
    CHECK(rig.command({0x43, 0, 0, 0, 0, 0, 0, 0, 255}) ==
          Bytes{0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 3, 0xE8});
    CHECK(rig.command({0x43, 2, 0, 0, 0, 0, 0, 0, 255}) ==
          Bytes{0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x14, 0xAA, 0, 0, 0, 15, 25});
    CHECK(rig.command({0x43, 0, 0, 0, 0, 0, 0xAA, 0, 255}) == Bytes{0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 3, 0xE8});
    CHECK(rig.command({0x43, 0, 0, 0, 0, 0, 0, 0, 4}) == Bytes{0, 18, 1, 1});
    CHECK(rig.command({0x43, 0, 1, 0, 0, 0, 0, 0, 255}) == Bytes{0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0});
    CHECK(rig.command({0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0x40}) == Bytes{0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0});
    const auto full = rig.command({0x43, 2, 2, 0, 0, 0, 0, 0, 255});
    REQUIRE(full);
    REQUIRE(full->size() == 4 + 4 * 11);
    CHECK(full->at(4 + 3) == 0xA0);
    CHECK(full->at(4 + 8) == 1);
    CHECK(full->at(4 + 22 + 3) == 0xA2);
    CHECK(full->at(4 + 22 + 9) == 15);
    CHECK(full->at(4 + 33 + 3) == 1);
    CHECK(rig.failure({0x43, 0, 0, 0, 0, 0, 2, 0, 255}) == 0x052400);
    CHECK(rig.failure({0x43, 0, 4, 0, 0, 0, 0, 0, 255}) == 0x052400);
}

TEST_CASE("The disc is complete, with one session of one track") {
    DriveRig rig(1000);
    const auto disc = rig.command({0x51, 0, 0, 0, 0, 0, 0, 0, 64});
    REQUIRE(disc);
    CHECK(disc->size() == 34);
    CHECK(disc->at(2) == 0x0E);
    const auto track = rig.command({0x52, 1, 0, 0, 0, 1, 0, 0, 64});
    REQUIRE(track);
    CHECK(track->size() == 36);
    CHECK(track->at(5) == 0x04);
    CHECK(number(*track, 24, 4) == 1000);
    CHECK(rig.command({0x52, 0, 0, 0, 0, 99, 0, 0, 64}) == track);
    CHECK(rig.failure({0x52, 0, 0, 0, 4, 0, 0, 0, 64}) == 0x052100);
    CHECK(rig.failure({0x52, 1, 0, 0, 0, 2, 0, 0, 64}) == 0x052400);
    CHECK(rig.command({0x44, 0, 0, 0, 0, 9, 0, 0, 8}) == Bytes{1, 0, 0, 0, 0, 0, 0, 9});
}

TEST_CASE("GET CONFIGURATION: the profile follows the medium") {
    DriveRig rig(0);
    const auto profile = [&rig] { return number(*rig.command({0x46, 0, 0, 0, 0, 0, 0, 0, 8}), 6, 2); };
    CHECK(profile() == 0);
    rig.load(1000);
    CHECK(profile() == 0x0008);
    const auto all = rig.command({0x46, 0, 0, 0, 0, 0, 0, 4, 0});
    REQUIRE(all);
    CHECK(number(*all, 0, 4) == all->size() - 4);
    const auto one = rig.command({0x46, 2, 0, 0x1E, 0, 0, 0, 4, 0});
    REQUIRE(one);
    CHECK(Bytes(one->begin() + 8, one->end()) == Bytes{0, 0x1E, 0x09, 4, 0, 0, 0, 0});
    CHECK(rig.command({0x46, 2, 0x12, 0x34, 0, 0, 0, 4, 0})->size() == 8);
    rig.drive.load(std::make_unique<HugeDisc>(2'000'000));
    CHECK(profile() == 0x0010);
    CHECK(rig.command({0x46, 1, 0, 0x1E, 0, 0, 0, 4, 0})->at(9) == 0x1F);
    CHECK(rig.failure({0x46, 3}) == 0x052400);
}

TEST_CASE("READ DVD STRUCTURE is for DVDs") {
    DriveRig rig(1000);
    CHECK(rig.failure({0xAD, 0, 0, 0, 0, 0, 0, 0, 8, 4}) == 0x053002);
    rig.drive.load(std::make_unique<HugeDisc>(2'000'000));
    const auto physical = rig.command({0xAD, 0, 0, 0, 0, 0, 0, 0, 8, 4});
    REQUIRE(physical);
    CHECK(physical->size() == 2052);
    CHECK(number(*physical, 12, 4) == 0x30000 + 2'000'000 - 1);
    CHECK(rig.command({0xAD, 0, 0, 0, 0, 0, 0, 1, 0, 8})->size() == 8);
    CHECK(rig.failure({0xAD, 0, 0, 0, 0, 0, 0, 0x20, 0, 8}) == 0x052400);
    CHECK(rig.failure({0xAD, 0, 0, 0, 0, 0, 1, 0, 0, 8}) == 0x052400);
}

TEST_CASE("MODE SENSE shows four pages, with their masks and defaults") {
    DriveRig rig(10);
    const auto all = rig.command({0x5A, 0, 0x3F, 0, 0, 0, 0, 1, 0});
    REQUIRE(all);
    CHECK(number(*all, 0, 2) == all->size() - 2);
    CHECK(all->at(2) == 0x01);
    CHECK(all->size() == 8 + 12 + 8 + 16 + 22);
    const auto capabilities = rig.command({0x5A, 0, 0x2A, 0, 0, 0, 0, 1, 0});
    REQUIRE(capabilities);
    CHECK(capabilities->at(8) == 0x2A);
    CHECK(capabilities->at(9) == 20);
    CHECK((capabilities->at(14) & 0x0B) == 0x09);
    const auto short_form = rig.command({0x1A, 0, 0x0D, 0, 255});
    REQUIRE(short_form);
    CHECK(*short_form == Bytes{11, 1, 0, 0, 0x0D, 6, 0, 0x0D, 0, 60, 0, 75});
    CHECK(rig.command({0x5A, 0, 0x4D, 0, 0, 0, 0, 1, 0})->at(11) == 0x0F);
    CHECK(rig.failure({0x5A, 0, 0xCD, 0, 0, 0, 0, 1, 0}) == 0x053900);
    CHECK(rig.failure({0x5A, 0, 0x05, 0, 0, 0, 0, 1, 0}) == 0x052400);
}

TEST_CASE("MODE SELECT changes what can be changed, all of it or nothing") {
    DriveRig rig(10);
    REQUIRE(rig.command({0x15, 0x10, 0, 0, 4 + 16},
                        {0, 0, 0, 0, 0x0E, 14, 0x06, 0xFF, 0, 0, 0, 0, 1, 99, 2, 88, 0, 0, 0, 0}));
    const auto audio = rig.command({0x5A, 0, 0x0E, 0, 0, 0, 0, 1, 0});
    REQUIRE(audio);
    CHECK(audio->at(10) == 0x06);
    CHECK(audio->at(11) == 0x00);
    CHECK(audio->at(17) == 99);
    CHECK(rig.command({0x5A, 0, 0x8E, 0, 0, 0, 0, 1, 0})->at(17) == 0xFF);
    CHECK(rig.failure({0x55, 0x10, 0, 0, 0, 0, 0, 0, 20},
                      {0, 0, 0, 0, 0, 0, 0, 0, 0x01, 6, 0x3F, 1, 0, 0, 0, 0, 0x2A, 2, 0, 0}) == 0x052600);
    CHECK(rig.command({0x5A, 0, 0x01, 0, 0, 0, 0, 1, 0})->at(10) == 0);
    CHECK(rig.failure({0x55, 0x10, 0, 0, 0, 0, 0, 0, 10}, {0, 0, 0, 0, 0, 0, 0, 0, 0x01, 6}) == 0x051A00);
    CHECK(rig.failure({0x55, 0x10, 0, 0, 0, 0, 0, 0, 4}, {0, 0, 0, 0}) == 0x051A00);
    CHECK(rig.failure({0x55, 0x10, 0, 0, 0, 0, 0, 0, 8}, {0, 0, 0, 0, 0, 0, 0, 1}) == 0x051A00);
    CHECK(rig.failure({0x55, 0x11, 0, 0, 0, 0, 0, 0, 8}) == 0x052400);
    CHECK(rig.command({0x55, 0x10})->empty());
}

TEST_CASE("START STOP UNIT opens and closes the tray with the disc in it") {
    DriveRig rig(10);
    REQUIRE(rig.command({0x1B, 0, 0, 0, 0x02}));
    CHECK_FALSE(rig.drive.medium());
    CHECK(rig.event() == std::pair{3u, 1u});
    CHECK(rig.failure({0x00}) == 0x023A02);
    CHECK(rig.command({0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8})->at(1) == 0x10);
    CHECK(rig.command({0x5A, 0, 0x2A, 0, 0, 0, 0, 1, 0})->at(2) == 0x71);
    REQUIRE(rig.command({0x1B, 0, 0, 0, 0x03}));
    CHECK(rig.drive.medium());
    CHECK(rig.event() == std::pair{2u, 2u});
    CHECK(rig.failure({0x00}) == 0x062800);
    CHECK(rig.command({0x00}));
    CHECK(rig.command({0x1B, 0, 0, 0, 0x00}));
    CHECK(rig.command({0x1B, 0, 0, 0, 0x01}));
    CHECK(rig.drive.medium());
}

TEST_CASE("A locked drive gives the disc to nobody, and tells the guest that it was asked") {
    DriveRig rig(10);
    REQUIRE(rig.command({0x1E, 0, 0, 0, 1}));
    CHECK(rig.drive.locked());
    CHECK((rig.command({0x5A, 0, 0x2A, 0, 0, 0, 0, 1, 0})->at(14) & 0x02) == 0x02);
    CHECK(rig.failure({0x1B, 0, 0, 0, 0x02}) == 0x055302);
    const auto refused = rig.drive.eject();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("locked") != std::string::npos);
    CHECK_FALSE(rig.drive.insert(numbered_disc(5)));
    CHECK(rig.event() == std::pair{1u, 2u});
    CHECK(rig.event() == std::pair{0u, 2u});
    CHECK(rig.command({0x25})->at(3) == 9);
    REQUIRE(rig.command({0x1E, 0, 0, 0, 0}));
    REQUIRE(rig.drive.eject());
    CHECK(rig.event() == std::pair{3u, 0u});
    CHECK(rig.failure({0x00}) == 0x023A01);
}

TEST_CASE("A new disc is a unit attention, an event, and a change for INT 13h") {
    DriveRig rig(10);
    CHECK_FALSE(rig.drive.medium_changed());
    REQUIRE(rig.drive.insert(numbered_disc(20)));
    CHECK(rig.drive.medium_changed());
    CHECK(rig.event() == std::pair{2u, 2u});
    CHECK(rig.failure({0x28, 0, 0, 0, 0, 0, 0, 0, 1}) == 0x062800);
    CHECK(rig.command({0x25})->at(3) == 19);
    rig.drive.acknowledge_medium_change();
    CHECK_FALSE(rig.drive.medium_changed());
    REQUIRE(rig.drive.eject());
    CHECK(rig.drive.medium_changed());
    REQUIRE(rig.drive.eject());
}

TEST_CASE("A disc that is taken out in the middle of a read ends it") {
    DriveRig rig(10);
    REQUIRE(rig.drive.execute(PacketBytes{0x28, 0, 0, 0, 0, 0, 0, 0, 5}) == CdromDrive::Outcome::data_in);
    Bytes piece(2048);
    REQUIRE(rig.drive.give(piece));
    REQUIRE(rig.drive.eject());
    CHECK_FALSE(rig.drive.give(piece));
    CHECK(rig.drive.remaining() == 0);
    CHECK(rig.sense() == 0x023A01);
}

TEST_CASE("GET EVENT STATUS NOTIFICATION knows media events by polling") {
    DriveRig rig(10);
    CHECK(rig.failure({0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8}) == 0x052400);
    CHECK(rig.command({0x4A, 1, 0, 0, 0x02, 0, 0, 0, 8}) == Bytes{0, 2, 0x80, 0x10});
    REQUIRE(rig.drive.insert(numbered_disc(5)));
    CHECK(rig.command({0x4A, 1, 0, 0, 0x10, 0, 0, 0, 4}) == Bytes{0, 6, 4, 0x10});
    CHECK(rig.event().first == 2);
}

TEST_CASE("The position follows what was read") {
    DriveRig rig(1000);
    REQUIRE(rig.command({0x28, 0, 0, 0, 1, 0, 0, 0, 4}));
    CHECK(number(*rig.command({0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8}), 2, 3) == 260);
    const auto where = rig.command({0x42, 0, 0x40, 1, 0, 0, 0, 0, 16});
    REQUIRE(where);
    CHECK(where->at(1) == 0x15);
    CHECK(number(*where, 8, 4) == 260);
    REQUIRE(rig.command({0x2B, 0, 0, 0, 0, 7}));
    CHECK(number(*rig.command({0x42, 0, 0x40, 1, 0, 0, 0, 0, 16}), 8, 4) == 7);
    CHECK(rig.command({0x42, 0, 0, 0, 0, 0, 0, 0, 16})->size() == 4);
    CHECK(rig.command({0x42, 0, 0x40, 2, 0, 0, 0, 0, 64})->size() == 24);
    CHECK(rig.failure({0x42, 0, 0x40, 9, 0, 0, 0, 0, 16}) == 0x052400);
}

TEST_CASE("SET CD SPEED is remembered, up to the fastest") {
    DriveRig rig(10);
    const auto current = [&rig] { return number(*rig.command({0x5A, 0, 0x2A, 0, 0, 0, 0, 1, 0}), 8 + 2 + 12, 2); };
    CHECK(current() == 4234);
    REQUIRE(rig.command({0xBB, 0, 706 >> 8, 706 & 0xFF}));
    CHECK(current() == 706);
    REQUIRE(rig.command({0xBB, 0, 0xFF, 0xFF}));
    CHECK(current() == 4234);
}

TEST_CASE("A reset forgets locks and settings, and keeps tray and disc") {
    DriveRig rig(10);
    REQUIRE(rig.command({0x1E, 0, 0, 0, 1}));
    REQUIRE(rig.command({0xBB, 0, 1, 0}));
    rig.drive.reset();
    CHECK_FALSE(rig.drive.locked());
    CHECK(rig.failure({0x00}) == 0x062900);
    REQUIRE(rig.command({0x1B, 0, 0, 0, 2}));
    rig.drive.reset();
    CHECK_FALSE(rig.drive.medium());
}
