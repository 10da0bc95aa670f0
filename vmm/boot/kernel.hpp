#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "vmm/boot/host_file.hpp"
#include "vmm/boot/memory_map.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"
#include "vmm/engine/cpu_state.hpp"

namespace viv::boot {

/// What the firmware leaves for a kernel to know.
struct KernelMachine {
    std::vector<MemoryMapEntry> memory_map;  // in ascending order, at most 128
    Gpa acpi_rsdp;                           // 0: none
};

/// What is booted instead of a boot sector.
struct KernelFiles {
    HostFile kernel;
    std::vector<HostFile> modules;  // Linux: the parts of its initrd
    std::string command_line;
};

/// A kernel that is booted without a boot sector: the files, read once, and where their contents go at each power-on.
class Kernel {
  public:
    Kernel() = default;
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    virtual ~Kernel() = default;

    /// Puts everything into memory; returns the state in which the bootstrap CPU enters the kernel. The memory is laid
    /// out as the kernel's maker was told.
    [[nodiscard]] virtual CpuState load(GuestMemory& memory) const = 0;
};

/// The kernel that /chosen names: viv,kernel (path), viv,initrd (paths, optional), bootargs (optional). What kind of
/// kernel it is, its content says; with viv,load-address it is a flat program for there, with viv,kernel-entry a Linux
/// that is entered in 16, 32 or 64 bits. Errors: unreadable or wrong files, a command line that is too long, not enough
/// memory.
Result<std::unique_ptr<Kernel>> open_kernel(const TreeNode& chosen, KernelMachine machine);

}  // namespace viv::boot
