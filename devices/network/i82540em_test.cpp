#include "devices/network/i82540em.hpp"

#include <array>
#include <cstring>

#include "devices/network/ethernet.hpp"
#include "devices/network/ip_frame_test.hpp"
#include "devices/network/test_link_test.hpp"
#include "devices/pci/pci_rig_test.hpp"

using namespace viv;
using namespace viv::i82540em;

namespace {

using Frame = std::vector<uint8_t>;

/// A card, 1 MiB of RAM, and a driver with rings of eight descriptors.
class Card : public PciBoard {
  public:
    static constexpr uint64_t base = 0xE0000000, receive_ring = 0x10000, transmit_ring = 0x20000, buffers = 0x40000,
                              data = 0x80000;
    static constexpr uint32_t entries = 8;
    static constexpr PciAddress at{0, 3, 0};

    Card() {
        services.provide(wire);
        if (!memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        make_function(make_on_wire<I82540em>, at.device);
        // The contract tests do without the rest.
    }
    /// What a driver does: BARs, rings, filters.
    void start() {
        set_config(at, pci::BAR0, 4, static_cast<uint32_t>(base));
        set_config(at, pci::BAR0 + 4, 4, 0xC000);
        set_config(at, pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER);
        for (uint32_t i = 0; i < entries; ++i) {
            memory.store(Gpa{receive_ring + 16 * i}, uint64_t{buffers + 0x800 * i});
            memory.store(Gpa{receive_ring + 16 * i + 8}, uint64_t{0});
        }
        set(RDBAL, receive_ring);
        set(RDLEN, 16 * entries);
        set(RDT, entries - 1);
        set(RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
        set(TDBAL, transmit_ring);
        set(TDLEN, 16 * entries);
        set(TCTL, TCTL_EN);
        set(IMS, ICR_RXT0 | ICR_TXDW | ICR_LSC);
        reg(ICR);
    }
    uint32_t reg(uint32_t offset) { return static_cast<uint32_t>(memory_bus.read(base + offset, 4)); }
    void set(uint32_t offset, uint64_t value) { memory_bus.write(base + offset, 4, value); }
    [[nodiscard]] bool interrupt() { return bus().find(at) && (config(at, pci::STATUS, 2) & 0x08); }

    void put_descriptor(uint64_t low, uint32_t word2, uint32_t word3) {
        const Gpa place{transmit_ring + 16 * tail};
        memory.store(place, low);
        memory.store(place + 8, word2);
        memory.store(place + 12, word3);
        tail = (tail + 1) % entries;
    }
    void put_bytes(uint64_t address, const Frame& bytes) {
        memory.write(Gpa{address}, std::as_bytes(std::span(bytes)));
    }
    /// Sends a frame by one legacy descriptor.
    void send(const Frame& frame, uint8_t command = TX_EOP | TX_RS, uint32_t word3 = 0, uint8_t checksum_offset = 0) {
        put_bytes(data, frame);
        put_descriptor(data,
                       static_cast<uint32_t>(frame.size()) | uint32_t{checksum_offset} << 16 | uint32_t{command} << 24,
                       word3);
        set(TDT, tail);
    }
    struct Received {
        Frame bytes;
        uint8_t status = 0;
        uint8_t errors = 0;
        uint16_t tag = 0;
        uint16_t sum = 0;
    };
    /// The next packet from the ring.
    Received take() {
        Received got;
        do {
            const Gpa place{receive_ring + 16 * next};
            const auto word2 = memory.load<uint32_t>(place + 8), word3 = memory.load<uint32_t>(place + 12);
            got.status = static_cast<uint8_t>(word3);
            got.errors = static_cast<uint8_t>(word3 >> 8);
            got.tag = static_cast<uint16_t>(word3 >> 16);
            got.sum = static_cast<uint16_t>(word2 >> 16);
            if (!(got.status & RX_DD)) return got;
            Frame piece(word2 & 0xFFFF);
            memory.read(Gpa{memory.load<uint64_t>(place)}, std::as_writable_bytes(std::span(piece)));
            got.bytes.insert(got.bytes.end(), piece.begin(), piece.end());
            memory.store(place + 8, uint64_t{0});
            set(RDT, next);
            next = (next + 1) % entries;
        } while (!(got.status & RX_EOP));
        return got;
    }
    [[nodiscard]] bool receives(const Frame& frame) {
        wire.deliver(frame);
        CHECK(wire.waiting.empty());
        return (take().status & RX_DD) != 0;
    }
    uint16_t phy(uint32_t number) {
        set(MDIC, MDIC_OP_READ | 1u << 21 | number << 16);
        return static_cast<uint16_t>(reg(MDIC));
    }

    TestWire wire;
    uint32_t tail = 0;
    uint32_t next = 0;
};

struct Started : Card {
    Started() { start(); }
};

}  // namespace

TEST_CASE("An 82540EM keeps the device contract") {
    check_device_contract([] {
        auto board = std::make_unique<Card>();
        board->device->reset(ResetKind::power_on);
        return board;
    });
}

TEST_CASE("The EEPROM is read by its lines and by EERD, and its checksum is right") {
    Started board;
    CHECK(board.reg(EECD) == (EECD_PRES | EECD_DO));
    const auto read = [&board](uint32_t word) {
        const auto clock = [&board](uint32_t lines) {
            board.set(EECD, lines);
            board.set(EECD, lines | EECD_SK);
            const bool out = board.reg(EECD) & EECD_DO;
            board.set(EECD, lines);
            return out;
        };
        board.set(EECD, EECD_REQ);
        REQUIRE((board.reg(EECD) & EECD_GNT) != 0);
        board.set(EECD, EECD_REQ | EECD_CS);
        for (int bit = 8; bit >= 0; --bit) clock(EECD_REQ | EECD_CS | ((6u << 6 | word) >> bit & 1 ? EECD_DI : 0));
        uint32_t value = 0;
        for (int bit = 0; bit < 16; ++bit) value = value << 1 | clock(EECD_REQ | EECD_CS);
        board.set(EECD, 0);
        return value;
    };
    uint32_t sum = 0;
    for (uint32_t word = 0; word < 64; ++word) {
        const uint32_t value = read(word);
        sum += value;
        board.set(EERD, EERD_START | word << 8);
        CHECK(board.reg(EERD) == (EERD_DONE | word << 8 | value << 16));
    }
    CHECK((sum & 0xFFFF) == 0xBABA);
    CHECK(read(0) == 0x5452);
    CHECK(read(2) == 0xC3B2);
    CHECK(board.reg(RAL) == 0xA1005452);
    CHECK(board.reg(RAL + 4) == (RAH_AV | 0xC3B2));
}

TEST_CASE("The PHY says what the cable is") {
    Started board;
    CHECK(board.phy(PHY_ID1) == 0x0141);
    CHECK((board.phy(PHY_STATUS) & 0x24) == 0x24);
    CHECK((board.reg(STATUS) & STATUS_LU) != 0);
    board.wire.plug(false);
    CHECK(board.interrupt());
    CHECK(board.reg(ICR) == ICR_LSC);
    CHECK(!board.interrupt());
    CHECK((board.phy(PHY_STATUS) & 0x24) == 0);
    CHECK((board.reg(STATUS) & STATUS_LU) == 0);
    board.set(MDIC, MDIC_OP_READ | 2u << 21);
    CHECK((board.reg(MDIC) & (MDIC_R | MDIC_E)) == (MDIC_R | MDIC_E));
    board.set(MDIC, MDIC_OP_WRITE | MDIC_I | 1u << 21 | PHY_ADVERTISEMENT << 16 | 0x1234);
    CHECK(board.reg(ICR) == ICR_MDAC);
    CHECK(board.phy(PHY_ADVERTISEMENT) == 0x1234);
}

TEST_CASE("Frames go out by one legacy descriptor or several, and say when they are done") {
    Started board;
    const Frame frame = test_frame(100);
    board.send(frame);
    REQUIRE(board.wire.sent.size() == 1);
    CHECK(board.wire.sent[0] == frame);
    CHECK(board.memory.load<uint32_t>(Gpa{Card::transmit_ring + 12}) == TX_DD);
    CHECK(board.interrupt());
    CHECK(board.reg(ICR) == (ICR_TXDW | ICR_TXQE));
    CHECK(!board.interrupt());
    board.put_descriptor(Card::data, 40, 0);
    board.put_descriptor(Card::data + 40, 60 | uint32_t{TX_EOP} << 24, 0);
    board.set(TDT, board.tail);
    REQUIRE(board.wire.sent.size() == 2);
    CHECK(board.wire.sent[1] == frame);
    CHECK(board.reg(TDH) == 3);
    CHECK(board.reg(STATISTICS + 4 * GPTC) == 2);
    CHECK(board.reg(STATISTICS + 4 * GPTC) == 0);
}

TEST_CASE("A legacy descriptor asks for a checksum and for a tag") {
    Started board;
    Frame frame = ip_frame(17, 50);
    const Frame right = frame;
    // The driver leaves the pseudo header's sum where the checksum goes.
    const std::span<const uint8_t> ip = std::span(frame).subspan(14);
    store_big16(frame, 40, internet_sum(ip.subspan(12, 8), 17 + 58));
    board.send(frame, TX_EOP | TX_IC, 34u << 8, 40);
    REQUIRE(board.wire.sent.size() == 1);
    CHECK(board.wire.sent[0] == right);
    board.set(CTRL, board.reg(CTRL) | CTRL_VME);
    board.send(right, TX_EOP | TX_VLE, 0x2005u << 16);
    REQUIRE(board.wire.sent.size() == 2);
    Frame tagged = right;
    const std::array<uint8_t, 4> tag{0x81, 0x00, 0x20, 0x05};
    tagged.insert(tagged.begin() + 12, tag.begin(), tag.end());
    CHECK(board.wire.sent[1] == tagged);
}

TEST_CASE("TCP is cut into segments that have their own headers") {
    Started board;
    constexpr size_t piece = 1000, payload = 2500, header = 54;
    Frame frame = ip_frame(6, payload);
    store_big16(frame, 16, 0);
    store_big16(frame, 24, 0);
    store_big16(frame, 50, internet_sum(std::span(frame).subspan(26, 8), 6));
    board.put_bytes(Card::data, frame);
    board.put_descriptor(14 | 24u << 8 | 33u << 16 | uint64_t{34 | 50u << 8} << 32,
                         static_cast<uint32_t>(payload) | uint32_t{TX_DEXT | TX_TSE | TUCMD_TCP | TUCMD_IP} << 24,
                         header << 8 | static_cast<uint32_t>(piece) << 16);
    const uint32_t data_type = 1u << 20, options = uint32_t{POPTS_IXSM | POPTS_TXSM} << 8;
    board.put_descriptor(Card::data, 1500 | data_type | uint32_t{TX_DEXT | TX_TSE} << 24, options);
    board.put_descriptor(
        Card::data + 1500,
        static_cast<uint32_t>(frame.size() - 1500) | data_type | uint32_t{TX_DEXT | TX_TSE | TX_EOP | TX_RS} << 24,
        options);
    board.set(TDT, board.tail);
    REQUIRE(board.wire.sent.size() == 3);
    size_t done = 0;
    for (size_t i = 0; i < 3; ++i) {
        const Frame& sent = board.wire.sent[i];
        const size_t part = std::min(piece, payload - done);
        CHECK(sent.size() == header + part);
        const auto ip = std::span<const uint8_t>(sent).subspan(14);
        CHECK(load_big16(ip, 2) == ip.size());
        CHECK(load_big16(ip, 4) == 0x1000 + i);
        CHECK(load_big32(ip, 24) == 0x01020304 + done);
        CHECK(ip[33] == (i == 2 ? 0x19 : 0x10));
        CHECK(sums_are_right(sent));
        CHECK(
            std::equal(sent.begin() + header, sent.end(), frame.begin() + static_cast<std::ptrdiff_t>(header + done)));
        done += part;
    }
}

TEST_CASE("Segments that cannot be, and packets that are too long, are dropped") {
    Started board;
    for (const uint32_t word3 : {0u, 20u << 8 | 100u << 16, 54u << 8}) {
        board.put_descriptor(14 | 24u << 8 | uint64_t{34 | 50u << 8} << 32,
                             uint32_t{TX_DEXT | TX_TSE | TUCMD_TCP | TUCMD_IP} << 24, word3);
        board.put_descriptor(Card::data, 200 | 1u << 20 | uint32_t{TX_DEXT | TX_TSE | TX_EOP} << 24, 0x300);
        board.set(TDT, board.tail);
    }
    CHECK(board.wire.sent.empty());
    board.put_descriptor(0, 0xFFFFF | 1u << 20 | uint32_t{TX_DEXT} << 24, 0);
    board.put_descriptor(0, 100 | 1u << 20 | uint32_t{TX_DEXT | TX_EOP} << 24, 0);
    board.set(TDT, board.tail);
    CHECK(board.wire.sent.empty());
    board.send(test_frame(60));
    CHECK(board.wire.sent.size() == 1);
}

TEST_CASE(
    "A packet of the 82540EM becomes so many segments at most, and those of one access are as many as its frames") {
    Started board;
    const auto send = [&board](uint32_t segments, unsigned times) {
        for (unsigned i = 0; i < times; ++i) {
            board.put_descriptor(14 | 24u << 8 | uint64_t{34 | 50u << 8} << 32,
                                 uint32_t{TX_DEXT | TX_TSE | TUCMD_TCP | TUCMD_IP} << 24, 54u << 8 | 2u << 16);
            board.put_descriptor(Card::data, (54 + 2 * segments) | 1u << 20 | uint32_t{TX_DEXT | TX_TSE | TX_EOP} << 24,
                                 0);
        }
        board.wire.sent.clear();
        board.set(TDT, board.tail);
    };
    send(I82540em::most_segments + 1, 1);
    CHECK(board.wire.sent.empty());
    send(I82540em::most_segments, 3);
    CHECK(board.wire.sent.size() == I82540em::descriptors_at_once);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.wire.sent.size() == 3 * I82540em::most_segments);
}

TEST_CASE("A tail that is not in the ring, and a ring without end, hold nobody up") {
    Started board;
    board.set(TDT, 9);
    CHECK(board.reg(TDH) == 0);
    // 32768 descriptors that are all the same frame of zeros.
    board.set(TDLEN, 0x80000);
    board.set(TDBAL, 0x100000);
    board.set(TDT, 0x7FFF);
    CHECK(board.reg(TDH) == I82540em::descriptors_at_once);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.reg(TDH) == 0x7FFF);
}

