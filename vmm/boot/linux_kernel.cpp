// Reference: Linux Documentation/arch/x86/boot.rst, "Sample Boot Configuration", "32-bit boot protocol", "64-bit boot
// protocol", and zero-page.rst.
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

// Where the part that runs in real mode goes: what is older than 2.02, and a zImage's, lies where LILO put it.
struct SetupPlace {
    Gpa base;
    uint16_t heap_end = 0;  // offset; also the stack's top
    Gpa command_line;
    uint64_t longest_command_line = 0;
};
constexpr SetupPlace high_setup{boot_parameters_at, 0xE000, command_line_at, longest_command_line};
constexpr SetupPlace low_setup{Gpa{0x90000}, 0x9800, Gpa{0x99800}, 0x9F000 - 0x99800 - 1};
constexpr Gpa zimage_at{0x10000};

const SetupPlace& setup_place(const LinuxImage& image) {
    return image.protocol >= 0x0202 && image.in_high_memory ? high_setup : low_setup;
}

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

/// What the loader reads in a command line: `vga=` with a mode (Linux Documentation/admin-guide/svga.rst). Nothing when
/// there is none; the last one counts.
Result<std::optional<uint16_t>> video_mode_of(const std::string& command_line) {
    std::optional<uint16_t> mode;
    for (size_t at = 0; at < command_line.size();) {
        const size_t end = std::min(command_line.find(' ', at), command_line.size());
        const std::string word = command_line.substr(at, end - at);
        at = end + 1;
        if (!word.starts_with("vga=")) continue;
        const std::string value = word.substr(4);
        if (value == "normal") {
            mode = 0xFFFF;
        } else if (value == "ext") {
            mode = 0xFFFE;
        } else if (value == "ask") {
            mode = 0xFFFD;
        } else {
            char* rest = nullptr;
            const unsigned long number = std::strtoul(value.c_str(), &rest, 0);
            if (value.empty() || *rest || number > 0xFFFF)
                return fail_usage(fmt::format("'{}': a video mode is normal, ext, ask or a number up to 0xffff", word));
            mode = static_cast<uint16_t>(number);
        }
    }
    return mode;
}

/// A Linux kernel, and where it and its initrd go.
class LinuxKernel final : public Kernel {
  public:
    LinuxKernel(KernelFiles files, KernelMachine machine, LinuxImage image)
        : files_(std::move(files)), machine_(std::move(machine)), image_(image) {}

    Result<void> place();
    [[nodiscard]] CpuState load(GuestMemory& memory) const override;

  private:
    static constexpr uint16_t video_mode_as_it_is = 0xFFFF;

    /// The fields of the setup header that the loader fills; `area` begins where the boot sector does.
    void fill_header(std::span<std::byte> area, Gpa command_line, uint16_t video_mode) const;
    [[nodiscard]] std::vector<std::byte> boot_parameters() const;
    [[nodiscard]] CpuState load_setup(GuestMemory& memory) const;

    KernelFiles files_;  // `image_` refers to it
    KernelMachine machine_;
    LinuxImage image_;
    std::vector<std::byte> initrd_;
    LinuxPlacement placement_;
    uint16_t video_mode_ = video_mode_as_it_is;
};

Result<void> LinuxKernel::place() {
    const SetupPlace& setup = setup_place(image_);
    uint64_t limit = std::min<uint64_t>(image_.command_line_limit, longest_command_line);
    if (image_.entry == LinuxEntry::real_16) limit = std::min(limit, setup.longest_command_line);
    if (files_.command_line.size() > limit) {
        return fail_usage(
            fmt::format("the command line has {} characters; this kernel takes {}", files_.command_line.size(), limit));
    }
    video_mode_ = TRY(video_mode_of(files_.command_line)).value_or(video_mode_as_it_is);
    constexpr uint64_t least_heap = 0x200;
    if (image_.entry == LinuxEntry::real_16 && image_.setup.size() > setup.heap_end - least_heap)
        return fail_usage(
            fmt::format("the kernel's real-mode part of {} bytes leaves no room for its stack", image_.setup.size()));
    // The kernel unpacks what follows each other at multiples of 4.
    for (HostFile& module : files_.modules) {
        initrd_.resize((initrd_.size() + 3) / 4 * 4);
        initrd_.insert(initrd_.end(), module.content.begin(), module.content.end());
        module.content = {};
    }
    placement_ = TRY(place_linux(image_, initrd_.size(), machine_.memory_map));
    return {};
}

