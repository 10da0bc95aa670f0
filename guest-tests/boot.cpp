// Booting: INT 19h, INT 18h, the boot order and the menu. The runner's order is disk, floppy; the disk is empty until
// this test writes boot sectors to it. CMOS bytes that POST leaves alone say how far it was.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint8_t cmos_stage = 0x40, cmos_points = 0x41, cmos_failed = 0x42, cmos_magic = 0x43;
constexpr uint8_t magic = 0x5C;
// In segment 0, where neither the BIOS nor the boot comes: the disk's boot sector counts its starts and notes its
// drive.
constexpr uint16_t marker = 0x600, disk_starts = 0x604, disk_drive = 0x605;
constexpr uint16_t key_f12 = 0x8600, key_2 = 0x0332, key_enter = 0x1C0D;

uint8_t sector[512];

// xor ax,ax; mov ds,ax; inc byte [604h]; mov [605h],dl; int 18h; jmp $
constexpr uint8_t counting_sector[] = {0x31, 0xC0, 0x8E, 0xD8, 0xFE, 0x06, 0x04, 0x06,
                                       0x88, 0x16, 0x05, 0x06, 0xCD, 0x18, 0xEB, 0xFE};

bool write_boot_sector(bool with_signature) {
    for (uint16_t i = 0; i < 512; ++i) sector[i] = i < sizeof(counting_sector) ? counting_sector[i] : 0;
    if (with_signature) {
        sector[510] = 0x55;
        sector[511] = 0xAA;
    }
    Registers r;
    r.eax = 0x0301;
    r.ebx = reinterpret_cast<uint32_t>(sector);
    r.ecx = 1;
    r.edx = 0x80;
    return !interrupt(0x13, r).carry();
}

void press(uint16_t key) {
    Registers r;
    r.eax = 0x0500;
    r.ecx = key;
    interrupt(0x16, r);
}

bool key_waits() {
    Registers r;
    r.eax = 0x0100;
    return !interrupt(0x16, r).zero();
}

// Does not come back.
void boot_by(uint8_t vector, uint8_t next_stage) {
    write_cmos(cmos_stage, next_stage);
    write_cmos(cmos_points, static_cast<uint8_t>(report().points));
    write_cmos(cmos_failed, static_cast<uint8_t>(report().failed));
    write_cmos(cmos_magic, magic);
    interrupt(vector, {});
}

void after_power_on() {
    check_equal(boot_drive, 0x00, "a disk without a signature is passed over, and DL has the floppy's number");
    check_equal(peek16(0, 0x7DFE), 0xAA55, "the boot sector is at 0000:7C00");
    poke16(0, marker, 0x1234);
    poke8(0, disk_starts, 0);
    poke16(0, 0x60 * 4, 0xBEEF);
    Registers r;
    r.eax = 0x0001;
    interrupt(0x10, r);
    boot_by(0x19, 1);
}

void after_int_19() {
    check(true, "INT 19h boots again");
    check_equal(boot_drive, 0x00, "from the floppy");
    check_equal(peek16(0, marker), 0x1234, "memory is left alone");
    check_equal(peek16(0, 0x60 * 4), 0xBEEF, "and so are the vectors");
    Registers r;
    r.eax = 0x0F00;
    check_equal(interrupt(0x10, r).al(), 0x01, "and the video mode");
    r.eax = 0x0003;
    interrupt(0x10, r);
    const uint16_t ticks = peek16(0x40, 0x6C);
    Deadline deadline(500);
    while (peek16(0x40, 0x6C) == ticks && !deadline.passed()) {
    }
    check(peek16(0x40, 0x6C) != ticks, "interrupts are on, and time goes on");
    check(write_boot_sector(true), "the disk gets a boot sector");
    boot_by(0x19, 2);
}

void after_int_18() {
    check_equal(peek8(0, disk_starts), 1, "now the disk is started: it is first in the order");
    check_equal(peek8(0, disk_drive), 0x80, "with its number in DL");
    check_equal(boot_drive, 0x00, "and its INT 18h goes on with the floppy");
    press(key_f12);
    press(key_2);
    boot_by(0x19, 3);
}

void after_menu() {
    check_equal(peek8(0, disk_starts), 1, "F12 opens the menu, whose second entry is the floppy");
    check(!key_waits(), "the menu has taken both keys");
    press(key_f12);
    press(key_enter);
    boot_by(0x19, 4);
}

void after_menu_enter() {
    check_equal(peek8(0, disk_starts), 2, "Enter takes the first entry");
    check(write_boot_sector(false), "the disk loses its signature");
    boot_by(0x19, 5);
}

void after_signature() {
    check_equal(peek8(0, disk_starts), 2, "and is passed over again");
    press(key_enter);
    boot_by(0x18, 6);
}

void after_last_int_18() {
    check(true, "INT 18h of the last device waits for a key and tries again");
    check(!key_waits(), "the key is taken");
}

}  // namespace

extern "C" void guest_main() {
    uint8_t stage = 0;
    if (read_cmos(cmos_magic) == magic) {
        stage = read_cmos(cmos_stage);
        continue_report({read_cmos(cmos_points), read_cmos(cmos_failed)});
    }
    switch (stage) {
        case 0: after_power_on(); break;
        case 1: after_int_19(); break;
        case 2: after_int_18(); break;
        case 3: after_menu(); break;
        case 4: after_menu_enter(); break;
        case 5: after_signature(); break;
        case 6: after_last_int_18(); finish();
    }
    check(false, "the boot did not come back");
    finish();
}
