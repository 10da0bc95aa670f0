// Feature bits of virtio disks.

#include "guest-tests/virtio_features.hpp"

namespace guest {
namespace {

constexpr uint8_t OK = 0, IOERR = 1, UNSUPP = 2;
constexpr uint32_t IN = 0, OUT = 1, FLUSH = 4, DISCARD = 11, WRITE_ZEROES = 13;
constexpr uint32_t flush_bit = 9, write_back_bit = 11, writeback_at = 32, sectors = 16 << 11;

// Field by field: what copies more at once has 16 bits for an address.
void put(Piece& piece, uint32_t address, uint32_t size, bool writes) {
    piece.address = address;
    piece.size = size;
    piece.writes = writes;
}

// A request with data of `count` pieces, which may be none; its status, or FFh when it does not come back.
uint8_t request(uint32_t type, uint32_t sector, const Piece* pieces, uint32_t count, bool indirect = false) {
    Piece* const all = many_pieces(pieces_at);
    words(header)[0] = type;
    words(header)[1] = 0;
    words(header)[2] = sector;
    words(header)[3] = 0;
    byte(status_byte) = 0xFF;
    put(all[0], header, 16, false);
    for (uint32_t i = 0; i < count; ++i) put(all[1 + i], pieces[i].address, pieces[i].size, pieces[i].writes);
    put(all[1 + count], status_byte, 1, true);
    run(all, count + 2, indirect);
    return byte(status_byte);
}
uint8_t read(uint32_t sector, uint32_t bytes) {
    const Piece piece{data, bytes, true};
    return request(IN, sector, &piece, 1);
}
uint8_t write(uint32_t sector, uint32_t bytes) {
    const Piece piece{data, bytes, false};
    return request(OUT, sector, &piece, 1);
}
// Discards or zeroes one sector.
uint8_t clear(uint32_t type, uint32_t sector, uint32_t flags) {
    words(data)[0] = sector;
    words(data)[1] = 0;
    words(data)[2] = 1;
    words(data)[3] = flags;
    const Piece piece{data, 16, false};
    return request(type, 0, &piece, 1);
}

void see_size_max(uint64_t) {
    const uint32_t most = device.configuration32(8);
    check_equal(most, 0x40000, "a piece may have 256 KiB");
    const Piece piece{large, most, true};
    words(large + most - 512)[0] = 0;
    check_equal(request(IN, 100, &piece, 1), OK, "which are read at once");
    check_equal(words(large)[0], 100, "the first sector is right");
    check_equal(words(large + most - 512)[0], 100 + most / 512 - 1, "and the last one");
}

void see_segments(uint64_t taken) {
    Piece* const pieces = many_pieces(pieces_at + 0x1000);
    const uint32_t most = device.configuration32(12);
    check_equal(most, 254, "a request may have 254 pieces");
    if (!start_with(taken | bit(indirect_bit)) || most > 254) return;
    for (uint32_t i = 0; i < most; ++i) put(pieces[i], large + 512 * (most - 1 - i), 512, true);
    check_equal(request(IN, 200, pieces, most, true), OK, "as many are read into");
    check_equal(words(large)[0], 200 + most - 1, "the last one is right");
    check_equal(words(large + 512 * (most - 1))[0], 200, "and the first one");
}

void see_geometry(uint64_t) {
    const uint32_t cylinders = device.configuration16(16), heads = device.configuration8(18),
                   per_track = device.configuration8(19);
    const uint32_t all = cylinders * heads * per_track;
    check(all > 0 && all <= sectors && sectors - all < heads * per_track, "the geometry has whole cylinders of it");
}

void see_block_size(uint64_t) {
    check_equal(device.configuration32(20), 512, "sectors have 512 bytes");
}

void see_read_only(uint64_t) {
    fill(data, 512, 0x5A);
    check_equal(write(300, 512), IOERR, "a write is refused");
    check(read(300, 512) == OK && words(data)[0] == 300, "and changes nothing");
    check_equal(clear(DISCARD, 300, 0), UNSUPP, "so is a discard");
    check_equal(clear(WRITE_ZEROES, 300, 0), UNSUPP, "and write zeroes");
    check(read(300, 512) == OK && words(data)[0] == 300, "which change nothing");
    bool empty = true;
    for (uint32_t at = 36; at < 60; at += 4) empty = empty && device.configuration32(at) == 0;
    check(empty, "what is said of them for other disks is not there");
}

void see_flush(uint64_t) {
    check_equal(request(FLUSH, 0, nullptr, 0), OK, "a flush is done");
}

void see_topology(uint64_t) {
    check_equal(device.configuration8(24), 3, "8 sectors are written at once");
    check_equal(device.configuration8(25), 0, "from the first one on");
    check_equal(device.configuration16(26), 1, "one block is least");
    check_equal(device.configuration32(28), 0, "and no size is best");
}

void see_write_back(uint64_t taken) {
    check_equal(device.configuration8(writeback_at), 0, "without flushes it begins without a cache");
    device.write_configuration8(writeback_at, 1);
    check_equal(device.configuration8(writeback_at), 1, "which is switched on");
    if (!start_with(taken | bit(flush_bit))) return;
    check_equal(device.configuration8(writeback_at), 1, "with flushes it begins with one");
    device.write_configuration8(writeback_at, 0);
    check_equal(device.configuration8(writeback_at), 0, "which is switched off");
    check(moves_data(), "and it works");
    if (!start_with(bit(flush_bit))) return;
    const uint8_t before = device.configuration8(writeback_at);
    device.write_configuration8(writeback_at, before ^ 1);
    check_equal(device.configuration8(writeback_at), before, "without the bit nothing is switched");
}

void see_queues(uint64_t taken) {
    const uint32_t count = device.configuration16(34);
    check_equal(count, 4, "it has four queues");
    for (uint32_t i = 1; i < count; ++i) {
        device.queue = static_cast<uint16_t>(i);
        check(start_with(taken) && moves_data(), "each of which moves data");
    }
    device.queue = 0;
}

// Three sectors of which the one in the middle is cleared: whether the others are as they were, and it is zero.
bool clears(uint32_t type, uint32_t flags) {
    fill(data, 1536, 0xA5);
    if (write(400, 1536) != OK || clear(type, 401, flags) != OK || read(400, 1536) != OK) return false;
    bool good = true;
    for (uint32_t i = 0; i < 512; ++i) {
        good = good && byte(data + i) == 0xA5 && byte(data + 512 + i) == 0 && byte(data + 1024 + i) == 0xA5;
    }
    return good;
}

void see_discard(uint64_t) {
    check_equal(device.configuration32(36), 1u << 22, "it discards 2 GiB at once");
    check_equal(device.configuration32(40), 64, "of 64 places");
    check_equal(device.configuration32(44), 8, "aligned to 8 sectors");
    check(clears(DISCARD, 0), "what is discarded is gone, and nothing else");
    check_equal(clear(DISCARD, 400, 1), UNSUPP, "unmap is no word of a discard");
    check_equal(clear(DISCARD, 400, 2), UNSUPP, "nor an unknown flag");
    check_equal(clear(DISCARD, sectors, 0), IOERR, "behind the end is nothing to discard");
    check(start_with(0), "it works without");
    check_equal(clear(DISCARD, 400, 0), UNSUPP, "and then does not know it");
}

void see_write_zeroes(uint64_t) {
    check_equal(device.configuration32(48), 1u << 16, "it zeroes 32 MiB at once");
    check_equal(device.configuration32(52), 1, "at one place");
    check_equal(device.configuration8(56), 1, "and may give the space back");
    check(clears(WRITE_ZEROES, 0) && clears(WRITE_ZEROES, 1), "what is zeroed reads as zeros, and nothing else");
    check_equal(clear(WRITE_ZEROES, 400, 2), UNSUPP, "an unknown flag is refused");
    check_equal(clear(WRITE_ZEROES, sectors, 0), IOERR, "behind the end is nothing to zero");
    check(start_with(0), "it works without");
    check_equal(clear(WRITE_ZEROES, 400, 0), UNSUPP, "and then does not know it");
}

// The header in two pieces, and the data in three.
void see_layout(uint64_t) {
    words(header)[0] = IN;
    words(header)[1] = 0;
    words(header)[2] = 55;
    words(header)[3] = 0;
    byte(status_byte) = 0xFF;
    const Piece pieces[] = {{header, 8, false}, {header + 8, 8, false}, {data, 100, true}, {data + 100, 413, true}};
    check_equal(run(pieces, 4, false), 513, "a request may be cut anywhere");
    check(words(data)[0] == 55 && byte(data + 512) == OK, "and is read as one");
}

constexpr Bit rows[] = {
    {disk, 1, 0, 0, "SIZE_MAX: its field, a piece as large", see_size_max},
    {disk, 2, 0, 0, "SEG_MAX: its field, a request of as many", see_segments},
    {disk, 4, 0, 0, "GEOMETRY: its fields against the size", see_geometry},
    {disk, 5, 0, 0, "RO: refuses every change", see_read_only},
    {disk, 6, 0, 0, "BLK_SIZE: its field", see_block_size},
    {disk, flush_bit, 0, 0, "FLUSH: a flush", see_flush},
    {disk, 10, 0, 0, "TOPOLOGY: its fields", see_topology},
    {disk, write_back_bit, 0, 0, "CONFIG_WCE: its field with FLUSH and without", see_write_back},
    {disk, 12, 0, 0, "MQ: its field, every queue", see_queues},
    {disk, 13, 0, 0, "DISCARD: its fields, sectors, flags", see_discard},
    {disk, 14, 0, 0, "WRITE_ZEROES: its fields, sectors, flags", see_write_zeroes},
    {disk, 27, 0, 0, "ANY_LAYOUT: pieces cut elsewhere", see_layout},
};

}  // namespace

Bits disk_bits() {
    return {rows, sizeof(rows) / sizeof(rows[0])};
}

}  // namespace guest
