// INT 10h AH=11h: fonts of text modes (in plane 2) and of graphics modes (behind vectors 1Fh and 43h).
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 10H", (AH)=11H.

#include "bios/video/video.hpp"

namespace viv::rom {
namespace {

// Makes the text rows as high as the font: as many rows as the scan lines hold.
void recalculate(uint8_t height) {
    const uint16_t crtc = get(bda::crtc_port);
    const uint8_t overflow = read_indexed(crtc, 0x07);
    const uint8_t maximum = read_indexed(crtc, 0x09);
    // By where blanking starts: another font may have shortened the picture already.
    const int blank_start = read_indexed(crtc, 0x15) | (overflow & 0x08) << 5 | (maximum & 0x20) << 4;
    uint16_t lines = blank_start >= 480 ? 480 : blank_start >= 400 ? 400 : 350;
    if (maximum & 0x80) lines /= 2;
    const auto rows = static_cast<uint8_t>(lines / height);
    write_indexed(crtc, 0x09, static_cast<uint8_t>((maximum & 0xE0) | (height - 1)));
    // The picture ends with the last whole row.
    const auto end = static_cast<uint16_t>(rows * height * (maximum & 0x80 ? 2 : 1) - 1);
    write_indexed(crtc, 0x12, static_cast<uint8_t>(end));
    write_indexed(crtc, 0x14,
                  get(bda::video_mode) == 7 ? height - 1 : (read_indexed(crtc, 0x14) & 0xE0) | (height - 1));
    put(bda::character_height, height);
    put(bda::video_rows, rows - 1);
    put(bda::video_page_size, static_cast<uint16_t>((rows * columns() * 2 + 0x100) & 0xFF00));
    program_cursor_shape();
}

// 21h-24h: the font graphics modes draw with. BL tells the rows: 0 = DL, else 14, 25 or 43.
void graphics_font(Registers& r, uint16_t segment, uint16_t offset, uint8_t height) {
    point_vector(0x43, segment, offset);
    const uint8_t rows = r.bl() == 1 ? 14 : r.bl() == 2 ? 25 : r.bl() == 3 ? 43 : r.dl();
    put(bda::character_height, height);
    put(bda::video_rows, rows - 1);
}

void font_information(Registers& r) {
    uint16_t segment = video_rom_segment, offset = 0;
    switch (r.bh()) {
        case 0:
            offset = far_read<uint16_t>(0, 0x1F * 4);
            segment = far_read<uint16_t>(0, 0x1F * 4 + 2);
            break;
        case 1:
            offset = far_read<uint16_t>(0, 0x43 * 4);
            segment = far_read<uint16_t>(0, 0x43 * 4 + 2);
            break;
        case 2:
        case 5: offset = near_offset(font_8x14); break;  // 5: 9x14 changes, which the 8x14 font has none of
        case 3: offset = near_offset(font_8x8); break;
        case 4: offset = static_cast<uint16_t>(near_offset(font_8x8) + 128 * 8); break;
        case 6:
        case 7: offset = near_offset(font_8x16); break;
        default: return;
    }
    r.es = segment;
    r.bp() = offset;
    r.cx() = get(bda::character_height);
    r.dl() = get(bda::video_rows);
}

}  // namespace

void int10_11_fonts(Registers& r) {
    const uint8_t function = r.al();
    uint8_t height = 0;
    switch (function & 0xEF) {
        case 0x00: height = r.bh(); break;
        case 0x01: height = 14; break;
        case 0x02: height = 8; break;
        case 0x04: height = 16; break;
    }
    if (height > 32) return;
    switch (function) {
        case 0x00:
        case 0x10:
            if (height == 0) return;
            set_font(r.es, r.bp(), height, r.dx(), r.cx(), r.bl());
            break;
        case 0x01:
        case 0x02:
        case 0x04:
        case 0x11:
        case 0x12:
        case 0x14: rom_font(height, r.bl()); break;
        case 0x03: return write_indexed(sequencer_port, 3, r.bl());
        case 0x20: return point_vector(0x1F, r.es, r.bp());
        case 0x21: return graphics_font(r, r.es, r.bp(), r.cl());
        case 0x22: return graphics_font(r, video_rom_segment, near_offset(font_8x14), 14);
        case 0x23: return graphics_font(r, video_rom_segment, near_offset(font_8x8), 8);
        case 0x24: return graphics_font(r, video_rom_segment, near_offset(font_8x16), 16);
        case 0x30: return font_information(r);
        default: return;
    }
    if (function & 0x10) recalculate(height);
}

}  // namespace viv::rom
