// VBE, INT 10h AH=4Fh: what it tells, modes of every depth drawn through the window and in the linear frame buffer,
// panning, colours, saved states, the 32-bit interface, power and the monitor.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

uint8_t info[512];
uint8_t scratch[1024];
uint32_t frame_buffer;

Registers vbe(uint8_t function, uint16_t bx = 0, uint32_t cx = 0, uint16_t dx = 0, const void* di = nullptr) {
    Registers r;
    r.eax = 0x4F00u | function;
    r.ebx = bx;
    r.ecx = cx;
    r.edx = dx;
    r.edi = reinterpret_cast<uint32_t>(di);
    return interrupt(0x10, r);
}

uint16_t word(const uint8_t* at) {
    return static_cast<uint16_t>(at[0] | at[1] << 8);
}
uint32_t dword(const uint8_t* at) {
    return word(at) | uint32_t{word(at + 2)} << 16;
}

void clear(uint8_t* at, uint16_t bytes) {
    for (uint16_t i = 0; i < bytes; ++i) at[i] = 0;
}

// INT 15h/87: bytes between linear addresses below 4 GiB.
void move(uint32_t to, uint32_t from, uint16_t bytes) {
    static uint8_t table[48];
    clear(table, sizeof table);
    const auto describe = [bytes](uint8_t* entry, uint32_t base) {
        entry[0] = 0xFF;
        entry[1] = 0xFF;
        entry[2] = static_cast<uint8_t>(base);
        entry[3] = static_cast<uint8_t>(base >> 8);
        entry[4] = static_cast<uint8_t>(base >> 16);
        entry[5] = 0x93;
        entry[7] = static_cast<uint8_t>(base >> 24);
    };
    describe(table + 16, from);
    describe(table + 24, to);
    Registers r;
    r.eax = 0x8700;
    r.ecx = bytes / 2;
    r.esi = reinterpret_cast<uint32_t>(table);
    interrupt(0x15, r);
}

uint32_t peek_linear(uint32_t offset) {
    move(reinterpret_cast<uint32_t>(scratch), frame_buffer + offset, 4);
    return dword(scratch);
}
void poke_linear(uint32_t offset, uint32_t value) {
    for (int i = 0; i < 4; ++i) scratch[i] = static_cast<uint8_t>(value >> (8 * i));
    move(frame_buffer + offset, reinterpret_cast<uint32_t>(scratch), 4);
}

bool describe(uint16_t mode) {
    clear(info, 256);
    return vbe(0x01, 0, mode, 0, info).ax() == 0x004F;
}

void test_information() {
    clear(info, sizeof info);
    const char* signature = "VBE2";
    for (int i = 0; i < 4; ++i) info[i] = static_cast<uint8_t>(signature[i]);
    check_equal(vbe(0x00, 0, 0, 0, info).ax(), 0x004F, "4F00 answers");
    check(dword(info) == 0x41534556 && word(info + 4) == 0x0300, "with VESA 3.0");
    check_equal(word(info + 0x12), 256, "16 MiB of memory");
    const uint16_t name = word(info + 6);
    check(peek8(word(info + 8), name) == 'V' && peek8(word(info + 8), static_cast<uint16_t>(name + 11)) == 'E',
          "a name");
    uint16_t count = 0;
    bool all = true;
    const uint16_t list = word(info + 0x0E), list_segment = word(info + 0x10);
    for (;; ++count) {
        const uint16_t mode = peek16(list_segment, static_cast<uint16_t>(list + 2 * count));
        if (mode == 0xFFFF || count == 200) break;
        all = all && describe(mode) && (info[0] & 0x01);
    }
    check_between(count, 60, 100, "a list of modes");
    check(all, "that 4F01 knows all of");
    check(!describe(0x1FF), "and not of others");
    clear(info, 300);
    info[256] = 0xA5;
    vbe(0x00, 0, 0, 0, info);
    check_equal(info[256], 0xA5, "a caller of VBE 1 gets 256 bytes");
    check(describe(0x115) && word(info + 0x12) == 800 && word(info + 0x14) == 600 && info[0x19] == 24 &&
              word(info + 0x10) == 2400 && info[0x1B] == 6 && info[0x1F] == 8 && info[0x20] == 16,
          "115h is 800x600 of 24 bits");
    frame_buffer = dword(info + 0x28);
    check(frame_buffer >= 0xC0000000 && (frame_buffer & 0xFFFFFF) == 0, "whose frame buffer is high up");
    check(describe(0x102) && info[0x18] == 4 && info[0x1B] == 3 && word(info + 0x10) == 100 && dword(info + 0x28) == 0,
          "102h is 800x600 in four maps");
    check_equal(vbe(0x77).ax(), 0x0100, "a function that does not exist is not supported");
}

