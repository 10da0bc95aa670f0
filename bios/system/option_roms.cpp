// Option ROMs: their initialisation at POST, and booting from those that bring a boot of their own.
// Reference: PCI Firmware Specification 3.0, chapter 5 (expansion ROMs); Plug and Play BIOS Specification 1.0A, 3.2
// (expansion header); BIOS Boot Specification 1.01, 5 (BEV, BCV).

#include "bios/system/option_roms.hpp"

#include "bios/system/drive.hpp"

namespace viv::rom {
namespace {

constexpr uint16_t rom_signature = 0xAA55;
constexpr uint16_t rom_size = 2;  // byte: in units of 512 bytes
constexpr uint16_t rom_initialise = 3;
constexpr uint16_t rom_expansion_header = 0x1A;  // word: where the first one is
constexpr uint32_t pnp_signature = 0x506E5024;   // "$PnP"
constexpr uint16_t pnp_bytes = 0x21;             // of what the BIOS says of itself
constexpr uint16_t pnp_next = 6, pnp_bcv = 0x16, pnp_bev = 0x1A;
constexpr uint16_t first_segment = option_rom_base / 16;
constexpr uint16_t end_segment = option_rom_end / 16;
constexpr uint16_t alignment = option_rom_alignment / 16;

// 82441FX: a nibble for each 16 KiB from C0000h on, 1 where reads go to RAM.
constexpr uint16_t config_address = 0xCF8, config_data = 0xCFC;
constexpr uint8_t PAM2 = 0x5B;  // C8000h and CC000h
constexpr uint8_t PAM6 = 0x5F;  // E8000h and EC000h

VIV_MESSAGE(text_too_large, "An option ROM is left out: there is no room for it.\n");

uint16_t rom_paragraphs(uint16_t segment) {
    const auto units = far_read<uint8_t>(segment, rom_size);
    return static_cast<uint16_t>((units * 32u + alignment - 1) / alignment * alignment);
}

bool is_rom(uint16_t segment) {
    return segment < end_segment && far_read<uint16_t>(segment, 0) == rom_signature && rom_paragraphs(segment) != 0;
}

// Calls `visit(segment, entry)` for each ROM with an expansion header that has an entry point at `which`, until it says
// stop.
template <class Visit>
void for_each_entry(uint16_t which, Visit visit) {
    for (uint16_t segment = first_segment; is_rom(segment);
         segment = static_cast<uint16_t>(segment + rom_paragraphs(segment))) {
        uint16_t header = far_read<uint16_t>(segment, rom_expansion_header);
        // As many as there can be: a ROM may have linked them to a ring.
        for (uint8_t left = 16; left && header && far_read<uint32_t>(segment, header) == pnp_signature; --left) {
            const auto entry = far_read<uint16_t>(segment, static_cast<uint16_t>(header + which));
            if (entry && !visit(segment, entry)) return;
            header = far_read<uint16_t>(segment, static_cast<uint16_t>(header + pnp_next));
        }
    }
}

void call(uint16_t segment, uint16_t offset, uint16_t pci_address) {
    call_option_rom(uint32_t{segment} << 16 | offset, pci_address);
}

// From now on the ROMs can be read only, and where there are none there is nothing.
void protect_roms(uint16_t end) {
    uint16_t segment = 0xC800;
    for (uint8_t index = PAM2; index <= PAM6; ++index) {
        uint8_t value = 0x01;
        if (index != PAM2 && segment >= end) value = 0x00;
        if (index == PAM6) {
            value |= 0x30;  // the tables stay as they are
        } else if (segment + 0x400 < end) {
            value |= 0x10;
        }
        out_dword(config_address, 0x80000000u | (index & 0xFCu));
        out_byte(static_cast<uint16_t>(config_data + (index & 3)), value);
        segment = static_cast<uint16_t>(segment + 0x800);
    }
}

}  // namespace

// Called once, before the first INT 19h.
extern "C" void initialise_option_roms() {
    uint16_t segment = first_segment;
    for (uint8_t index = 0; index != 0xFF; ++index) {
        FirmwareRequest request{};
        request.command = static_cast<uint8_t>(FirmwareCommand::option_rom);
        request.count = index;
        request.buffer = physical(segment, 0);
        const DiskStatus status = firmware_call(request);
        if (status == DiskStatus::bad_command) break;
        if (status != DiskStatus::ok) {
            print(text_too_large);
            continue;
        }
        if (!ebda_get(VIV_EBDA_FIELD(post_is_running))) {
            ebda_put(VIV_EBDA_FIELD(post_is_running), 1);
            start_memory_manager();
            far_copy(get(bda::ebda_segment), VIV_EBDA_FIELD(pnp).offset, system_rom_segment,
                     near_offset(pnp_installation), pnp_bytes);
        }
        call(segment, rom_initialise, static_cast<uint16_t>(request.lba));
        // It may have made itself smaller, or go.
        if (is_rom(segment)) {
            segment = static_cast<uint16_t>(segment + rom_paragraphs(segment));
        } else {
            far_write<uint16_t>(segment, 0, 0);
        }
    }
    if (!ebda_get(VIV_EBDA_FIELD(post_is_running))) return;
    for_each_entry(pnp_bcv, [](uint16_t at, uint16_t entry) {
        call(at, entry, no_pci_address);
        return true;
    });
    ebda_put(VIV_EBDA_FIELD(post_is_running), 0);
    protect_roms(segment);
}

bool boot_from_option_roms(uint8_t first) {
    uint8_t number = 0;
    for_each_entry(pnp_bev, [&](uint16_t segment, uint16_t entry) {
        if (number++ < first) return true;
        ebda_put(VIV_EBDA_FIELD(network_next), number);
        out_byte(firmware_progress_port, static_cast<uint8_t>(BootProgress::starting));
        call(segment, entry, no_pci_address);
        return true;
    });
    ebda_put(VIV_EBDA_FIELD(network_next), 0);
    return number != 0;
}

}  // namespace viv::rom
