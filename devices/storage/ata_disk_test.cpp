#include "devices/storage/ata_disk.hpp"

#include "devices/storage/ide_rig_test.hpp"

using namespace viv;

namespace {

std::vector<std::byte> filled(size_t bytes, unsigned value) {
    return std::vector<std::byte>(bytes, static_cast<std::byte>(value));
}

}  // namespace

TEST_CASE("IDENTIFY tells size, translation, modes and names as a driver reads them") {
    IdeRig rig(4000, 100);
    const auto words = rig.identify();
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK((words[0] & 0x8000) == 0);
    CHECK(words[1] == 3);
    CHECK(words[3] == 16);
    CHECK(words[6] == 63);
    CHECK(words[10] == ('V' << 8 | 'I'));
    CHECK(words[27] == ('V' << 8 | 'i'));
    CHECK((words[49] & 0x0300) == 0x0300);  // LBA, DMA
    CHECK((words[60] | words[61] << 16) == 4000);
    CHECK((words[83] & 0xC400) == 0x4400);
    CHECK((words[100] | words[101] << 16) == 4000);
    CHECK((words[57] | words[58] << 16) == 3 * 16 * 63);
    unsigned sum = 0;
    for (const uint16_t word : words) sum += (word & 0xFF) + (word >> 8);
    CHECK((sum & 0xFF) == 0);
    CHECK(rig.identify(1)[60] == 100);
}

TEST_CASE("An OpenBSD-style driver sets translation and transfer mode, then reads by CHS") {
    IdeRig rig(4000);
    rig.out(0x1F6, 0xAF);
    rig.out(0x1F2, 63);
    rig.out(0x1F7, 0x91);
    CHECK(rig.irq());
    CHECK(rig.in(0x1F7) == 0x50);
    rig.out(0x1F1, 0x03);
    rig.out(0x1F2, 0x0C);
    rig.out(0x1F7, 0xEF);
    CHECK(rig.in(0x1F7) == 0x50);
    rig.command_chs(0x20, 2, 5, 10, 1);
    CHECK(rig.in(0x1F7) == 0x58);
    CHECK(rig.same(rig.data_in(512), (2 * 16 + 5) * 63 + 9));
    CHECK(rig.in(0x1F7) == 0x50);
    // Another translation moves the same address.
    rig.out(0x1F6, 0xA3);
    rig.out(0x1F2, 17);
    rig.out(0x1F7, 0x91);
    rig.command_chs(0x20, 2, 3, 17, 1);
    CHECK(rig.same(rig.data_in(512), (2 * 4 + 3) * 17 + 16));
    const auto words = rig.identify();
    CHECK(words[54] == 4000 / (4 * 17));
    CHECK(words[55] == 4);
    CHECK(words[56] == 17);
    CHECK(words[6] == 63);
}

TEST_CASE("A Linux-style driver reads several sectors with an interrupt for each") {
    IdeRig rig(4000);
    rig.command28(0x20, 1000, 3);
    for (size_t sector = 0; sector < 3; ++sector) {
        CHECK(rig.irq());
        CHECK(rig.in(0x1F7) == 0x58);
        CHECK_FALSE(rig.irq());
        CHECK(rig.same(rig.data_in(512), 1000 + sector));
    }
    CHECK_FALSE(rig.irq());
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK(rig.in(0x1F2) == 0);
    CHECK(rig.in(0x1F3) == (1002 & 0xFF));
    CHECK(rig.in(0x1F4) == 1002 >> 8);
}

TEST_CASE("A write interrupts after each sector, the last one with DRQ gone") {
    IdeRig rig(4000);
    rig.command28(0x30, 77, 2);
    CHECK_FALSE(rig.irq());
    CHECK(rig.in(0x1F7) == 0x58);
    rig.data_out(filled(512, 0x11));
    CHECK(rig.irq());
    CHECK(rig.in(0x1F7) == 0x58);
    rig.data_out(filled(512, 0x22));
    CHECK(rig.irq());
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK(rig.same(filled(512, 0x11), 77));
    CHECK(rig.same(filled(512, 0x22), 78));
    const auto untouched = numbered_sectors(80);
    CHECK(rig.same(std::span(untouched).subspan(79 * 512), 79));
}

