// Reference: Linux Documentation/arch/x86/boot.rst, "32-bit boot protocol", "64-bit boot protocol", and zero-page.rst.
#include "vmm/boot/linux_kernel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "vmm/boot/entry_state.hpp"

namespace viv::boot {
namespace {

constexpr uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

// What the loader leaves in low memory, away from the BIOS's own data; the kernel takes it over.
constexpr Gpa boot_parameters_at{0x10000};
constexpr Gpa gdt_at{0x11000};
constexpr Gpa page_tables_at{0x12000};  // PML4, PDPT, four page directories
constexpr Gpa command_line_at{0x20000};
constexpr uint64_t longest_command_line = 0xFFFF;
constexpr Gpa stack_top{0x10000};

constexpr size_t boot_parameters_size = 4096;

template <class T>
void put(std::span<std::byte> area, size_t offset, T value) {
    VIV_ASSERT(offset + sizeof(T) <= area.size());
    std::memcpy(area.data() + offset, &value, sizeof(T));
}

struct Range {
    uint64_t start = 0;
    uint64_t end = 0;
};

/// Usable RAM from 1 MiB to 4 GiB, which on every board of ours is one stretch.
Range high_memory(const std::vector<MemoryMapEntry>& memory_map) {
    for (const MemoryMapEntry& entry : memory_map) {
        if (entry.type != 1 || entry.base > mib || entry.base + entry.length <= mib) continue;
        return {mib, std::min(entry.base + entry.length, 4 * gib)};
    }
    return {mib, mib};
}

/// Identity-mapped with 2 MiB pages up to 4 GiB.
void write_page_tables(GuestMemory& memory) {
    constexpr uint64_t present_writable = 0x3, large_page = 0x80;
    constexpr uint64_t page = GuestMemory::page_size, entries = 512;
    const Gpa pml4 = page_tables_at, pdpt = pml4 + page, directories = pdpt + page;
    const std::vector<std::byte> zeros(6 * page);
    memory.write(pml4, zeros);
    memory.store(pml4, pdpt.value | present_writable);
    for (uint64_t i = 0; i < 4; ++i) memory.store(pdpt + i * 8, (directories.value + i * page) | present_writable);
    for (uint64_t i = 0; i < 4 * entries; ++i)
        memory.store(directories + i * 8, (i * 2 * mib) | present_writable | large_page);
}

/// A Linux kernel, and where it and its initrd go.
class LinuxKernel final : public Kernel {
  public:
    LinuxKernel(KernelFiles files, KernelMachine machine, LinuxImage image)
        : files_(std::move(files)), machine_(std::move(machine)), image_(image) {}

    Result<void> place();
    [[nodiscard]] CpuState load(GuestMemory& memory) const override;

  private:
    [[nodiscard]] std::vector<std::byte> boot_parameters() const;

