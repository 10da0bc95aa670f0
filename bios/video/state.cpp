// INT 10h AH=12h, 1Ah, 1Bh, 1Ch: settings and state.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 10H", (AH)=12H, 1AH-1CH.

#include "bios/video/video.hpp"

namespace viv::rom {
namespace {

void set_video_flag(uint8_t mask, bool on) {
    put(bda::video_flags, on ? get(bda::video_flags) | mask : get(bda::video_flags) & ~mask);
}

void select_scan_lines(Registers& r) {
    static constexpr uint8_t choices[] = {0x80, 0x00, 0x10};  // 200, 350, 400
    VIV_IN_ROM static constexpr RomTable table{choices};
    if (r.al() >= table.size()) return;
    put(bda::video_flags, (get(bda::video_flags) & 0x6F) | table[r.al()]);
    r.al() = 0x12;
}

void enable_video(Registers& r) {
    const uint8_t output = in_byte(0x3CC);
    out_byte(0x3C2, r.al() ? output & 0xFD : output | 0x02);
    r.al() = 0x12;
}

// The static functionality table: modes, scan lines, font blocks and functions there are.
constexpr uint8_t functionality_bytes[16] = {0xFF, 0xE0, 0x0F, 0, 0, 0, 0, 0x07, 0x02, 0x08, 0xE7, 0x0C, 0, 0, 0, 0};
VIV_IN_ROM constexpr RomTable functionality{functionality_bytes};

void save_hardware(uint16_t segment, uint16_t& place) {
    const auto store = [segment, &place](uint8_t value) { far_write(segment, place++, value); };
    const uint16_t crtc = get(bda::crtc_port);
    store(in_byte(sequencer_port));
    store(in_byte(crtc));
    store(in_byte(graphics_port));
    in_byte(status_port());
    store(in_byte(attribute_port));
    store(in_byte(0x3CA));
    for (uint8_t i = 1; i < 5; ++i) store(read_indexed(sequencer_port, i));
    store(in_byte(0x3CC));
    for (uint8_t i = 0; i < 25; ++i) store(read_indexed(crtc, i));
    for (uint8_t i = 0; i < 20; ++i) store(read_attribute(i));
    for (uint8_t i = 0; i < 9; ++i) store(read_indexed(graphics_port, i));
    store(static_cast<uint8_t>(crtc));
    store(static_cast<uint8_t>(crtc >> 8));
}

void restore_hardware(uint16_t segment, uint16_t& place) {
    const uint16_t indexes = place;
    place = static_cast<uint16_t>(place + 5);
    const auto load = [segment, &place] { return far_read<uint8_t>(segment, place++); };
    const uint16_t crtc = far_read<uint16_t>(segment, static_cast<uint16_t>(place + 59));
    for (uint8_t i = 1; i < 5; ++i) write_indexed(sequencer_port, i, load());
    out_byte(0x3C2, load());
    write_indexed(crtc, 0x11, 0);
    for (uint8_t i = 0; i < 25; ++i) write_indexed(crtc, i, load());
    for (uint8_t i = 0; i < 20; ++i) write_attribute(i, load());
    for (uint8_t i = 0; i < 9; ++i) write_indexed(graphics_port, i, load());
    place = static_cast<uint16_t>(place + 2);
    out_byte(sequencer_port, far_read<uint8_t>(segment, indexes));
    out_byte(crtc, far_read<uint8_t>(segment, static_cast<uint16_t>(indexes + 1)));
    out_byte(graphics_port, far_read<uint8_t>(segment, static_cast<uint16_t>(indexes + 2)));
}

constexpr uint16_t hardware_bytes = 66;
constexpr uint16_t saved_bda = 0x49, saved_bda_bytes = 0x66 - 0x49 + 1, saved_bda_2 = 0x84,
                   saved_bda_2_bytes = 0x8A - 0x84 + 1, saved_pointer = 0xA8, saved_pointer_bytes = 4;
constexpr uint16_t data_bytes = saved_bda_bytes + saved_bda_2_bytes + saved_pointer_bytes + 8;  // and two vectors
constexpr uint16_t dac_bytes = 4 + 768;

// The data area and the font vectors, in one direction or the other.
void copy_data(uint16_t segment, uint16_t& place, bool save) {
    const auto move = [segment, &place, save](uint16_t from_segment, uint16_t from, uint16_t bytes) {
        if (save) {
            far_copy(segment, place, from_segment, from, bytes);
        } else {
            far_copy(from_segment, from, segment, place, bytes);
        }
        place = static_cast<uint16_t>(place + bytes);
    };
    move(bda_segment, saved_bda, saved_bda_bytes);
    move(bda_segment, saved_bda_2, saved_bda_2_bytes);
    move(bda_segment, saved_pointer, saved_pointer_bytes);
    move(0, 0x1F * 4, 4);
    move(0, 0x43 * 4, 4);
}

void save_dac(uint16_t segment, uint16_t& place) {
    far_write(segment, place++, in_byte(0x3C7));
    far_write(segment, place++, in_byte(0x3C8));
    far_write(segment, place++, in_byte(0x3C6));
    far_write(segment, place++, read_attribute(0x14));
    out_byte(0x3C7, 0);
    for (uint16_t i = 0; i < 768; ++i) far_write(segment, place++, in_byte(0x3C9));
}

void restore_dac(uint16_t segment, uint16_t& place) {
    const uint16_t start = place;
    place = static_cast<uint16_t>(place + 4);
    out_byte(0x3C8, 0);
    for (uint16_t i = 0; i < 768; ++i) out_byte(0x3C9, far_read<uint8_t>(segment, place++));
    out_byte(0x3C6, far_read<uint8_t>(segment, static_cast<uint16_t>(start + 2)));
    write_attribute(0x14, far_read<uint8_t>(segment, static_cast<uint16_t>(start + 3)));
    out_byte(0x3C8, far_read<uint8_t>(segment, static_cast<uint16_t>(start + 1)));
}

}  // namespace

void int10_12_alternate_select(Registers& r) {
    switch (r.bl()) {
        case 0x10:  // 256 KiB, colour or monochrome; feature bits and switches
            r.bh() = get(bda::crtc_port) == 0x3B4 ? 1 : 0;
            r.bl() = 3;
            r.ch() = get(bda::video_switches) >> 4;
            r.cl() = get(bda::video_switches) & 0x0F;
            return;
        case 0x20: return;  // print screen serves any number of rows already
        case 0x30: return select_scan_lines(r);
        case 0x31:
            set_video_flag(0x08, r.al() != 0);
            r.al() = 0x12;
            return;
        case 0x32: return enable_video(r);
        case 0x33:
            set_video_flag(0x02, r.al() == 0);
            r.al() = 0x12;
            return;
        case 0x34:
            put(bda::video_control, (get(bda::video_control) & 0xFE) | (r.al() & 1));
            r.al() = 0x12;
            return;
        case 0x35: return;  // there is no second display: AL stays, which says "not supported"
        case 0x36:
            write_indexed(sequencer_port, 1,
                          static_cast<uint8_t>((read_indexed(sequencer_port, 1) & 0xDF) | (r.al() & 1) << 5));
            r.al() = 0x12;
            return;
    }
}

void int10_1a_display_combination(Registers& r) {
    if (r.al() == 0) {
        r.bx() = get(bda::display_combination);
    } else if (r.al() == 1) {
        put(bda::display_combination, r.bl());
    } else {
        return;
    }
    r.al() = 0x1A;
}

void int10_1b_state(Registers& r) {
    if (r.bx() != 0) return;
    const uint16_t to = r.di();
    const auto store = [&r, to](uint16_t at_offset, uint8_t value) {
        far_write(r.es, static_cast<uint16_t>(to + at_offset), value);
    };
    for (uint16_t i = 0; i < 64; ++i) store(i, 0);
    far_write(r.es, to, functionality.offset());
    far_write(r.es, static_cast<uint16_t>(to + 2), video_rom_segment);
    far_copy(r.es, static_cast<uint16_t>(to + 4), bda_segment, saved_bda, saved_bda_bytes);
    far_copy(r.es, static_cast<uint16_t>(to + 0x22), bda_segment, saved_bda_2, 3);
    store(0x25, get(bda::display_combination));
    const uint8_t mode = get(bda::video_mode);
    uint16_t colors = 16;
    uint8_t pages = 1, lines = 2;
    switch (layout_of(mode)) {
        case Layout::text:
            colors = mode == 7 ? 0 : 16;
            pages = 8;
            lines = (get(bda::video_flags) & 0x10) ? 2 : (get(bda::video_flags) & 0x80) ? 0 : 1;
            break;
        case Layout::cga_four:
            colors = 4;
            lines = 0;
            break;
        case Layout::cga_two:
            colors = 2;
            lines = 0;
            break;
        case Layout::linear:
            colors = 256;
            lines = 0;
            break;
        case Layout::vbe:
            colors = 256;
            lines = 3;
            break;
        case Layout::planar:
            colors = mode == 0x11 ? 2 : mode == 0x0F ? 0 : 16;
            pages = mode == 0x0D ? 8 : mode == 0x0E ? 4 : mode <= 0x10 ? 2 : 1;
            lines = mode <= 0x0E ? 0 : mode <= 0x10 ? 1 : 3;
            break;
    }
    store(0x27, static_cast<uint8_t>(colors));
    store(0x28, static_cast<uint8_t>(colors >> 8));
    store(0x29, pages);
    store(0x2A, lines);
    const uint8_t blocks = read_indexed(sequencer_port, 3);
    store(0x2B, static_cast<uint8_t>((blocks & 3) | (blocks >> 2 & 4)));
    store(0x2C, static_cast<uint8_t>((blocks >> 2 & 3) | (blocks >> 3 & 4)));
    // All modes on all displays, grey summing, monochrome, default palette off, cursor emulation, blinking.
    const uint8_t flags = get(bda::video_flags);
    store(0x2D, static_cast<uint8_t>(0x01 | (flags & 0x0E) | (get(bda::video_control) & 1 ? 0 : 0x10) |
                                     (get(bda::video_mode_select) & 0x20)));
    store(0x31, 3);  // 256 KiB
    r.al() = 0x1B;
}

uint16_t saved_state_bytes(uint16_t wanted) {
    return static_cast<uint16_t>((wanted & 1 ? hardware_bytes : 0) + (wanted & 2 ? data_bytes : 0) +
                                 (wanted & 4 ? dac_bytes : 0));
}

void save_state(uint16_t segment, uint16_t place, uint16_t wanted) {
    if (wanted & 1) save_hardware(segment, place);
    if (wanted & 2) copy_data(segment, place, true);
    if (wanted & 4) save_dac(segment, place);
}

void restore_state(uint16_t segment, uint16_t place, uint16_t wanted) {
    if (wanted & 1) restore_hardware(segment, place);
    if (wanted & 2) copy_data(segment, place, false);
    if (wanted & 4) restore_dac(segment, place);
}

void int10_1c_save_restore(Registers& r) {
    const uint16_t wanted = r.cx();
    if (r.al() > 2 || (wanted & 7) == 0) return;
    switch (r.al()) {
        case 0: r.bx() = static_cast<uint16_t>((saved_state_bytes(wanted) + 63) / 64); break;
        case 1: save_state(r.es, r.bx(), wanted); break;
        case 2:
            // This function knows of the VGA's own modes only.
            if (wanted & 1) leave_vbe();
            restore_state(r.es, r.bx(), wanted);
            break;
    }
    r.al() = 0x1C;
}

}  // namespace viv::rom
