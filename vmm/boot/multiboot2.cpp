// Reference: Multiboot2 Specification 2.0: 3.1 "OS image format", 3.2 "Machine state", 3.6 "Boot information format".
#include "vmm/boot/multiboot2.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/load_plan.hpp"

namespace viv::boot {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint32_t header_magic = 0xE85250D6, loader_magic = 0x36D76289;
constexpr uint64_t searched = 32768, alignment = 8;

enum class HeaderTag : uint16_t {
    end = 0,
    information_request = 1,
    address = 2,
    entry_address = 3,
    console_flags = 4,
    framebuffer = 5,
    module_alignment = 6,
    efi_boot_services = 7,
    relocatable = 10
};

enum class InfoTag : uint32_t {
    end = 0,
    command_line = 1,
    loader_name = 2,
    module = 3,
    basic_memory = 4,
    memory_map = 6,
    framebuffer = 8,
    acpi_old_rsdp = 14,
    acpi_new_rsdp = 15,
    load_base = 21
};
constexpr std::array given_tags{InfoTag::command_line,  InfoTag::loader_name,   InfoTag::module,
                                InfoTag::basic_memory,  InfoTag::memory_map,    InfoTag::framebuffer,
                                InfoTag::acpi_old_rsdp, InfoTag::acpi_new_rsdp, InfoTag::load_base};

struct Header {
    uint64_t offset = 0;
    std::optional<LoadAddresses> addresses;
    std::optional<uint32_t> entry;
    bool relocatable = false;
};

template <class T>
T value_at(Bytes file, uint64_t offset) {
    T value{};
    if (offset <= file.size() && sizeof(T) <= file.size() - offset)
        std::memcpy(&value, file.data() + offset, sizeof(T));
    return value;
}

std::optional<uint64_t> find_header(Bytes file) {
    for (uint64_t at = 0; at + 16 <= std::min<uint64_t>(file.size(), searched); at += alignment) {
        if (value_at<uint32_t>(file, at) != header_magic) continue;
        const uint32_t sum = header_magic + value_at<uint32_t>(file, at + 4) + value_at<uint32_t>(file, at + 8) +
                             value_at<uint32_t>(file, at + 12);
        if (sum == 0) return at;
    }
    return std::nullopt;
}

Result<void> check_requests(Bytes file, uint64_t tag, uint32_t size) {
    for (uint64_t at = tag + 8; at + 4 <= tag + size; at += 4) {
        const auto wanted = value_at<uint32_t>(file, at);
        const auto is_wanted = [wanted](InfoTag given) { return static_cast<uint32_t>(given) == wanted; };
        if (std::ranges::none_of(given_tags, is_wanted))
            return fail_usage(fmt::format("its Multiboot2 header requires information of type {}", wanted));
    }
    return {};
}

Result<Header> parse_header(Bytes file, uint64_t offset) {
    Header header;
    header.offset = offset;
    if (value_at<uint32_t>(file, offset + 4) != 0) return fail_usage("its Multiboot2 header is for another processor");
    const uint64_t end = offset + value_at<uint32_t>(file, offset + 8);
    if (end > file.size()) return fail_usage("its Multiboot2 header is cut short");
    uint64_t at = offset + 16;
    while (at + 8 <= end) {
        const auto type = static_cast<HeaderTag>(value_at<uint16_t>(file, at));
        const bool optional = value_at<uint16_t>(file, at + 2) & 1;
        const auto size = value_at<uint32_t>(file, at + 4);
        if (type == HeaderTag::end) break;
        if (size < 8) return fail_usage("its Multiboot2 header has a tag without a size");
        switch (type) {
            case HeaderTag::information_request:
                if (!optional) TRY(check_requests(file, at, size));
                break;
            case HeaderTag::address:
                header.addresses = LoadAddresses{value_at<uint32_t>(file, at + 8), value_at<uint32_t>(file, at + 12),
                                                 value_at<uint32_t>(file, at + 16), value_at<uint32_t>(file, at + 20)};
                // All ones: the file begins at the header's address less its offset.
                if (header.addresses->load == 0xFFFFFFFF)
                    header.addresses->load = static_cast<uint32_t>(header.addresses->header - offset);
                break;
            case HeaderTag::entry_address: header.entry = value_at<uint32_t>(file, at + 8); break;
            case HeaderTag::relocatable: header.relocatable = true; break;
            case HeaderTag::console_flags:
            case HeaderTag::framebuffer:
            case HeaderTag::module_alignment: break;  // there is a text console, and modules lie on pages anyway
            default:
                if (!optional) {
                    return fail_usage(fmt::format("its Multiboot2 header asks for something unknown (tag {})",
                                                  static_cast<unsigned>(type)));
                }
        }
        at += (uint64_t{size} + alignment - 1) / alignment * alignment;
    }
    return header;
}

/// Tags after the fixed part of the information.
class TagWriter {
  public:
    explicit TagWriter(uint32_t at) : writer_(at) { start_ = writer_.append_value(std::array<uint32_t, 2>{}); }

