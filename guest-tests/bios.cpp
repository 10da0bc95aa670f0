// The BIOS services, called as programs call them.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

uint8_t buffer[1024];

Registers video(uint16_t ax, uint16_t bx = 0, uint16_t cx = 0, uint16_t dx = 0) {
    Registers r;
    r.eax = ax;
    r.ebx = bx;
    r.ecx = cx;
    r.edx = dx;
    return interrupt(0x10, r);
}

void test_data_area() {
    check_equal(peek16(0x40, 0x00), 0x3F8, "40:00 has COM1");
    check_equal(peek16(0x40, 0x10) & 0x01, 1, "40:10 says that floppies are there");
    check_equal(peek16(0x40, 0x13), interrupt(0x12, {}).ax(), "INT 12h gives 40:13");
    check_equal(peek16(0x40, 0x10), interrupt(0x11, {}).ax(), "INT 11h gives 40:10");
    check_between(peek16(0x40, 0x13), 600, 640, "conventional memory is 600 to 640 KiB");
    const uint16_t ebda = peek16(0x40, 0x0E);
    check_equal(ebda >> 6, peek16(0x40, 0x13), "the EBDA begins where conventional memory ends");
    check_equal(peek8(ebda, 0), 640 - (ebda >> 6), "its first byte is its size");
    check_equal(peek16(0x40, 0x80), 0x1E, "40:80 is the keyboard buffer's start");
    check_equal(peek16(0x40, 0x82), 0x3E, "40:82 is its end");
    check_equal(peek8(0xF000, 0xFFF0), 0xEA, "F000:FFF0 is a far jump");
    check_equal(peek8(0xF000, 0xFFFE), 0xFC, "F000:FFFE says AT");
    check_equal(peek8(0xF000, 0xFFF7), '/', "F000:FFF5 is a date");
}

void test_video_text() {
    Registers r = video(0x0F00);
    check_equal(r.ax(), 0x5003, "INT 10h/0F: mode 3 with 80 columns");
    video(0x0003);
    check_equal(peek16(0xB800, 0), 0x0720, "INT 10h/00 clears the screen");
    check_equal(video(0x0300).dx(), 0, "and homes the cursor");
    video(0x0200, 0, 0, 0x0508);
    check_equal(video(0x0300).dx(), 0x0508, "INT 10h/02 sets the cursor that 03 gives");
    check_equal(peek16(0x40, 0x50), 0x0508, "and 40:50 has it");
    video(0x0941, 0x001E, 3);
    check_equal(peek16(0xB800, (5 * 80 + 10) * 2), 0x1E41, "INT 10h/09 writes characters with an attribute");
    check_equal(video(0x0300).dx(), 0x0508, "and leaves the cursor");
    check_equal(video(0x0800).ax(), 0x1E41, "INT 10h/08 reads character and attribute");
    video(0x0A42, 0, 1);
    check_equal(peek16(0xB800, (5 * 80 + 8) * 2), 0x1E42, "INT 10h/0A keeps the attribute");
    video(0x0E43, 0x0007);
    check_equal(video(0x0300).dx(), 0x0509, "INT 10h/0E moves the cursor on");
    check_equal(peek8(0xB800, (5 * 80 + 8) * 2), 'C', "and writes the character");
    video(0x0E0D, 7);
    check_equal(video(0x0300).dx(), 0x0500, "carriage return goes to column 0");
    video(0x0E0A, 7);
    check_equal(video(0x0300).dx(), 0x0600, "line feed goes down");
    video(0x0E58, 7);
    video(0x0E08, 7);
    check_equal(video(0x0300).dx(), 0x0600, "backspace goes back");
    video(0x0200, 0, 0, 0x184F);
    video(0x0E5A, 7);
    check_equal(video(0x0300).dx(), 0x1800, "a character in the last corner scrolls");
    check_equal(peek8(0xB800, (23 * 80 + 79) * 2), 'Z', "and the screen has moved up");
    video(0x0601, 0x1700, 0x0000, 0x184F);
    check_equal(peek8(0xB800, (22 * 80 + 79) * 2), 'Z', "INT 10h/06 scrolls a window up");
    check_equal(peek16(0xB800, (24 * 80) * 2), 0x1720, "and fills with the attribute");
    video(0x0702, 0x0700, 0x0000, 0x184F);
    check_equal(peek8(0xB800, (24 * 80 + 79) * 2), 'Z', "INT 10h/07 scrolls down");
    video(0x0600, 0x0700, 0, 0x184F);
    check_equal(peek16(0xB800, (12 * 80 + 40) * 2), 0x0720, "AL = 0 clears the window");
    video(0x0100, 0, 0x2000);
    check_equal(video(0x0300).cx(), 0x2000, "INT 10h/01 sets the cursor's shape");
    video(0x0100, 0, 0x0607);
}

