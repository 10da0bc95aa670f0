// VGATHER and VPGATHER (SDM 2C, VGATHERDPD and following).
#include "vmm/engine/soft/vector.hpp"

namespace viv::soft {
namespace {

template <class T>
T element(const Xmm& reg, unsigned n) {
    return peek<T>(reg.bytes.data() + n * sizeof(T));
}

template <class Index, class Data>
void gather_elements(Cpu& cpu, const Insn& i) {
    const unsigned count = static_cast<unsigned>(i.imm);
    Xmm& target = cpu.vector_registers[i.dst];
    Xmm& selection = cpu.vector_registers[i.src];
    const Xmm index = cpu.vector_registers[i.aux];
    const uint64_t base = cpu.reg<uint64_t>(i.base) + static_cast<uint64_t>(i.disp);
    for (unsigned n = 0; n < count; ++n) {
        if (!(selection.bytes[(n + 1) * sizeof(Data) - 1] & 0x80)) continue;
        const auto scaled = static_cast<uint64_t>(int64_t{element<Index>(index, n)}) << i.scale;
        const uint64_t offset = (base + scaled) & i.mask;
        if (i.has(insn_checked)) check_segment<Access::read>(cpu, &i, i.seg, offset, sizeof(Data));
        const uint64_t linear = (offset + cpu.seg_base[i.seg]) & cpu.linear_mask;
        // A fault leaves what was gathered so far, with its selection cleared, and the instruction can go on.
        const auto value = load<Data>(cpu, &i, linear, i.seg);
        poke<Data>(target.bytes.data() + n * sizeof(Data), value);
        poke<Data>(selection.bytes.data() + n * sizeof(Data), 0);
    }
    selection = {};
    std::memset(target.bytes.data() + count * sizeof(Data), 0, 32 - count * sizeof(Data));
}

}  // namespace

void gather(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::avx);
    if (i.dst == i.src || i.dst == i.aux || i.src == i.aux) raise_ud();
    const WithoutAlignmentChecks unchecked(cpu);
    const bool wide_index = i.size & 1, wide_data = i.size & 2;
    if (wide_index)
        return wide_data ? gather_elements<int64_t, uint64_t>(cpu, i) : gather_elements<int64_t, uint32_t>(cpu, i);
    return wide_data ? gather_elements<int32_t, uint64_t>(cpu, i) : gather_elements<int32_t, uint32_t>(cpu, i);
}

}  // namespace viv::soft
