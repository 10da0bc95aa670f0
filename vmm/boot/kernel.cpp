#include "vmm/boot/kernel.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/linux_kernel.hpp"
#include "vmm/boot/multiboot.hpp"
#include "vmm/boot/multiboot2.hpp"
#include "vmm/boot/pvh.hpp"

namespace viv::boot {
namespace {

constexpr size_t most_map_entries = 128;

Result<HostFile> read_file(const std::string& path, const char* what) {
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
    if (static_cast<uint64_t>(about.st_size) >= uint64_t{4} << 30)
        return fail_usage(fmt::format("{} '{}' is larger than 4 GiB", what, path));
    HostFile file{path, std::vector<std::byte>(static_cast<size_t>(about.st_size))};
    std::vector<std::byte>& content = file.content;
    size_t done = 0;
    while (done < content.size()) {
        const ssize_t got = ::read(fd, content.data() + done, content.size() - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(fmt::format("cannot read {} '{}'", what, path), errno);
        if (got == 0) return fail(fmt::format("cannot read {} '{}': it became shorter meanwhile", what, path));
        done += static_cast<size_t>(got);
    }
    return file;
}

Result<std::unique_ptr<Kernel>> make_kernel(KernelFiles files, KernelMachine machine) {
    const std::span<const std::byte> file = files.kernel.content;
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
    files.kernel = TRY(read_file(path, "kernel"));
    for (const std::string& initrd : chosen.strings("viv,initrd")) {
        files.modules.push_back(TRY(read_file(initrd, "initrd")));
        if (files.modules.back().content.empty()) return fail_usage(fmt::format("initrd '{}' is empty", initrd));
    }
    files.command_line = chosen.string("bootargs").value_or("");
    auto kernel = make_kernel(std::move(files), std::move(machine));
    if (!kernel) return add_context(kernel.error(), fmt::format("kernel '{}'", path));
    return kernel;
}

}  // namespace viv::boot