void LinuxKernel::fill_header(std::span<std::byte> area, Gpa command_line, uint16_t video_mode) const {
    put<uint16_t>(area, 0x1FA, video_mode);
    put<uint8_t>(area, 0x210, 0xFF);  // type_of_loader: undefined
    put<uint32_t>(area, 0x218, static_cast<uint32_t>(placement_.initrd.value));
    put<uint32_t>(area, 0x21C, static_cast<uint32_t>(initrd_.size()));
    if (image_.protocol >= 0x0202) put<uint32_t>(area, 0x228, static_cast<uint32_t>(command_line.value));
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
    std::memcpy(area.data() + 0x1F1, image_.setup_header.data(), image_.setup_header.size());
    fill_header(area, command_line_at, video_mode_as_it_is);
    put<uint32_t>(area, 0x214, static_cast<uint32_t>(placement_.code.value));
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

/// The 16-bit way: the setup in real mode asks the BIOS, and goes to the code by itself.
CpuState LinuxKernel::load_setup(GuestMemory& memory) const {
    const SetupPlace& place = setup_place(image_);
    std::vector<std::byte> setup(image_.setup.begin(), image_.setup.end());
    const std::span<std::byte> area(setup);
    fill_header(area, place.command_line, video_mode_);
    if (image_.protocol >= 0x0201) {
        constexpr uint8_t CAN_USE_HEAP = 0x80;
        put<uint8_t>(area, 0x211, std::to_integer<uint8_t>(area[0x211]) | CAN_USE_HEAP);
        put<uint16_t>(area, 0x224, place.heap_end - 0x200);  // heap_end_ptr: from the setup's entry on
    }
    const std::string& command_line = files_.command_line;
    if (image_.protocol < 0x0202) {
        put<uint16_t>(area, 0x20, 0xA33F);  // a magic number, then the command line's offset
        put<uint16_t>(area, 0x22, static_cast<uint16_t>(place.command_line.value - place.base.value));
        // setup_move_size, for a setup that is not at 90000h: here it is.
        put<uint16_t>(area, 0x212, static_cast<uint16_t>(place.heap_end + command_line.size() + 1));
    }
    memory.write(place.base, setup);
    memory.write(place.command_line, std::as_bytes(std::span(command_line.c_str(), command_line.size() + 1)));
    const auto segment = static_cast<uint16_t>(place.base.value / 16);
    constexpr uint16_t behind_the_boot_sector = 0x20;
    return real_mode_entry(segment + behind_the_boot_sector, 0, segment, place.heap_end);
}

CpuState LinuxKernel::load(GuestMemory& memory) const {
    memory.write(placement_.code, image_.code);
    if (!initrd_.empty()) memory.write(placement_.initrd, initrd_);
    if (image_.entry == LinuxEntry::real_16) return load_setup(memory);
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
    const bool by_setup = image.entry == LinuxEntry::real_16;
    uint64_t code = image.preferred_address;
    if (by_setup && !image.in_high_memory && image.code.size() > low_setup.base.value - zimage_at.value) {
        return fail_usage(fmt::format("a zImage of {} bytes; there is room for {} below its setup", image.code.size(),
                                      low_setup.base.value - zimage_at.value));
    }
    if (!fits(code) && image.relocatable) {
        const uint64_t alignment = std::max<uint64_t>(image.alignment, 1);
        code = (ram.start + alignment - 1) / alignment * alignment;
    }
    if (!fits(code)) return too_small(code + image.memory_size);
    const uint64_t code_end = code + image.memory_size;
    // A setup goes to its code at the start of high memory, and the code moves to its place by itself.
    if (by_setup) code = image.in_high_memory ? ram.start : zimage_at.value;
    if (by_setup && image.in_high_memory && image.code.size() > ram.end - ram.start)
        return too_small(ram.start + image.code.size());
    if (initrd_size == 0) return LinuxPlacement{Gpa{code}, Gpa{0}};

    constexpr uint64_t page = GuestMemory::page_size;
    const uint64_t limit = std::min(ram.end, image.initrd_limit);
    const uint64_t highest = limit >= initrd_size ? (limit - initrd_size) / page * page : 0;
    // Above the kernel, or else between 1 MiB and the kernel.
    if (highest >= std::max(code_end, code + image.code.size())) return LinuxPlacement{Gpa{code}, Gpa{highest}};
    if (by_setup) return too_small(code_end + initrd_size);
    const uint64_t below = std::min(limit, code);
    if (below >= ram.start + initrd_size) {
        const uint64_t at = (below - initrd_size) / page * page;
        if (at >= ram.start) return LinuxPlacement{Gpa{code}, Gpa{at}};
    }
    return too_small(code_end + initrd_size);
}

Result<std::unique_ptr<Kernel>> make_linux_kernel(KernelFiles files, KernelMachine machine,
                                                  std::optional<LinuxEntry> entry) {
    LinuxImage image = TRY(parse_linux_image(files.kernel.content));
    // Video modes are set by the setup.
    const bool wants_mode = TRY(video_mode_of(files.command_line)).value_or(0xFFFF) != 0xFFFF;
    if (entry) {
        TRY(choose_entry(image, *entry));
    } else if (wants_mode) {
        TRY(choose_entry(image, LinuxEntry::real_16));
    }
    auto kernel = std::make_unique<LinuxKernel>(std::move(files), std::move(machine), image);
    TRY(kernel->place());
    return kernel;
}

}  // namespace viv::boot
