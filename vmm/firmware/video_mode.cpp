#include "vmm/firmware/video_mode.hpp"

#include <cstring>
#include <span>

#include "bios/rom_images.hpp"

namespace viv::firmware {
namespace {

constexpr uint16_t sequencer = 0x3C4, graphics = 0x3CE, crtc = 0x3D4, attribute = 0x3C0;

class VgaWriter {
  public:
    explicit VgaWriter(Bus& ports) : ports_(ports) {}
    void out(uint16_t port, uint8_t value) { ports_.write_held(port, 1, value); }
    void indexed(uint16_t port, uint8_t index, uint8_t value) {
        out(port, index);
        out(static_cast<uint16_t>(port + 1), value);
    }
    void attribute_register(uint8_t index, uint8_t value) {
        ports_.read_held(0x3DA, 1);  // the next write to 3C0h is an index
        out(attribute, index);
        out(attribute, value);
    }

  private:
    Bus& ports_;
};

void load_registers(VgaWriter& vga, const rom::VideoParameters& p) {
    vga.out(0x3C2, p.miscellaneous);
    vga.indexed(sequencer, 0, 0x03);
    for (uint8_t i = 0; i < 4; ++i) vga.indexed(sequencer, static_cast<uint8_t>(i + 1), p.sequencer[i]);
    vga.indexed(crtc, 0x11, 0);  // CR11 bit 7 protects CR0-CR7
    for (uint8_t i = 0; i < 25; ++i) vga.indexed(crtc, i, p.crtc[i]);
    for (uint8_t i = 0; i < 9; ++i) vga.indexed(graphics, i, p.graphics[i]);
    for (uint8_t i = 0; i < 20; ++i) vga.attribute_register(i, p.attribute[i]);
    vga.attribute_register(0x14, 0);
    vga.out(attribute, 0x20);  // the palette belongs to the display
}

/// Glyphs go to plane 2, 32 bytes apart, while the planes are addressed one by one.
void load_font(Bus& memory_bus, VgaWriter& vga, const rom::VideoParameters& p, std::span<const std::byte> font) {
    vga.indexed(sequencer, 2, 0x04);
    vga.indexed(sequencer, 4, 0x06);
    vga.indexed(graphics, 4, 0x02);
    vga.indexed(graphics, 5, 0x00);
    vga.indexed(graphics, 6, 0x04);
    for (uint64_t glyph = 0; glyph < 256; ++glyph) {
        for (uint64_t line = 0; line < 16; ++line) {
            memory_bus.write_held(0xA0000 + glyph * 32 + line, 1, std::to_integer<uint8_t>(font[glyph * 16 + line]));
        }
    }
    vga.indexed(sequencer, 2, p.sequencer[1]);
    vga.indexed(sequencer, 4, p.sequencer[3]);
    vga.indexed(graphics, 4, p.graphics[4]);
    vga.indexed(graphics, 5, p.graphics[5]);
    vga.indexed(graphics, 6, p.graphics[6]);
}

void fill_bda(GuestMemory& memory, const rom::VideoParameters& p, uint16_t save_pointers) {
    namespace bda = rom::bda;
    const Gpa base{uint64_t{rom::bda_segment} * 16};
    memory.store(base + bda::video_mode.offset, uint8_t{3});
    memory.store(base + bda::video_columns.offset, uint16_t{p.columns});
    memory.store(base + bda::video_page_size.offset, uint16_t{p.page_size});
    memory.store(base + bda::cursor_shape.offset, uint16_t{0x0607});
    memory.store(base + bda::crtc_port.offset, crtc);
    memory.store(base + bda::video_mode_select.offset, uint8_t{0x29});
    memory.store(base + bda::video_palette.offset, uint8_t{0x30});
    memory.store(base + bda::video_rows.offset, p.rows_minus_one);
    memory.store(base + bda::character_height.offset, uint16_t{p.character_height});
    memory.store(base + bda::video_control.offset, uint8_t{0x60});   // 256 KiB, cursor emulation on
    memory.store(base + bda::video_switches.offset, uint8_t{0xF9});  // EGA switches: 80x25 colour
    memory.store(base + bda::video_flags.offset, uint8_t{0x11});     // VGA active, 400 lines
    memory.store(base + bda::display_combination.offset, uint8_t{0x08});
    memory.store(base + bda::save_pointers_offset.offset, save_pointers);
    memory.store(base + bda::save_pointers_segment.offset, rom::video_rom_segment);
}

}  // namespace

void set_text_mode(const Board& board, const rom::VideoRomHeader& header) {
    const std::span<const std::byte> image = rom::video_bios();
    rom::VideoParameters parameters{};
    std::memcpy(&parameters, image.subspan(header.mode_3_parameters, sizeof(parameters)).data(), sizeof(parameters));

    VgaWriter vga(board.ports);
    load_registers(vga, parameters);
    vga.out(0x3C6, 0xFF);
    vga.out(0x3C8, 0x00);
    for (std::byte level : image.subspan(header.mode_3_palette, 64 * 3))
        vga.out(0x3C9, std::to_integer<uint8_t>(level));
    load_font(board.memory_bus, vga, parameters, image.subspan(header.font_8x16, 4096));
    for (uint64_t cell = 0; cell < 0x4000; ++cell) board.memory_bus.write_held(0xB8000 + cell * 2, 2, 0x0720);
    fill_bda(board.memory, parameters, header.save_pointers);
}

}  // namespace viv::firmware
