#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "devices/storage/image/qcow2_format.hpp"

namespace viv::qcow2 {

/// Unpacks a cluster: `out` is filled exactly, or the answer is false. `in` may have anything behind the data.
[[nodiscard]] bool decompress(Compression method, std::span<const std::byte> in, std::span<std::byte> out);

/// Packs a cluster. Empty when that does not make it smaller.
[[nodiscard]] std::vector<std::byte> compress(Compression method, std::span<const std::byte> in);

}  // namespace viv::qcow2