void test_video_more() {
    Registers r;
    r.eax = 0x1301;
    r.ebx = 0x004F;
    r.ecx = 5;
    r.edx = 0x0A03;
    r.ebp = reinterpret_cast<uint32_t>("Hello");
    interrupt(0x10, r);
    check_equal(peek16(0xB800, (10 * 80 + 3) * 2), 0x4F48, "INT 10h/13 writes a string");
    check_equal(video(0x0300).dx(), 0x0A08, "and moves the cursor behind it");
    check_equal(video(0x1A00).eax & 0xFF, 0x1A, "INT 10h/1A is supported: a VGA");
    check_equal(video(0x1A00).ebx & 0xFF, 0x08, "with an analogue colour display");
    r = {};
    r.eax = 0x1200;
    r.ebx = 0x0010;
    r = interrupt(0x10, r);
    check_equal(r.ebx & 0xFF, 0x03, "INT 10h/12 BL=10h: 256 KiB of video memory");
    r = {};
    r.eax = 0x1130;
    r.ebx = 0x0600;
    r = interrupt(0x10, r);
    check_equal(r.ecx & 0xFF, 16, "INT 10h/1130: 16 lines a character");
    check_equal(r.edx & 0xFF, 24, "and 25 rows");
    const auto font = static_cast<uint16_t>(r.ebp);
    bool blank = true, solid = true;
    for (uint16_t i = 0; i < 16; ++i) {
        blank = blank && peek8(r.es, static_cast<uint16_t>(font + 32 * 16 + i)) == 0;
        solid = solid && peek8(r.es, static_cast<uint16_t>(font + 0xDB * 16 + i)) == 0xFF;
    }
    check(blank && solid, "the font has a blank space and a full block");
    video(0x1112);
    check_equal(peek8(0x40, 0x84), 49, "INT 10h/1112 gives 50 rows");
    check_equal(peek16(0x40, 0x85), 8, "of 8 lines");
    video(0x0003);
    check_equal(peek8(0x40, 0x84), 24, "mode 3 goes back to 25 rows");
    r = {};
    r.eax = 0x1B00;
    r.edi = reinterpret_cast<uint32_t>(buffer);
    r = interrupt(0x10, r);
    check_equal(r.eax & 0xFF, 0x1B, "INT 10h/1B gives the state");
    check_equal(buffer[4], 3, "with the mode in it");
    video(0x0500, 0, 0, 0);
    video(0x0501);
    check_equal(peek8(0x40, 0x62), 1, "INT 10h/05 selects page 1");
    check_equal(peek16(0x40, 0x4E), 0x1000, "which begins at 1000h");
    video(0x0500);
    video(0x0007);
    check_equal(peek16(0x40, 0x63), 0x3B4, "mode 7 has its CRTC at 3B4h");
    video(0x0003);
    video(0x0013);
    video(0x0C2A, 0, 10, 1);
    check_equal(peek8(0xA000, 320 + 10), 0x2A, "INT 10h/0C draws a pixel in mode 13h");
    check_equal(video(0x0D00, 0, 10, 1).al(), 0x2A, "INT 10h/0D reads it");
    video(0x0003);
}

Registers disk(uint16_t ax, uint16_t cx, uint16_t dx) {
    Registers r;
    r.eax = ax;
    r.ebx = reinterpret_cast<uint32_t>(buffer);
    r.ecx = cx;
    r.edx = dx;
    return interrupt(0x13, r);
}

