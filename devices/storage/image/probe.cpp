#include "devices/storage/image/probe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "devices/storage/floppy_format.hpp"

namespace viv {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint64_t head_size = 64 * 1024;

uint64_t little(Bytes data, uint64_t offset, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size && offset + i < data.size(); ++i) {
        value |= std::to_integer<uint64_t>(data[static_cast<size_t>(offset + i)]) << (8 * i);
    }
    return value;
}

bool has_text(Bytes data, uint64_t offset, std::string_view text) {
    return offset <= data.size() && text.size() <= data.size() - offset &&
           std::memcmp(data.data() + offset, text.data(), text.size()) == 0;
}

/// Bytes of the image; those that it does not have, or cannot give, are zero.
std::vector<std::byte> read_at(DiskImage& image, uint64_t offset, uint64_t length) {
    std::vector<std::byte> bytes(static_cast<size_t>(length));
    const uint64_t there = offset < image.size() ? std::min(length, image.size() - offset) : 0;
    if (image.read(offset, std::span(bytes).first(static_cast<size_t>(there))) != DiskStatus::ok) {
        std::ranges::fill(bytes, std::byte{0});
    }
    return bytes;
}

struct Signature {
    uint64_t offset;
    std::string_view magic;
    std::string_view name;
    std::string_view advice;
};

constexpr std::string_view convert = "convert it first: qemu-img convert -O raw OLD NEW";
constexpr std::string_view unpack = "unpack it first";
constexpr std::string_view flatten = "convert it to a plain sector image first";

constexpr Signature signatures[] = {
    {0, {"QFI\xFB", 4}, "a QCOW2 disk image", convert},
    {0, {"QED\0", 4}, "a QED disk image", convert},
    {0, {"KDMV", 4}, "a VMDK disk image", convert},
    {0, {"COWD", 4}, "a VMDK disk image", convert},
    {0, "# Disk DescriptorFile", "the descriptor of a VMDK disk image", convert},
    {0x40, {"\x7F\x10\xDA\xBE", 4}, "a VDI disk image", convert},
    {0, "vhdxfile", "a VHDX disk image", convert},
    {0, "conectix", "a VHD disk image", convert},
    {0, "WithoutFreeSpace", "a Parallels disk image", convert},
    {0, "WithouFreSpacExt", "a Parallels disk image", convert},
    {0, {"\x1F\x8B", 2}, "gzip-compressed", unpack},
    {0, {"BZh", 3}, "bzip2-compressed", unpack},
    {0,
     {"\xFD"
      "7zXZ\0",
      6},
     "xz-compressed",
     unpack},
    {0, {"\x28\xB5\x2F\xFD", 4}, "zstd-compressed", unpack},
    {0, {"PK\x03\x04", 4}, "a ZIP archive", unpack},
    {0, {"7z\xBC\xAF\x27\x1C", 6}, "a 7-Zip archive", unpack},
    {0, "Rar!\x1A\x07", "a RAR archive", unpack},
    {0, "IMD ", "an ImageDisk floppy image", flatten},
    {0, {"TD\0", 3}, "a Teledisk floppy image", flatten},
    {0, {"td\0", 3}, "a Teledisk floppy image", flatten},
    {0,
     {"\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00", 12},
     "a CD image with 2352-byte sectors",
     "convert it to an ISO image first (bchunk or bin2iso)"},
};

std::optional<ImageProbe> known_but_unsupported(DiskImage& image, Bytes head) {
    for (const Signature& signature : signatures) {
        if (has_text(head, signature.offset, signature.magic)) {
            return ImageProbe{ImageKind::unsupported, std::string(signature.name), std::string(signature.advice)};
        }
    }
    // A fixed VHD is a raw disk with a footer.
    if (image.size() >= 1024) {
        const auto footer = read_at(image, image.size() - 512, 512);
        if (has_text(footer, 0, "conectix"))
            return ImageProbe{ImageKind::unsupported, "a VHD disk image", std::string(convert)};
        if (has_text(footer, 0, "koly"))
            return ImageProbe{ImageKind::unsupported, "a DMG disk image", std::string(convert)};
    }
    return std::nullopt;
}

