#include "vmm/firmware/chipset.hpp"

#include <algorithm>
#include <span>

#include "bios/layout.hpp"
#include "bios/rom_images.hpp"

namespace viv::firmware {
namespace {

constexpr PciAddress host_bridge{0, 0, 0};

// Programmable attribute map (82441FX, 3.2.18): a nibble is 1 for reads of RAM, 2 for writes to it.
constexpr unsigned PAM0 = 0x59;  // F0000h in the upper nibble
constexpr unsigned PAM1 = 0x5A;  // C0000h, C4000h
constexpr unsigned PAM6 = 0x5F;  // E8000h, EC000h

}  // namespace

void shadow_roms(GuestMemory& memory, PciBus& bus) {
    const GuestMemory::Change change(memory);
    const auto set = [&bus](unsigned offset, uint8_t value) { bus.config_write(host_bridge, offset, 1, value); };
    set(PAM0, 0x30);
    set(PAM1, 0x33);
    set(PAM6, 0x30);
    memory.write(Gpa{uint64_t{rom::video_rom_segment} * 16}, rom::video_bios());
    memory.write(Gpa{uint64_t{rom::system_rom_segment} * 16}, rom::system_bios());
    set(PAM0, 0x10);
    set(PAM1, 0x11);
}

}  // namespace viv::firmware
