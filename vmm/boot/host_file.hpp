#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "vmm/core/result.hpp"

namespace viv::boot {

/// A file of the host, read.
struct HostFile {
    std::string path;
    std::vector<std::byte> content;
};

/// Reads a plain file of less than 4 GiB; errors name it as `what`.
Result<HostFile> read_host_file(const std::string& path, const char* what);

}  // namespace viv::boot