/// Multiboot Specification 0.6.96, 3.1.1; Multiboot2 Specification 2.0, 3.1.1: which version's header is at the front.
unsigned multiboot_version(Bytes head) {
    constexpr uint64_t magic_1 = 0x1BADB002;
    constexpr uint64_t magic_2 = 0xE85250D6;
    for (uint64_t at = 0; at + 16 <= std::min<uint64_t>(head.size(), 32768); at += 4) {
        const uint64_t magic = little(head, at, 4);
        const uint64_t sum_1 = magic + little(head, at + 4, 4) + little(head, at + 8, 4);
        if (magic == magic_1 && at + 12 <= 8192 && (sum_1 & 0xFFFFFFFF) == 0) return 1;
        const uint64_t sum_2 = sum_1 + little(head, at + 12, 4);
        if (magic == magic_2 && at % 8 == 0 && (sum_2 & 0xFFFFFFFF) == 0) return 2;
    }
    return 0;
}

/// Whether an ELF note segment holds XEN_ELFNOTE_PHYS32_ENTRY (Xen's "PVH direct boot ABI").
bool has_pvh_note(Bytes notes) {
    constexpr uint64_t physical_entry_32 = 18;
    for (uint64_t at = 0; at + 12 <= notes.size();) {
        const uint64_t name_size = little(notes, at, 4);
        const uint64_t data_size = little(notes, at + 4, 4);
        const uint64_t type = little(notes, at + 8, 4);
        if (type == physical_entry_32 && name_size == 4 && has_text(notes, at + 12, {"Xen\0", 4})) return true;
        at += 12 + (name_size + 3) / 4 * 4 + (data_size + 3) / 4 * 4;
    }
    return false;
}

ImageProbe probe_elf(DiskImage& image, Bytes head) {
    constexpr uint64_t segment_note = 4;
    constexpr uint64_t max_segments = 64;
    constexpr uint64_t max_notes = 64 * 1024;
    const bool is_64 = little(head, 4, 1) == 2;
    const char* bits = is_64 ? "64-bit" : "32-bit";
    const uint64_t table = little(head, is_64 ? 0x20 : 0x1C, is_64 ? 8 : 4);
    const uint64_t entry_size = is_64 ? 56 : 32;
    const uint64_t entries = std::min(little(head, is_64 ? 0x38 : 0x2C, 2), max_segments);
    const auto segments = table < image.size() ? read_at(image, table, entry_size * entries) : std::vector<std::byte>{};
    for (uint64_t at = 0; at + entry_size <= segments.size(); at += entry_size) {
        if (little(segments, at, 4) != segment_note) continue;
        const uint64_t offset = little(segments, at + (is_64 ? 8 : 4), is_64 ? 8 : 4);
        const uint64_t length = little(segments, at + (is_64 ? 32 : 16), is_64 ? 8 : 4);
        if (offset >= image.size()) continue;
        if (has_pvh_note(read_at(image, offset, std::min(length, max_notes)))) {
            return {ImageKind::pvh_kernel, fmt::format("{} ELF kernel with a PVH entry", bits), {}};
        }
    }
    switch (multiboot_version(head)) {
        case 1: return {ImageKind::multiboot_kernel, fmt::format("Multiboot kernel ({} ELF)", bits), {}};
        case 2: return {ImageKind::multiboot2_kernel, fmt::format("Multiboot2 kernel ({} ELF)", bits), {}};
        default: break;
    }
    return {ImageKind::unsupported, fmt::format("a {} ELF program without a PVH note or Multiboot header", bits),
            "for Linux take the bzImage (vmlinuz) instead of vmlinux"};
}

