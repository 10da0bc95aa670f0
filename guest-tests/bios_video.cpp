// INT 10h in every mode: pixels, characters, scrolling, colours, fonts, and saving and restoring the state.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

uint8_t buffer[64];
constexpr uint16_t far_segment = 0x4000;

Registers video(uint16_t ax, uint16_t bx = 0, uint16_t cx = 0, uint16_t dx = 0, uint16_t es = 0, uint16_t bp = 0) {
    Registers r;
    r.eax = ax;
    r.ebx = bx;
    r.ecx = cx;
    r.edx = dx;
    r.ebp = bp;
    r.es = es;
    return interrupt(0x10, r);
}

uint8_t pixel(uint16_t x, uint16_t y) {
    return video(0x0D00, 0, x, y).al();
}

void draw(uint16_t x, uint16_t y, uint8_t color) {
    video(static_cast<uint16_t>(0x0C00 | color), 0, x, y);
}

struct Mode {
    uint8_t number, columns, rows, height;
    uint16_t width, lines;  // 0 for text
    uint8_t colors;         // the highest colour
    uint16_t page_size;
};
constexpr Mode modes[] = {
    {0x00, 40, 25, 16, 0, 0, 0, 0x0800},      {0x01, 40, 25, 16, 0, 0, 0, 0x0800},
    {0x02, 80, 25, 16, 0, 0, 0, 0x1000},      {0x07, 80, 25, 16, 0, 0, 0, 0x1000},
    {0x04, 40, 25, 8, 320, 200, 3, 0x4000},   {0x05, 40, 25, 8, 320, 200, 3, 0x4000},
    {0x06, 80, 25, 8, 640, 200, 1, 0x4000},   {0x0D, 40, 25, 8, 320, 200, 15, 0x2000},
    {0x0E, 80, 25, 8, 640, 200, 15, 0x4000},  {0x0F, 80, 25, 14, 640, 350, 15, 0x8000},
    {0x10, 80, 25, 14, 640, 350, 15, 0x8000}, {0x11, 80, 30, 16, 640, 480, 15, 0xA000},
    {0x12, 80, 30, 16, 640, 480, 15, 0xA000}, {0x13, 40, 25, 8, 320, 200, 255, 0x2000},
};

void say(uint8_t mode) {
    print("# mode ");
    print_hex(mode);
    print("\n");
}

void test_text_mode(const Mode& mode) {
    const uint16_t segment = mode.number == 7 ? 0xB000 : 0xB800;
    video(0x0200, 0, 0, static_cast<uint16_t>((mode.rows - 1) << 8 | (mode.columns - 1)));
    video(0x0E51, 7);
    const auto last = static_cast<uint16_t>(((mode.rows - 1) * mode.columns - 1) * 2);
    check(peek16(segment, last) == 0x0751 && peek16(segment, static_cast<uint16_t>(last + 2)) == 0x0720,
          "teletype in the last corner scrolls");
    video(0x0501);
    video(0x0200, 0x0100, 0, 0x0203);
    video(0x0957, 0x014E, 1);
    check_equal(peek16(segment, static_cast<uint16_t>(mode.page_size + (2 * mode.columns + 3) * 2)), 0x4E57,
                "page 1 begins a page size later");
    check_equal(video(0x0300, 0x0000).dx(), static_cast<uint32_t>((mode.rows - 1) << 8), "page 0 has its own cursor");
}

