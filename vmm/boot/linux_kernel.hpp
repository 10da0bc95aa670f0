#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/boot/linux_image.hpp"
#include "vmm/boot/memory_map.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/tree.hpp"
#include "vmm/engine/cpu_state.hpp"

namespace viv::boot {

/// What the firmware leaves for the kernel to know.
struct LinuxMachine {
    std::vector<MemoryMapEntry> memory_map;  // at most 128
    Gpa acpi_rsdp;                           // 0: none
};

/// Where the parts go.
struct LinuxPlacement {
    Gpa code;
    Gpa initrd;
};

/// Finds room for the kernel and its initrd in the usable RAM between 1 MiB and 4 GiB: the initrd as high as the kernel
/// allows. Errors (usage) say how much memory is missing.
Result<LinuxPlacement> place_linux(const LinuxImage& image, uint64_t initrd_size,
                                   const std::vector<MemoryMapEntry>& memory_map);

/// A kernel that is booted without a boot sector: the files, read once, and where their contents go at each power-on.
class LinuxKernel {
  public:
    LinuxKernel(LinuxKernel&&) = default;
    LinuxKernel& operator=(LinuxKernel&&) = delete;

    /// The kernel that /chosen names: viv,kernel (path), viv,initrd (path, optional), bootargs (optional). Errors:
    /// unreadable or wrong files, a command line that is too long, not enough memory.
    static Result<LinuxKernel> open(const TreeNode& chosen, LinuxMachine machine);

    /// Puts kernel, initrd, boot parameters and command line into memory; returns the state in which the bootstrap CPU
    /// enters the kernel. The memory is laid out as open() was told.
    [[nodiscard]] CpuState load(GuestMemory& memory) const;

  private:
    LinuxKernel() = default;
    [[nodiscard]] std::vector<std::byte> boot_parameters() const;

    std::vector<std::byte> file_;  // `image_` refers to it
    std::vector<std::byte> initrd_;
    std::string command_line_;
    LinuxImage image_;
    LinuxPlacement placement_;
    LinuxMachine machine_;
};

}  // namespace viv::boot
