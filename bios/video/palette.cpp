// INT 10h AH=0Bh and 10h: colours.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 10H", (AH)=0BH and 10H.

#include "bios/video/video.hpp"

namespace viv::rom {

enum class Dac : uint8_t { ega, cga, mono, linear };

template <Dac kind>
struct DacBytes {
    constexpr uint8_t operator[](uint16_t index) const {
        const auto color = static_cast<uint8_t>(index / 3);
        const Rgb rgb = kind == Dac::ega    ? ega_color(color)
                        : kind == Dac::cga  ? cga_color(color)
                        : kind == Dac::mono ? mono_color(color)
                                            : linear_color(color);
        return index % 3 == 0 ? rgb.red : index % 3 == 1 ? rgb.green : rgb.blue;
    }
};

// Named from entry.S.
extern "C" {
extern const RomTable<uint8_t, 64 * 3> text_palette;
VIV_IN_ROM constinit const RomTable<uint8_t, 64 * 3> text_palette{DacBytes<Dac::ega>{}};
}

namespace {

VIV_IN_ROM constexpr RomTable<uint8_t, 64 * 3> cga_palette{DacBytes<Dac::cga>{}};
VIV_IN_ROM constexpr RomTable<uint8_t, 64 * 3> mono_palette{DacBytes<Dac::mono>{}};
VIV_IN_ROM constexpr RomTable<uint8_t, 256 * 3> linear_palette{DacBytes<Dac::linear>{}};

template <uint16_t N>
void load(const RomTable<uint8_t, N>& palette) {
    out_byte(0x3C8, 0);
    for (uint16_t i = 0; i < N; ++i) out_byte(0x3C9, palette[i]);
}

Rgb read_dac(uint8_t index) {
    out_byte(0x3C7, index);
    const uint8_t red = in_byte(0x3C9), green = in_byte(0x3C9), blue = in_byte(0x3C9);
    return {red, green, blue};
}

void read_block(Registers& r) {
    uint16_t place = r.dx();
    for (uint16_t i = 0; i < r.cx(); ++i, place = static_cast<uint16_t>(place + 3)) {
        const Rgb color = read_dac(static_cast<uint8_t>(r.bx() + i));
        far_write(r.es, place, color.red);
        far_write(r.es, static_cast<uint16_t>(place + 1), color.green);
        far_write(r.es, static_cast<uint16_t>(place + 2), color.blue);
    }
}

void write_block(Registers& r) {
    uint16_t place = r.dx();
    for (uint16_t i = 0; i < r.cx(); ++i, place = static_cast<uint16_t>(place + 3)) {
        write_dac(static_cast<uint8_t>(r.bx() + i),
                  {far_read<uint8_t>(r.es, place), far_read<uint8_t>(r.es, static_cast<uint16_t>(place + 1)),
                   far_read<uint8_t>(r.es, static_cast<uint16_t>(place + 2))});
    }
}

// AL=13h: 4 pages of 64 or 16 of 16 colours: AR10 bit 7, AR14.
void select_color_page(Registers& r) {
    const uint8_t mode = read_attribute(0x10);
    if (r.bl() == 0) {
        write_attribute(0x10, static_cast<uint8_t>((mode & 0x7F) | (r.bh() & 1) << 7));
    } else if (r.bl() == 1) {
        write_attribute(0x14, mode & 0x80 ? r.bh() & 0x0F : static_cast<uint8_t>((r.bh() & 3) << 2));
    }
}

void read_color_page(Registers& r) {
    const uint8_t page = read_attribute(0x14);
    r.bl() = read_attribute(0x10) >> 7;
    r.bh() = r.bl() ? page & 0x0F : (page >> 2) & 3;
}

void write_all(Registers& r) {
    for (uint8_t i = 0; i < 16; ++i) write_attribute(i, far_read<uint8_t>(r.es, static_cast<uint16_t>(r.dx() + i)));
    write_attribute(0x11, far_read<uint8_t>(r.es, static_cast<uint16_t>(r.dx() + 16)));
}

void read_all(Registers& r) {
    for (uint8_t i = 0; i < 16; ++i) far_write(r.es, static_cast<uint16_t>(r.dx() + i), read_attribute(i));
    far_write(r.es, static_cast<uint16_t>(r.dx() + 16), read_attribute(0x11));
}

}  // namespace

void write_attribute(uint8_t index, uint8_t value) {
    in_byte(status_port());
    out_byte(attribute_port, index);
    out_byte(attribute_port, value);
    out_byte(attribute_port, 0x20);
}

uint8_t read_attribute(uint8_t index) {
    in_byte(status_port());
    out_byte(attribute_port, index);
    const uint8_t value = in_byte(0x3C1);
    in_byte(status_port());
    out_byte(attribute_port, 0x20);
    return value;
}

void write_dac(uint8_t index, Rgb color) {
    out_byte(0x3C8, index);
    out_byte(0x3C9, color.red);
    out_byte(0x3C9, color.green);
    out_byte(0x3C9, color.blue);
}

// 30 % red, 59 % green, 11 % blue.
void grey_dac(uint16_t first, uint16_t count) {
    for (; count != 0; --count, ++first) {
        const Rgb c = read_dac(static_cast<uint8_t>(first));
        const auto grey = static_cast<uint8_t>((c.red * 77u + c.green * 151u + c.blue * 28u + 128u) >> 8);
        write_dac(static_cast<uint8_t>(first), {grey, grey, grey});
    }
}

void load_dac(uint8_t mode) {
    if (mode == 0x13) {
        load(linear_palette);
    } else if (mode == 7 || mode == 0x0F) {
        load(mono_palette);
    } else if ((mode >= 4 && mode <= 6) || mode == 0x0D || mode == 0x0E ||
               (mode <= 3 && (get(bda::video_flags) & 0x90) == 0x80)) {
        load(cga_palette);
    } else {
        load(text_palette);
    }
    if (get(bda::video_flags) & 0x02) grey_dac(0, mode == 0x13 ? 256 : 64);
}

// The colour register of a CGA, by palette registers: BH=0 border and background, BH=1 one of two sets.
void int10_0b_cga_palette(Registers& r) {
    uint8_t palette = get(bda::video_palette);
    if (r.bh() == 0) {
        palette = static_cast<uint8_t>((palette & 0xE0) | (r.bl() & 0x1F));
        const auto color = static_cast<uint8_t>((r.bl() & 7) | (r.bl() & 8) << 1);
        write_attribute(0x11, color);
        if (current_layout() != Layout::text) write_attribute(0, color);
    } else {
        palette = static_cast<uint8_t>((palette & 0xDF) | (r.bl() & 1) << 5);
    }
    if (current_layout() == Layout::cga_four) {
        const auto base = static_cast<uint8_t>((palette & 0x10) | (palette >> 5 & 1));
        for (uint8_t i = 1; i < 4; ++i) write_attribute(i, static_cast<uint8_t>(base + 2 * i));
        // Green, red, brown without bit 0: the sum above gives 2, 4, 6 and 3, 5, 7.
    }
    put(bda::video_palette, palette);
}

void int10_10_palette(Registers& r) {
    switch (r.al()) {
        case 0x00: return r.bl() <= 0x14 ? write_attribute(r.bl(), r.bh()) : void();
        case 0x01: return write_attribute(0x11, r.bh());
        case 0x02: return write_all(r);
        case 0x03:
            write_attribute(0x10, static_cast<uint8_t>((read_attribute(0x10) & 0xF7) | (r.bl() & 1) << 3));
            put(bda::video_mode_select, (get(bda::video_mode_select) & 0xDF) | (r.bl() & 1) << 5);
            return;
        case 0x07:
            if (r.bl() <= 0x14) r.bh() = read_attribute(r.bl());
            return;
        case 0x08: r.bh() = read_attribute(0x11); return;
        case 0x09: return read_all(r);
        case 0x10: return write_dac(r.bl(), {r.dh(), r.ch(), r.cl()});
        case 0x12: return write_block(r);
        case 0x13: return select_color_page(r);
        case 0x15: {
            const Rgb color = read_dac(r.bl());
            r.dh() = color.red;
            r.ch() = color.green;
            r.cl() = color.blue;
            return;
        }
        case 0x17: return read_block(r);
        case 0x18: return out_byte(0x3C6, r.bl());
        case 0x19: r.bl() = in_byte(0x3C6); return;
        case 0x1A: return read_color_page(r);
        case 0x1B: return grey_dac(r.bx(), r.cx());
    }
}

}  // namespace viv::rom