void test_graphics_mode(const Mode& mode) {
    const auto right = static_cast<uint16_t>(mode.width - 1), bottom = static_cast<uint16_t>(mode.lines - 1);
    const uint8_t color = mode.number == 0x0F ? 0x05 : mode.colors;
    check_equal(pixel(right, bottom), 0, "the picture is cleared");
    draw(right, bottom, color);
    draw(0, 1, color);
    check(pixel(right, bottom) == color && pixel(0, 1) == color, "pixels are drawn and read in opposite corners");
    check(pixel(static_cast<uint16_t>(right - 1), bottom) == 0 && pixel(1, 1) == 0 && pixel(0, 0) == 0 &&
              pixel(0, 3) == 0,
          "and their neighbours are not");
    draw(0, 1, 0);
    check_equal(pixel(0, 1), 0, "a pixel can be taken away");
    if (mode.number != 0x13) {
        draw(right, bottom, static_cast<uint8_t>(color | 0x80));
        check_equal(pixel(right, bottom), 0, "bit 7 draws by exclusive or");
    } else {
        draw(right, bottom, 0);
    }
    // A full block, read back as pixels and as a character.
    video(0x0200, 0, 0, 0x0304);
    video(static_cast<uint16_t>(0x09DB), color, 1);
    const auto x = static_cast<uint16_t>(4 * 8), y = static_cast<uint16_t>(3 * mode.height);
    bool block = true;
    for (uint16_t i = 0; i < 8; ++i) {
        block = block && pixel(static_cast<uint16_t>(x + i), y) == color &&
                pixel(static_cast<uint16_t>(x + i), static_cast<uint16_t>(y + mode.height - 1)) == color;
    }
    check(block && pixel(static_cast<uint16_t>(x + 8), y) == 0 && pixel(x, static_cast<uint16_t>(y - 1)) == 0,
          "INT 10h/09 draws a character in its cell");
    check_equal(video(0x0800).al(), 0xDB, "INT 10h/08 recognises it");
    // A window of a few cells: moving whole pictures takes long where real mode is interpreted.
    video(0x0601, 0, 0x0104, 0x0605);
    check(pixel(x, static_cast<uint16_t>(y - mode.height)) == color && pixel(x, y) == 0,
          "INT 10h/06 scrolls a window up");
    video(0x0702, 0, 0x0104, 0x0605);
    check(pixel(x, static_cast<uint16_t>(y + mode.height)) == color &&
              pixel(x, static_cast<uint16_t>(y - mode.height)) == 0,
          "INT 10h/07 scrolls it down");
    if (mode.number != 0x04 && mode.number != 0x06 && mode.number != 0x0D && mode.number != 0x13) return;
    video(0x0200, 0, 0, static_cast<uint16_t>((mode.rows - 1) << 8 | (mode.columns - 1)));
    video(0x0E41, color);
    check_equal(video(0x0300).dx(), static_cast<uint32_t>((mode.rows - 1) << 8), "teletype scrolls at the end");
    video(0x0200, 0, 0, static_cast<uint16_t>((mode.rows - 2) << 8 | (mode.columns - 1)));
    check_equal(video(0x0800).al(), 'A', "and the character is a row higher");
}

void test_modes() {
    for (const Mode& mode : modes) {
        say(mode.number);
        video(mode.number);
        check(video(0x0F00).al() == mode.number && video(0x0F00).ah() == mode.columns &&
                  peek8(0x40, 0x84) + 1 == mode.rows && peek16(0x40, 0x85) == mode.height &&
                  peek16(0x40, 0x4C) == mode.page_size,
              "the data area has its columns, rows, character height and page size");
        if (mode.width) {
            test_graphics_mode(mode);
        } else {
            test_text_mode(mode);
        }
    }
    video(0x0013);
    draw(100, 100, 0x55);
    video(0x0093);
    check_equal(pixel(100, 100), 0x55, "bit 7 of the mode keeps the memory");
    check_equal(video(0x0F00).al(), 0x93, "and INT 10h/0F tells");
    video(0x0003);
    video(0x0055);
    check_equal(video(0x0F00).al(), 0x03, "a mode that does not exist changes nothing");
}

