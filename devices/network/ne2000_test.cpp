#include "devices/network/ne2000.hpp"

#include <array>

#include "devices/network/dp8390.hpp"
#include "devices/network/ethernet.hpp"
#include "devices/network/test_link_test.hpp"
#include "devices/pci/pci_rig_test.hpp"

using namespace viv;

namespace {

using Frame = std::vector<uint8_t>;
constexpr uint16_t base = 0x300;
constexpr uint8_t first_page = 0x46, last_page = 0x80;

/// An ISA card and a driver that works in words.
struct Card : TestBoard {
    Card() {
        services.provide(wire);
        make(make_isa_on_wire<Ne2000>, {{DeviceRange::Space::ports, base, 32}}, {5});
        isa.pins[5].connect(irq, 0);
    }
    void start() {
        out(base, 0x21);
        out(base + 14, 0x49);
        out(base + 12, 0x04);
        out(base + 13, 0);
        out(base + 1, first_page);
        out(base + 2, last_page);
        out(base + 3, first_page);
        out(base, 0x61);
        for (unsigned i = 0; i < 6; ++i) out(static_cast<uint16_t>(base + 1 + i), test_mac[i]);
        out(base + 7, first_page + 1);
        out(base, 0x22);
        out(base + 7, 0xFF);
        out(base + 15, 0x3F);
    }
    void remote(uint16_t address, size_t count, uint8_t command) {
        out(base + 8, static_cast<uint8_t>(address));
        out(base + 9, static_cast<uint8_t>(address >> 8));
        out(base + 10, static_cast<uint8_t>(count));
        out(base + 11, static_cast<uint8_t>(count >> 8));
        out(base, command);
    }
    Frame read_words(uint16_t address, size_t count) {
        remote(address, count, 0x0A);
        Frame bytes;
        while (bytes.size() < count) {
            const uint16_t word = in16(base + 16);
            bytes.push_back(static_cast<uint8_t>(word));
            bytes.push_back(static_cast<uint8_t>(word >> 8));
        }
        bytes.resize(count);
        return bytes;
    }
    void write_words(uint16_t address, const Frame& bytes) {
        remote(address, bytes.size(), 0x12);
        for (size_t i = 0; i < bytes.size(); i += 2)
            out16(base + 16, static_cast<uint16_t>(bytes[i] | bytes[i + 1] << 8));
    }
    uint8_t current() {
        out(base, 0x62);
        const uint8_t page = in(base + 7);
        out(base, 0x22);
        return page;
    }
    /// Takes the frame at `page`, with its checksum, and says where the next is.
    Frame take(uint8_t& page) {
        const Frame head = read_words(static_cast<uint16_t>(page << 8), 4);
        CHECK((head[0] & 1) == 1);
        const size_t count = head[2] | head[3] << 8;
        const Frame bytes = read_words(static_cast<uint16_t>((page << 8) + 4), count);
        page = head[1];
        out(base + 3, page == first_page ? last_page - 1 : static_cast<uint8_t>(page - 1));
        return bytes;
    }
    TestWire wire;
    Wire& irq = new_wire();
};

struct Started : Card {
    Started() { start(); }
};

Frame with_crc(Frame frame) {
    frame.resize(std::max(frame.size(), ethernet_least));
    const uint32_t crc = ethernet_crc(frame);
    for (unsigned i = 0; i < 4; ++i) frame.push_back(static_cast<uint8_t>(crc >> (8 * i)));
    return frame;
}

}  // namespace

TEST_CASE("An NE2000 keeps the device contract") {
    check_device_contract([] {
        auto board = std::make_unique<Card>();
        board->device->reset(ResetKind::power_on);
        return board;
    });
}

TEST_CASE("An RTL8029AS keeps the device contract") {
    struct PciCard : PciBoard {
        PciCard() {
            services.provide(wire);
            make_function(make_on_wire<Rtl8029>, 3);
        }
        TestWire wire;
    };
    check_device_contract([] {
        auto board = std::make_unique<PciCard>();
        board->device->reset(ResetKind::power_on);
        return board;
    });
    PciCard board;
    CHECK(board.config({0, 3, 0}, pci::VENDOR_ID) == 0x802910EC);
    board.set_config({0, 3, 0}, pci::BAR0, 4, 0xC000);
    board.set_config({0, 3, 0}, pci::COMMAND, 2, pci::IO_SPACE);
    CHECK(board.in(0xC00A) == 'P');
    CHECK(board.in(0xC00B) == 'C');
}

