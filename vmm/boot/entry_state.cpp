#include "vmm/boot/entry_state.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace viv::boot {
namespace {

constexpr uint16_t code_selector = 0x10, data_selector = 0x18;
constexpr uint64_t code_32 = 0x00CF9B000000FFFF, code_64 = 0x00AF9B000000FFFF, flat_data = 0x00CF93000000FFFF;

SegmentRegister flat_segment(uint16_t selector, uint8_t type) {
    SegmentRegister segment;
    segment.selector = selector;
    segment.limit = 0xFFFFFFFF;
    segment.type = type;
    segment.default_big = true;
    segment.granularity = true;
    return segment;
}

CpuState flat_entry(GuestMemory& memory, Gpa gdt_at, uint64_t code_descriptor, uint64_t rip) {
    const std::array<uint64_t, 4> gdt{0, 0, code_descriptor, flat_data};
    static_assert(sizeof(gdt) == gdt_size);
    memory.write(gdt_at, std::as_bytes(std::span(gdt)));

    constexpr uint8_t code_type = 11, data_type = 3;
    constexpr uint64_t CR0_PE = 1, CR0_ET = 0x10;
    CpuState state = reset_state(true);
    state.gdtr = {gdt_at.value, sizeof(gdt) - 1};
    state.idtr = {0, 0};
    state.cs = flat_segment(code_selector, code_type);
    for (SegmentRegister* segment : {&state.ds, &state.es, &state.fs, &state.gs, &state.ss})
        *segment = flat_segment(data_selector, data_type);
    state.cr0 = CR0_PE | CR0_ET;
    state.rip = rip;
    state.gpr = {};
    return state;
}

}  // namespace

CpuState protected_mode_entry(GuestMemory& memory, Gpa gdt_at, uint64_t rip) {
    return flat_entry(memory, gdt_at, code_32, rip);
}

CpuState real_mode_entry(uint32_t address) {
    constexpr uint32_t segment_size = 0x10000, RFLAGS_IF = 0x200;
    const uint32_t paragraph = address < segment_size ? 0 : address / 16;
    CpuState state = reset_state(true);
    state.cr0 = 0x10;
    for (SegmentRegister* segment : {&state.cs, &state.ds, &state.es}) {
        segment->selector = static_cast<uint16_t>(paragraph);
        segment->base = uint64_t{paragraph} * 16;
    }
    state.rip = address - paragraph * 16;
    state.rflags |= RFLAGS_IF;
    state.gpr = {};
    state.gpr[RSP] = std::min(address, segment_size) % segment_size & ~uint32_t{1};
    return state;
}

CpuState real_mode_entry(uint16_t cs, uint16_t ip, uint16_t data, uint16_t sp) {
    CpuState state = reset_state(true);
    state.cr0 = 0x10;
    const auto load = [](SegmentRegister& segment, uint16_t selector) {
        segment.selector = selector;
        segment.base = uint64_t{selector} * 16;
    };
    load(state.cs, cs);
    for (SegmentRegister* segment : {&state.ds, &state.es, &state.fs, &state.gs, &state.ss}) load(*segment, data);
    state.rip = ip;
    state.gpr = {};
    state.gpr[RSP] = sp;
    return state;
}

CpuState long_mode_entry(GuestMemory& memory, Gpa gdt_at, uint64_t rip, uint64_t page_table) {
    constexpr uint64_t CR0_PG = 0x80000000, CR4_PAE = 0x20, EFER_LME = 0x100, EFER_LMA = 0x400;
    CpuState state = flat_entry(memory, gdt_at, code_64, rip);
    state.cs.long_mode = true;
    state.cs.default_big = false;
    state.cr0 |= CR0_PG;
    state.cr3 = page_table;
    state.cr4 = CR4_PAE;
    state.efer = EFER_LME | EFER_LMA;
    return state;
}

}  // namespace viv::boot
