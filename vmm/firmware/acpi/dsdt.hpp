#pragma once

#include <cstddef>
#include <span>

namespace viv::firmware {

/// dsdt.asl, compiled by iasl when Vivarium was built.
std::span<const std::byte> dsdt();

}  // namespace viv::firmware
