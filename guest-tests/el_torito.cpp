// Started from a CD-ROM by the BIOS, with whatever emulation: what INT 13h says of the boot, the emulated drive, and
// the drives behind it. The runner adds a floppy and a hard disk whose sector n begins with n.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint32_t boot_image_block = 24;  // make_iso.py
constexpr uint8_t first_cdrom = 0xE0;

uint8_t buffer[2048];
struct {
    uint8_t size, media, drive, controller;
    uint32_t lba;
    uint16_t device, cache_segment, load_segment, sectors;
    uint8_t cylinder, sector, head;
} __attribute__((packed)) specification;

struct {
    uint8_t size, reserved;
    uint16_t count, offset, segment;
    uint32_t lba, lba_high;
} __attribute__((packed)) address;

uint32_t first_long() {
    return buffer[0] | buffer[1] << 8 | uint32_t{buffer[2]} << 16 | uint32_t{buffer[3]} << 24;
}
constexpr uint32_t text(const char (&letters)[5]) {
    return static_cast<uint32_t>(letters[0] | letters[1] << 8 | letters[2] << 16 | letters[3] << 24);
}
template <class T>
uint32_t place(T& object) {
    return reinterpret_cast<uint32_t>(&object);
}

Registers disk_call(uint16_t ax, uint8_t drive, uint32_t si = 0) {
    Registers r;
    r.eax = ax;
    r.edx = drive;
    r.esi = si;
    return interrupt(0x13, r);
}

Registers read_chs(uint8_t drive, uint16_t cx, uint8_t head, uint8_t function = 2) {
    Registers r;
    r.eax = static_cast<uint32_t>(function << 8 | 1);
    r.ebx = place(buffer);
    r.ecx = cx;
    r.edx = static_cast<uint32_t>(head << 8 | drive);
    return interrupt(0x13, r);
}

Registers read_block(uint8_t drive, uint32_t lba, uint16_t count = 1, uint8_t function = 0x42) {
    address = {16, 0, count, static_cast<uint16_t>(place(buffer)), 0, lba, 0};
    return disk_call(static_cast<uint16_t>(function << 8), drive, place(address));
}

Registers ask_emulation(uint8_t al, uint8_t drive) {
    specification = {};
    return disk_call(static_cast<uint16_t>(0x4B00 | al), drive, place(specification));
}

void test_status() {
    check(!ask_emulation(1, boot_drive).carry(), "4B01h knows the boot");
    check_equal(specification.size, 0x13, "the specification packet has its size");
    check_equal(specification.drive, boot_drive, "and the drive in DL");
    check_equal(specification.lba, boot_image_block, "and the boot image's place");
    check_equal(specification.load_segment, 0x07C0, "and where it was loaded");
    check(!ask_emulation(1, 0x7F).carry(), "drive 7Fh stands for any");
    check(ask_emulation(1, static_cast<uint8_t>(boot_drive + 1)).carry(), "another drive was not booted");
}

void test_catalog() {
    struct {
        uint8_t size, count;
        uint16_t offset, segment, first;
    } __attribute__((packed)) packet = {8, 1, static_cast<uint16_t>(place(buffer)), 0, 0};
    check(!disk_call(0x4D00, boot_drive, place(packet)).carry(), "4D00h reads the boot catalog");
    check(buffer[0] == 1 && buffer[30] == 0x55 && buffer[31] == 0xAA, "which begins with the validation entry");
}

void test_plain() {
    check_equal(specification.media & 0x0F, 0, "no emulation");
    Registers r;
    r.eax = 0x4100;
    r.ebx = 0x55AA;
    r.edx = boot_drive;
    r = interrupt(0x13, r);
    check(!r.carry() && r.bx() == 0xAA55, "the CD-ROM has the extensions");
    struct {
        uint16_t size, flags;
        uint32_t cylinders, heads, sectors, total, total_high;
        uint16_t bytes;
    } __attribute__((packed)) parameters = {};
    parameters.size = 0x1A;
    check(!disk_call(0x4800, boot_drive, place(parameters)).carry(), "48h answers");
    check_equal(parameters.bytes, 2048, "blocks of 2048 bytes");
    check_between(parameters.total, boot_image_block + 1, 100, "and the number of them");
    check_equal(parameters.flags & 0x34, 0x34, "removable, with a change line, lockable");
    check(!read_block(boot_drive, 16).carry(), "42h reads a block");
    check_equal(first_long(), text("\1CD0"), "the volume descriptor");
    check_equal(read_block(boot_drive, parameters.total).ah(), 0x04, "a block behind the end is not found");
    check_equal(read_block(boot_drive, 16, 1, 0x43).ah(), 0x03, "a CD-ROM is write protected");
    check_equal(disk_call(0x4502, boot_drive).ax(), 0x0000, "it is not locked");
    check(!disk_call(0x4500, boot_drive).carry(), "45h locks it");
    check_equal(disk_call(0x4502, boot_drive).ax(), 0x0001, "then it is");
    check_equal(disk_call(0x4600, boot_drive).ah(), 0xB1, "a locked medium is not ejected");
    check(!disk_call(0x4501, boot_drive).carry(), "45h unlocks it");
    check_equal(disk_call(0x4501, boot_drive).ah(), 0xB0, "once");
    check(!ask_emulation(0, boot_drive).carry(), "there is no emulation to end");
    check(!read_block(boot_drive, 16).carry(), "and the disc is still there");
    check(!disk_call(0x4600, boot_drive).carry(), "46h ejects it");
    check_equal(read_block(boot_drive, 16).ah(), 0x31, "then there is no medium");
}