    KernelFiles files_;  // `image_` refers to it
    KernelMachine machine_;
    LinuxImage image_;
    std::vector<std::byte> initrd_;
    LinuxPlacement placement_;
};

Result<void> LinuxKernel::place() {
    const uint64_t limit = std::min<uint64_t>(image_.command_line_limit, longest_command_line);
    if (files_.command_line.size() > limit) {
        return fail_usage(
            fmt::format("the command line has {} characters; this kernel takes {}", files_.command_line.size(), limit));
    }
    // The kernel unpacks what follows each other at multiples of 4.
    for (HostFile& module : files_.modules) {
        initrd_.resize((initrd_.size() + 3) / 4 * 4);
        initrd_.insert(initrd_.end(), module.content.begin(), module.content.end());
        module.content = {};
    }
    placement_ = TRY(place_linux(image_, initrd_.size(), machine_.memory_map));
    return {};
}

std::vector<std::byte> LinuxKernel::boot_parameters() const {
    std::vector<std::byte> parameters(boot_parameters_size);
    const std::span<std::byte> area(parameters);
    // screen_info: the text mode that power-on has set.
    put<uint8_t>(area, 0x06, 3);    // orig_video_mode
    put<uint8_t>(area, 0x07, 80);   // orig_video_cols
    put<uint16_t>(area, 0x0A, 3);   // orig_video_ega_bx: 256 KiB of video memory
    put<uint8_t>(area, 0x0E, 25);   // orig_video_lines
    put<uint8_t>(area, 0x0F, 1);    // orig_video_isVGA
    put<uint16_t>(area, 0x10, 16);  // orig_video_points
    put<uint64_t>(area, 0x70, machine_.acpi_rsdp.value);
    // The setup header, and in it what the loader fills.
    std::memcpy(area.data() + 0x1F1, image_.setup_header.data(), image_.setup_header.size());
    put<uint16_t>(area, 0x1FA, 0xFFFF);  // vid_mode: "normal"
    put<uint8_t>(area, 0x210, 0xFF);     // type_of_loader: undefined
    put<uint32_t>(area, 0x214, static_cast<uint32_t>(placement_.code.value));
    put<uint32_t>(area, 0x218, static_cast<uint32_t>(placement_.initrd.value));
    put<uint32_t>(area, 0x21C, static_cast<uint32_t>(initrd_.size()));
    put<uint32_t>(area, 0x228, static_cast<uint32_t>(command_line_at.value));
    put<uint8_t>(area, 0x1E8, static_cast<uint8_t>(machine_.memory_map.size()));
    size_t at = 0x2D0;
    for (const MemoryMapEntry& entry : machine_.memory_map) {
        put<uint64_t>(area, at, entry.base);
        put<uint64_t>(area, at + 8, entry.length);
        put<uint32_t>(area, at + 16, entry.type);
        at += 20;
    }
    return parameters;
}

CpuState LinuxKernel::load(GuestMemory& memory) const {
    memory.write(placement_.code, image_.code);
    if (!initrd_.empty()) memory.write(placement_.initrd, initrd_);
    memory.write(boot_parameters_at, boot_parameters());
    const std::string& command_line = files_.command_line;
    memory.write(command_line_at, std::as_bytes(std::span(command_line.c_str(), command_line.size() + 1)));
    CpuState state;
    if (image_.entry == LinuxEntry::long_64) {
        write_page_tables(memory);
        constexpr uint64_t entry_64_offset = 0x200;
        state = long_mode_entry(memory, gdt_at, placement_.code.value + entry_64_offset, page_tables_at.value);
    } else {
        state = protected_mode_entry(memory, gdt_at, placement_.code.value);
    }
    state.gpr[RSI] = boot_parameters_at.value;
    state.gpr[RSP] = stack_top.value;
    return state;
}

}  // namespace

Result<LinuxPlacement> place_linux(const LinuxImage& image, uint64_t initrd_size,
                                   const std::vector<MemoryMapEntry>& memory_map) {
    const Range ram = high_memory(memory_map);
    const auto fits = [&](uint64_t at) {
        return at >= ram.start && at <= ram.end && image.memory_size <= ram.end - at;
    };
    const auto too_small = [&](uint64_t needed) {
        return fail_usage(
            fmt::format("the kernel and its initrd need {} MiB of memory and the machine has {} (try a "
                        "larger --memory)",
                        (needed + mib - 1) / mib, (ram.end + mib - 1) / mib));
    };
    uint64_t code = image.preferred_address;
    if (!fits(code) && image.relocatable) {
        const uint64_t alignment = std::max<uint64_t>(image.alignment, 1);
        code = (ram.start + alignment - 1) / alignment * alignment;
    }
    if (!fits(code)) return too_small(code + image.memory_size);
    if (initrd_size == 0) return LinuxPlacement{Gpa{code}, Gpa{0}};

    constexpr uint64_t page = GuestMemory::page_size;
    const uint64_t limit = std::min(ram.end, image.initrd_limit);
    const uint64_t code_end = code + image.memory_size;
    const uint64_t highest = limit >= initrd_size ? (limit - initrd_size) / page * page : 0;
    // Above the kernel, or else between 1 MiB and the kernel.
    if (highest >= code_end) return LinuxPlacement{Gpa{code}, Gpa{highest}};
    const uint64_t below = std::min(limit, code);
    if (below >= ram.start + initrd_size) {
        const uint64_t at = (below - initrd_size) / page * page;
        if (at >= ram.start) return LinuxPlacement{Gpa{code}, Gpa{at}};
    }
    return too_small(code_end + initrd_size);
}

Result<std::unique_ptr<Kernel>> make_linux_kernel(KernelFiles files, KernelMachine machine) {
    const LinuxImage image = TRY(parse_linux_image(files.kernel.content));
    auto kernel = std::make_unique<LinuxKernel>(std::move(files), std::move(machine), image);
    TRY(kernel->place());
    return kernel;
}

}  // namespace viv::boot
