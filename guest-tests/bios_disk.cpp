// INT 13h in full: transfers over heads, cylinders and 64 KiB, verifying, formatting, and the functions from 41h up.
// The runner gives a disk whose sectors begin with their number.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t far_segment = 0x4000;

struct __attribute__((packed)) Packet {
    uint8_t size = 16, reserved = 0;
    uint16_t count = 1;
    uint16_t offset = 0, segment = far_segment;
    uint32_t lba = 0, lba_high = 0;
    uint32_t flat = 0, flat_high = 0;
};
uint8_t answer[64];

// The buffer is at 4000:offset.
Registers disk(uint16_t ax, uint16_t cx, uint16_t dx, uint16_t offset = 0, uint16_t segment = far_segment) {
    Registers r;
    r.eax = ax;
    r.ebx = offset;
    r.ecx = cx;
    r.edx = dx;
    r.es = segment;
    return interrupt(0x13, r);
}

Registers extended(uint16_t ax, Packet& packet, uint8_t drive = 0x80) {
    Registers r;
    r.eax = ax;
    r.edx = drive;
    r.esi = reinterpret_cast<uint32_t>(&packet);
    return interrupt(0x13, r);
}

uint32_t number_at(uint16_t segment, uint16_t offset) {
    return peek16(segment, offset) | uint32_t{peek16(segment, static_cast<uint16_t>(offset + 2))} << 16;
}

void fill(uint16_t bytes, uint8_t seed) {
    for (uint16_t i = 0; i < bytes; ++i) poke8(far_segment, i, static_cast<uint8_t>(i * 5 + seed));
}

bool holds(uint16_t bytes, uint8_t seed) {
    for (uint16_t i = 0; i < bytes; ++i) {
        if (peek8(far_segment, i) != static_cast<uint8_t>(i * 5 + seed)) return false;
    }
    return true;
}

void clear(uint16_t bytes) {
    for (uint16_t i = 0; i < bytes; ++i) poke8(far_segment, i, 0);
}

void test_hard_disk_chs() {
    Registers r = disk(0x0800, 0, 0x80);
    const uint32_t sectors = r.cx() & 0x3F, heads = (r.dx() >> 8) + 1u;
    const uint32_t cylinders = (r.cx() >> 8 | (r.cx() & 0xC0) << 2) + 1u;
    check_between(cylinders * heads * sectors, 16 * 2048 - heads * sectors, 16 * 2048,
                  "the geometry holds the disk but for part of a cylinder");
    r = disk(0x0204, static_cast<uint16_t>(sectors), 0x0080);
    check(!r.carry() && r.al() == 4, "a read may go on behind the last sector of a track");
    check_equal(number_at(far_segment, 512), sectors, "on the next head");
    r = disk(0x0202, static_cast<uint16_t>(sectors), static_cast<uint16_t>((heads - 1) << 8 | 0x80));
    check(!r.carry() && number_at(far_segment, 512) == heads * sectors, "and on the next cylinder");
    r = disk(0x0202, 0x0005, 0x0080, 0xFF00, 0x5000);
    check(!r.carry() && number_at(0x5000, 0xFF00) == 4 && number_at(0x6000, 0x0100) == 5, "a buffer may cross 64 KiB");
    r = disk(0x0280, 0x0001, 0x0080);
    check(!r.carry() && r.al() == 128 && number_at(far_segment, 127 * 512) == 127, "128 sectors are one call");
    check_equal(disk(0x0200, 0x0001, 0x0080).ah(), 0x01, "0 sectors are refused");
    check_equal(disk(0x0201, 0x0000, 0x0080).ah(), 0x04, "sector 0 too");
    check_equal(disk(0x0201, 0x0001, static_cast<uint16_t>(heads << 8 | 0x80)).ah(), heads < 256 ? 0x04 : 0x00,
                "and a head that is not there");
    check_equal(disk(0x0100, 0, 0x80).al(), heads < 256 ? 0x04 : 0x00, "INT 13h/01 remembers it");
    check_equal(peek8(0x40, 0x74), heads < 256 ? 0x04 : 0x00, "as does 40:74");
    fill(1536, 7);
    r = disk(0x0303, static_cast<uint16_t>(0x0200 | (sectors - 1)), 0x0080);
    check(!r.carry() && r.al() == 3, "INT 13h/03 writes over the end of a track");
    clear(1536);
    disk(0x0203, static_cast<uint16_t>(0x0200 | (sectors - 1)), 0x0080);
    check(holds(1536, 7), "and the sectors read back");
    check(!disk(0x0480, 0x0001, 0x0080).carry(), "INT 13h/04 verifies");
    check(disk(0x0401, 0x003F, static_cast<uint16_t>(0xFF80)).carry(), "not what is not there");
    bool succeed = true;
    constexpr uint16_t functions[] = {0x0000, 0x0900, 0x0C00, 0x0D00, 0x1000, 0x1100, 0x1400};
    for (uint16_t function : functions) {
        r = disk(function, 0x0001, 0x0080);
        succeed = succeed && !r.carry() && r.ah() == 0;
    }
    check(succeed, "reset, initialise, seek, ready, recalibrate and diagnose succeed");
    r = disk(0x1500, 0, 0x80);
    check(r.ah() == 3 && (uint32_t{r.cx()} << 16 | r.dx()) == cylinders * heads * sectors,
          "INT 13h/15 counts the sectors");
    check_equal(disk(0x0201, 0x0001, 0x0081).ah(), 0x01, "a second disk is not there");
    check_equal(disk(0x1500, 0, 0x81).ah(), 0x00, "INT 13h/15 says so");
    check_equal(disk(0x0800, 0, 0x81).ah(), 0x07, "and INT 13h/08");
    check_equal(disk(0x1600, 0, 0x80).ah(), 0x01, "a disk has no change line");
}

