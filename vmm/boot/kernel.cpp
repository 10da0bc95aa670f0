#include "vmm/boot/kernel.hpp"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/flat_program.hpp"
#include "vmm/boot/linux_kernel.hpp"
#include "vmm/boot/multiboot.hpp"
#include "vmm/boot/multiboot2.hpp"
#include "vmm/boot/pvh.hpp"

namespace viv::boot {
namespace {

constexpr size_t most_map_entries = 128;

Result<std::unique_ptr<Kernel>> make_kernel(KernelFiles files, KernelMachine machine,
                                            std::optional<uint32_t> load_address,
                                            std::optional<LinuxEntry> linux_entry) {
    if (load_address) return make_flat_program(std::move(files), machine, *load_address);
    const std::span<const std::byte> file = files.kernel.content;
    if (linux_entry) return make_linux_kernel(std::move(files), std::move(machine), linux_entry);
    if (is_elf(file)) {
        const ElfImage image = TRY(parse_elf(file));
        if (image.pvh_entry) return make_pvh_kernel(std::move(files), machine);
    }
    if (has_multiboot_header(file)) return make_multiboot_kernel(std::move(files), machine);
    if (has_multiboot2_header(file)) return make_multiboot2_kernel(std::move(files), machine);
    if (is_elf(file)) {
        return fail_usage(
            "an ELF program without a PVH note or Multiboot header; for Linux take the bzImage (vmlinuz) instead of "
            "vmlinux");
    }
    return make_linux_kernel(std::move(files), std::move(machine));
}

}  // namespace

Result<std::unique_ptr<Kernel>> open_kernel(const TreeNode& chosen, KernelMachine machine) {
    VIV_ASSERT(machine.memory_map.size() <= most_map_entries);
    KernelFiles files;
    const std::string path = chosen.string("viv,kernel").value_or("");
    files.kernel = TRY(read_host_file(path, "kernel"));
    for (const std::string& initrd : chosen.strings("viv,initrd")) {
        files.modules.push_back(TRY(read_host_file(initrd, "initrd")));
        if (files.modules.back().content.empty()) return fail_usage(fmt::format("initrd '{}' is empty", initrd));
    }
    files.command_line = chosen.string("bootargs").value_or("");
    std::optional<LinuxEntry> linux_entry;
    if (const auto bits = chosen.u32("viv,kernel-entry")) {
        if (*bits != 16 && *bits != 32 && *bits != 64)
            return fail_usage(fmt::format("viv,kernel-entry: {}: Linux is entered in 16, 32 or 64 bits", *bits));
        linux_entry = static_cast<LinuxEntry>(*bits);
    }
    auto kernel = make_kernel(std::move(files), std::move(machine), chosen.u32("viv,load-address"), linux_entry);
    if (!kernel) return add_context(kernel.error(), fmt::format("kernel '{}'", path));
    return kernel;
}

}  // namespace viv::boot
