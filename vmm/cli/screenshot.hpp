#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "devices/video/screen.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// The picture as a PNG file's bytes. An error for a picture without pixels.
Result<std::vector<std::byte>> encode_png(const Image& image);

/// Writes the picture to `path`, whole or not at all: an existing file is replaced in one step. Errors name the path.
Result<void> write_png(const Image& image, const std::string& path);

}  // namespace viv