TEST_CASE("Frames come into descriptors, padded, and with their checksum when it is wanted") {
    Started board;
    board.wire.deliver(test_frame(30));
    CHECK(board.interrupt());
    CHECK((board.reg(ICR) & ICR_RXT0) != 0);
    Frame padded = test_frame(30);
    padded.resize(60);
    auto got = board.take();
    CHECK(got.bytes == padded);
    CHECK(got.status == (RX_DD | RX_EOP | RX_IXSM));
    board.set(RCTL, RCTL_EN | RCTL_BAM | 3u << 16);  // buffers of 256 bytes
    const Frame frame = test_frame(600);
    board.wire.deliver(frame);
    got = board.take();
    REQUIRE(got.bytes.size() == 604);
    CHECK(std::equal(frame.begin(), frame.end(), got.bytes.begin()));
    uint32_t crc = 0;
    std::memcpy(&crc, &got.bytes[600], 4);
    CHECK(crc == ethernet_crc(frame));
    CHECK(board.reg(RDH) == 4);
    CHECK(board.reg(STATISTICS + 4 * TPR) == 2);
}

TEST_CASE("What there is no descriptor for waits on the link") {
    Started board;
    for (int i = 0; i < 9; ++i) board.wire.deliver(test_frame(64));
    CHECK(board.wire.waiting.size() == 2);
    CHECK((board.reg(ICR) & ICR_RXDMT0) != 0);
    CHECK((board.take().status & RX_DD) != 0);
    CHECK(board.wire.waiting.size() == 1);
    // What nobody listens to goes, and what could never fit.
    board.set(RCTL, 0);
    CHECK(board.wire.waiting.empty());
    board.reg(ICR);
    board.set(RDLEN, 0);
    board.set(RCTL, RCTL_EN | RCTL_SECRC);
    board.wire.deliver(test_frame(64));
    CHECK(board.wire.waiting.empty());
    CHECK((board.reg(ICR) & ICR_RXO) != 0);
}

