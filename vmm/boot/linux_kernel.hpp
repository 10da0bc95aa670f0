#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vmm/boot/kernel.hpp"
#include "vmm/boot/linux_image.hpp"
#include "vmm/boot/memory_map.hpp"

namespace viv::boot {

/// Where the parts go.
struct LinuxPlacement {
    Gpa code;
    Gpa initrd;
};

/// Finds room for the kernel and its initrd in the usable RAM between 1 MiB and 4 GiB: the initrd as high as the kernel
/// allows. Errors (usage) say how much memory is missing.
Result<LinuxPlacement> place_linux(const LinuxImage& image, uint64_t initrd_size,
                                   const std::vector<MemoryMapEntry>& memory_map);

/// A Linux kernel; several modules make one initrd. Without `entry` it is entered by the shortest way that it has, or
/// by the 16-bit one when the command line asks for a video mode (`vga=`). Errors (usage): as of parse_linux_image(),
/// choose_entry() and place_linux(), a command line that is too long, a `vga=` that is no mode.
Result<std::unique_ptr<Kernel>> make_linux_kernel(KernelFiles files, KernelMachine machine,
                                                  std::optional<LinuxEntry> entry = {});

}  // namespace viv::boot
