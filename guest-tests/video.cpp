// The VGA by its registers and its memory; modes are set through INT 10h.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t sequencer = 0x3C4, graphics = 0x3CE, crtc = 0x3D4, input_status = 0x3DA;

void set(uint16_t port, uint8_t index, uint8_t value) {
    outb(port, index);
    outb(static_cast<uint16_t>(port + 1), value);
}

uint8_t get(uint16_t port, uint8_t index) {
    outb(port, index);
    return inb(static_cast<uint16_t>(port + 1));
}

void set_mode(uint8_t mode) {
    Registers r;
    r.eax = mode;
    interrupt(0x10, r);
}

// The byte of each map at an offset of A0000h, map 0 in the lowest byte; leaves read mode 0.
uint32_t maps(uint16_t offset) {
    uint32_t value = 0;
    for (uint8_t map = 0; map < 4; ++map) {
        set(graphics, 4, map);
        value |= uint32_t{peek8(0xA000, offset)} << (map * 8);
    }
    return value;
}

void test_ports() {
    check_equal(inb(0x3CC) & 0x0F, 0x07, "mode 3: CRTC at 3D4h, memory on, 28 MHz clock");
    set(sequencer, 2, 0x0A);
    check_equal(get(sequencer, 2) & 0x0F, 0x0A, "the map mask reads back");
    set(sequencer, 2, 0x03);
    set(graphics, 8, 0x5A);
    check_equal(get(graphics, 8), 0x5A, "the bit mask reads back");
    set(graphics, 8, 0xFF);
    const uint8_t cursor = get(crtc, 0x0E);
    set(crtc, 0x0E, 0x12);
    check_equal(get(crtc, 0x0E), 0x12, "a CRT controller register reads back");
    set(crtc, 0x0E, cursor);
    check(get(crtc, 0x11) & 0x80, "the BIOS leaves CRTC 0 to 7 write protected");
    const uint8_t total = get(crtc, 0x00);
    set(crtc, 0x00, static_cast<uint8_t>(total ^ 0xFF));
    check_equal(get(crtc, 0x00), total, "and a write to them does nothing");
    const uint8_t overflow = get(crtc, 0x07);
    set(crtc, 0x07, static_cast<uint8_t>(~overflow));
    check_equal(get(crtc, 0x07), overflow ^ 0x10, "but for the line compare bit of CRTC 7");
    set(crtc, 0x07, overflow);
    outb(0x3C2, inb(0x3CC) & 0xFE);
    check_equal(get(0x3B4, 0x00), total, "miscellaneous bit 0 moves the CRTC to 3B4h");
    outb(0x3C2, inb(0x3CC) | 0x01);
    check_equal(get(crtc, 0x00), total, "and back to 3D4h");
}

void test_attributes() {
    inb(input_status);
    outb(0x3C0, 0x05);  // the palette is the program's
    const uint8_t before = inb(0x3C1);
    outb(0x3C0, 0x2B);
    check_equal(inb(0x3C1), 0x2B, "an attribute register takes index, then data");
    outb(0x3C0, 0x05);
    outb(0x3C0, before);
    outb(0x3C0, 0x06);
    inb(input_status);
    outb(0x3C0, 0x05);
    check_equal(inb(0x3C1), before, "reading input status 1 makes the next write an index");
    inb(input_status);
    outb(0x3C0, 0x20);
    check_equal(inb(0x3C0) & 0x20, 0x20, "bit 5 gives the palette back to the display");
}

void test_dac() {
    outb(0x3C8, 0x20);
    for (uint8_t value = 1; value <= 6; ++value) outb(0x3C9, value);
    check_equal(inb(0x3C8), 0x22, "the write index moves on after three colours");
    check_equal(inb(0x3C7) & 0x03, 0x00, "the DAC is in write state");
    outb(0x3C7, 0x20);
    check_equal(inb(0x3C7) & 0x03, 0x03, "and in read state when a read index is set");
    bool same = true;
    for (uint8_t value = 1; value <= 6; ++value) same = inb(0x3C9) == value && same;
    check(same, "two entries read back");
    outb(0x3C8, 0x20);
    for (uint8_t i = 0; i < 3; ++i) outb(0x3C9, 0xFF);
    outb(0x3C7, 0x20);
    check_equal(inb(0x3C9), 0x3F, "a colour has six bits");
    check_equal(inb(0x3C6), 0xFF, "the pixel mask is open");
    outb(0x3C6, 0x0F);
    check_equal(inb(0x3C6), 0x0F, "and reads back");
    outb(0x3C6, 0xFF);
    Registers r;
    r.eax = 0x1015;
    r.ebx = 0x0007;
    r = interrupt(0x10, r);
    check_equal(r.ecx & 0xFFFF, 0x2A2A, "INT 10h/1015: colour 7 is light grey");
}

