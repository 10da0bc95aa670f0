#pragma once

#include <string>

#include "devices/storage/image/disk_image.hpp"
#include "vmm/core/result.hpp"

namespace viv {

enum class ImageKind {
    floppy,
    hard_disk,
    cdrom,
    linux_kernel,       // bzImage or zImage (Linux x86 boot protocol)
    pvh_kernel,         // ELF with a Xen PVH entry note
    multiboot_kernel,   // Multiboot 1, ELF or flat
    multiboot2_kernel,  // Multiboot 2, ELF or flat
    unsupported,        // known, but of no use as it is; `advice` says what to do
    unknown,            // nothing that a PC starts from
};

/// What an image is, by content and size; its name plays no part.
struct ImageProbe {
    ImageKind kind = ImageKind::unknown;
    std::string description;  // for a person: "1.44M floppy", "hard disk with 2 partitions"
    std::string advice;       // only for unsupported and unknown: what to do instead
};

/// Looks at what an open image holds. What cannot be read counts as zeros.
ImageProbe probe_image(DiskImage& image);
/// Opens `path` for reading, looks and closes. Errors as open_disk_image().
Result<ImageProbe> probe_image(const std::string& path);

}  // namespace viv