struct Mode {
    uint16_t number, width, height;
    uint8_t bytes;  // a pixel
};
constexpr Mode modes[] = {{0x101, 640, 480, 1},  {0x10E, 320, 200, 2},   {0x113, 800, 600, 2},
                          {0x118, 1024, 768, 3}, {0x147, 1600, 1200, 4}, {0x18C, 2560, 1600, 4}};

void test_mode(const Mode& mode) {
    print("# mode ");
    print_hex(mode.number);
    print("\n");
    check_equal(vbe(0x02, mode.number).ax(), 0x004F, "the mode is set");
    check_equal(vbe(0x03).bx(), mode.number, "4F03 tells it");
    const uint32_t last = (uint32_t{mode.width} * mode.height - 1) * mode.bytes;
    check_equal(vbe(0x05, 0, 0, static_cast<uint16_t>(last >> 16)).ax(), 0x004F, "the last bank comes into the window");
    check_equal(vbe(0x05, 0x0100).dx(), last >> 16, "and 4F05 tells it");
    for (uint8_t i = 0; i < mode.bytes; ++i) {
        poke8(0xA000, static_cast<uint16_t>(last + i), static_cast<uint8_t>(0x51 + i));
    }
    const uint32_t expected = mode.bytes == 4 ? 0x54535251 : 0x54535251 & ((1u << (8 * mode.bytes)) - 1);
    check_equal(peek_linear(last), expected, "its last pixel is the frame buffer's");
    poke_linear(0x20000, 0x99887766);
    vbe(0x05, 0, 0, 2);
    check(peek16(0xA000, 0) == 0x7766 && peek16(0xA000, 2) == 0x9988, "and what is drawn there shows in the window");
    check_equal(vbe(0x02, static_cast<uint16_t>(mode.number | 0xC000)).ax(), 0x004F, "the mode is set once more");
    check_equal(peek_linear(0x20000), 0x99887766, "and bit 15 keeps the picture");
    check_equal(vbe(0x05, 0, 0, 1).ax(), 0x034F, "a linear mode has no window");
    vbe(0x02, mode.number);
    check_equal(peek_linear(last), 0, "without it the picture is cleared");
}

void test_planar() {
    check_equal(vbe(0x02, 0x104).ax(), 0x004F, "104h is set: 1024x768 in four maps");
    // The last pixel's byte is in the second bank of 64 KiB a map.
    const uint32_t last = 1024 / 8 * 768 - 1;
    vbe(0x05, 0, 0, static_cast<uint16_t>(last >> 16));
    outw(0x3CE, 0x0A00);
    outw(0x3CE, 0x0F01);
    outw(0x3CE, 0x0108);
    peek8(0xA000, static_cast<uint16_t>(last));
    poke8(0xA000, static_cast<uint16_t>(last), 0);
    outw(0x3CE, 0xFF08);
    outw(0x3CE, 0x0001);
    uint32_t maps = 0;
    for (uint8_t map = 0; map < 4; ++map) {
        outw(0x3CE, static_cast<uint16_t>(map << 8 | 4));
        maps |= uint32_t{peek8(0xA000, static_cast<uint16_t>(last))} << (8 * map);
    }
    check_equal(maps, 0x01000100, "the graphics controller writes colour 10 into its corner");
    check_equal(vbe(0x02, 0x4104).ax(), 0x014F, "there is no linear frame buffer of it");
}

Registers video(uint16_t ax, uint16_t bx = 0, uint16_t cx = 0, uint16_t dx = 0) {
    Registers r;
    r.eax = ax;
    r.ebx = bx;
    r.ecx = cx;
    r.edx = dx;
    return interrupt(0x10, r);
}

uint8_t pixel(uint16_t x, uint16_t y) {
    return video(0x0D00, 0, x, y).al();
}

