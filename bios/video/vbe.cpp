// INT 10h AH=4Fh: the VESA BIOS Extension, on the DISPI registers.
// Reference: VESA BIOS Extension (VBE) Core Functions 3.0; VBE/DDC 1.1; VBE/PM 1.0.

#include "bios/video/dispi.hpp"
#include "bios/video/edid.hpp"
#include "bios/video/vbe_modes.hpp"
#include "bios/video/video.hpp"

namespace viv::rom {

extern "C" const uint8_t vbe_protected[], vbe_protected_end[], vbe_window[];

namespace {

constexpr uint16_t done = 0x004F, failed = 0x014F, wrong_mode = 0x034F, unknown = 0x0100;
constexpr uint16_t flag_linear = 0x4000, flag_keep_memory = 0x8000, mode_bits = 0x01FF;

template <uint16_t VbeMode::*field>
struct ModeWords {
    constexpr uint16_t operator[](uint16_t i) const { return i < vbe_mode_count ? vbe_modes[i].*field : 0xFFFF; }
};
struct ModeDepths {
    constexpr uint8_t operator[](uint16_t i) const { return vbe_modes[i].bits; }
};
// The list ends with FFFFh, as programs want to read it.
VIV_IN_ROM constexpr RomTable<uint16_t, vbe_mode_count + 1> mode_numbers{ModeWords<&VbeMode::number>{}};
VIV_IN_ROM constexpr RomTable<uint16_t, vbe_mode_count> mode_widths{ModeWords<&VbeMode::width>{}};
VIV_IN_ROM constexpr RomTable<uint16_t, vbe_mode_count> mode_heights{ModeWords<&VbeMode::height>{}};
VIV_IN_ROM constexpr RomTable<uint8_t, vbe_mode_count> mode_depths{ModeDepths{}};
VIV_IN_ROM constexpr RomTable<uint8_t, Edid::size> monitor{make_edid().bytes};

VIV_MESSAGE(oem_name, "Vivarium VBE");
VIV_MESSAGE(oem_vendor, "Vivarium");
VIV_MESSAGE(oem_product, "Vivarium display adapter");
VIV_MESSAGE(oem_revision, "1");

/// The mode's place in the tables; vbe_mode_count when there is none.
uint16_t find_mode(uint16_t number) {
    uint16_t i = 0;
    while (i < vbe_mode_count && mode_numbers[i] != number) ++i;
    return i;
}

VbeMode mode_at(uint16_t i) {
    return {mode_numbers[i], mode_widths[i], mode_heights[i], mode_depths[i]};
}

// A structure in the caller's memory.
struct Writer {
    uint16_t segment, base;
    void byte(uint16_t at, uint8_t value) const { far_write(segment, static_cast<uint16_t>(base + at), value); }
    void word(uint16_t at, uint16_t value) const { far_write(segment, static_cast<uint16_t>(base + at), value); }
    void dword(uint16_t at, uint32_t value) const { far_write(segment, static_cast<uint16_t>(base + at), value); }
    void pointer(uint16_t at, uint16_t offset) const {
        word(at, offset);
        word(static_cast<uint16_t>(at + 2), video_rom_segment);
    }
};

uint16_t vbe_00_controller(Registers& r) {
    const Writer info{r.es, r.di()};
    constexpr uint32_t vbe2 = 0x32454256;  // "VBE2": the caller has 512 bytes, and wants the strings
    const bool wants_all = far_read<uint32_t>(r.es, r.di()) == vbe2;
    far_fill(r.es, r.di(), 0, wants_all ? 256 : 128);
    info.dword(0x00, 0x41534556);  // "VESA"
    info.word(0x04, 0x0300);
    info.pointer(0x06, oem_name.offset());
    info.dword(0x0A, 0x01);  // the DAC can have 8 bits a colour
    info.pointer(0x0E, mode_numbers.offset());
    info.word(0x12, dispi_read(Dispi::video_memory_64k));
    if (wants_all) {
        info.word(0x14, 0x0100);
        info.pointer(0x16, oem_vendor.offset());
        info.pointer(0x1A, oem_product.offset());
        info.pointer(0x1E, oem_revision.offset());
    }
    return done;
}

// Size and position of red, green, blue and the rest.
constexpr uint8_t masks_15_bytes[8] = {5, 10, 5, 5, 5, 0, 1, 15};
VIV_IN_ROM constexpr RomTable masks_15{masks_15_bytes};
constexpr uint8_t masks_16_bytes[8] = {5, 11, 6, 5, 5, 0, 0, 0};
VIV_IN_ROM constexpr RomTable masks_16{masks_16_bytes};
constexpr uint8_t masks_24_bytes[8] = {8, 16, 8, 8, 8, 0, 0, 0};
VIV_IN_ROM constexpr RomTable masks_24{masks_24_bytes};
constexpr uint8_t masks_32_bytes[8] = {8, 16, 8, 8, 8, 0, 8, 24};
VIV_IN_ROM constexpr RomTable masks_32{masks_32_bytes};

uint8_t mask_byte(uint8_t bits, uint16_t i) {
    switch (bits) {
        case 15: return masks_15[i];
        case 16: return masks_16[i];
        case 24: return masks_24[i];
        case 32: return masks_32[i];
        default: return 0;
    }
}

uint16_t vbe_01_mode(Registers& r) {
    const uint16_t index = find_mode(r.cx() & mode_bits);
    if (index == vbe_mode_count) return failed;
    const VbeMode mode = mode_at(index);
    const Writer info{r.es, r.di()};
    const bool planar = mode.bits == 4;
    const uint16_t pitch = planar ? mode.width / 8 : static_cast<uint16_t>(mode.width * bytes_per_pixel(mode.bits));
    const uint32_t bytes = uint32_t{pitch} * mode.height;
    // Memory as one map sees it.
    const uint32_t memory = dispi_read(Dispi::video_memory_64k) * (planar ? 0x4000u : 0x10000u);
    uint32_t pages = memory / bytes;
    if (pages > 128) pages = 128;
    far_fill(r.es, r.di(), 0, 128);
    // Supported, all fields filled, text by the BIOS, colour, graphics, linear.
    info.word(0x00, planar ? 0x1F : 0x9F);
    info.byte(0x02, 0x07);  // window A moves, is read and written; there is no B
    info.word(0x04, 64);
    info.word(0x06, 64);
    info.word(0x08, 0xA000);
    info.pointer(0x0C, near_offset(vbe_window));
    info.word(0x10, pitch);
    info.word(0x12, mode.width);
    info.word(0x14, mode.height);
    info.byte(0x16, 8);
    info.byte(0x17, 16);
    info.byte(0x18, planar ? 4 : 1);
    info.byte(0x19, mode.bits);
    info.byte(0x1A, 1);
    info.byte(0x1B, planar ? 3 : mode.bits == 8 ? 4 : 6);
    info.byte(0x1D, static_cast<uint8_t>(pages - 1));
    info.byte(0x1E, 1);
    for (uint16_t i = 0; i < 8; ++i) info.byte(static_cast<uint16_t>(0x1F + i), mask_byte(mode.bits, i));
    info.byte(0x27, mode.bits == 15 || mode.bits == 32 ? 0x02 : 0x00);  // the rest is the program's
    if (!planar) info.dword(0x28, frame_buffer());
    info.word(0x32, pitch);
    info.byte(0x34, static_cast<uint8_t>(pages - 1));
    info.byte(0x35, static_cast<uint8_t>(pages - 1));
    for (uint16_t i = 0; i < 8; ++i) info.byte(static_cast<uint16_t>(0x36 + i), mask_byte(mode.bits, i));
    info.dword(0x3E, 350'000'000);  // Hz; any timing does
    return done;
}

uint16_t vbe_02_set_mode(Registers& r) {
    const uint16_t number = r.bx() & mode_bits;
    const bool keep_memory = r.bx() & flag_keep_memory;
    if (number < 0x100) {
        if (number > 0x7F || parameter_index(static_cast<uint8_t>(number), ScanLines::lines_400) == no_parameters) {
            return failed;
        }
        set_mode(static_cast<uint8_t>(number | (keep_memory ? 0x80 : 0)));
        return done;
    }
    const uint16_t index = find_mode(number);
    if (index == vbe_mode_count) return failed;
    const VbeMode mode = mode_at(index);
    if (mode.bits == 4 && (r.bx() & flag_linear)) return failed;
    set_linear_mode(mode.width, mode.height, mode.bits, keep_memory);
    put(bda::vbe_mode, r.bx() & (mode_bits | flag_linear | flag_keep_memory));
    return done;
}

uint16_t vbe_03_get_mode(Registers& r) {
    const uint16_t mode = get(bda::vbe_mode);
    r.bx() = mode ? mode : get(bda::video_mode);
    return done;
}

// In the order in which they are written back: sizes, then enable, then what enabling resets.
constexpr uint16_t saved_registers = 8;
constexpr uint8_t saved_order[saved_registers] = {1, 2, 3, 4, 5, 6, 8, 9};
VIV_IN_ROM constexpr RomTable register_order{saved_order};
constexpr uint16_t saved_dispi_bytes = saved_registers * 2 + 2;

uint16_t vbe_04_save_restore(Registers& r) {
    const uint16_t wanted = r.cx() & 0x0F;
    if (r.dl() > 2 || wanted == 0) return failed;
    if (r.dl() == 0) {
        const auto bytes = static_cast<uint16_t>(saved_state_bytes(wanted & 7) + (wanted & 8 ? saved_dispi_bytes : 0));
        r.bx() = static_cast<uint16_t>((bytes + 63) / 64);
        return done;
    }
    uint16_t place = r.bx();
    const bool save = r.dl() == 1;
    // The registers come first: restoring them decides how wide the DAC is.
    if (wanted & 8) {
        for (uint16_t i = 0; i < saved_registers; ++i, place = static_cast<uint16_t>(place + 2)) {
            const auto which = static_cast<Dispi>(register_order[i]);
            if (save) {
                far_write(r.es, place, dispi_read(which));
                continue;
            }
            const uint16_t value = far_read<uint16_t>(r.es, place);
            dispi_write(which, which == Dispi::enable ? value | dispi_keep_memory : value);
        }
        if (save) {
            far_write(r.es, place, get(bda::vbe_mode));
        } else {
            put(bda::vbe_mode, far_read<uint16_t>(r.es, place));
        }
        place = static_cast<uint16_t>(place + 2);
    }
    save ? save_state(r.es, place, wanted & 7) : restore_state(r.es, place, wanted & 7);
    return done;
}

bool is_linear_on() {
    return (dispi_read(Dispi::enable) & dispi_enabled) != 0;
}

uint16_t vbe_05_window(Registers& r) {
    if (!is_linear_on() || r.bl() != 0 || r.bh() > 1) return failed;
    if (get(bda::vbe_mode) & flag_linear) return wrong_mode;
    if (r.bh() == 0) {
        dispi_write(Dispi::bank, r.dx());
        return dispi_read(Dispi::bank) == r.dx() ? done : failed;
    }
    r.dx() = dispi_read(Dispi::bank);
    return done;
}

uint16_t vbe_06_line_length(Registers& r) {
    if (!is_linear_on()) return wrong_mode;
    const auto bits = static_cast<uint8_t>(dispi_read(Dispi::bits_per_pixel));
    const auto bytes_of = [bits](uint16_t pixels) {
        return bits == 4 ? static_cast<uint16_t>(pixels / 8) : static_cast<uint16_t>(pixels * bytes_per_pixel(bits));
    };
    // The longest line that the memory holds once for each line of the picture, and that a word can count in bytes.
    const uint32_t memory = dispi_read(Dispi::video_memory_64k) * (bits == 4 ? 0x4000u : 0x10000u);
    uint32_t most = memory / dispi_read(Dispi::y_resolution);
    if (most > 0xFFF8) most = 0xFFF8;
    uint32_t most_pixels = bits == 4 ? most * 8 : most / bytes_per_pixel(bits);
    if (most_pixels > 0xFFF8) most_pixels = 0xFFF8;
    most_pixels &= ~7u;
    switch (r.bl()) {
        case 0x00:
        case 0x02: {
            uint32_t pixels = r.cx();
            if (r.bl() == 2)
                pixels = bits == 4 ? pixels * 8 : (pixels + bytes_per_pixel(bits) - 1) / bytes_per_pixel(bits);
            pixels = (pixels + 7) & ~7u;
            if (pixels > most_pixels) return 0x024F;
            dispi_write(Dispi::virtual_width, static_cast<uint16_t>(pixels));
            break;
        }
        case 0x01: break;
        case 0x03:
            r.bx() = bytes_of(static_cast<uint16_t>(most_pixels));
            r.cx() = static_cast<uint16_t>(most_pixels);
            r.dx() = dispi_read(Dispi::y_resolution);
            return done;
        default: return failed;
    }
    r.cx() = dispi_read(Dispi::virtual_width);
    r.bx() = bytes_of(r.cx());
    r.dx() = dispi_read(Dispi::virtual_height);
    return done;
}

void wait_for_retrace() {
    while (!(in_byte(status_port()) & 8)) {
    }
}

uint16_t set_start(uint16_t x, uint16_t y) {
    dispi_write(Dispi::x_offset, x);
    dispi_write(Dispi::y_offset, y);
    return dispi_read(Dispi::x_offset) == x && dispi_read(Dispi::y_offset) == y ? done : failed;
}

uint16_t vbe_07_start(Registers& r) {
    if (!is_linear_on()) return wrong_mode;
    switch (r.bl()) {
        case 0x80: wait_for_retrace(); [[fallthrough]];
        case 0x00: return set_start(r.cx(), r.dx());
        case 0x01:
            r.bh() = 0;
            r.cx() = dispi_read(Dispi::x_offset);
            r.dx() = dispi_read(Dispi::y_offset);
            return done;
        case 0x82: wait_for_retrace(); [[fallthrough]];
        case 0x02: {  // ECX in bytes
            const auto bits = static_cast<uint8_t>(dispi_read(Dispi::bits_per_pixel));
            const uint32_t pixels = bits == 4 ? r.ecx() * 8 : r.ecx() / bytes_per_pixel(bits);
            const uint16_t width = dispi_read(Dispi::virtual_width);
            return set_start(static_cast<uint16_t>(pixels % width), static_cast<uint16_t>(pixels / width));
        }
        case 0x04: r.cx() = 1; return done;  // whether a scheduled start has happened
        default: return failed;
    }
}

uint16_t vbe_08_dac_width(Registers& r) {
    if (r.bl() > 1) return failed;
    const uint16_t enable = dispi_read(Dispi::enable);
    if (!(enable & dispi_enabled) || dispi_read(Dispi::bits_per_pixel) > 8) return wrong_mode;
    if (r.bl() == 0) {
        const auto others = static_cast<uint16_t>(enable & ~dispi_8_bit_dac);
        const uint16_t bank = dispi_read(Dispi::bank);
        dispi_write(Dispi::enable, r.bh() >= 8 ? others | dispi_8_bit_dac : others);
        dispi_write(Dispi::bank, bank);
    }
    r.bh() = dispi_read(Dispi::enable) & dispi_8_bit_dac ? 8 : 6;
    return done;
}

uint16_t vbe_09_palette(Registers& r) {
    uint16_t place = r.di();
    switch (r.bl()) {
        case 0x80: wait_for_retrace(); [[fallthrough]];
        case 0x00:
            if (r.dx() > 255 || r.cx() > 256) return failed;
            out_byte(0x3C8, r.dl());
            for (uint16_t i = 0; i < r.cx(); ++i, place = static_cast<uint16_t>(place + 4)) {
                const uint32_t colour = far_read<uint32_t>(r.es, place);
                out_byte(0x3C9, static_cast<uint8_t>(colour >> 16));
                out_byte(0x3C9, static_cast<uint8_t>(colour >> 8));
                out_byte(0x3C9, static_cast<uint8_t>(colour));
            }
            return done;
        case 0x01:
            if (r.dx() > 255 || r.cx() > 256) return failed;
            out_byte(0x3C7, r.dl());
            for (uint16_t i = 0; i < r.cx(); ++i, place = static_cast<uint16_t>(place + 4)) {
                const uint32_t red = in_byte(0x3C9), green = in_byte(0x3C9), blue = in_byte(0x3C9);
                far_write(r.es, place, red << 16 | green << 8 | blue);
            }
            return done;
        default: return failed;  // there is no secondary palette
    }
}

uint16_t vbe_0a_protected(Registers& r) {
    if (r.bl() != 0) return failed;
    r.es = video_rom_segment;
    r.di() = near_offset(vbe_protected);
    r.cx() = static_cast<uint16_t>(vbe_protected_end - vbe_protected);
    return done;
}

uint16_t vbe_0b_pixel_clock(Registers& r) {
    // Any clock does: the picture has no timing of its own. ECX is the one that was asked for.
    return r.bl() == 0 ? done : failed;
}

uint16_t vbe_10_power(Registers& r) {
    switch (r.bl()) {
        case 0x00:
            r.bl() = 0x10;  // version 1.0
            r.bh() = 0x07;  // standby, suspend, off
            return done;
        case 0x01: {
            const uint8_t state = r.bh();
            if (state != 0 && state != 1 && state != 2 && state != 4) return failed;
            const uint8_t clocking = read_indexed(sequencer_port, 1) & 0xDF;
            write_indexed(sequencer_port, 1, state ? clocking | 0x20 : clocking);
            put(bda::dpms_state, state);
            return done;
        }
        case 0x02: r.bh() = get(bda::dpms_state); return done;
        default: return failed;
    }
}

uint16_t vbe_15_monitor(Registers& r) {
    switch (r.bl()) {
        case 0x00:
            r.bx() = 0x0102;  // a second a block at most; DDC2
            return done;
        case 0x01:
            if (r.dx() != 0) return failed;
            far_copy(r.es, r.di(), video_rom_segment, monitor.offset(), Edid::size);
            return done;
        default: return failed;
    }
}

uint16_t serve(Registers& r) {
    switch (r.al()) {
        case 0x00: return vbe_00_controller(r);
        case 0x01: return vbe_01_mode(r);
        case 0x02: return vbe_02_set_mode(r);
        case 0x03: return vbe_03_get_mode(r);
        case 0x04: return vbe_04_save_restore(r);
        case 0x05: return vbe_05_window(r);
        case 0x06: return vbe_06_line_length(r);
        case 0x07: return vbe_07_start(r);
        case 0x08: return vbe_08_dac_width(r);
        case 0x09: return vbe_09_palette(r);
        case 0x0A: return vbe_0a_protected(r);
        case 0x0B: return vbe_0b_pixel_clock(r);
        case 0x10: return vbe_10_power(r);
        case 0x15: return vbe_15_monitor(r);
        default: return unknown;
    }
}

}  // namespace

void int10_4f_vbe(Registers& r) {
    if (has_dispi()) r.ax() = serve(r);
}

}  // namespace viv::rom
