#include "vmm/boot/load_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "vmm/boot/entry_state.hpp"

namespace viv::boot {
namespace {

constexpr uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;
constexpr uint64_t page = GuestMemory::page_size;
constexpr uint64_t low_memory = 0x10000;  // above what the BIOS and old boot loaders use

class PlannedKernel final : public Kernel {
  public:
    explicit PlannedKernel(LoadPlan plan) : plan_(std::move(plan)) {}

    [[nodiscard]] CpuState load(GuestMemory& memory) const override {
        for (const LoadPlan::Part& part : plan_.parts) {
            memory.write(Gpa{part.at}, part.content);
            fill_with_zeros(memory, part.at + part.content.size(), part.size - part.content.size());
        }
        if (!plan_.info.empty()) memory.write(Gpa{plan_.info_at}, plan_.info);
        for (const LoadPlan::Copy& copy : plan_.copies) {
            std::vector<std::byte> bytes(copy.size);
            memory.read(Gpa{copy.from}, bytes);
            memory.write(Gpa{copy.to}, bytes);
        }
        if (plan_.mode == LoadPlan::Mode::real) return real_mode_entry(static_cast<uint32_t>(plan_.entry));
        CpuState state = protected_mode_entry(memory, Gpa{plan_.gdt_at}, plan_.entry);
        state.gpr[RAX] = plan_.eax;
        state.gpr[RBX] = plan_.ebx;
        if (plan_.with_task) {
            state.tr = {};
            state.tr.limit = 0x67;
            state.tr.type = 11;  // busy 32-bit TSS
            state.tr.code_or_data = false;
        }
        return state;
    }

  private:
    static void fill_with_zeros(GuestMemory& memory, uint64_t at, uint64_t size) {
        static constexpr std::array<std::byte, 64 * kib> zeros{};
        while (size) {
            const auto count = std::min<uint64_t>(size, zeros.size());
            memory.write(Gpa{at}, std::span(zeros).first(static_cast<size_t>(count)));
            at += count;
            size -= count;
        }
    }

    LoadPlan plan_;
};

}  // namespace

Result<void> LoadPlan::add_part(const Part& part) {
    if (!room.take(part.at, part.size)) {
        return fail_usage(
            fmt::format("it wants {} bytes of memory at {:#x}, where the machine has no free RAM (a larger --memory "
                        "may help)",
                        part.size, part.at));
    }
    parts.push_back(part);
    return {};
}

Result<void> LoadPlan::add_segments(const ElfImage& image) {
    for (const ElfSegment& segment : image.segments)
        TRY(add_part(Part{segment.physical, segment.content, segment.size}));
    return {};
}

Result<void> LoadPlan::add_addressed(uint64_t header_offset, const LoadAddresses& to) {
    const std::span<const std::byte> file = files.kernel.content;
    const uint64_t before_header = uint64_t{to.header} - to.load;
    if (to.load > to.header || before_header > header_offset)
        return fail_usage("its Multiboot header names a load address that lies before the file");
    const uint64_t start = header_offset - before_header;
    const uint64_t size = to.load_end ? uint64_t{to.load_end} - to.load : file.size() - start;
    if (to.load_end && (to.load_end < to.load || size > file.size() - start))
        return fail_usage("its Multiboot header names an end of the load that lies outside the file");
    const uint64_t loaded_end = to.load + size;
    if (to.bss_end && to.bss_end < loaded_end)
        return fail_usage("its Multiboot header ends its zeroed part before that begins");
    const uint64_t end = to.bss_end ? to.bss_end : loaded_end;
    return add_part(Part{to.load, file.subspan(start, size), end - to.load});
}

Result<void> LoadPlan::add_modules() {
    uint64_t behind = mib;
    for (const Part& part : parts) behind = std::max(behind, part.at + part.size);
    for (const HostFile& module : files.modules) {
        const uint64_t size = module.content.size();
        const auto at = room.take_any(size, page, behind);
        if (!at || *at + size >= 4 * gib) {
            return fail_usage(
                fmt::format("there is no room for '{}' behind the kernel (try a larger --memory)", module.path));
        }
        parts.push_back({*at, module.content, size});
        modules.push_back({static_cast<uint32_t>(*at), static_cast<uint32_t>(*at + size)});
    }
    return {};
}

Result<uint32_t> LoadPlan::add_info(const std::function<std::vector<std::byte>(uint32_t at)>& build) {
    const auto at = room.take_any(build(0).size(), page, low_memory);
    if (!at) return fail_usage("there is no room for its command line and memory map");
    TRY(add_descriptor_table());
    info_at = *at;
    info = build(static_cast<uint32_t>(*at));
    return static_cast<uint32_t>(*at);
}

Result<void> LoadPlan::add_descriptor_table() {
    const auto table = room.take_any(gdt_size, 8, low_memory);
    if (!table) return fail_usage("there is no room for its descriptor table");
    gdt_at = *table;
    return {};
}

std::unique_ptr<Kernel> kernel_of(LoadPlan plan) {
    return std::make_unique<PlannedKernel>(std::move(plan));
}

uint32_t InfoWriter::append(std::span<const std::byte> bytes, size_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    const auto address = static_cast<uint32_t>(at_ + bytes_.size());
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return address;
}

uint32_t InfoWriter::append(std::string_view text) {
    const uint32_t address = append(std::as_bytes(std::span(text)), 1);
    bytes_.push_back(std::byte{0});
    return address;
}

void InfoWriter::replace(uint32_t address, std::span<const std::byte> bytes) {
    const size_t offset = address - at_;
    VIV_ASSERT(offset <= bytes_.size() && bytes.size() <= bytes_.size() - offset);
    std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
}

BasicMemory basic_memory(const std::vector<MemoryMapEntry>& memory_map) {
    BasicMemory memory;
    for (const MemoryMapEntry& entry : memory_map) {
        if (entry.type != 1) continue;
        const auto in_kib = static_cast<uint32_t>(std::min(entry.length, 4 * gib) / kib);
        if (entry.base == 0) memory.lower = in_kib;
        if (entry.base == mib) memory.upper = in_kib;
    }
    return memory;
}

}  // namespace viv::boot