TEST_CASE("READ and WRITE MULTIPLE move blocks of sectors, the last one short") {
    IdeRig rig(4000);
    rig.command28(0xC4, 0, 1);
    CHECK(rig.in(0x1F7) == 0x51);
    CHECK(rig.in(0x1F1) == 0x04);
    rig.out(0x1F2, 3);
    rig.out(0x1F7, 0xC6);
    CHECK(rig.in(0x1F1) == 0x04);
    rig.out(0x1F2, 32);
    rig.out(0x1F7, 0xC6);
    CHECK(rig.in(0x1F1) == 0x04);
    rig.out(0x1F2, 8);
    rig.out(0x1F7, 0xC6);
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK(rig.identify()[59] == 0x0108);
    rig.in(0x1F7);
    rig.command28(0xC4, 100, 11);
    CHECK(rig.irq());
    CHECK(rig.in(0x1F7) == 0x58);
    CHECK(rig.same(rig.data_in(8 * 512), 100));
    CHECK(rig.irq());
    CHECK(rig.same(rig.data_in(3 * 512), 108));
    CHECK(rig.in(0x1F7) == 0x50);
    rig.command28(0xC5, 200, 9);
    rig.data_out(filled(8 * 512, 0x33));
    CHECK(rig.irq());
    CHECK(rig.in(0x1F7) == 0x58);
    rig.data_out(filled(512, 0x44));
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK(rig.same(filled(8 * 512, 0x33), 200));
    CHECK(rig.same(filled(512, 0x44), 208));
}

TEST_CASE("48-bit commands reach behind 28 bits") {
    IdeRig rig(0);
    // A sparse image of 200 GB: only the end is ever touched.
    struct Sparse final : DiskImage {
        [[nodiscard]] uint64_t size() const override { return uint64_t{200} << 30; }
        [[nodiscard]] bool read_only() const override { return false; }
        [[nodiscard]] const std::string& name() const override { return text; }
        DiskStatus read(uint64_t offset, std::span<std::byte> out) override {
            if (offset + out.size() > size()) return DiskStatus::out_of_range;
            std::ranges::fill(out, std::byte{0});
            if (offset == last) std::ranges::fill(out, std::byte{0x77});
            last_read = offset;
            return DiskStatus::ok;
        }
        DiskStatus write(uint64_t offset, std::span<const std::byte>) override {
            last = offset;
            return DiskStatus::ok;
        }
        DiskStatus flush() override { return DiskStatus::ok; }
        uint64_t last = 0;
        uint64_t last_read = 0;
        std::string text = "sparse";
    };
    auto owned = std::make_unique<Sparse>();
    Sparse& image = *owned;
    rig.channel.attach(0, std::make_unique<AtaDisk>(rig.channel.device_state(0), std::move(owned), AtaDisk::Place{}));
    const uint64_t sectors = image.sectors();
    const auto words = rig.identify();
    CHECK((words[60] | words[61] << 16) == 0x0FFFFFFF);
    CHECK(words[1] == 16383);
    CHECK((words[100] | uint64_t{words[101]} << 16 | uint64_t{words[102]} << 32) == sectors);
    rig.command48(0x34, sectors - 2, 1);
    rig.data_out(filled(512, 1));
    CHECK(image.last == (sectors - 2) * 512);
    rig.command48(0x24, sectors - 2, 1);
    CHECK(rig.data_in(512) == filled(512, 0x77));
    CHECK(rig.in(0x1F7) == 0x50);
    rig.command48(0x24, sectors - 1, 3);
    CHECK(rig.data_in(512).size() == 512);
    CHECK(rig.in(0x1F7) == 0x51);
    CHECK(rig.in(0x1F1) == 0x10);
    CHECK(rig.in(0x1F2) == 2);
    rig.out(0x3F6, 0x80);
    CHECK(rig.in(0x1F3) == (sectors >> 24 & 0xFF));
    rig.out(0x3F6, 0x00);
    rig.command48(0x42, 0x10000000, 0);  // 65536 sectors
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK(image.last_read == (0x10000000ull + 65536 - 128) * 512);
    rig.command48(0x27, 0, 0);
    CHECK(rig.in(0x1F3) == ((sectors - 1) & 0xFF));
    rig.command28(0xF8, 0, 0);
    CHECK(rig.in(0x1F3) == 0xFF);
    CHECK((rig.in(0x1F6) & 0x0F) == 0x0F);
    rig.out(0x1F2, 2);
    rig.out(0x1F7, 0xC6);
    rig.command48(0x29, 5, 2);
    CHECK(rig.data_in(1024) == filled(1024, 0));
    rig.command48(0x39, 5, 2);
    rig.data_out(filled(1024, 0));
    CHECK(rig.in(0x1F7) == 0x50);
    CHECK(image.last == 6 * 512);
}

