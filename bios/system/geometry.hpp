#pragma once

// CHS arithmetic of INT 13h. Pure, shared by the ROM and its tests.

#include <stdint.h>

namespace viv::rom {

struct Chs {
    uint16_t cylinder;
    uint8_t head;
    uint8_t sector;  // from 1
};

// The address in CH, CL, DH: cylinder bits 9:8 are the top of CL.
constexpr Chs unpack_chs(uint16_t cx, uint8_t dh) {
    return {static_cast<uint16_t>((cx >> 8) | (cx & 0xC0) << 2), dh, static_cast<uint8_t>(cx & 0x3F)};
}

// The reverse; cylinders above 1023 do not fit and become 1023.
constexpr uint16_t pack_cx(uint16_t cylinder, uint8_t sector) {
    if (cylinder > 1023) cylinder = 1023;
    return static_cast<uint16_t>((cylinder & 0xFF) << 8 | (cylinder >> 2 & 0xC0) | (sector & 0x3F));
}

struct Geometry {
    uint16_t cylinders, heads, sectors;
};

constexpr bool contains(const Geometry& geometry, const Chs& chs) {
    return chs.cylinder < geometry.cylinders && chs.head < geometry.heads && chs.sector >= 1 &&
           chs.sector <= geometry.sectors;
}

constexpr uint32_t to_lba(const Geometry& geometry, const Chs& chs) {
    return (uint32_t{chs.cylinder} * geometry.heads + chs.head) * geometry.sectors + chs.sector - 1u;
}

}  // namespace viv::rom