/// Used entries of an MBR's partition table; nothing when some entry makes no sense (then it is code or text).
std::optional<unsigned> partitions(Bytes head) {
    unsigned used = 0;
    for (uint64_t at = 446; at < 510; at += 16) {
        const uint64_t status = little(head, at, 1);
        if (status != 0 && status != 0x80) return std::nullopt;
        if (little(head, at + 4, 1) != 0 && little(head, at + 12, 4) != 0) ++used;
    }
    return used;
}

/// A disc that boots as one is a CD-ROM; one without a boot catalogue that starts with a boot sector was made for
/// machines that take it for something else.
ImageProbe probe_iso(DiskImage& image, Bytes head) {
    constexpr uint64_t boot_record = 0x8800;
    if (has_text(head, boot_record, {"\0CD001\1EL TORITO SPECIFICATION", 30})) {
        return {ImageKind::cdrom, "bootable CD-ROM", {}};
    }
    if (!has_text(head, 510, "\x55\xAA")) return {ImageKind::cdrom, "ISO 9660 CD-ROM", {}};
    // The size alone decides: tools put a partition table on floppies of this kind, too.
    if (floppy_format_of_image(image.size(), head)) return {ImageKind::floppy, "floppy with an ISO 9660 CD-ROM", {}};
    return {ImageKind::hard_disk, "hard disk with an ISO 9660 CD-ROM", {}};
}

ImageProbe probe_boot_sector(DiskImage& image, Bytes head) {
    if (has_text(head, 512, "EFI PART")) return {ImageKind::hard_disk, "hard disk with a GUID partition table", {}};
    const auto used = partitions(head);
    if (used && *used > 0) {
        return {ImageKind::hard_disk, fmt::format("hard disk with {} partition{}", *used, *used == 1 ? "" : "s"), {}};
    }
    if (floppy_format_of_image(image.size(), head)) {
        return {ImageKind::floppy, fmt::format("boot sector with {} bytes, the start of a floppy", image.size()), {}};
    }
    return {ImageKind::hard_disk, "hard disk with a boot sector and no partitions", {}};
}

}  // namespace

ImageProbe probe_image(DiskImage& image) {
    const auto head = read_at(image, 0, std::min(image.size(), head_size));
    const bool boot_signature = has_text(head, 510, "\x55\xAA");
    if (has_text(head, 0x8001, "CD001")) return probe_iso(image, head);
    if (has_text(head, 0x8001, "BEA01")) return {ImageKind::cdrom, "UDF CD-ROM", {}};
    if (has_text(head, 0,
                 "\x7F"
                 "ELF")) {
        return probe_elf(image, head);
    }
    // Before the kernels: a kernel that was written to a floppy from its first sector on is a floppy.
    if (const FloppyFormat* format = floppy_format_of_size(image.size())) {
        const char* kind = has_text(head, 0x202, "HdrS") && boot_signature ? " that starts with a Linux kernel" : "";
        return {ImageKind::floppy, fmt::format("{} floppy{}", format->name, kind), {}};
    }
    if (auto unsupported = known_but_unsupported(image, head)) return *unsupported;
    if (has_text(head, 0x202, "HdrS") && boot_signature) {
        const uint64_t version = little(head, 0x206, 2);
        return {ImageKind::linux_kernel,
                fmt::format("Linux kernel (boot protocol {}.{:02})", version >> 8, version & 0xFF),
                {}};
    }
    if (boot_signature) return probe_boot_sector(image, head);
    switch (multiboot_version(head)) {
        case 1: return {ImageKind::multiboot_kernel, "Multiboot kernel", {}};
        case 2: return {ImageKind::multiboot2_kernel, "Multiboot2 kernel", {}};
        default: break;
    }
    if (image.size() % DiskImage::sector_size == 0) return {ImageKind::hard_disk, "raw disk without a boot sector", {}};
    return {ImageKind::unknown, "neither a disk image nor a kernel",
            "give a floppy, hard disk or ISO image, or a Linux or Multiboot kernel"};
}

Result<ImageProbe> probe_image(const std::string& path) {
    const auto image = TRY(open_disk_image(path, ImageAccess::read_only));
    return probe_image(*image);
}

}  // namespace viv
