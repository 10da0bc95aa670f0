#include "devices/storage/floppy_format.hpp"

#include <vector>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

std::vector<std::byte> boot_sector(uint16_t per_track, uint16_t heads, uint16_t total) {
    std::vector<std::byte> sector(512);
    const auto put = [&](size_t at, uint16_t value) {
        sector[at] = static_cast<std::byte>(value);
        sector[at + 1] = static_cast<std::byte>(value >> 8);
    };
    put(0x0B, 512);
    put(0x13, total);
    put(0x18, per_track);
    put(0x1A, heads);
    return sector;
}

const std::vector<std::byte> no_boot_sector(512);

}  // namespace

TEST_CASE("Each usual size has its format, its drive and its data rate") {
    struct Expected {
        uint64_t kib;
        DriveGeometry geometry;
        FloppyType drive;
        uint8_t rate;
    };
    for (const auto& [kib, geometry, drive, rate] : std::initializer_list<Expected>{
             {160, {40, 1, 8}, FloppyType::d360k, 2},
             {180, {40, 1, 9}, FloppyType::d360k, 2},
             {320, {40, 2, 8}, FloppyType::d360k, 2},
             {360, {40, 2, 9}, FloppyType::d360k, 2},
             {720, {80, 2, 9}, FloppyType::d1440k, 2},
             {1200, {80, 2, 15}, FloppyType::d1200k, 0},
             {1440, {80, 2, 18}, FloppyType::d1440k, 0},
             {1680, {80, 2, 21}, FloppyType::d1440k, 0},
             {1722, {82, 2, 21}, FloppyType::d1440k, 0},
             {2880, {80, 2, 36}, FloppyType::d2880k, 3},
         }) {
        const auto format = floppy_format_of_image(kib * 1024, no_boot_sector);
        REQUIRE(format);
        INFO(format->name);
        CHECK(format->geometry == geometry);
        CHECK(format->bytes() == kib * 1024);
        CHECK(floppy_type_for(*format) == drive);
        CHECK(floppy_data_rate(drive, format->density) == rate);
        CHECK(floppy_drive_reads(drive, *format));
    }
}

TEST_CASE("No two usual formats have the same size, so that the size decides") {
    for (const FloppyFormat& format : floppy_formats) CHECK(floppy_format_of_size(format.bytes()) == &format);
}

TEST_CASE("An image of an unusual size has the format that its boot sector gives") {
    const auto format = floppy_format_of_image(80 * 2 * 19 * 512, boot_sector(19, 2, 80 * 2 * 19));
    REQUIRE(format);
    CHECK(format->geometry == DriveGeometry{80, 2, 19});
    CHECK(format->density == FloppyDensity::high_density);
    // A boot sector that is not about this image does not count.
    CHECK(floppy_format_of_image(1000 * 512, boot_sector(9, 2, 720))->name == "1.44M");
    for (const auto& wrong : {boot_sector(0, 2, 2880), boot_sector(18, 0, 2880), boot_sector(18, 3, 2880),
                              boot_sector(63, 2, 2880), boot_sector(18, 2, 2881), boot_sector(1, 1, 2000)}) {
        CHECK_FALSE(floppy_format_of_boot_sector(wrong));
    }
    CHECK_FALSE(floppy_format_of_boot_sector(std::span(no_boot_sector).first(100)));
}

TEST_CASE("A short image is taken for the beginning of a 1.44M or 2.88M floppy, a large one for none") {
    CHECK(floppy_format_of_image(512, no_boot_sector)->name == "1.44M");
    CHECK(floppy_format_of_image(1440 * 1024 + 512, no_boot_sector)->name == "2.88M");
    CHECK(floppy_format_of_image(100 * 1024, boot_sector(9, 2, 720))->name == "360K");
    CHECK_FALSE(floppy_format_of_image(2880 * 1024 + 1, no_boot_sector));
}

TEST_CASE("Drives take what fits and what they can read") {
    const FloppyFormat& f360 = *floppy_format_of_size(360 * 1024);
    const FloppyFormat& f720 = *floppy_format_of_size(720 * 1024);
    const FloppyFormat& f1200 = *floppy_format_of_size(1200 * 1024);
    const FloppyFormat& f1440 = *floppy_format_of_size(1440 * 1024);
    const FloppyFormat& f2880 = *floppy_format_of_size(2880 * 1024);
    CHECK(floppy_drive_reads(FloppyType::d1200k, f360));
    CHECK_FALSE(floppy_drive_reads(FloppyType::d360k, f1200));
    CHECK_FALSE(floppy_drive_reads(FloppyType::d1440k, f360));
    CHECK(floppy_drive_reads(FloppyType::d1440k, f720));
    CHECK_FALSE(floppy_drive_reads(FloppyType::d720k, f1440));
    CHECK_FALSE(floppy_drive_reads(FloppyType::d1440k, f2880));
    CHECK(floppy_drive_reads(FloppyType::d2880k, f1440));
    CHECK_FALSE(floppy_drive_reads(FloppyType::none, f1440));
    CHECK(floppy_data_rate(FloppyType::d1200k, FloppyDensity::double_density) == 1);
}

TEST_CASE("Drive types have the names of viv,drive-type") {
    for (const auto type :
         {FloppyType::d360k, FloppyType::d1200k, FloppyType::d720k, FloppyType::d1440k, FloppyType::d2880k}) {
        CHECK(floppy_type_of_name(floppy_type_name(type)) == type);
    }
    CHECK_FALSE(floppy_type_of_name("1.44"));
    CHECK(floppy_type_name(FloppyType::none) == "none");
}