void test_hard_disk_extensions() {
    Packet packet;
    packet.lba = 1000;
    packet.count = 127;
    Registers r = extended(0x4200, packet);
    check(!r.carry() && number_at(far_segment, 126 * 512) == 1126, "INT 13h/42 reads 127 sectors");
    check_equal(packet.count, 127, "and says how many");
    packet = {};
    packet.size = 24;
    packet.offset = packet.segment = 0xFFFF;
    packet.flat = 0x50010;
    packet.lba = 77;
    check(!extended(0x4200, packet).carry() && number_at(0x5001, 0) == 77, "a flat address serves too");
    packet = {};
    packet.lba = 20'000;
    packet.count = 2;
    fill(1024, 99);
    check(!extended(0x4300, packet).carry(), "INT 13h/43 writes");
    clear(1024);
    extended(0x4200, packet);
    check(holds(1024, 99), "what INT 13h/42 reads back");
    packet.count = 2;
    check(!extended(0x4400, packet).carry(), "INT 13h/44 verifies");
    check(!extended(0x4700, packet).carry(), "INT 13h/47 seeks");
    packet.lba = 16 * 2048 - 1;
    r = extended(0x4200, packet);
    check(r.ah() == 0x04 && packet.count == 0, "a read over the end moves nothing");
    packet.count = 1;
    check(!extended(0x4200, packet).carry(), "the last sector is there");
    packet.lba_high = 1;
    packet.count = 1;
    check_equal(extended(0x4200, packet).ah(), 0x04, "the upper half of the number counts");
    check(extended(0x4700, packet).carry(), "for seeks too");
    packet.size = 8;
    check_equal(extended(0x4200, packet).ah(), 0x01, "a packet that is too small is refused");
    r = disk(0x4100, 0, 0x80, 0x1234);
    check(r.carry(), "INT 13h/41 wants 55AAh");
    r = disk(0x4100, 0, 0x80, 0x55AA);
    check(!r.carry() && r.bx() == 0xAA55 && r.ah() == 0x30 && (r.cx() & 5) == 5, "and tells of EDD 3.0");
    check(disk(0x4100, 0, 0x00, 0x55AA).carry(), "a floppy has none of it");
    answer[0] = 0x1A;
    answer[0x1A] = 0xCC;
    r = {};
    r.eax = 0x4800;
    r.edx = 0x80;
    r.esi = reinterpret_cast<uint32_t>(answer);
    r = interrupt(0x13, r);
    check(!r.carry() && answer[0] == 0x1A && answer[0x1A] == 0xCC, "INT 13h/48 fills no more than there is room");
    answer[0] = 0x10;
    r.eax = 0x4800;
    r.edx = 0x80;
    check_equal(interrupt(0x13, r).ah(), 0x01, "and refuses too little");
    check(!disk(0x4500, 0, 0x80).carry(), "INT 13h/45: a fixed disk may be locked");
    check(disk(0x4600, 0, 0x80).carry(), "INT 13h/46: but not ejected");
    check(!disk(0x4900, 0, 0x80).carry(), "INT 13h/49: nor does it change");
    check(!disk(0x4E00, 0, 0x80).carry(), "INT 13h/4E: prefetch may be asked for");
    check(disk(0x4E09, 0, 0x80).carry(), "but nothing unknown");
    check_equal(disk(0x4B01, 0, 0x7F).ah(), 0x01, "INT 13h/4B: no CD was booted");
}