TEST_CASE("The PROM has each byte of the address twice, and a W for 16 bits") {
    Card board;
    CHECK((board.in(base + 7) & 0x80) != 0);
    board.out(base + 14, 0x48);  // bytes
    board.remote(0, 32, 0x0A);
    Frame prom;
    for (int i = 0; i < 32; ++i) prom.push_back(board.in(base + 16));
    for (unsigned i = 0; i < 12; ++i) CHECK(prom[i] == test_mac[i / 2]);
    CHECK(prom[28] == 'W');
    CHECK(prom[31] == 'W');
    CHECK((board.in(base + 7) & 0x40) != 0);
    CHECK(board.in(base + 16) == 0xFF);
    CHECK(board.in(base + 10) == 0xFF);
    // The reset port.
    board.out(base, 0x22);
    CHECK(board.in(base + 7) == 0x40);
    board.in(base + 31);
    CHECK(board.in(base) == 0x21);
    CHECK(board.in(base + 7) == 0x80);
}

TEST_CASE("What is written by remote DMA is read by it, in words and double words") {
    Started board;
    const Frame bytes = test_frame(300);
    board.write_words(0x4000, bytes);
    CHECK(board.read_words(0x4000, 300) == bytes);
    board.remote(0x4000, 8, 0x0A);
    CHECK(board.ports.read(base + 16, 4) ==
          (uint32_t{bytes[3]} << 24 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[1]} << 8 | bytes[0]));
    // Behind the memory there is nothing.
    board.write_words(0x8000, bytes);
    CHECK(board.read_words(0x8000, 2) == Frame{0xFF, 0xFF});
    // The end of the ring is followed by its start.
    board.write_words(0x7FFE, {1, 2, 3, 4});
    CHECK(board.read_words(first_page << 8, 2) == Frame{3, 4});
    // A count of nothing is at its end.
    board.out(base + 7, 0x40);
    board.remote(0x4000, 0, 0x0A);
    CHECK((board.in(base + 7) & 0x40) != 0);
}

TEST_CASE("A frame goes out from a page, and that is told") {
    Started board;
    const Frame frame = test_frame(100);
    board.write_words(0x4000, frame);
    board.out(base + 7, 0xFF);
    board.out(base + 4, 0x40);
    board.out(base + 5, 100);
    board.out(base + 6, 0);
    board.out(base, 0x26);
    REQUIRE(board.wire.sent.size() == 1);
    CHECK(board.wire.sent[0] == frame);
    CHECK(board.in(base) == 0x22);
    CHECK(board.in(base + 4) == 0x01);
    CHECK(board.irq.level);
    board.out(base + 7, 0x02);
    CHECK(!board.irq.level);
}

TEST_CASE("Frames come into the ring, round its end, and wait while it is full") {
    Started board;
    uint8_t page = first_page + 1;
    board.wire.deliver(test_frame(30));
    CHECK(board.irq.level);
    CHECK(board.in(base + 7) == 0x01);
    Frame short_frame = test_frame(30);
    CHECK(board.take(page) == with_crc(short_frame));
    CHECK(page == first_page + 2);
    // Nine frames of six pages fit into 58.
    for (int i = 0; i < 12; ++i) board.wire.deliver(test_frame(static_cast<size_t>(1400 + i)));
    CHECK(board.wire.waiting.size() == 3);
    for (int i = 0; i < 12; ++i) CHECK(board.take(page) == with_crc(test_frame(static_cast<size_t>(1400 + i))));
    CHECK(board.wire.waiting.empty());
    CHECK(page == board.current());
}

TEST_CASE("A driver that leaves frames in the ring is told again by PRX, though not at once") {
    using namespace std::chrono_literals;
    Started board;
    uint8_t page = first_page + 1;
    for (unsigned i = 0; i < 3; ++i) board.wire.deliver(test_frame(100 + i));
    for (unsigned i = 0; i < 2; ++i) {
        CHECK(board.take(page) == with_crc(test_frame(100 + i)));
        board.out(base + 7, 0xFF);
        CHECK(board.in(base + 7) == 0);
        board.clock.advance(1ms);
        CHECK(board.in(base + 7) == 0x01);
        CHECK(board.irq.level);
    }
    // One that reads them all is not.
    board.out(base + 7, 0xFF);
    CHECK(board.take(page) == with_crc(test_frame(102)));
    board.out(base + 7, 0xFF);
    board.clock.advance(10ms);
    CHECK(board.in(base + 7) == 0);
    CHECK(!board.irq.level);
}