void test_floppy() {
    Registers r = disk(0x0000, 0, 0);
    check(!r.carry() && r.ah() == 0, "INT 13h/00 resets the floppy");
    buffer[510] = buffer[511] = 0;
    r = disk(0x0201, 0x0001, 0x0000);
    check(!r.carry() && r.al() == 1, "INT 13h/02 reads the boot sector");
    check_equal(buffer[510] | buffer[511] << 8, 0xAA55, "with its signature");
    r = disk(0x0201, 0x0013, 0x0000);
    check(r.carry(), "sector 19 of 18 is refused");
    check_equal(disk(0x0100, 0, 0).ah(), r.ah(), "INT 13h/01 gives the last status");
    r = disk(0x0800, 0, 0);
    check_equal(r.bx() & 0xFF, 4, "INT 13h/08: a 1.44 MB drive");
    check_equal(r.cx(), 0x4F12, "with 80 cylinders and 18 sectors");
    check_equal(r.dx() >> 8, 1, "and 2 heads");
    check_between(r.dx() & 0xFF, 1, 2, "one or two drives");
    check_equal(disk(0x1500, 0, 0).ah(), 2, "INT 13h/15: a floppy with a change line");
    for (uint32_t i = 0; i < 512; ++i) buffer[i] = static_cast<uint8_t>(i * 7);
    r = disk(0x0301, 0x4F12, 0x0100);
    check(!r.carry(), "INT 13h/03 writes the last sector");
    for (uint32_t i = 0; i < 512; ++i) buffer[i] = 0;
    disk(0x0201, 0x4F12, 0x0100);
    bool same = true;
    for (uint32_t i = 0; i < 512; ++i) same = same && buffer[i] == static_cast<uint8_t>(i * 7);
    check(same, "and reads it back");
    check(!disk(0x0401, 0x0001, 0x0000).carry(), "INT 13h/04 verifies");
    check(disk(0x0201, 0x0001, 0x0005).carry(), "a drive that is not there is refused");
}

struct Packet {
    uint8_t size = 16, reserved = 0;
    uint16_t count = 1;
    uint16_t offset = 0, segment = 0;
    uint32_t lba = 0, lba_high = 0;
};

void test_hard_disk() {
    check_equal(peek8(0x40, 0x75), 1, "40:75 counts one hard disk");
    Registers r = disk(0x0800, 0, 0x0080);
    check(!r.carry() && (r.dx() & 0xFF) == 1, "INT 13h/08 knows it");
    const uint32_t sectors = r.cx() & 0x3F, heads = (r.dx() >> 8) + 1;
    r = disk(0x0201, 0x0002, 0x0080);
    check(!r.carry() && buffer[0] == 1, "INT 13h/02 reads by CHS");
    r = disk(0x0201, 0x0101, 0x0180);
    check_equal(buffer[0] | buffer[1] << 8, heads * sectors + sectors, "cylinder 1, head 1 is where the geometry says");
    r = {};
    r.eax = 0x4100;
    r.ebx = 0x55AA;
    r.edx = 0x80;
    r = interrupt(0x13, r);
    check(!r.carry() && r.bx() == 0xAA55 && (r.cx() & 1), "INT 13h/41: EDD is there");
    Packet packet;
    packet.offset = static_cast<uint16_t>(reinterpret_cast<uint32_t>(buffer));
    packet.lba = 3000;
    r = {};
    r.eax = 0x4200;
    r.edx = 0x80;
    r.esi = reinterpret_cast<uint32_t>(&packet);
    r = interrupt(0x13, r);
    check(!r.carry(), "INT 13h/42 reads by LBA");
    check_equal(buffer[0] | buffer[1] << 8, 3000, "the right sector");
    packet.lba = 16 * 2048;
    r.eax = 0x4200;
    r.edx = 0x80;
    r = interrupt(0x13, r);
    check(r.carry(), "a sector behind the end is refused");
    for (uint32_t i = 0; i < 30; ++i) buffer[i] = 0;
    buffer[0] = 26;
    r = {};
    r.eax = 0x4800;
    r.edx = 0x80;
    r.esi = reinterpret_cast<uint32_t>(buffer);
    r = interrupt(0x13, r);
    check(!r.carry(), "INT 13h/48 gives the drive's parameters");
    check_equal(*reinterpret_cast<uint32_t*>(buffer + 16), 16 * 2048, "with the size");
    check_equal(*reinterpret_cast<uint16_t*>(buffer + 24), 512, "and 512 bytes a sector");
    check_equal(disk(0x1500, 0, 0x80).ah(), 3, "INT 13h/15: a fixed disk");
}