void test_floppy() {
    fill(4096, 3);
    Registers r = disk(0x0308, 0x4F0F, 0x0000);
    check(!r.carry() && r.al() == 8, "a floppy write goes on over the last sector to head 1");
    clear(4096);
    disk(0x0204, 0x4F0F, 0x0000);
    disk(0x0204, 0x4F01, 0x0100, 2048);
    check(holds(4096, 3), "where the rest reads back");
    r = disk(0x0202, 0x4F12, 0x0100);
    check(r.carry(), "behind the last sector of the floppy is nothing");
    check(!disk(0x0412, 0x0001, 0x0000).carry(), "INT 13h/04 verifies a track");
    r = disk(0x1800, 0x4F12, 0x0000);
    check(!r.carry() && peek8(r.es, static_cast<uint16_t>(r.edi + 4)) == 18,
          "INT 13h/18 accepts 80 tracks of 18 sectors");
    check_equal(disk(0x1800, 0x2709, 0x0000).ah(), 0x0C, "and no other format of this medium");
    check(!disk(0x1704, 0, 0x0000).carry(), "INT 13h/17 accepts a 1.44 MB drive");
    for (uint16_t i = 0; i < 18; ++i) {
        const auto at = static_cast<uint16_t>(i * 4);
        poke16(far_segment, at, 0x014E);
        poke16(far_segment, static_cast<uint16_t>(at + 2), static_cast<uint16_t>(0x0200 | (i + 1)));
    }
    check(!disk(0x0512, 0x4E01, 0x0100).carry(), "INT 13h/05 formats a track");
    disk(0x0212, 0x4E01, 0x0100);
    check(peek16(far_segment, 0) == 0xF6F6 && peek16(far_segment, 18 * 512 - 2) == 0xF6F6,
          "with the filler in all of it");
    disk(0x0201, 0x4F0F, 0x0000);
    check(holds(512, 3), "and in no other");
    check_equal(disk(0x1600, 0, 0x0000).ah(), 0x00, "INT 13h/16: the medium has not changed");
    check_equal(disk(0x0100, 0, 0x0000).ah(), peek8(0x40, 0x41), "INT 13h/01 gives 40:41");
    check_equal(disk(0x1500, 0, 0x0002).ah(), 0x00, "a third drive is not there");
    check(!disk(0x0000, 0, 0x0002).carry(), "its controller may be reset all the same");
}

}  // namespace

extern "C" void guest_main() {
    test_hard_disk_chs();
    test_hard_disk_extensions();
    test_floppy();
    finish();
}
