#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "devices/video/screen.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// The picture as a PNG file's bytes. An error for a picture without pixels.
Result<std::vector<std::byte>> encode_png(const Image& image);

/// Whether write_png() could put a file there: for saying so before a long run instead of after it. Leaves nothing.
Result<void> check_png_path(const std::string& path);

/// Writes the picture to `path`, whole or not at all: an existing file is replaced in one step. Errors name the path.
Result<void> write_png(const Image& image, const std::string& path);

}  // namespace viv