// 800 by 600 unless it is 1024 by 768 in four maps, whose last rows are in another bank.
void test_text(uint16_t mode) {
    print("# text in mode ");
    print_hex(mode);
    print("\n");
    vbe(0x02, mode);
    const uint8_t rows = mode == 0x104 ? 48 : 37, columns = mode == 0x104 ? 128 : 100;
    check(peek8(0x40, 0x84) == rows - 1 && peek8(0x40, 0x4A) == columns, "the BIOS knows its rows and columns");
    const auto right = static_cast<uint16_t>(columns * 8 - 1), bottom = static_cast<uint16_t>(rows * 16 - 1);
    video(0x0C0C, 0, right, bottom);
    check(pixel(right, bottom) == 12 && pixel(static_cast<uint16_t>(right - 1), bottom) == 0 &&
              pixel(right, static_cast<uint16_t>(bottom - 1)) == 0,
          "INT 10h/0C and 0D: a pixel in the last corner");
    video(0x0200, 0, 0, static_cast<uint16_t>((rows - 2) << 8 | 5));
    video(0x0941, 0x0A, 1);
    check_equal(video(0x0800).al(), 'A', "INT 10h/09 and 08: a character");
    video(0x0200, 0, 0, static_cast<uint16_t>((rows - 1) << 8 | (columns - 1)));
    video(0x0E42, 0x0E);
    check_equal(video(0x0300).dx(), static_cast<uint32_t>((rows - 1) << 8), "teletype scrolls at the end");
    video(0x0200, 0, 0, static_cast<uint16_t>((rows - 3) << 8 | 5));
    check_equal(video(0x0800).al(), 'A', "what was there is a row higher");
    video(0x0200, 0, 0, static_cast<uint16_t>((rows - 2) << 8 | (columns - 1)));
    check_equal(video(0x0800).al(), 'B', "in both corners");
    check_equal(pixel(right, bottom), 0, "and the last row is empty");
    video(0x0701, 0x0200, 0x0203, 0x0405);
    check(pixel(24, 32) == 2 && pixel(47, 47) == 2 && pixel(48, 47) == 0 && pixel(23, 32) == 0 && pixel(24, 48) == 0,
          "INT 10h/07 clears a row of a window with its colour");
    video(0x0602, 0x0300, 0x0203, 0x0305);
    check(pixel(24, 32) == 3 && pixel(47, 63) == 3 && pixel(24, 64) == 0, "INT 10h/06 clears a window");
}

void test_lines() {
    vbe(0x02, 0x101);
    Registers r = vbe(0x06, 0x0001);
    check(r.bx() == 640 && r.cx() == 640 && r.dx() == 16777216 / 640, "4F06 tells the length of lines");
    r = vbe(0x06, 0x0000, 1024);
    check(r.ax() == 0x004F && r.bx() == 1024 && r.cx() == 1024 && r.dx() == 16384, "and sets it in pixels");
    r = vbe(0x06, 0x0002, 1100);
    check(r.ax() == 0x004F && r.cx() == 1104, "or in bytes, rounded up");
    check(vbe(0x06, 0x0003).cx() >= 32768, "lines can be long");
    check_equal(vbe(0x06, 0x0000, 0xFFFF).ax(), 0x024F, "but not that long");
    vbe(0x02, 0x112);
    check_equal(vbe(0x06, 0x0001).bx(), 1920, "24 bits a pixel are three bytes");
    check_equal(vbe(0x07, 0x0000, 0, 480).ax(), 0x004F, "4F07 shows the next page");
    check_equal(vbe(0x07, 0x0001).dx(), 480, "and tells where it is");
    check_equal(vbe(0x07, 0x0080, 0, 960).ax(), 0x004F, "during retrace, too");
    check_equal(vbe(0x07, 0x0000, 1, 0).ax(), 0x014F, "a start beyond the line is refused");
    vbe(0x06, 0x0000, 800);
    check_equal(vbe(0x07, 0x0002, 2400 * 100 + 30).ax(), 0x004F, "4F07 also takes an address");
    r = vbe(0x07, 0x0001);
    check(r.cx() == 10 && r.dx() == 100, "which is a place");
}

