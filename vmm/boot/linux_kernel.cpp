// Reference: Linux Documentation/arch/x86/boot.rst, "32-bit boot protocol", "64-bit boot protocol", and zero-page.rst.
#include "vmm/boot/linux_kernel.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>

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
constexpr size_t most_map_entries = 128;

constexpr uint16_t boot_code_selector = 0x10;  // __BOOT_CS
constexpr uint16_t boot_data_selector = 0x18;  // __BOOT_DS

Result<std::vector<std::byte>> read_file(const std::string& path, const char* what) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(fmt::format("cannot open {} '{}'", what, path), errno);
    struct Closer {
        int fd;
        ~Closer() { close(fd); }
    } closer{fd};
    struct stat about {};
    if (fstat(fd, &about) != 0) return fail_errno(fmt::format("cannot read {} '{}'", what, path), errno);
    if (!S_ISREG(about.st_mode)) return fail_usage(fmt::format("{} '{}' is not a file", what, path));
    // It has to lie below 4 GiB in the guest.
    if (static_cast<uint64_t>(about.st_size) >= 4 * gib)
        return fail_usage(fmt::format("{} '{}' is larger than 4 GiB", what, path));
    std::vector<std::byte> content(static_cast<size_t>(about.st_size));
    size_t done = 0;
    while (done < content.size()) {
        const ssize_t got = ::read(fd, content.data() + done, content.size() - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(fmt::format("cannot read {} '{}'", what, path), errno);
        if (got == 0) return fail(fmt::format("cannot read {} '{}': it became shorter meanwhile", what, path));
        done += static_cast<size_t>(got);
    }
    return content;
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

SegmentRegister flat_segment(uint16_t selector, uint8_t type) {
    SegmentRegister segment;
    segment.selector = selector;
    segment.limit = 0xFFFFFFFF;
    segment.type = type;
    segment.default_big = true;
    segment.granularity = true;
    return segment;
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

CpuState entry_state(GuestMemory& memory, LinuxEntry entry, Gpa code) {
    const bool is_64 = entry == LinuxEntry::long_64;
    const std::array<uint64_t, 4> gdt{0, 0, is_64 ? 0x00AF9B000000FFFFu : 0x00CF9B000000FFFFu, 0x00CF93000000FFFFu};
    memory.write(gdt_at, std::as_bytes(std::span(gdt)));

    constexpr uint8_t code_type = 11, data_type = 3;
    constexpr uint64_t CR0_PE = 1, CR0_ET = 0x10, CR0_PG = 0x80000000;
    constexpr uint64_t CR4_PAE = 0x20, EFER_LME = 0x100, EFER_LMA = 0x400;
    CpuState state = reset_state(true);
    state.gdtr = {gdt_at.value, sizeof(gdt) - 1};
    state.idtr = {0, 0};
    state.cs = flat_segment(boot_code_selector, code_type);
    for (SegmentRegister* segment : {&state.ds, &state.es, &state.fs, &state.gs, &state.ss})
        *segment = flat_segment(boot_data_selector, data_type);
    state.cr0 = CR0_PE | CR0_ET;
    state.rip = code.value;
    if (is_64) {
        write_page_tables(memory);
        state.cs.long_mode = true;
        state.cs.default_big = false;
        state.cr0 |= CR0_PG;
        state.cr3 = page_tables_at.value;
        state.cr4 = CR4_PAE;
        state.efer = EFER_LME | EFER_LMA;
        state.rip += 0x200;
    }
    state.gpr = {};
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

Result<LinuxKernel> LinuxKernel::open(const TreeNode& chosen, LinuxMachine machine) {
    LinuxKernel kernel;
    kernel.machine_ = std::move(machine);
    VIV_ASSERT(kernel.machine_.memory_map.size() <= most_map_entries);
    const std::string path = chosen.string("viv,kernel").value_or("");
    kernel.file_ = TRY(read_file(path, "kernel"));
    auto image = parse_linux_image(kernel.file_);
    if (!image) return add_context(image.error(), fmt::format("kernel '{}'", path));
    kernel.image_ = *image;
    if (const auto initrd = chosen.string("viv,initrd")) {
        kernel.initrd_ = TRY(read_file(*initrd, "initrd"));
        if (kernel.initrd_.empty()) return fail_usage(fmt::format("initrd '{}' is empty", *initrd));
    }
    kernel.command_line_ = chosen.string("bootargs").value_or("");
    const uint64_t limit = std::min<uint64_t>(image->command_line_limit, longest_command_line);
    if (kernel.command_line_.size() > limit) {
        return fail_usage(fmt::format("the kernel's command line has {} characters; kernel '{}' takes {}",
                                      kernel.command_line_.size(), path, limit));
    }
    auto placement = place_linux(kernel.image_, kernel.initrd_.size(), kernel.machine_.memory_map);
    if (!placement) return add_context(placement.error(), fmt::format("kernel '{}'", path));
    kernel.placement_ = *placement;
    return kernel;
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
    memory.write(command_line_at, std::as_bytes(std::span(command_line_.c_str(), command_line_.size() + 1)));
    return entry_state(memory, image_.entry, placement_.code);
}

}  // namespace viv::boot