TEST_CASE("A count of zero is 256 sectors") {
    IdeRig rig(1000);
    rig.command28(0x20, 0, 0);
    CHECK(rig.same(rig.data_in(256 * 512), 0));
    CHECK(rig.in(0x1F7) == 0x50);
}

TEST_CASE("Addresses that the disk does not have are not found") {
    IdeRig rig(4000);
    const auto refused = [&] {
        const bool error = rig.in(0x1F7) == 0x51;
        return error && rig.in(0x1F1) == 0x10;
    };
    for (const unsigned opcode : {0x20u, 0x30u, 0x40u, 0x70u}) {
        rig.command28(opcode, 4000, 1);
        CHECK(rig.irq());
        CHECK(refused());
        rig.command_chs(opcode, 3, 0, 1, 1);
        CHECK(refused());
        rig.command_chs(opcode, 0, 0, 0, 1);
        CHECK(refused());
        rig.command_chs(opcode, 0, 0, 64, 1);
        CHECK(refused());
    }
    rig.command28(0x20, 3999, 2);
    CHECK(rig.same(rig.data_in(512), 3999));
    CHECK(refused());
    CHECK(rig.in(0x1F3) == (4000 & 0xFF));
    CHECK(rig.in(0x1F2) == 1);
    rig.command28(0x30, 3999, 2);
    rig.data_out(filled(1024, 1));
    CHECK(refused());
    CHECK(rig.same(filled(512, 1), 3999));
}

TEST_CASE("A bad sector is uncorrectable at its own address, also within a block") {
    IdeRig rig(4000);
    rig.images[0]->bad_sector = 205;
    rig.command28(0x20, 205, 1);
    CHECK(rig.in(0x1F7) == 0x51);
    CHECK(rig.in(0x1F1) == 0x40);
    rig.out(0x1F2, 16);
    rig.out(0x1F7, 0xC6);
    rig.command28(0xC4, 200, 16);
    CHECK(rig.in(0x1F7) == 0x51);
    CHECK(rig.in(0x1F1) == 0x40);
    CHECK(rig.in(0x1F3) == 205);
    CHECK(rig.in(0x1F2) == 11);
    rig.command_chs(0x40, 0, 3, 10, 20);  // sectors 198 to 217
    CHECK(rig.in(0x1F1) == 0x40);
    CHECK(rig.in(0x1F3) == 205 % 63 + 1);
    CHECK((rig.in(0x1F6) & 0x0F) == 205 / 63);
}

TEST_CASE("Writes that the host cannot take are device faults, and to read-only images write protected") {
    IdeRig rig(4000);
    rig.images[0]->bad_sector = 11;
    rig.images[0]->fault = DiskStatus::no_space;
    rig.command28(0x30, 10, 2);
    rig.data_out(filled(1024, 1));
    CHECK(rig.in(0x1F7) == 0x71);
    CHECK(rig.in(0x1F1) == 0x04);
    CHECK(rig.in(0x1F3) == 11);
    IdeRig fixed(100, 0, ImageAccess::read_only);
    fixed.command28(0x30, 10, 1);
    CHECK(fixed.in(0x1F7) == 0x51);
    CHECK(fixed.in(0x1F1) == 0x44);
}