void test_memory() {
    Registers r;
    r.eax = 0x8800;
    check_equal(interrupt(0x15, r).ax(), 15 * 1024, "INT 15h/88: 15 MiB of extended memory");
    r = {};
    r.eax = 0xE801;
    r = interrupt(0x15, r);
    check(!r.carry() && (r.ax() == 15 * 1024 || r.cx() == 15 * 1024), "INT 15h/E801: 15 MiB below 16 MiB");
    uint32_t entries = 0;
    uint32_t usable = 0;
    uint32_t next = 0;
    bool sound = true;
    do {
        r = {};
        r.eax = 0xE820;
        r.ebx = next;
        r.ecx = 20;
        r.edx = 0x534D4150;
        r.edi = reinterpret_cast<uint32_t>(buffer);
        r = interrupt(0x15, r);
        sound = sound && !r.carry() && r.eax == 0x534D4150 && r.ecx >= 20;
        if (buffer[16] == 1) usable += *reinterpret_cast<uint32_t*>(buffer + 8);
        next = r.ebx;
        ++entries;
    } while (sound && next && entries < 32);
    check(sound && entries >= 3, "INT 15h/E820 lists memory");
    check_between(usable / 1024, 15 * 1024 + 600, 16 * 1024, "and its usable parts are 16 MiB");
    r = {};
    r.eax = 0xC000;
    r = interrupt(0x15, r);
    check(!r.carry() && peek8(r.es, static_cast<uint16_t>(r.bx() + 2)) == 0xFC, "INT 15h/C0 gives the table of an AT");
    r = {};
    r.eax = 0xC100;
    r = interrupt(0x15, r);
    check_equal(r.es, peek16(0x40, 0x0E), "INT 15h/C1 gives the EBDA's segment");
    r = {};
    r.eax = 0x7700;
    r = interrupt(0x15, r);
    check(r.carry() && r.ah() == 0x86, "an unknown function of INT 15h says 86h");
}

// GDT of INT 15h/87: null, GDT, source, destination, CS, SS.
uint8_t gdt[48];

void describe(uint32_t index, uint32_t base) {
    uint8_t* entry = gdt + index * 8;
    entry[0] = entry[1] = 0xFF;
    entry[2] = static_cast<uint8_t>(base);
    entry[3] = static_cast<uint8_t>(base >> 8);
    entry[4] = static_cast<uint8_t>(base >> 16);
    entry[5] = 0x93;
    entry[6] = 0;
    entry[7] = static_cast<uint8_t>(base >> 24);
}

Registers move(uint32_t from, uint32_t to, uint16_t words) {
    describe(2, from);
    describe(3, to);
    Registers r;
    r.eax = 0x8700;
    r.ecx = words;
    r.esi = reinterpret_cast<uint32_t>(gdt);
    return interrupt(0x15, r);
}

