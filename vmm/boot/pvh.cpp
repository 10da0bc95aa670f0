// Reference: Xen, "x86/HVM direct boot ABI" (docs/misc/pvh.pandoc), version 1 of the start information.
#include "vmm/boot/pvh.hpp"

#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/load_plan.hpp"

namespace viv::boot {
namespace {

struct StartInfo {
    uint32_t magic = 0x336EC578;
    uint32_t version = 1;
    uint32_t flags = 0;
    uint32_t nr_modules = 0;
    uint64_t modlist_paddr = 0;
    uint64_t cmdline_paddr = 0;
    uint64_t rsdp_paddr = 0;
    uint64_t memmap_paddr = 0;
    uint32_t memmap_entries = 0;
    uint32_t reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct ModuleEntry {
    uint64_t paddr = 0, size = 0, cmdline_paddr = 0, reserved = 0;
};

struct MapEntry {
    uint64_t addr = 0, size = 0;
    uint32_t type = 0, reserved = 0;
};
static_assert(sizeof(MapEntry) == 24);

std::vector<std::byte> build_info(uint32_t at, const LoadPlan& plan, const KernelMachine& machine) {
    InfoWriter writer(at);
    StartInfo info;
    const uint32_t info_at = writer.append_value(info);
    std::vector<MapEntry> map;
    for (const MemoryMapEntry& entry : machine.memory_map) map.push_back({entry.base, entry.length, entry.type, 0});
    info.memmap_paddr = writer.append(std::as_bytes(std::span(map)));
    info.memmap_entries = static_cast<uint32_t>(map.size());
    std::vector<ModuleEntry> modules;
    for (size_t i = 0; i < plan.modules.size(); ++i) {
        const LoadPlan::Module& module = plan.modules[i];
        const uint32_t name = writer.append(std::string_view(plan.files.modules[i].path));
        modules.push_back({module.start, module.end - module.start, name, 0});
    }
    info.nr_modules = static_cast<uint32_t>(modules.size());
    info.modlist_paddr = modules.empty() ? 0 : writer.append(std::as_bytes(std::span(modules)));
    info.cmdline_paddr = writer.append(std::string_view(plan.files.command_line));
    info.rsdp_paddr = machine.acpi_rsdp.value;
    writer.replace(info_at, std::as_bytes(std::span(&info, 1)));
    return writer.take();
}

}  // namespace

Result<std::unique_ptr<Kernel>> make_pvh_kernel(KernelFiles files, const KernelMachine& machine) {
    LoadPlan plan(std::move(files), machine.memory_map);
    const ElfImage image = TRY(parse_elf(plan.files.kernel.content));
    VIV_ASSERT(image.pvh_entry);
    TRY(plan.add_segments(image));
    TRY(plan.add_modules());
    plan.entry = *image.pvh_entry;
    plan.with_task = true;
    plan.ebx = TRY(plan.add_info([&](uint32_t at) { return build_info(at, plan, machine); }));
    return kernel_of(std::move(plan));
}

}  // namespace viv::boot