TEST_CASE("Flushes reach the image, and each write does when the write cache is off") {
    IdeRig rig(100);
    MemoryImage& image = *rig.images[0];
    for (const unsigned opcode : {0xE7u, 0xEAu}) {
        rig.out(0x1F7, opcode);
        CHECK(rig.in(0x1F7) == 0x50);
    }
    CHECK(image.flushes == 2);
    rig.command28(0x30, 1, 1);
    rig.data_out(filled(512, 1));
    CHECK(image.flushes == 2);
    rig.out(0x1F1, 0x82);
    rig.out(0x1F7, 0xEF);
    CHECK(image.flushes == 3);
    CHECK((rig.identify()[85] & 0x20) == 0);
    rig.command28(0x30, 1, 1);
    rig.data_out(filled(512, 1));
    CHECK(image.flushes == 4);
    image.flush_fault = DiskStatus::io_error;
    for (const unsigned opcode : {0xE7u, 0xE0u}) {
        rig.out(0x1F7, opcode);
        CHECK(rig.in(0x1F7) == 0x71);
    }
    rig.command28(0x30, 1, 1);
    rig.data_out(filled(512, 1));
    CHECK((rig.in(0x1F7) & 0x01) == 1);
}

TEST_CASE("Power modes show in CHECK POWER MODE, and sleep ends with a reset only") {
    IdeRig rig(100);
    const auto mode = [&] {
        rig.out(0x1F7, 0xE5);
        return rig.in(0x1F2);
    };
    CHECK(mode() == 0xFF);
    rig.out(0x1F7, 0xE1);
    CHECK(mode() == 0x80);
    rig.out(0x1F7, 0xE0);
    CHECK(mode() == 0x00);
    rig.command28(0x20, 0, 1);
    rig.data_in(512);
    CHECK(mode() == 0xFF);
    rig.out(0x1F7, 0xE6);
    CHECK(rig.irq());
    rig.in(0x1F7);
    rig.out(0x1F7, 0xEC);
    CHECK_FALSE(rig.irq());
    rig.out(0x3F6, 0x04);
    rig.out(0x3F6, 0x00);
    CHECK(mode() == 0xFF);
}

TEST_CASE("A software reset takes the settings back unless the driver asked to keep them") {
    IdeRig rig(4000);
    const auto set_up = [&](unsigned feature) {
        rig.out(0x1F1, feature);
        rig.out(0x1F7, 0xEF);
        rig.out(0x1F2, 8);
        rig.out(0x1F7, 0xC6);
        rig.out(0x1F6, 0xA3);
        rig.out(0x1F2, 17);
        rig.out(0x1F7, 0x91);
        rig.out(0x3F6, 0x04);
        rig.out(0x3F6, 0x00);
        return rig.identify();
    };
    auto words = set_up(0x66);
    CHECK(words[59] == 0x0108);
    CHECK(words[56] == 17);
    words = set_up(0xCC);
    CHECK(words[59] == 0);
    CHECK(words[56] == 63);
}

TEST_CASE("Commands that this disk does not have are aborted") {
    IdeRig rig(100);
    for (const unsigned opcode : {0x00u, 0x08u, 0x22u, 0x26u, 0x37u, 0x92u, 0xA0u, 0xA1u, 0xB0u, 0xC7u, 0xCCu, 0xE4u,
                                  0xF1u, 0xF2u, 0xF5u, 0xF9u, 0xFFu}) {
        INFO(opcode);
        rig.command28(opcode, 0, 1);
        CHECK(rig.irq());
        CHECK(rig.in(0x1F7) == 0x51);
        CHECK(rig.in(0x1F1) == 0x04);
    }
    for (const unsigned feature : {0x05u, 0x99u, 0x5Du}) {
        rig.out(0x1F1, feature);
        rig.out(0x1F7, 0xEF);
        CHECK(rig.in(0x1F1) == 0x04);
    }
    rig.out(0x1F1, 0x03);
    rig.out(0x1F2, 0x23);  // no such multiword DMA
    rig.out(0x1F7, 0xEF);
    CHECK(rig.in(0x1F1) == 0x04);
    rig.out(0x1F2, 0);
    rig.out(0x1F7, 0x91);  // no sectors a track
    CHECK(rig.in(0x1F1) == 0x04);
    rig.out(0x1F7, 0x10);
    CHECK(rig.in(0x1F7) == 0x50);
    rig.command28(0x7F, 5, 1);
    CHECK(rig.in(0x1F7) == 0x50);
}