void test_palette() {
    vbe(0x02, 0x103);
    check_equal(vbe(0x08, 0x0001).ebx >> 8 & 0xFF, 6, "4F08: the DAC has 6 bits");
    for (uint8_t i = 0; i < 8; ++i) scratch[i] = static_cast<uint8_t>(0x11 * (i + 1));
    vbe(0x09, 0x0000, 2, 0x40, scratch);
    outb(0x3C7, 0x40);
    bool same = inb(0x3C9) == (0x33 & 0x3F);
    same = inb(0x3C9) == 0x22 && same;
    same = inb(0x3C9) == 0x11 && same;
    check(same, "4F09 sets colours from blue, green, red");
    Registers r = vbe(0x08, 0x0800);
    check_equal(r.ebx >> 8 & 0xFF, 8, "4F08 sets 8 bits");
    vbe(0x09, 0x0000, 2, 0x40, scratch);
    clear(scratch, 16);
    vbe(0x09, 0x0001, 2, 0x40, scratch);
    check_equal(dword(scratch + 4), 0x00776655, "and all of them are there");
    check_equal(vbe(0x08, 0x0600).ebx >> 8 & 0xFF, 6, "back to 6");
    vbe(0x02, 0x111);
    check_equal(vbe(0x08, 0x0001).ax(), 0x034F, "direct colours have no DAC");
}

void test_states() {
    vbe(0x02, 0x103);
    vbe(0x06, 0x0000, 1600);
    vbe(0x07, 0x0000, 8, 16);
    vbe(0x08, 0x0800);
    outb(0x3C8, 0x33);
    outb(0x3C9, 0xFE);
    outb(0x3C9, 0x81);
    outb(0x3C9, 0x03);
    Registers r = vbe(0x04, 0, 0x0F, 0);
    check_between(r.bx(), 15, 20, "4F04 says how much room the state takes");
    r.eax = 0x4F04;
    r.ebx = 0;
    r.ecx = 0x0F;
    r.edx = 1;
    r.es = 0x4000;
    check_equal(interrupt(0x10, r).ax(), 0x004F, "4F04 saves it");
    vbe(0x02, 0x03);
    check_equal(vbe(0x03).bx(), 0x03, "4F02 sets the VGA's own modes, too");
    r.eax = 0x4F04;
    r.edx = 2;
    check_equal(interrupt(0x10, r).ax(), 0x004F, "4F04 restores it");
    check_equal(vbe(0x03).bx(), 0x103, "the mode");
    check_equal(vbe(0x06, 0x0001).cx(), 1600, "the length of lines");
    r = vbe(0x07, 0x0001);
    check(r.cx() == 8 && r.dx() == 16, "the start");
    clear(scratch, 4);
    vbe(0x09, 0x0001, 1, 0x33, scratch);
    check_equal(dword(scratch), 0x00FE8103, "and eight bits of the DAC");
    Registers old;
    old.eax = 0x0003;
    interrupt(0x10, old);
    outw(0x1CE, 4);
    check_equal(inw(0x1CF), 0, "INT 10h/00 leaves VBE");
}

// Runs 32-bit code: calls `entry` with EAX to EDI from `registers`, and brings them back.
struct Call {
    uint32_t entry, eax, ebx, ecx, edx, edi;
};
extern "C" void call_protected(Call* call);
asm(R"(
    .code16
    .globl call_protected
call_protected:
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    movl 20(%esp), %ebp
    cli
    lgdtl vbe_gdt_pointer
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $1f
    .code32
1:  movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl 4(%ebp), %eax
    movl 8(%ebp), %ebx
    movl 12(%ebp), %ecx
    movl 16(%ebp), %edx
    movl 20(%ebp), %edi
    call *(%ebp)
    movl %eax, 4(%ebp)
    movl %ebx, 8(%ebp)
    movl %ecx, 12(%ebp)
    movl %edx, 16(%ebp)
    movl %edi, 20(%ebp)
    ljmpl $24, $2f
    .code16
2:  movw $32, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andb $0xFE, %al
    movl %eax, %cr0
    ljmp $0, $3f
3:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    sti
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    retl
    .balign 8
vbe_gdt:
    .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00009B000000FFFF, 0x000093000000FFFF
vbe_gdt_pointer:
    .word . - vbe_gdt - 1
    .long vbe_gdt
    .code16gcc
)");

