#include "devices/storage/image/probe.hpp"

#include <initializer_list>
#include <string_view>

#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

struct Content {
    explicit Content(size_t size) : bytes(size) {}
    Content& text(size_t at, std::string_view value) {
        for (size_t i = 0; i < value.size(); ++i) bytes[at + i] = static_cast<std::byte>(value[i]);
        return *this;
    }
    Content& number(size_t at, uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
        return *this;
    }
    Content& boot_signature() { return number(510, 0xAA55, 2); }
    Content& partition(size_t index) {
        const size_t at = 446 + 16 * index;
        return number(at, 0x80, 1).number(at + 4, 0x83, 1).number(at + 8, 63, 4).number(at + 12, 1000, 4);
    }
    [[nodiscard]] ImageProbe probe() const {
        MemoryImage image(bytes);
        return probe_image(image);
    }
    std::vector<std::byte> bytes;
};

constexpr size_t floppy_size = 1440 * 1024;

Content elf(bool is_64) {
    Content content(100'000);
    content.text(0,
                 "\x7F"
                 "ELF");
    content.number(4, is_64 ? 2 : 1, 1);
    // One PT_NOTE far behind the head.
    content.number(is_64 ? 0x20 : 0x1C, 64, 4).number(is_64 ? 0x38 : 0x2C, 2, 2);
    const size_t segment = 64 + (is_64 ? 56 : 32);
    content.number(64, 1, 4).number(segment, 4, 4);
    content.number(segment + (is_64 ? 8 : 4), 90'000, 4).number(segment + (is_64 ? 32 : 16), 64, 4);
    return content;
}

Content& multiboot(Content& content, size_t at) {
    return content.number(at, 0x1BADB002, 4).number(at + 4, 3, 4).number(at + 8, 0u - 0x1BADB002u - 3u, 4);
}

Content& multiboot2(Content& content, size_t at) {
    return content.number(at, 0xE85250D6, 4).number(at + 8, 24, 4).number(at + 12, 0u - 0xE85250D6u - 24u, 4);
}

}  // namespace

TEST_CASE("An image of exactly a floppy's size is that floppy, whatever it holds") {
    CHECK(Content(floppy_size).probe().kind == ImageKind::floppy);
    CHECK(Content(floppy_size).probe().description == "1.44M floppy");
    CHECK(Content(160 * 1024).boot_signature().probe().description == "160K floppy");
    CHECK(Content(1720320).probe().description == "1.68M floppy");
    const ImageProbe kernel = Content(floppy_size).boot_signature().text(0x202, "HdrS").probe();
    CHECK(kernel.kind == ImageKind::floppy);
    CHECK(kernel.description == "1.44M floppy that starts with a Linux kernel");
}

TEST_CASE("A boot sector without partitions in a small image is the start of a floppy, in a large one a disk") {
    CHECK(Content(512).boot_signature().probe().kind == ImageKind::floppy);
    CHECK(Content(10'000).boot_signature().probe().kind == ImageKind::floppy);
    CHECK(Content(4 << 20).boot_signature().probe().kind == ImageKind::hard_disk);
}

TEST_CASE("Partition tables make hard disks") {
    CHECK(Content(1 << 20).boot_signature().partition(0).probe().description == "hard disk with 1 partition");
    CHECK(Content(1 << 20).boot_signature().partition(0).partition(2).probe().description ==
          "hard disk with 2 partitions");
    const ImageProbe gpt = Content(1 << 20).boot_signature().text(512, "EFI PART").probe();
    CHECK(gpt.kind == ImageKind::hard_disk);
    CHECK(gpt.description == "hard disk with a GUID partition table");
    // Code where the table would be.
    CHECK(Content(1 << 20).boot_signature().partition(0).number(446 + 16, 0x37, 1).probe().kind == ImageKind::floppy);
}

TEST_CASE("A disk with a boot loader that has a Multiboot header is still a disk") {
    Content disk(1 << 20);
    multiboot(disk.boot_signature().partition(0), 1024);
    CHECK(disk.probe().kind == ImageKind::hard_disk);
}

TEST_CASE("A disc with a boot sector and no boot catalogue is a floppy or a hard disk, by its size") {
    CHECK(Content(400 * 2048).text(0x8001, "CD001").boot_signature().partition(0).probe().kind == ImageKind::floppy);
    CHECK(Content(2880 * 1024).text(0x8001, "CD001").boot_signature().probe().kind == ImageKind::floppy);
    CHECK(Content(2880 * 1024 + 2048).text(0x8001, "CD001").boot_signature().probe().kind == ImageKind::hard_disk);
}

TEST_CASE("ISO 9660 is a CD-ROM, also with a partition table when it has a boot catalogue") {
    CHECK(Content(400 * 2048).text(0x8001, "CD001").probe().kind == ImageKind::cdrom);
    CHECK(Content(400 * 2048)
              .text(0x8001, "CD001")
              .text(0x8801, "CD001\1EL TORITO SPECIFICATION")
              .boot_signature()
              .partition(0)
              .probe()
              .kind == ImageKind::cdrom);
    CHECK(Content(400 * 2048).text(0x8001, "BEA01").probe().kind == ImageKind::cdrom);
}

TEST_CASE("Kernels are told by their headers") {
    const ImageProbe linux_kernel =
        Content(5'000'000).boot_signature().text(0x202, "HdrS").number(0x206, 0x020F, 2).probe();
    CHECK(linux_kernel.kind == ImageKind::linux_kernel);
    CHECK(linux_kernel.description == "Linux kernel (boot protocol 2.15)");
    for (const bool is_64 : {false, true}) {
        Content kernel = elf(is_64);
        CHECK(kernel.probe().kind == ImageKind::unsupported);
        multiboot2(kernel, 32760 - 32760 % 8 - 8);
        CHECK(kernel.probe().kind == ImageKind::multiboot2_kernel);
        multiboot(kernel, 4096);
        CHECK(kernel.probe().kind == ImageKind::multiboot_kernel);
        // Another note, then the PVH one.
        kernel.number(90'000, 5, 4).number(90'004, 2, 4).number(90'008, 6, 4);
        kernel.number(90'024, 0, 4).number(90'024, 4, 4).number(90'028, 8, 4).number(90'032, 18, 4).text(90'036, "Xen");
        CHECK(kernel.probe().kind == ImageKind::pvh_kernel);
    }
    Content flat(20'000);
    CHECK(multiboot(flat, 8180).probe().kind == ImageKind::multiboot_kernel);
    Content late(20'000);
    CHECK(multiboot(late, 8184).probe().kind == ImageKind::unknown);
    Content second(50'000);
    CHECK(multiboot2(second, 16384).probe().kind == ImageKind::multiboot2_kernel);
    Content wrong_sum(20'000);
    CHECK(multiboot(wrong_sum, 0).number(4, 5, 4).probe().kind == ImageKind::unknown);
}

TEST_CASE("Known formats that are no raw images are refused by name, with advice") {
    const auto name_of = [](size_t at, std::string_view magic) {
        const ImageProbe probe = Content(1 << 20).text(at, magic).probe();
        CHECK(probe.kind == ImageKind::unsupported);
        CHECK_FALSE(probe.advice.empty());
        return probe.description;
    };
    CHECK(name_of(0, "QFI\xFB") == "a QCOW2 disk image");
    CHECK(name_of(0, "KDMV") == "a VMDK disk image");
    CHECK(name_of(0x40, "\x7F\x10\xDA\xBE") == "a VDI disk image");
    CHECK(name_of(0, "vhdxfile") == "a VHDX disk image");
    CHECK(name_of((1 << 20) - 512, "conectix") == "a VHD disk image");
    CHECK(name_of((1 << 20) - 512, "koly") == "a DMG disk image");
    CHECK(name_of(0, "\x1F\x8B") == "gzip-compressed");
    CHECK(name_of(0, "PK\x03\x04") == "a ZIP archive");
}

TEST_CASE("A blank disk is a disk, a text is nothing") {
    CHECK(Content(1 << 20).probe().description == "raw disk without a boot sector");
    const ImageProbe text = Content(700).text(0, "Dear reader").probe();
    CHECK(text.kind == ImageKind::unknown);
    CHECK_FALSE(text.advice.empty());
}

TEST_CASE("What cannot be read counts as zeros, and wild offsets lead nowhere") {
    MemoryImage image(numbered_sectors(2048));
    image.bad_sector = 0;
    CHECK(probe_image(image).kind == ImageKind::hard_disk);
    Content wild = elf(true);
    wild.number(0x20, ~uint64_t{0}, 8).number(0x38, 0xFFFF, 2);
    CHECK(wild.probe().kind == ImageKind::unsupported);
    Content notes = elf(true);
    notes.number(64 + 56 + 8, ~uint64_t{0} - 5, 8).number(64 + 56 + 32, ~uint64_t{0}, 8);
    CHECK(notes.probe().kind == ImageKind::unsupported);
}

TEST_CASE("Probing a path reports what is wrong with the path") {
    const TemporaryFile file(Content(floppy_size).bytes);
    const auto probe = probe_image(file.path());
    REQUIRE(probe);
    CHECK(probe->kind == ImageKind::floppy);
    CHECK_FALSE(probe_image(std::string("/nonexistent.img")));
    CHECK_FALSE(probe_image(std::string("/proc")));
}
