// Reference: Multiboot Specification 0.6.96: 3.1 "OS image format", 3.2 "Machine state", 3.3 "Boot information format".
#include "vmm/boot/multiboot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "vmm/boot/elf_image.hpp"

namespace viv::boot {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint32_t header_magic = 0x1BADB002, loader_magic = 0x2BADB002;
constexpr uint64_t searched = 8192;
// Flags of the header. What a kernel requires in bits 0 to 15 a loader must know.
constexpr uint32_t known_requirements = 0x7;  // modules on pages, memory information, a video mode
constexpr uint32_t wants_video = 0x4, has_addresses = 0x10000;
// Flags of the information.
constexpr uint32_t info_memory = 0x1, info_command_line = 0x4, info_modules = 0x8, info_memory_map = 0x40,
                   info_loader_name = 0x200, info_framebuffer = 0x1000;

struct Info {
    uint32_t flags = 0;
    uint32_t mem_lower = 0, mem_upper = 0;
    uint32_t boot_device = 0;
    uint32_t cmdline = 0;
    uint32_t mods_count = 0, mods_addr = 0;
    uint32_t syms[4] = {};
    uint32_t mmap_length = 0, mmap_addr = 0;
    uint32_t drives_length = 0, drives_addr = 0;
    uint32_t config_table = 0;
    uint32_t boot_loader_name = 0;
    uint32_t apm_table = 0;
    uint32_t vbe_control_info = 0, vbe_mode_info = 0;
    uint16_t vbe_mode = 0, vbe_interface_seg = 0, vbe_interface_off = 0, vbe_interface_len = 0;
    uint32_t framebuffer_address_low = 0, framebuffer_address_high = 0;
    uint32_t framebuffer_pitch = 0, framebuffer_width = 0, framebuffer_height = 0;
    uint8_t framebuffer_bpp = 0, framebuffer_type = 0;
    uint8_t color_info[6] = {};
};
static_assert(offsetof(Info, framebuffer_address_low) == 88 && sizeof(Info) == 116);

struct ModuleEntry {
    uint32_t start = 0, end = 0, string = 0, reserved = 0;
};

struct [[gnu::packed]] MapEntry {
    uint32_t size = 20;  // of the rest
    uint64_t base = 0, length = 0;
    uint32_t type = 0;
};
static_assert(sizeof(MapEntry) == 24);

uint32_t word_at(Bytes file, uint64_t offset) {
    uint32_t value = 0;
    std::memcpy(&value, file.data() + offset, sizeof(value));
    return value;
}

std::vector<std::byte> build_info(uint32_t at, const LoadPlan& plan, const KernelMachine& machine, bool with_video) {
    InfoWriter writer(at);
    Info info;
    const uint32_t info_at = writer.append_value(info);
    info.flags = info_memory | info_command_line | info_modules | info_memory_map | info_loader_name;
    const BasicMemory memory = basic_memory(machine.memory_map);
    info.mem_lower = memory.lower;
    info.mem_upper = memory.upper;

    std::vector<MapEntry> map;
    for (const MemoryMapEntry& entry : machine.memory_map)
        map.push_back(MapEntry{.base = entry.base, .length = entry.length, .type = entry.type});
    info.mmap_length = static_cast<uint32_t>(map.size() * sizeof(MapEntry));
    info.mmap_addr = writer.append(std::as_bytes(std::span(map)));

    std::vector<ModuleEntry> modules;
    for (size_t i = 0; i < plan.modules.size(); ++i) {
        const uint32_t name = writer.append(std::string_view(plan.files.modules[i].path));
        modules.push_back({plan.modules[i].start, plan.modules[i].end, name, 0});
    }
    info.mods_count = static_cast<uint32_t>(modules.size());
    info.mods_addr = writer.append(std::as_bytes(std::span(modules)));

    // As of a C program's arguments, the first word is the program's name.
    info.cmdline =
        writer.append(plan.files.command_line.empty() ? plan.files.kernel.path
                                                      : plan.files.kernel.path + " " + plan.files.command_line);
    info.boot_loader_name = writer.append(std::string_view("Vivarium"));
    if (with_video) {
        info.flags |= info_framebuffer;
        info.framebuffer_address_low = 0xB8000;
        info.framebuffer_pitch = 160;
        info.framebuffer_width = 80;
        info.framebuffer_height = 25;
        info.framebuffer_bpp = 16;
        info.framebuffer_type = 2;  // EGA text
    }
    writer.replace(info_at, std::as_bytes(std::span(&info, 1)));
    return writer.take();
}

}  // namespace

std::optional<MultibootHeader> find_multiboot_header(Bytes file) {
    constexpr uint64_t short_header = 12, addressed_header = 32;
    for (uint64_t at = 0; at + short_header <= std::min<uint64_t>(file.size(), searched); at += 4) {
        if (word_at(file, at) != header_magic) continue;
        const uint32_t flags = word_at(file, at + 4);
        if (header_magic + flags + word_at(file, at + 8) != 0) continue;
        MultibootHeader header{at, flags, {}, 0};
        if ((flags & has_addresses) && at + addressed_header <= file.size()) {
            header.addresses = {word_at(file, at + 12), word_at(file, at + 16), word_at(file, at + 20),
                                word_at(file, at + 24)};
            header.entry = word_at(file, at + 28);
        }
        return header;
    }
    return std::nullopt;
}

Result<std::unique_ptr<Kernel>> make_multiboot_kernel(KernelFiles files, const KernelMachine& machine) {
    LoadPlan plan(std::move(files), machine.memory_map);
    const auto header = find_multiboot_header(plan.files.kernel.content);
    VIV_ASSERT(header);
    if (const uint32_t unknown = header->flags & 0xFFFF & ~known_requirements)
        return fail_usage(fmt::format("its Multiboot header asks for something unknown (flags {:#x})", unknown));
    if (header->flags & has_addresses) {
        TRY(plan.add_addressed(header->offset, header->addresses));
        plan.entry = header->entry;
    } else if (is_elf(plan.files.kernel.content)) {
        const ElfImage image = TRY(parse_elf(plan.files.kernel.content));
        TRY(plan.add_segments(image));
        plan.entry = image.physical_entry();
    } else {
        return fail_usage("its Multiboot header has no addresses, and the file is no ELF program");
    }
    if (plan.entry >= uint64_t{1} << 32) return fail_usage("its entry point lies above 4 GiB");
    TRY(plan.add_modules());
    plan.eax = loader_magic;
    plan.ebx = TRY(
        plan.add_info([&](uint32_t at) { return build_info(at, plan, machine, (header->flags & wants_video) != 0); }));
    return kernel_of(std::move(plan));
}

}  // namespace viv::boot