    /// Returns the address of the tag's content.
    uint32_t add(InfoTag type, Bytes content) {
        const std::array<uint32_t, 2> head{static_cast<uint32_t>(type), static_cast<uint32_t>(8 + content.size())};
        writer_.append_value(head, alignment);
        return writer_.append(content, 1);
    }
    template <class T>
    uint32_t add_value(InfoTag type, const T& value) {
        return add(type, std::as_bytes(std::span(&value, 1)));
    }
    void add_text(InfoTag type, const std::string& text) {
        add(type, std::as_bytes(std::span(text.c_str(), text.size() + 1)));
    }
    std::vector<std::byte> finish() {
        add(InfoTag::end, {});
        const std::array<uint32_t, 2> head{static_cast<uint32_t>(writer_.size()), 0};
        writer_.replace(start_, std::as_bytes(std::span(head)));
        return writer_.take();
    }

  private:
    InfoWriter writer_;
    uint32_t start_ = 0;
};

struct MapEntry {
    uint64_t base = 0, length = 0;
    uint32_t type = 0, reserved = 0;
};

struct [[gnu::packed]] Framebuffer {
    uint64_t address = 0xB8000;
    uint32_t pitch = 160, width = 80, height = 25;
    uint8_t bits_per_pixel = 16, type = 2;  // EGA text
    uint16_t reserved = 0;
};

std::vector<std::byte> build_info(uint32_t at, LoadPlan& plan, const KernelMachine& machine, bool relocatable) {
    TagWriter writer(at);
    writer.add_text(InfoTag::command_line, plan.files.command_line);
    writer.add_text(InfoTag::loader_name, "Vivarium");
    for (size_t i = 0; i < plan.modules.size(); ++i) {
        const std::string& name = plan.files.modules[i].path;
        std::vector<std::byte> content(8 + name.size() + 1);
        std::memcpy(content.data(), &plan.modules[i], 8);
        std::memcpy(content.data() + 8, name.c_str(), name.size() + 1);
        writer.add(InfoTag::module, content);
    }
    const BasicMemory memory = basic_memory(machine.memory_map);
    writer.add_value(InfoTag::basic_memory, std::array<uint32_t, 2>{memory.lower, memory.upper});

    InfoWriter map(0);
    map.append_value(std::array<uint32_t, 2>{sizeof(MapEntry), 0});
    for (const MemoryMapEntry& entry : machine.memory_map)
        map.append_value(MapEntry{entry.base, entry.length, entry.type, 0});
    writer.add(InfoTag::memory_map, map.take());

    writer.add_value(InfoTag::framebuffer, Framebuffer{});
    plan.copies.clear();
    if (machine.acpi_rsdp.value) {
        constexpr uint64_t old_size = 20, new_size = 36;
        for (const auto& [tag, size] :
             {std::pair{InfoTag::acpi_old_rsdp, old_size}, std::pair{InfoTag::acpi_new_rsdp, new_size}}) {
            const uint32_t copy_at = writer.add(tag, std::vector<std::byte>(size));
            plan.copies.push_back({machine.acpi_rsdp.value, copy_at, size});
        }
    }
    if (relocatable) {
        const auto lowest = std::ranges::min_element(plan.parts, {}, &LoadPlan::Part::at);
        writer.add_value(InfoTag::load_base, static_cast<uint32_t>(lowest->at));
    }
    return writer.finish();
}

}  // namespace

bool has_multiboot2_header(Bytes file) {
    return find_header(file).has_value();
}

Result<std::unique_ptr<Kernel>> make_multiboot2_kernel(KernelFiles files, const KernelMachine& machine) {
    LoadPlan plan(std::move(files), machine.memory_map);
    const Bytes file = plan.files.kernel.content;
    const auto offset = find_header(file);
    VIV_ASSERT(offset);
    const Header header = TRY(parse_header(file, *offset));
    if (header.addresses) {
        if (!header.entry) return fail_usage("its Multiboot2 header has addresses, but no entry");
        TRY(plan.add_addressed(header.offset, *header.addresses));
    } else if (is_elf(file)) {
        const ElfImage image = TRY(parse_elf(file));
        TRY(plan.add_segments(image));
        plan.entry = image.physical_entry();
    } else {
        return fail_usage("its Multiboot2 header has no addresses, and the file is no ELF program");
    }
    if (header.entry) plan.entry = *header.entry;
    if (plan.entry >= uint64_t{1} << 32) return fail_usage("its entry point lies above 4 GiB");
    TRY(plan.add_modules());
    plan.eax = loader_magic;
    plan.ebx = TRY(plan.add_info([&](uint32_t at) { return build_info(at, plan, machine, header.relocatable); }));
    return kernel_of(std::move(plan));
}

}  // namespace viv::boot
