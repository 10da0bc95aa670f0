// Reference: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", "Details of header fields".
#include "vmm/boot/linux_image.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace viv::boot {
namespace {

constexpr uint64_t sector = 512;
constexpr uint64_t header_start = 0x1F1;
constexpr uint64_t header_base = 0x202;         // the byte at 201h says how far behind here the header goes
constexpr uint64_t largest_header_end = 0x290;  // where the next field of the boot parameters begins
constexpr uint8_t LOADED_HIGH = 0x01;
// Before the kernel says how much memory it needs (init_size), only its setup knows the way: iPXE claims to be 2.07.
constexpr uint16_t since_32_bit_entry = 0x020A;
constexpr uint16_t XLF_KERNEL_64 = 0x0001;

template <class T>
T field(std::span<const std::byte> file, uint64_t offset) {
    T value{};
    std::memcpy(&value, file.data() + offset, sizeof(T));
    return value;
}

}  // namespace

Result<LinuxImage> parse_linux_image(std::span<const std::byte> file) {
    // All fields up to 268h are in the first two sectors, which the smallest kernel has.
    if (file.size() < 2 * sector) {
        return fail_usage(fmt::format("the file has {} bytes; a Linux kernel's header alone takes 1024", file.size()));
    }
    if (field<uint32_t>(file, 0x202) != 0x53726448 || field<uint16_t>(file, 0x1FE) != 0xAA55)
        return fail_usage("not a Linux kernel (bzImage): the header's signature \"HdrS\" is missing");

    LinuxImage image;
    image.protocol = field<uint16_t>(file, 0x206);
    if (image.protocol < 0x0200) {
        return fail_usage(fmt::format("a kernel of boot protocol {}.{:02}; direct boot begins with 2.00 (Linux 2.0)",
                                      image.protocol >> 8, image.protocol & 0xFF));
    }
    image.in_high_memory = (field<uint8_t>(file, 0x211) & LOADED_HIGH) != 0;

    const uint64_t header_end = header_base + field<uint8_t>(file, 0x201);
    const uint64_t shortest_header_end = image.protocol >= 0x0202 ? 0x22C : 0x220;
    if (header_end < shortest_header_end || header_end > largest_header_end) {
        return fail_usage(
            fmt::format("the kernel's header would end at {:#x}, which no boot protocol allows", header_end));
    }
    image.setup_header = file.subspan(header_start, header_end - header_start);

    // "For backwards compatibility, if the setup_sects field contains 0, the real value is 4."
    const uint64_t setup_sectors = field<uint8_t>(file, 0x1F1) ? field<uint8_t>(file, 0x1F1) : 4;
    const uint64_t code_start = (setup_sectors + 1) * sector;
    if (code_start >= file.size()) {
        return fail_usage(
            fmt::format("the kernel is cut short: {} bytes, but its code begins at {}", file.size(), code_start));
    }
    image.setup = file.first(code_start);
    image.code = file.subspan(code_start);
    // syssize counts paragraphs; before 2.04 its upper half is something else.
    const uint64_t paragraphs = image.protocol >= 0x0204 ? field<uint32_t>(file, 0x1F4) : field<uint16_t>(file, 0x1F4);
    const uint64_t code_size = paragraphs * 16;
    // The last paragraph may be incomplete.
    if (image.protocol >= 0x0204 && code_size >= image.code.size() + 16) {
        return fail_usage(fmt::format("the kernel is cut short: its code has {} bytes, {} of them are in the file",
                                      code_size, image.code.size()));
    }

    // A field counts where the protocol has it and the header is long enough to hold it.
    const auto has = [&](uint16_t since, uint64_t end) { return image.protocol >= since && header_end >= end; };
    constexpr uint64_t default_address = 0x100000;
    image.preferred_address = default_address;
    image.initrd_limit = (has(0x0203, 0x230) ? field<uint32_t>(file, 0x22C) : 0x37FFFFFF) + uint64_t{1};
    if (has(0x0205, 0x235)) {
        image.relocatable = field<uint8_t>(file, 0x234) != 0;
        image.alignment = field<uint32_t>(file, 0x230);
        if (image.relocatable && !std::has_single_bit(image.alignment)) {
            return fail_usage(
                fmt::format("the kernel asks for an alignment of {:#x}, which is no power of 2", image.alignment));
        }
    }
    if (has(0x0206, 0x23C)) image.command_line_limit = field<uint32_t>(file, 0x238);
    image.memory_size = image.code.size();
    if (has(0x020A, 0x264)) {
        // A kernel that may move says where it likes to be; one that may not has to be at 1 MiB.
        if (image.relocatable) image.preferred_address = field<uint64_t>(file, 0x258);
        image.memory_size = std::max<uint64_t>(image.memory_size, field<uint32_t>(file, 0x260));
    }
    if (image.protocol < since_32_bit_entry || !image.in_high_memory) image.entry = LinuxEntry::real_16;
    if (has(0x020C, 0x238) && (field<uint16_t>(file, 0x236) & XLF_KERNEL_64)) image.entry = LinuxEntry::long_64;
    constexpr uint64_t entry_64_offset = 0x200;
    if (image.entry == LinuxEntry::long_64 && image.code.size() <= entry_64_offset)
        return fail_usage("the kernel is cut short: its 64-bit entry is not in the file");
    return image;
}

Result<void> choose_entry(LinuxImage& image, LinuxEntry entry) {
    if (entry == LinuxEntry::long_64 && image.entry != LinuxEntry::long_64)
        return fail_usage("this kernel has no 64-bit entry; 32 or 16 will do");
    if (entry == LinuxEntry::protected_32 && image.entry == LinuxEntry::real_16) {
        return fail_usage(fmt::format("a {} of boot protocol {}.{:02} has no 32-bit entry; 16 will do",
                                      image.in_high_memory ? "kernel" : "zImage", image.protocol >> 8,
                                      image.protocol & 0xFF));
    }
    image.entry = entry;
    return {};
}

}  // namespace viv::boot