bool wait_status(uint8_t bit, uint8_t value) {
    Deadline deadline(500);
    while ((inb(input_status) & bit) != value) {
        if (deadline.passed()) return false;
    }
    return true;
}

void test_retrace() {
    check(wait_status(0x01, 0x01) && wait_status(0x01, 0x00), "display enable comes and goes");
    check(wait_status(0x08, 0x00) && wait_status(0x08, 0x08), "vertical retrace comes and goes");
    check(wait_status(0x08, 0x08) && (inb(input_status) & 0x01), "during retrace nothing is displayed");
    // The pulse is short: a busy host makes the guest miss some, or look late. 17027 ticks of the PIT are a frame.
    uint8_t right = 0;
    Stopwatch watch;
    uint32_t last = 0;
    for (uint8_t i = 0; i < 100 && right < 2; ++i) {
        wait_status(0x08, 0x00);
        wait_status(0x08, 0x08);
        const uint32_t now = watch.ticks();
        if (now - last > 16600 && now - last < 17500) ++right;
        last = now;
    }
    check_equal(right, 2, "text has 70 frames a second");
}

void test_text() {
    set_mode(0x03);
    poke16(0xB800, 0x0000, 0x1F41);
    check_equal(peek16(0xB800, 0x0000), 0x1F41, "text memory reads back");
    check_equal(peek16(0xB000, 0x0000), 0xFFFF, "nothing is at B0000h in a colour mode");
    check_equal(peek16(0xA000, 0x0000), 0xFFFF, "and nothing at A0000h");
    const uint8_t memory_mode = get(sequencer, 4), mode = get(graphics, 5), select = get(graphics, 6);
    set(sequencer, 4, 0x06);
    set(graphics, 5, 0x00);
    set(graphics, 6, 0x04);
    check_equal(maps(0) & 0xFFFF, 0x1F41, "characters are in map 0, attributes in map 1");
    set(graphics, 4, 2);
    check_equal(peek8(0xA000, 0xDB * 32), 0xFF, "map 2 holds the font: the full block");
    check_equal(peek8(0xA000, ' ' * 32), 0x00, "and the space");
    set(sequencer, 4, memory_mode);
    set(graphics, 4, 0);
    set(graphics, 5, mode);
    set(graphics, 6, select);
    Registers r;
    r.eax = 0x0200;
    r.edx = 0x0307;
    interrupt(0x10, r);
    check_equal(get(crtc, 0x0E) << 8 | get(crtc, 0x0F), 3 * 80 + 7, "the cursor registers follow INT 10h/02");
    r.eax = 0x0501;
    interrupt(0x10, r);
    check_equal(get(crtc, 0x0C) << 8 | get(crtc, 0x0D), 0x0800, "the start address follows INT 10h/05");
    set_mode(0x07);
    poke8(0xB000, 0, 'M');
    check_equal(peek8(0xB000, 0), 'M', "mode 7 has its memory at B0000h");
    check_equal(peek8(0xB800, 0), 0xFF, "and none at B8000h");
}