void test_block_move_and_a20() {
    for (uint32_t i = 0; i < 64; ++i) buffer[i] = static_cast<uint8_t>(0x30 + i);
    Registers r = move(reinterpret_cast<uint32_t>(buffer), 0x300000, 32);
    check(!r.carry() && r.ah() == 0, "INT 15h/87 moves to extended memory");
    for (uint32_t i = 0; i < 64; ++i) buffer[i] = 0;
    r = move(0x300000, reinterpret_cast<uint32_t>(buffer), 32);
    bool same = !r.carry();
    for (uint32_t i = 0; i < 64; ++i) same = same && buffer[i] == static_cast<uint8_t>(0x30 + i);
    check(same, "and back");

    Registers a20;
    a20.eax = 0x2403;
    a20 = interrupt(0x15, a20);
    check(!a20.carry() && (a20.bx() & 2), "INT 15h/2403: A20 by port 92h");
    poke8(0x0000, 0x0500, 0x11);
    a20 = {};
    a20.eax = 0x2401;
    check(!interrupt(0x15, a20).carry(), "INT 15h/2401 opens A20");
    a20.eax = 0x2402;
    check_equal(interrupt(0x15, a20).eax & 0xFF, 1, "INT 15h/2402 says so");
    poke8(0xFFFF, 0x0510, 0x22);
    check_equal(peek8(0x0000, 0x0500), 0x11, "with A20 open FFFF:0510 is above 1 MiB");
    a20.eax = 0x2400;
    check(!interrupt(0x15, a20).carry(), "INT 15h/2400 closes A20");
    check_equal(peek8(0xFFFF, 0x0510), 0x11, "with A20 closed it wraps to 0000:0500");
    poke8(0xFFFF, 0x0510, 0x33);
    check_equal(peek8(0x0000, 0x0500), 0x33, "for writes too");
    outb(0x92, (inb(0x92) | 0x02) & ~0x01);
    check_equal(peek8(0xFFFF, 0x0510), 0x22, "port 92h opens it, and the byte above 1 MiB is still there");
    outb(0x92, inb(0x92) & ~0x03);
    check_equal(peek8(0xFFFF, 0x0510), 0x33, "and closes it");
    a20.eax = 0x2401;
    interrupt(0x15, a20);
}

void test_time() {
    // A busy host makes the delay longer than it says, but hardly four times in a row.
    uint32_t least = 1000;
    for (uint8_t tries = 0; tries < 4 && least > 11; ++tries) {
        const auto ticks = [] {
            const Registers r = interrupt(0x1A, {});
            return static_cast<uint32_t>(r.cx()) << 16 | r.dx();
        };
        const uint32_t before = ticks();
        delay_milliseconds(500);
        const uint32_t passed = ticks() - before;
        if (passed < least) least = passed;
    }
    check_between(least, 5, 18, "INT 1Ah/00 counts 18.2 ticks a second");
    Registers clock;
    clock.eax = 0x0200;
    clock = interrupt(0x1A, clock);
    check(!clock.carry() && (clock.cx() >> 8) < 0x24 && (clock.cx() & 0xFF) < 0x60, "INT 1Ah/02 gives a time in BCD");
    clock = {};
    clock.eax = 0x0400;
    clock = interrupt(0x1A, clock);
    check(!clock.carry() && clock.cx() >= 0x2020, "INT 1Ah/04 gives a date of this century");
    Registers wait;
    wait.eax = 0x8600;
    wait.ecx = 1;
    wait.edx = 0x86A0;  // 100 ms
    const uint32_t start = peek16(0x40, 0x6C);
    check(!interrupt(0x15, wait).carry(), "INT 15h/86 waits");
    check_between(static_cast<uint16_t>(peek16(0x40, 0x6C) - start), 1, 60, "for about the time it is told");
}

void test_others() {
    Registers r;
    r.eax = 0x0100;
    r = interrupt(0x16, r);
    check(r.zero(), "INT 16h/01: no key is waiting");
    r = {};
    r.eax = 0x0500;
    r.ecx = 0x1E61;
    check_equal(interrupt(0x16, r).eax & 0xFF, 0, "INT 16h/05 stores a key");
    r = {};
    r.eax = 0x0100;
    r = interrupt(0x16, r);
    check(!r.zero() && r.ax() == 0x1E61, "INT 16h/01 sees it");
    r = {};
    check_equal(interrupt(0x16, r).ax(), 0x1E61, "INT 16h/00 takes it");
    r = {};
    r.eax = 0x0300;
    r.edx = 1;
    r = interrupt(0x14, r);
    check(r.ah() & 0x20, "INT 14h/03: COM2's transmitter is empty");
    r = {};
    r.eax = 0x0200;
    r = interrupt(0x17, r);
    check((r.ah() & 0x01) || (r.ah() & 0x30) == 0x30 || r.ah() == 0, "INT 17h/02: no printer");
}

}  // namespace

extern "C" void guest_main() {
    test_data_area();
    test_video_text();
    test_video_more();
    test_floppy();
    test_hard_disk();
    test_memory();
    test_block_move_and_a20();
    test_time();
    test_others();
    finish();
}
