// INT 10h: cursor, pages, scrolling and characters in text modes; graphics modes go on to graphics.cpp.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 10H".

#include "bios/video/video.hpp"

namespace viv::rom {
namespace {

uint16_t cell_offset(uint8_t page, uint8_t row, uint8_t column) {
    return static_cast<uint16_t>(page * get(bda::video_page_size) + (row * columns() + column) * 2u);
}

uint16_t cursor_of(uint8_t page) {
    return get(at(bda::cursor_positions, page & 7));
}

void write_crtc_word(uint8_t index, uint16_t value) {
    const uint16_t crtc = get(bda::crtc_port);
    write_indexed(crtc, index, static_cast<uint8_t>(value >> 8));
    write_indexed(crtc, static_cast<uint8_t>(index + 1), static_cast<uint8_t>(value));
}

void write_cells(uint8_t character, uint8_t attribute, uint8_t page, uint16_t count, bool with_attribute) {
    const uint16_t cursor = cursor_of(page);
    auto row = static_cast<uint8_t>(cursor >> 8), column = static_cast<uint8_t>(cursor);
    if (current_layout() != Layout::text) {
        const uint8_t width = columns();
        for (; count != 0 && row <= get(bda::video_rows); --count) {
            draw_character(character, attribute, page, row, column);
            if (++column == width) column = 0, ++row;
        }
        return;
    }
    uint16_t place = cell_offset(page, row, column);
    if (with_attribute) {
        far_fill(video_segment(), place, static_cast<uint16_t>(attribute << 8 | character), count);
        return;
    }
    for (; count != 0; --count, place = static_cast<uint16_t>(place + 2)) {
        far_write(video_segment(), place, character);
    }
}

}  // namespace

// The shape that programs ask for is that of an 8-line character; with emulation on it is stretched to the real one.
void program_cursor_shape() {
    const uint16_t shape = get(bda::cursor_shape);
    auto start = static_cast<uint8_t>(shape >> 8), end = static_cast<uint8_t>(shape & 0x1F);
    const auto height = static_cast<uint8_t>(get(bda::character_height));
    if (!(get(bda::video_control) & 1) && height > 8 && end < 8 && start < 8) {
        const bool underline = end == start + 1;
        end = static_cast<uint8_t>((end + 1) * height / 8 - 1);
        start = underline ? static_cast<uint8_t>(end - 1) : static_cast<uint8_t>((start + 1) * height / 8 - 1);
        // An underline at the bottom stays clear of the last line.
        if (underline && end == height - 1) --start, --end;
    }
    const uint16_t crtc = get(bda::crtc_port);
    write_indexed(crtc, 0x0A, start & 0x3F);
    write_indexed(crtc, 0x0B, end & 0x1F);
}

void set_cursor(uint8_t page, uint8_t row, uint8_t column) {
    put(at(bda::cursor_positions, page & 7), static_cast<uint16_t>(row << 8 | column));
    if (page != get(bda::video_page) || current_layout() != Layout::text) return;
    write_crtc_word(0x0E, static_cast<uint16_t>(get(bda::video_page_start) / 2 + row * columns() + column));
}

void select_page(uint8_t page) {
    const auto start = static_cast<uint16_t>(page * get(bda::video_page_size));
    put(bda::video_page, page);
    put(bda::video_page_start, start);
    const Layout layout = current_layout();
    write_crtc_word(0x0C, layout == Layout::planar ? start : static_cast<uint16_t>(start / 2));
    const uint16_t cursor = cursor_of(page);
    set_cursor(page, static_cast<uint8_t>(cursor >> 8), static_cast<uint8_t>(cursor));
}

void scroll(uint8_t lines, uint8_t attribute, uint8_t top, uint8_t left, uint8_t bottom, uint8_t right, bool down) {
    const uint8_t width = columns();
    if (bottom > get(bda::video_rows)) bottom = get(bda::video_rows);
    if (right >= width) right = static_cast<uint8_t>(width - 1);
    if (top > bottom || left > right) return;
    const auto height = static_cast<uint8_t>(bottom - top + 1);
    if (lines == 0 || lines > height) lines = height;
    if (current_layout() != Layout::text) return scroll_graphics(lines, attribute, top, left, bottom, right, down);

    const uint16_t segment = video_segment();
    const auto pitch = static_cast<uint16_t>(width * 2);
    auto cells = static_cast<uint16_t>(right - left + 1);
    const auto blank = static_cast<uint16_t>(attribute << 8 | ' ');
    uint16_t moved = static_cast<uint16_t>(height - lines), cleared = lines;
    if (cells == width && !down) {
        // Whole rows are one piece.
        const uint16_t to = cell_offset(get(bda::video_page), top, 0);
        far_copy(segment, to, segment, static_cast<uint16_t>(to + lines * pitch), static_cast<uint16_t>(moved * pitch));
        far_fill(segment, static_cast<uint16_t>(to + moved * pitch), blank, static_cast<uint16_t>(cleared * cells));
        return;
    }
    uint16_t to = cell_offset(get(bda::video_page), down ? bottom : top, left);
    const auto step = static_cast<uint16_t>(down ? -pitch : pitch);
    for (; moved != 0; --moved, to = static_cast<uint16_t>(to + step)) {
        far_copy(segment, to, segment, static_cast<uint16_t>(to + lines * step), static_cast<uint16_t>(cells * 2));
    }
    for (; cleared != 0; --cleared, to = static_cast<uint16_t>(to + step)) far_fill(segment, to, blank, cells);
}

// The bell is silent: sounding it would hold every caller for a quarter of a second.
void teletype(uint8_t character, uint8_t page, uint8_t color) {
    const uint16_t cursor = cursor_of(page);
    auto row = static_cast<uint8_t>(cursor >> 8), column = static_cast<uint8_t>(cursor);
    const bool text = current_layout() == Layout::text;
    switch (character) {
        case 0x07: return;
        case 0x08:
            if (column != 0) --column;
            break;
        case 0x0A: ++row; break;
        case 0x0D: column = 0; break;
        default:
            if (text) {
                far_write(video_segment(), cell_offset(page, row, column), character);
            } else {
                draw_character(character, color, page, row, column);
            }
            if (++column >= columns()) column = 0, ++row;
    }
    if (row > get(bda::video_rows)) {
        row = get(bda::video_rows);
        // The new row takes the attribute of the last one.
        const uint8_t attribute =
            text ? far_read<uint8_t>(video_segment(), static_cast<uint16_t>(cell_offset(page, row, column) + 1))
                 : uint8_t{0};
        scroll(1, attribute, 0, 0, row, static_cast<uint8_t>(columns() - 1), false);
    }
    set_cursor(page, row, column);
}

void int10_01_cursor_shape(Registers& r) {
    put(bda::cursor_shape, r.cx());
    program_cursor_shape();
}

void int10_02_set_cursor(Registers& r) {
    set_cursor(r.bh(), r.dh(), r.dl());
}

void int10_03_get_cursor(Registers& r) {
    r.dx() = cursor_of(r.bh());
    r.cx() = get(bda::cursor_shape);
}

void int10_06_scroll_up(Registers& r) {
    scroll(r.al(), r.bh(), r.ch(), r.cl(), r.dh(), r.dl(), false);
}
void int10_07_scroll_down(Registers& r) {
    scroll(r.al(), r.bh(), r.ch(), r.cl(), r.dh(), r.dl(), true);
}

void int10_08_read_cell(Registers& r) {
    const uint16_t cursor = cursor_of(r.bh());
    const auto row = static_cast<uint8_t>(cursor >> 8), column = static_cast<uint8_t>(cursor);
    if (current_layout() == Layout::text) {
        r.ax() = far_read<uint16_t>(video_segment(), cell_offset(r.bh(), row, column));
    } else {
        r.al() = recognise_character(r.bh(), row, column);
    }
}

void int10_09_write_cells(Registers& r) {
    write_cells(r.al(), r.bl(), r.bh(), r.cx(), true);
}
void int10_0a_write_characters(Registers& r) {
    write_cells(r.al(), r.bl(), r.bh(), r.cx(), false);
}
void int10_0e_teletype(Registers& r) {
    teletype(r.al(), get(bda::video_page), r.bl());
}

void int10_13_write_string(Registers& r) {
    if (r.al() > 3) return;
    const uint16_t old_cursor = cursor_of(r.bh());
    uint16_t place = r.bp();
    set_cursor(r.bh(), r.dh(), r.dl());
    for (uint16_t count = r.cx(); count != 0; --count) {
        const uint8_t character = far_read<uint8_t>(r.es, place++);
        uint8_t attribute = r.bl();
        if (r.al() & 2) attribute = far_read<uint8_t>(r.es, place++);
        const bool control = character == 7 || character == 8 || character == 10 || character == 13;
        if (!control && current_layout() == Layout::text) write_cells(character, attribute, r.bh(), 1, true);
        teletype(character, r.bh(), attribute);
    }
    if (!(r.al() & 1)) set_cursor(r.bh(), static_cast<uint8_t>(old_cursor >> 8), static_cast<uint8_t>(old_cursor));
}

}  // namespace viv::rom
