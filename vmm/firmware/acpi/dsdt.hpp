#pragma once

#include <cstddef>
#include <span>

namespace viv::firmware {

/// dsdt.asl, compiled by iasl when Vivarium was built.
std::span<const std::byte> common_dsdt();

}  // namespace viv::firmware