// Cylinder 79, head 1, the last sector; CX of INT 13h.
uint16_t last_cx(uint8_t sectors) {
    return static_cast<uint16_t>(79 << 8 | sectors);
}

uint8_t sectors_of(uint8_t media) {
    return media == 1 ? 15 : media == 3 ? 36 : 18;
}

void test_emulated(uint8_t sectors) {
    check(!read_chs(boot_drive, 1, 0).carry(), "the first sector is read");
    check_equal(buffer[510] | buffer[511] << 8, 0xAA55, "it is the boot sector");
    check(!read_chs(boot_drive, last_cx(sectors), 1).carry(), "the last sector is read");
    check_equal(first_long(), text("LAST"), "it is the right one");
    check_equal(read_chs(boot_drive, static_cast<uint16_t>(sectors + 1), 0).ah(), 0x04, "there is none behind it");
    check_equal(read_chs(boot_drive, 1, 0, 3).ah(), 0x03, "the emulated drive is write protected");
    const Registers geometry = disk_call(0x0800, boot_drive);
    check_equal(geometry.cx(), last_cx(sectors), "08h: cylinders and sectors");
    check_equal(geometry.dx() >> 8, 1, "08h: two heads");
    check_equal(specification.cylinder << 16 | specification.sector << 8 | specification.head,
                static_cast<uint32_t>(79 << 16 | sectors << 8 | 1), "the specification packet has the same");
}

void test_floppy() {
    const uint8_t sectors = sectors_of(specification.media);
    check_equal(boot_drive, 0x00, "it is drive A");
    test_emulated(sectors);
    check_equal(disk_call(0x0800, 0).bx() & 0xFF, sectors == 15 ? 2 : sectors == 18 ? 4 : 6, "08h: the drive's type");
    check_equal(disk_call(0x0800, 0).dx() & 0xFF, 2, "08h: there are two floppy drives");
    check_equal(peek16(0x40, 0x10) & 0xC1, 0x41, "the equipment word says so, too");
    check(!read_chs(1, 5, 0).carry(), "the real floppy is drive B");
    check_equal(first_long(), 4, "with its own sectors");
    check(!read_chs(0x80, 3, 0).carry() && first_long() == 2, "the hard disk stays where it is");
    check(!ask_emulation(0, 0).carry(), "4B00h ends the emulation");
    check(!read_chs(0, 5, 0).carry() && first_long() == 4, "the real floppy is drive A again");
    check_equal(peek16(0x40, 0x10) & 0xC1, 0x01, "and the only one");
    check(ask_emulation(1, 0).carry(), "there is no emulation to ask about");
}

void test_disk() {
    check_equal(boot_drive, 0x80, "it is the first hard disk");
    test_emulated(18);
    check_equal(disk_call(0x0800, 0x80).dx() & 0xFF, 2, "08h: there are two disks");
    check(!read_block(0x80, 2879).carry() && first_long() == text("LAST"), "42h reads it by block");
    check(!read_chs(0x81, 3, 0).carry(), "the real disk is the second");
    check_equal(first_long(), 2, "with its own sectors");
    check(!read_chs(0, 5, 0).carry() && first_long() == 4, "the floppy stays where it is");
    check(!ask_emulation(0, 0x80).carry(), "4B00h ends the emulation");
    check(!read_chs(0x80, 3, 0).carry() && first_long() == 2, "the real disk is the first again");
    check(read_chs(0x81, 3, 0).carry(), "and the only one");
    check_equal(peek8(0x40, 0x75), 1, "the BIOS data area says so, too");
}

// 4Ah with the packet of the boot.
void test_again() {
    specification.load_segment = 0x2000;
    check(!disk_call(0x4A00, 0, place(specification)).carry(), "4A00h starts it again");
    check(!ask_emulation(1, boot_drive).carry(), "then there is one to ask about");
    check_equal(peek16(0x2000, 510), 0xAA55, "its first sector is at the segment of the packet");
    check(!read_chs(boot_drive, 1, 0).carry() && buffer[510] == 0x55, "and it is the same drive");
}

}  // namespace

extern "C" void guest_main() {
    note(boot_drive >= first_cdrom ? "booted without emulation"
         : boot_drive == 0         ? "booted as floppy"
                                   : "booted as disk");
    test_catalog();
    test_status();
    ask_emulation(1, boot_drive);
    const auto packet = specification;
    if (boot_drive >= first_cdrom) {
        test_plain();
        finish();
    }
    if (boot_drive == 0) {
        test_floppy();
    } else {
        test_disk();
    }
    specification = packet;
    test_again();
    finish();
}