void test_colors() {
    video(0x0003);
    check_equal(video(0x1007, 0x0006).ebx >> 8 & 0xFF, 0x14, "INT 10h/1007: colour 6 is brown");
    video(0x1000, 0x2A06);
    check_equal(video(0x1007, 0x0006).ebx >> 8 & 0xFF, 0x2A, "INT 10h/1000 changes it");
    video(0x1001, 0x0300);
    check_equal(video(0x1008).ebx >> 8 & 0xFF, 0x03, "INT 10h/1001 sets the border that 1008 reads");
    for (uint16_t i = 0; i < 17; ++i) poke8(far_segment, i, static_cast<uint8_t>(i * 3));
    video(0x1002, 0, 0, 0, far_segment);
    video(0x1009, 0, 0, 64, far_segment);
    bool same = true;
    for (uint16_t i = 0; i < 17; ++i) same = same && peek8(far_segment, static_cast<uint16_t>(64 + i)) == i * 3;
    check(same, "INT 10h/1002 sets all of them, and 1009 reads them");
    video(0x1003, 0x0000);
    check_equal(peek8(0x40, 0x65) & 0x20, 0, "INT 10h/1003 makes blinking intensity");
    video(0x1003, 0x0001);
    video(0x1010, 0x0040, 0x1122, 0x3300);
    Registers r = video(0x1015, 0x0040);
    check(r.cx() == 0x1122 && r.dx() >> 8 == 0x33, "INT 10h/1010 and 1015: one colour of the DAC");
    for (uint16_t i = 0; i < 30; ++i) poke8(far_segment, i, static_cast<uint8_t>(i + 10));
    video(0x1012, 0x0080, 10, 0, far_segment);
    video(0x1017, 0x0080, 10, 64, far_segment);
    same = true;
    for (uint16_t i = 0; i < 30; ++i) same = same && peek8(far_segment, static_cast<uint16_t>(64 + i)) == i + 10;
    check(same, "INT 10h/1012 and 1017: a block");
    video(0x101B, 0x0040, 1);
    r = video(0x1015, 0x0040);
    check(r.cx() >> 8 == (r.cx() & 0xFF) && r.cx() >> 8 == r.dx() >> 8, "INT 10h/101B makes it grey");
    check_between(r.cx() >> 8, 0x1B, 0x1D, "as bright as it was");
    video(0x1018, 0x007F);
    check_equal(video(0x1019).ebx & 0xFF, 0x7F, "INT 10h/1018 and 1019: the pixel mask");
    video(0x1018, 0x00FF);
    video(0x1013, 0x0100);
    video(0x1013, 0x0501);
    check_equal(video(0x101A).bx(), 0x0501, "INT 10h/1013 and 101A: sixteen pages of sixteen colours");
    video(0x0003);
    video(0x0004);
    video(0x0B00, 0x0001);
    check_equal(video(0x1007, 0x0000).ebx >> 8 & 0xFF, 0x01, "INT 10h/0B sets the background of mode 4");
    video(0x0B00, 0x0100);
    check_equal(video(0x1007, 0x0001).ebx >> 8 & 0x07, 0x02, "and the palette with green");
    video(0x0B00, 0x0101);
    check_equal(video(0x1007, 0x0001).ebx >> 8 & 0x07, 0x03, "or with cyan");
    video(0x0003);
}

void test_fonts() {
    video(0x1111);
    check(peek8(0x40, 0x84) == 27 && peek16(0x40, 0x85) == 14, "INT 10h/1111: 28 rows of the 8x14 font");
    video(0x1112);
    check(peek8(0x40, 0x84) == 49 && peek16(0x40, 0x85) == 8, "INT 10h/1112: 50 rows of the 8x8 font");
    video(0x1114);
    check(peek8(0x40, 0x84) == 24 && peek16(0x40, 0x85) == 16, "INT 10h/1114: 25 rows of the 8x16 font");
    for (uint16_t i = 0; i < 16; ++i) poke8(far_segment, i, static_cast<uint8_t>(0xA0 + i));
    video(0x1100, 0x1000, 1, 0x0041, far_segment);
    outb(0x3C4, 2);
    outb(0x3C5, 4);
    outb(0x3C4, 4);
    outb(0x3C5, 6);
    outb(0x3CE, 4);
    outb(0x3CF, 2);
    outb(0x3CE, 5);
    outb(0x3CF, 0);
    outb(0x3CE, 6);
    outb(0x3CF, 4);
    check(peek8(0xA000, 0x41 * 32) == 0xA0 && peek8(0xA000, 0x41 * 32 + 15) == 0xAF, "INT 10h/1100 loads a character");
    video(0x0003);
    video(0x1103, 0x0004);
    outb(0x3C4, 3);
    check_equal(inb(0x3C5), 0x04, "INT 10h/1103 chooses the blocks");
    video(0x1103, 0x0000);
    Registers r = video(0x1130, 0x0300);
    check_equal(peek8(r.es, static_cast<uint16_t>(r.ebp + 0xDB * 8)), 0xFF, "INT 10h/1130 shows the 8x8 font");
    video(0x0010);
    video(0x1123, 0x0003);
    check(peek8(0x40, 0x84) == 42 && peek16(0x40, 0x85) == 8, "INT 10h/1123 gives mode 10h 43 rows");
    video(0x0003);
}