void test_protected() {
    Registers r = vbe(0x0A);
    check_equal(r.ax(), 0x004F, "4F0A gives a protected mode interface");
    static uint8_t code[1024];
    const uint16_t size = r.cx();
    check_between(size, 32, sizeof code, "of some size");
    if (size > sizeof code) return;
    for (uint16_t i = 0; i < size; ++i) code[i] = peek8(r.es, static_cast<uint16_t>(r.edi + i));
    const auto entry = [](uint8_t which) { return reinterpret_cast<uint32_t>(code) + word(code + 2 * which); };
    check(word(code + word(code + 6)) == 0x1CE, "that names its ports");
    vbe(0x02, 0x101);
    Call call = {entry(0), 0x4F05, 0, 0, 3, 0};
    call_protected(&call);
    check(static_cast<uint16_t>(call.eax) == 0x004F && vbe(0x05, 0x0100).dx() == 3, "32-bit code sets the window");
    call = {entry(0), 0x4F05, 0x0100, 0, 0, 0};
    call_protected(&call);
    check_equal(call.edx, 3, "and tells it");
    // 640 bytes a line: line 200, pixel 8.
    vbe(0x06, 0x0000, 1024);
    const uint32_t start = (1024 * 200 + 8) / 4;
    call = {entry(1), 0x4F07, 0, start & 0xFFFF, start >> 16, 0};
    call_protected(&call);
    r = vbe(0x07, 0x0001);
    check(r.cx() == 8 && r.dx() == 200, "it pans");
    call.ebx = 0x80;
    call.eax = 0x4F07;
    call.ecx = 0;
    call.edx = 0;
    call_protected(&call);
    check_equal(vbe(0x07, 0x0001).dx(), 0, "during retrace, too");
    for (uint8_t i = 0; i < 8; ++i) scratch[i] = static_cast<uint8_t>(i + 1);
    call = {entry(2), 0x4F09, 0, 2, 0x80, reinterpret_cast<uint32_t>(scratch)};
    call_protected(&call);
    clear(scratch + 8, 8);
    vbe(0x09, 0x0001, 2, 0x80, scratch + 8);
    check(dword(scratch + 8) == 0x00030201 && dword(scratch + 12) == 0x00070605, "and it sets colours");
}

void test_power_and_monitor() {
    Registers r = vbe(0x10);
    check(r.ax() == 0x004F && r.bx() == 0x0710, "4F10 knows standby, suspend and off");
    check_equal(vbe(0x10, 0x0401).ax(), 0x004F, "the monitor goes off");
    outb(0x3C4, 1);
    check_equal(inb(0x3C5) & 0x20, 0x20, "and the screen with it");
    check_equal(vbe(0x10, 0x0002).ebx >> 8 & 0xFF, 0x04, "which 4F10 tells");
    vbe(0x10, 0x0001);
    outb(0x3C4, 1);
    check_equal(inb(0x3C5) & 0x20, 0x00, "and on again");
    check_equal(vbe(0x10, 0x0801).ax(), 0x014F, "another state is refused");
    check_equal(vbe(0x15).ax(), 0x004F, "4F15: the monitor talks");
    check_equal(vbe(0x15, 0x0001, 0, 0, scratch).ax(), 0x004F, "and sends its EDID");
    uint8_t sum = 0;
    for (uint16_t i = 0; i < 128; ++i) sum = static_cast<uint8_t>(sum + scratch[i]);
    check(dword(scratch) == 0xFFFFFF00 && sum == 0, "which is whole");
    check_equal(scratch[54 + 2] | (scratch[54 + 4] & 0xF0) << 4, 1024, "and prefers 1024 pixels a line");
    check_equal(vbe(0x15, 0x0001, 0, 1, scratch).ax(), 0x014F, "it has one block");
}

// The runner waits for this text on the screen, which is a picture, and then types a key.
void test_reading() {
    vbe(0x02, 0x143);
    video(0x0200, 0, 0, 0x0A14);
    for (const char* text = "read me in a picture"; *text; ++text) video(static_cast<uint16_t>(0x0E00 | *text), 0x0B);
    Registers key;
    Deadline deadline(20000);
    do {
        key.eax = 0x0100;
        key = interrupt(0x16, key);
    } while (key.zero() && !deadline.passed());
    check(!key.zero() && key.al() == 'k', "text in a picture is read by who waits for it");
}

constexpr uint16_t text_modes[] = {0x103, 0x104, 0x114, 0x115, 0x143};

}  // namespace

extern "C" void guest_main() {
    test_information();
    for (const Mode& mode : modes) test_mode(mode);
    test_planar();
    for (uint16_t mode : text_modes) test_text(mode);
    test_lines();
    test_palette();
    test_states();
    test_protected();
    test_power_and_monitor();
    test_reading();
    vbe(0x02, 0x03);
    finish();
}