TEST_CASE("A command in the middle of a transfer takes its place") {
    IdeRig rig(100);
    rig.command28(0x30, 5, 1);
    rig.data_out(filled(100, 0x55));
    rig.command28(0x20, 6, 1);
    CHECK(rig.same(rig.data_in(512), 6));
    CHECK(rig.images[0]->bytes == numbered_sectors(100));
}

TEST_CASE("Default translations hold for every size, and the BIOS one fits into ten bits") {
    for (const uint64_t sectors : {1ull, 62ull, 63ull, 64ull, 1007ull, 1008ull, 2880ull, 1032192ull, 16514064ull,
                                   16514065ull, 1ull << 28, 1ull << 32, 1ull << 40}) {
        INFO(sectors);
        const DriveGeometry disk = ata_geometry(sectors);
        const DriveGeometry bios = bios_translation(disk, sectors);
        CHECK(uint64_t{disk.cylinders} * disk.heads * disk.sectors <= sectors);
        CHECK(disk.cylinders >= 1);
        CHECK(disk.cylinders <= 16383);
        CHECK(disk.heads <= 16);
        CHECK(disk.sectors <= 63);
        CHECK(bios.cylinders <= 1024);
        CHECK(bios.heads <= 255);
        CHECK(uint64_t{bios.cylinders} * bios.heads * bios.sectors <= sectors);
    }
    static_assert(ata_geometry(1032192) == DriveGeometry{1024, 16, 63});
    static_assert(bios_translation({1024, 16, 63}, 1032192) == DriveGeometry{1024, 16, 63});
    static_assert(bios_translation({2048, 16, 63}, 2064384) == DriveGeometry{1024, 32, 63});
    static_assert(bios_translation({16383, 16, 63}, 1ull << 32) == DriveGeometry{1024, 255, 63});
}

TEST_CASE("A partitioned disk keeps the translation it was partitioned with") {
    const auto make = [](unsigned head, unsigned sector, unsigned cylinder, uint32_t start, uint32_t length) {
        auto image = std::make_unique<MemoryImage>(size_t{200000} * 512);
        const unsigned entry[] = {0x80, 1, 1, 0, 0x06, head, sector | (cylinder >> 2 & 0xC0), cylinder & 0xFF};
        for (size_t i = 0; i < 8; ++i) image->bytes[446 + i] = static_cast<std::byte>(entry[i]);
        for (size_t i = 0; i < 4; ++i) {
            image->bytes[454 + i] = static_cast<std::byte>(start >> (8 * i));
            image->bytes[458 + i] = static_cast<std::byte>(length >> (8 * i));
        }
        image->bytes[510] = std::byte{0x55};
        image->bytes[511] = std::byte{0xAA};
        return image;
    };
    AtaDeviceState state;
    const AtaDisk small(state, make(3, 17, 99, 17, 100 * 4 * 17 - 17), {});
    CHECK(small.geometry() == DriveGeometry{200000 / 68, 4, 17});
    CHECK(small.bios_geometry() == DriveGeometry{1024, 4, 17});
    const AtaDisk large(state, make(254, 63, 11, 63, 12 * 255 * 63 - 63), {});
    CHECK(large.geometry() == DriveGeometry{198, 16, 63});
    CHECK(large.bios_geometry() == DriveGeometry{12, 255, 63});
    const AtaDisk wrong(state, make(9, 17, 99, 17, 5000), {});
    CHECK(wrong.geometry() == DriveGeometry{198, 16, 63});
    CHECK(wrong.bios_geometry() == DriveGeometry{198, 16, 63});
}
