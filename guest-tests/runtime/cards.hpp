#pragma once

// For tests of PCI cards: configuration space, and registers anywhere below 4 GiB. Segments get a limit of 4 GiB in
// protected mode and keep it in real mode, so pointers reach all memory, too.

#include "guest-tests/runtime/guest.hpp"

extern "C" void make_segments_flat();

namespace guest {

// After make_segments_flat().
inline uint32_t read32(uint32_t address) {
    uint32_t value;
    asm volatile("movw %2, %%gs; movl %%gs:(%1), %0" : "=r"(value) : "r"(address), "r"(uint16_t{0}) : "memory");
    return value;
}
inline void write32(uint32_t address, uint32_t value) {
    asm volatile("movw %2, %%gs; movl %1, %%gs:(%0)" ::"r"(address), "r"(value), "r"(uint16_t{0}) : "memory");
}

// `card` is bus, device, function, as the PCI BIOS has them.
inline uint32_t read_config32(uint16_t card, uint8_t offset) {
    outl(0xCF8, 0x80000000u | uint32_t{card} << 8 | (offset & 0xFCu));
    return inl(0xCFC);
}
inline void write_config32(uint16_t card, uint8_t offset, uint32_t value) {
    outl(0xCF8, 0x80000000u | uint32_t{card} << 8 | (offset & 0xFCu));
    outl(0xCFC, value);
}
// The first card of a class (base, subclass, interface); FFFFh when there is none.
inline uint16_t find_card(uint32_t class_code) {
    const Registers r = interrupt(0x1A, {.eax = 0xB103, .ecx = class_code, .esi = 0});
    return r.carry() ? 0xFFFF : r.bx();
}

}  // namespace guest
