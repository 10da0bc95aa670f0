#pragma once

#include <string>

#include "devices/storage/image/disk_image.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// Takes the advisory lock that `access` needs on the open file `fd` of `path`; it goes when the last descriptor of the
/// open file closes. Locks of QEMU's file-posix driver are respected, and it respects these. The error names the
/// process that is in the way. On file systems without locks it goes on, with a line on stderr.
Result<void> lock_image(int fd, const std::string& path, ImageAccess access);

}  // namespace viv