TEST_CASE("A boundary just before the ring is its last page: what was not read there stays") {
    Started board;
    // Frames of six pages: the tenth ends one page behind the ring's first, and is taken after nine are.
    for (int i = 0; i < 9; ++i) board.wire.deliver(test_frame(static_cast<size_t>(1400 + i)));
    uint8_t page = first_page + 1;
    for (int i = 0; i < 9; ++i) CHECK(board.take(page) == with_crc(test_frame(static_cast<size_t>(1400 + i))));
    REQUIRE(page == board.current());
    // Up to the ring's end by small frames, which are read as well.
    while (page != first_page) {
        board.wire.deliver(test_frame(60));
        CHECK(board.take(page) == with_crc(test_frame(60)));
    }
    board.out(base + 3, first_page - 1);
    for (int i = 0; i < 12; ++i) board.wire.deliver(test_frame(static_cast<size_t>(1400 + i)));
    CHECK(board.wire.waiting.size() == 3);
    for (int i = 0; i < 12; ++i) CHECK(board.take(page) == with_crc(test_frame(static_cast<size_t>(1400 + i))));
    CHECK(board.wire.waiting.empty());
    CHECK(page == board.current());
}

TEST_CASE("A driver that writes neither start nor stop only changes the page") {
    Started card;
    card.out(base, 0x40);
    CHECK(card.in(base + 7) == first_page + 1);
    card.out(base, 0x00);
    card.wire.deliver(Frame(64, 0xFF));
    CHECK((card.in(base + 12) & 1) == 1);
    CHECK(card.current() == first_page + 2);
    // One that is stopped stays so, and tells it.
    card.out(base, 0x21);
    card.out(base, 0x00);
    card.wire.deliver(Frame(64, 0xFF));
    CHECK((card.in(base)&3) == 1);
    CHECK(card.current() == first_page + 2);
}

TEST_CASE("The filters are the address, broadcasts, and 64 groups") {
    Started board;
    const MacAddress other{0x52, 0x54, 0, 1, 2, 3}, group{0x01, 0x00, 0x5E, 0x01, 0x02, 0x03},
        all{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    const auto receives = [&board](const MacAddress& to, uint8_t control) {
        board.out(base + 12, control);
        const uint8_t before = board.current();
        board.wire.deliver(test_frame(60, to));
        CHECK(board.wire.waiting.empty());
        board.out(base + 3, board.current());
        return board.current() != before;
    };
    CHECK(receives(test_mac, 0));
    CHECK(!receives(other, 0x0C));
    CHECK(receives(other, 0x10));
    CHECK(!receives(all, 0));
    CHECK(receives(all, 0x04));
    CHECK(!receives(group, 0x08));
    const uint32_t index = multicast_hash(group) >> 26;
    board.out(base, 0x62);
    board.out(static_cast<uint16_t>(base + 8 + index / 8), static_cast<uint8_t>(1u << (index % 8)));
    board.out(base, 0x22);
    CHECK(receives(group, 0x08));
    CHECK(!receives(group, 0x00));
    CHECK(!receives(test_mac, 0x20));
    CHECK(board.in(base + 15) == 1);
}

TEST_CASE("The index of a group is the upper bits of its CRC") {
    // Worked out bit by bit as the standard has it, the lowest bit of a byte first.
    CHECK(multicast_hash(std::array<uint8_t, 6>{0x01, 0x00, 0x5E, 0x00, 0x00, 0x01}) >> 26 == 31);
    CHECK(ethernet_crc(Frame{'1', '2', '3', '4', '5', '6', '7', '8', '9'}) == 0xCBF43926);
}

TEST_CASE("A ring that cannot be loses frames, and holds nobody up") {
    Started board;
    board.out(base, 0x21);
    board.out(base + 1, 0x80);
    board.out(base + 2, 0x10);
    board.out(base, 0x22);
    board.wire.deliver(test_frame(60));
    CHECK(board.wire.waiting.empty());
    CHECK((board.in(base + 7) & 1) == 0);
    board.out(base + 1, 0);
    board.out(base + 2, 0xFF);
    board.out(base + 3, 0xFE);
    for (int i = 0; i < 300; ++i) board.wire.deliver(test_frame(1514));
    CHECK(board.wire.waiting.size() > 200);
    board.out(base, 0x21);
    board.out(base + 5, 0xFF);
    board.out(base + 6, 0xFF);
    board.out(base, 0x26);
    CHECK(board.wire.sent.size() == 1);
}