void test_planes() {
    set_mode(0x12);
    set(sequencer, 2, 0x0F);
    poke8(0xA000, 0, 0xA5);
    check_equal(maps(0), 0xA5A5A5A5, "a write reaches all four maps");
    set(sequencer, 2, 0x05);
    poke8(0xA000, 0, 0x3C);
    check_equal(maps(0), 0xA53CA53C, "the map mask keeps maps from a write");
    set(sequencer, 2, 0x0F);
    set(graphics, 8, 0x0F);
    peek8(0xA000, 0);
    poke8(0xA000, 0, 0xFF);
    check_equal(maps(0), 0xAF3FAF3F, "the bit mask takes the other bits from the latches");
    set(graphics, 8, 0xFF);

    set(graphics, 0, 0x09);
    set(graphics, 1, 0x0F);
    poke8(0xA000, 1, 0x55);
    check_equal(maps(1), 0xFF0000FF, "set/reset fills the maps with a colour");
    set(graphics, 1, 0x01);
    poke8(0xA000, 1, 0x55);
    check_equal(maps(1), 0x555555FF, "where it is enabled");
    set(graphics, 1, 0x00);

    set(graphics, 3, 0x03);
    poke8(0xA000, 2, 0x81);
    check_equal(maps(2), 0x30303030, "data is rotated right");
    set(graphics, 3, 0x18);
    peek8(0xA000, 2);
    poke8(0xA000, 2, 0xFF);
    check_equal(maps(2), 0xCFCFCFCF, "XOR with the latches");
    set(graphics, 3, 0x08);
    peek8(0xA000, 2);
    poke8(0xA000, 2, 0x0F);
    check_equal(maps(2), 0x0F0F0F0F, "AND with the latches");
    set(graphics, 3, 0x10);
    peek8(0xA000, 2);
    poke8(0xA000, 2, 0xF0);
    check_equal(maps(2), 0xFFFFFFFF, "OR with the latches");
    set(graphics, 3, 0x00);

    peek8(0xA000, 0);
    set(graphics, 5, 0x01);
    poke8(0xA000, 3, 0x00);
    set(graphics, 5, 0x00);
    check_equal(maps(3), 0xAF3FAF3F, "write mode 1 copies the latches");

    poke8(0xA000, 4, 0x00);
    peek8(0xA000, 4);
    set(graphics, 5, 0x02);
    set(graphics, 8, 0xF0);
    poke8(0xA000, 4, 0x06);
    set(graphics, 5, 0x00);
    set(graphics, 8, 0xFF);
    check_equal(maps(4), 0x00F0F000, "write mode 2 writes a colour under the bit mask");

    poke8(0xA000, 5, 0x00);
    peek8(0xA000, 5);
    set(graphics, 0, 0x0A);
    set(graphics, 5, 0x03);
    set(graphics, 8, 0x3C);
    poke8(0xA000, 5, 0x0F);
    set(graphics, 5, 0x00);
    set(graphics, 8, 0xFF);
    set(graphics, 0, 0x00);
    check_equal(maps(5), 0x0C000C00, "write mode 3 writes set/reset where data and bit mask agree");

    set(graphics, 5, 0x08);
    set(graphics, 2, 0x0A);
    set(graphics, 7, 0x0F);
    check_equal(peek8(0xA000, 5), 0x0C, "read mode 1 gives the pixels of a colour");
    set(graphics, 7, 0x00);
    check_equal(peek8(0xA000, 5), 0xFF, "and all of them when no map matters");
    set(graphics, 5, 0x00);
    set(graphics, 7, 0x0F);
}

void test_chain_4() {
    set_mode(0x13);
    for (uint8_t i = 0; i < 8; ++i) poke8(0xA000, i, static_cast<uint8_t>(0x11 * (i + 1)));
    bool same = true;
    for (uint8_t i = 0; i < 8; ++i) same = peek8(0xA000, i) == 0x11 * (i + 1) && same;
    check(same, "mode 13h is linear");
    poke8(0xA000, 0xFFFF, 0x77);
    check_equal(peek8(0xA000, 0xFFFF), 0x77, "to the end of its 64 KiB");
    set(sequencer, 4, 0x06);
    set(graphics, 5, 0x00);
    check_equal(maps(0), 0x44332211, "chain 4 puts neighbours into different maps");
    check_equal(maps(4), 0x88776655, "and the fifth at offset 4");
    set_mode(0x13);
    check_equal(peek8(0xA000, 0xFFFF), 0x00, "setting the mode clears all of it");
    set_mode(0x03);
    check_equal(peek16(0xB800, 80 * 25 * 2 - 2), 0x0720, "back in mode 3 the screen is blank");
}

}  // namespace

extern "C" void guest_main() {
    set_mode(0x03);
    test_ports();
    test_attributes();
    test_dac();
    test_retrace();
    test_text();
    test_planes();
    test_chain_4();
    finish();
}