TEST_CASE("Filters choose by address, group and tag") {
    Started board;
    const uint32_t plain = RCTL_EN | RCTL_SECRC;
    const MacAddress other{0x52, 0x54, 0, 1, 2, 3}, group{0x01, 0x00, 0x5E, 0x01, 0x02, 0x03},
        all{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    board.set(RCTL, plain);
    CHECK(board.receives(test_frame(60)));
    CHECK(!board.receives(test_frame(60, other)));
    CHECK(!board.receives(test_frame(60, all)));
    CHECK(!board.receives(test_frame(60, group)));
    CHECK(!board.receives(test_frame(1515)));
    board.set(RCTL, plain | RCTL_UPE);
    CHECK(board.receives(test_frame(60, other)));
    board.set(RCTL, plain | RCTL_MPE);
    CHECK(board.receives(test_frame(60, group)));
    board.set(RCTL, plain | RCTL_BAM | RCTL_LPE);
    CHECK(board.receives(test_frame(60, all)));
    CHECK(board.receives(test_frame(4000)));
    // Bits 47 to 36 of the address are the index.
    board.set(MTA + 4 * (0x030 >> 5), 1u << (0x030 & 31));
    CHECK(board.receives(test_frame(60, group)));
    board.set(RAL + 8, 0x00545200 | 0x52);
    board.set(RAL + 8, 0x01005452);
    board.set(RAL + 12, RAH_AV | 0x0302);
    CHECK(board.receives(test_frame(60, other)));
    Frame tagged = test_frame(64);
    store_big16(tagged, 12, 0x8100);
    store_big16(tagged, 14, 0x6005);
    board.set(RCTL, plain | RCTL_VFE);
    CHECK(!board.receives(tagged));
    board.set(VFTA, 1u << 5);
    board.set(CTRL, board.reg(CTRL) | CTRL_VME);
    board.wire.deliver(tagged);
    const auto got = board.take();
    CHECK((got.status & RX_VP) != 0);
    CHECK(got.tag == 0x6005);
    CHECK(got.bytes.size() == 60);
    CHECK(load_big16(got.bytes, 12) == load_big16(tagged, 16));
}

TEST_CASE("Checksums of what comes in are looked at when that is wanted") {
    Started board;
    board.set(RXCSUM, RXCSUM_IPOFL | RXCSUM_TUOFL | 14);
    for (const uint8_t protocol : {uint8_t{6}, uint8_t{17}}) {
        Frame frame = ip_frame(protocol, 101);
        board.wire.deliver(frame);
        auto got = board.take();
        CHECK(got.status == (RX_DD | RX_EOP | RX_IPCS | RX_TCPCS));
        CHECK(got.errors == 0);
        CHECK(got.sum == internet_sum(std::span(got.bytes).subspan(14)));
        frame.back() ^= 1;
        board.wire.deliver(frame);
        CHECK(board.take().errors == RX_TCPE);
        frame[14 + 8] ^= 1;
        board.wire.deliver(frame);
        CHECK(board.take().errors == (RX_TCPE | RX_IPE));
    }
}

TEST_CASE("Interrupts come no faster than ITR lets them") {
    Started board;
    board.set(ITR, 1000);  // 256 microseconds
    board.wire.deliver(test_frame(60));
    CHECK(board.interrupt());
    board.reg(ICR);
    board.wire.deliver(test_frame(60));
    CHECK(!board.interrupt());
    board.clock.advance(std::chrono::microseconds(255));
    CHECK(!board.interrupt());
    board.clock.advance(std::chrono::microseconds(1));
    CHECK(board.interrupt());
    CHECK((board.reg(ICR) & ICR_RXT0) != 0);
    CHECK(!board.interrupt());
    board.set(IMC, ICR_RXT0);
    board.set(ICS, ICR_RXT0);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(!board.interrupt());
    CHECK(board.reg(IMS) == (ICR_TXDW | ICR_LSC));
}

TEST_CASE("Loopback in the card gives back what is sent") {
    Started board;
    board.set(RCTL, RCTL_EN | RCTL_SECRC | RCTL_LBM);
    board.send(test_frame(100));
    CHECK(board.wire.sent.empty());
    CHECK(board.take().bytes == test_frame(100));
}

TEST_CASE("Nothing moves before the card may be bus master") {
    Started board;
    board.set_config(Card::at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    board.send(test_frame(100));
    board.wire.deliver(test_frame(60));
    CHECK(board.wire.sent.empty());
    CHECK(board.wire.waiting.size() == 1);
    board.set_config(Card::at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    CHECK(board.wire.sent.size() == 1);
    CHECK(board.wire.waiting.empty());
}

TEST_CASE("The I/O BAR reaches every register, and a reset leaves the address") {
    Started board;
    board.ports.write(0xC000, 4, RAL + 4);
    CHECK(board.ports.read(0xC004, 4) == (RAH_AV | 0xC3B2));
    board.ports.write(0xC004, 4, 0);
    CHECK(board.reg(RAL + 4) == 0);
    board.set(CTRL, CTRL_RST);
    CHECK(board.reg(RAL + 4) == (RAH_AV | 0xC3B2));
    CHECK(board.reg(RCTL) == 0);
    CHECK(board.reg(CTRL) == (CTRL_FD | CTRL_SLU));
    board.memory_bus.write(Card::base + TCTL, 2, 0xFFFF);
    CHECK(board.reg(TCTL) == 0);
    CHECK(board.memory_bus.read(Card::base + RAL + 2, 4) == 0xC3B2A100);
}

TEST_CASE("A state that the 82540EM never has is refused") {
    Started board;
    const auto refused = [&board](const char* property, std::vector<std::byte> value, const char* child = nullptr) {
        TreeNode node = board.device->save();
        (child ? *node.child(child) : node).set(property, std::move(value));
        CHECK(!board.device->prepare_load(node));
    };
    const std::byte ones{0xFF};
    refused("causes", {ones, ones, ones, ones});
    refused("interrupt", {std::byte{1}});
    refused("head", {ones, ones, ones, ones}, "receive");
    refused("length", {ones, ones, ones, ones}, "transmit");
    refused("bytes", std::vector<std::byte>(I82540em::most_bytes + 1), "packet");
    refused("bits", {ones}, "eeprom");
}