void test_state() {
    check_equal(video(0x1201, 0x0030).al(), 0x12, "INT 10h/12 BL=30h chooses 350 lines");
    video(0x0003);
    check_equal(peek16(0x40, 0x85), 14, "for the next mode");
    video(0x1202, 0x0030);
    video(0x0003);
    check_equal(peek16(0x40, 0x85), 16, "and 400 again");
    check_equal(video(0x1201, 0x0036).al(), 0x12, "BL=36h switches the screen off");
    outb(0x3C4, 1);
    check_equal(inb(0x3C5) & 0x20, 0x20, "in the sequencer");
    video(0x1200, 0x0036);
    Registers r;
    r.eax = 0x1B00;
    r.edi = reinterpret_cast<uint32_t>(buffer);
    video(0x0012);
    r = interrupt(0x10, r);
    check(r.al() == 0x1B && buffer[4] == 0x12 && buffer[5] == 80 && buffer[0x22] == 29 && buffer[0x27] == 16 &&
              buffer[0x2A] == 3 && buffer[0x31] == 3,
          "INT 10h/1B describes mode 12h");
    video(0x0003);
    video(0x0200, 0, 0, 0x0A0B);
    video(0x1000, 0x2A06);
    video(0x1010, 0x0040, 0x1122, 0x3300);
    r = video(0x1C00, 0, 7);
    check(r.al() == 0x1C && r.bx() >= 14 && r.bx() <= 20, "INT 10h/1C00 says how much room the state takes");
    check_equal(video(0x1C01, 0, 7, 0, far_segment).al(), 0x1C, "INT 10h/1C01 saves it");
    check_equal(video(0x0F00).al(), 0x03, "which changes nothing");
    const uint8_t mark = 'M';
    video(0x0013);
    video(0x1C02, 0, 7, 0, far_segment);
    check_equal(video(0x0F00).al(), 0x03, "INT 10h/1C02 brings the mode back");
    check_equal(video(0x0300).dx(), 0x0A0B, "the cursor");
    check_equal(video(0x1007, 0x0006).ebx >> 8 & 0xFF, 0x2A, "the palette");
    r = video(0x1015, 0x0040);
    check(r.cx() == 0x1122 && r.dx() >> 8 == 0x33, "the DAC");
    poke8(0xB800, 0, mark);
    check_equal(peek8(0xB800, 0), mark, "and text memory at B800h");
    outb(0x3D4, 9);
    check_equal(inb(0x3D5) & 0x1F, 15, "with 16 lines a row");
    video(0x0003);
}

void test_strings() {
    const char* text = "one\r\ntwo";
    video(0x0003);
    Registers r;
    r.eax = 0x1300;
    r.ebx = 0x001E;
    r.ecx = 8;
    r.edx = 0x0000;
    r.ebp = reinterpret_cast<uint32_t>(text);
    interrupt(0x10, r);
    check(peek16(0xB800, 0) == 0x1E6F && peek16(0xB800, 160) == 0x1E74, "INT 10h/1300 writes a string with its lines");
    check_equal(video(0x0300).dx(), 0x0000, "and leaves the cursor");
    const char cells[] = {'a', 0x17, 'b', 0x2F};
    r.eax = 0x1303;
    r.ecx = 2;
    r.edx = 0x0300;
    r.ebp = reinterpret_cast<uint32_t>(cells);
    interrupt(0x10, r);
    check(peek16(0xB800, 480) == 0x1761 && peek16(0xB800, 482) == 0x2F62,
          "INT 10h/1303 takes attributes from the string");
    check_equal(video(0x0300).dx(), 0x0302, "and moves the cursor");
}

}  // namespace

extern "C" void guest_main() {
    test_strings();
    test_colors();
    test_fonts();
    test_state();
    test_modes();
    finish();
}
