#include "vmm/engine/soft/decode.hpp"

namespace viv::soft {

std::optional<Flow> translate_native(SoftEngine&, const Decoded&, uint8_t, Insn&) {
    return std::nullopt;
}

}  // namespace viv::soft
