#include "devices/network/rtl8139.hpp"

#include <array>

#include "devices/network/ethernet.hpp"
#include "devices/network/ip_frame_test.hpp"
#include "devices/network/rtl8139_registers.hpp"
#include "devices/network/test_link_test.hpp"
#include "devices/pci/pci_rig_test.hpp"

using namespace viv;
using namespace viv::rtl8139;

namespace {

using Frame = std::vector<uint8_t>;

/// A card and 1 MiB of RAM.
template <Rtl8139::Chip chip>
class Card : public PciBoard {
  public:
    static constexpr uint64_t base = 0xE0000000, buffer = 0x10000, data = 0x80000;
    static constexpr PciAddress at{0, 3, 0};

    Card() {
        services.provide(wire);
        if (!memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        make_function(make_on_wire<Rtl8139, chip>, at.device);
    }
    void find_bars() {
        set_config(at, pci::BAR0, 4, 0xC000);
        set_config(at, pci::BAR0 + 4, 4, static_cast<uint32_t>(base));
        set_config(at, pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER);
    }
    uint64_t reg(uint8_t offset, uint8_t size) { return memory_bus.read(base + offset, size); }
    void set(uint8_t offset, uint8_t size, uint64_t value) { memory_bus.write(base + offset, size, value); }
    [[nodiscard]] bool interrupt() { return config(at, pci::STATUS, 2) & 0x08; }
    void put_bytes(uint64_t address, const Frame& bytes) {
        memory.write(Gpa{address}, std::as_bytes(std::span(bytes)));
    }
    Frame bytes_at(uint64_t address, size_t size) {
        Frame bytes(size);
        memory.read(Gpa{address}, std::as_writable_bytes(std::span(bytes)));
        return bytes;
    }
    TestWire wire;
};

/// What a driver does with the chip's old ways: a ring of 8 KiB, four buffers.
struct Classic : Card<Rtl8139::Chip::c> {
    Classic() {
        find_bars();
        set(CR, 1, CR_RST);
        set(RBSTART, 4, buffer);
        set(CR, 1, CR_RE | CR_TE);
        set(RCR, 4, RCR_APM | RCR_AB | RCR_WRAP);
        set(IMR, 2, ISR_ROK | ISR_TOK | ISR_LinkChg);
    }
    void send(unsigned index, const Frame& frame) {
        put_bytes(data + 0x800 * index, frame);
        set(static_cast<uint8_t>(TSAD0 + 4 * index), 4, data + 0x800 * index);
        set(static_cast<uint8_t>(TSD0 + 4 * index), 4, frame.size());
    }
    /// The next frame from the ring, without its checksum; empty when there is none.
    Frame take() {
        if (reg(CR, 1) & CR_BUFE) return {};
        const auto header = memory.load<uint32_t>(Gpa{buffer + next});
        CHECK((header & RX_ROK) != 0);
        status = static_cast<uint16_t>(header);
        const uint32_t size = header >> 16;
        Frame frame = bytes_at(buffer + next + 4, size);
        const uint32_t crc = ethernet_crc(std::span(frame).first(size - 4));
        CHECK(memory.load<uint32_t>(Gpa{buffer + next + size}) == crc);
        frame.resize(size - 4);
        next = ((next + 4 + size + 3) & ~3u) % 0x2000;
        set(CAPR, 2, next - 16);
        return frame;
    }
    uint32_t next = 0;
    uint16_t status = 0;
};

/// What a driver does in C+ mode: rings of eight descriptors.
struct Plus : Card<Rtl8139::Chip::c_plus> {
    static constexpr uint64_t receive_ring = 0x20000, transmit_ring = 0x21000;
    static constexpr uint32_t entries = 8, size = 0x600;
    Plus() {
        find_bars();
        for (uint32_t i = 0; i < entries; ++i) give(i);
        set(CPCR, 2, CPCR_TxOn | CPCR_RxOn | CPCR_RxChkSum);
        set(CR, 1, CR_RE | CR_TE);
        set(RDSAR, 4, receive_ring);
        set(TNPDS, 4, transmit_ring);
        set(RCR, 4, RCR_APM | RCR_AB);
        set(IMR, 2, ISR_ROK | ISR_TOK | ISR_RDU);
    }
    void give(uint32_t index) {
        const Gpa place{receive_ring + 16 * index};
        memory.store(place + 8, uint64_t{buffer + size * index});
        memory.store(place, D_OWN | (index == entries - 1 ? D_EOR : 0) | size);
    }
    void put(uint32_t options, const Frame& bytes, uint32_t with_tag = 0) {
        const Gpa place{transmit_ring + 16 * tail};
        const uint64_t to = data + 0x4000 * tail;
        put_bytes(to, bytes);
        memory.store(place + 4, with_tag);
        memory.store(place + 8, to);
        memory.store(place, D_OWN | options | (tail == entries - 1 ? D_EOR : 0) | static_cast<uint32_t>(bytes.size()));
        tail = (tail + 1) % entries;
    }
    void send(const Frame& bytes, uint32_t options = 0, uint32_t with_tag = 0) {
        put(D_FS | D_LS | options, bytes, with_tag);
        set(TPPOLL, 1, TPPOLL_NPQ);
    }
    /// The first word of the next descriptor that was filled, given back; 0 when there is none.
    uint32_t take() {
        const auto word = memory.load<uint32_t>(Gpa{receive_ring + 16 * next});
        if (word & D_OWN) return 0;
        tag = memory.load<uint32_t>(Gpa{receive_ring + 16 * next + 4});
        got = bytes_at(buffer + size * next, word & RD_SIZE);
        give(next);
        next = (next + 1) % entries;
        return word;
    }
    uint32_t tail = 0, next = 0, tag = 0;
    Frame got;
};

}  // namespace

TEST_CASE("The RTL8139 keeps the device contract") {
    check_device_contract([] { return std::make_unique<Card<Rtl8139::Chip::c>>(); });
    check_device_contract([] { return std::make_unique<Card<Rtl8139::Chip::c_plus>>(); });
}

TEST_CASE("The RTL8139 says which chip it is, and what its EEPROM holds") {
    Card<Rtl8139::Chip::c> old;
    old.find_bars();
    CHECK(old.config(Card<Rtl8139::Chip::c>::at, 0) == 0x813910EC);
    CHECK((old.config(Card<Rtl8139::Chip::c>::at, 8) & 0xFF) == 0x10);
    CHECK((old.reg(TCR, 4) & 0x7CC00000) == 0x74000000);
    Card<Rtl8139::Chip::c_plus> plus;
    plus.find_bars();
    CHECK((plus.config(Card<Rtl8139::Chip::c_plus>::at, 8) & 0xFF) == 0x20);
    CHECK((plus.reg(TCR, 4) & 0x7CC00000) == 0x74800000);
    CHECK(old.in(0xC000 + IDR0) == test_mac[0]);
    CHECK(old.reg(IDR4, 2) == (test_mac[4] | test_mac[5] << 8));
    const auto word = [&old](uint32_t address) {
        const auto clock = [&old](uint8_t lines) {
            old.set(CR9346, 1, EEM_programming | CR9346_EECS | lines);
            old.set(CR9346, 1, EEM_programming | CR9346_EECS | CR9346_EESK | lines);
            return static_cast<unsigned>(old.reg(CR9346, 1) & CR9346_EEDO);
        };
        old.set(CR9346, 1, EEM_programming);
        old.set(CR9346, 1, EEM_programming | CR9346_EECS);
        for (int bit = 8; bit >= 0; --bit) clock((6u << 6 | address) >> bit & 1 ? CR9346_EEDI : uint8_t{0});
        uint32_t value = 0;
        for (int bit = 0; bit < 16; ++bit) value = value << 1 | clock(0);
        old.set(CR9346, 1, 0);
        return value;
    };
    CHECK(word(0) == 0x8129);
    CHECK(word(9) == static_cast<uint32_t>(test_mac[4] | test_mac[5] << 8));
}

TEST_CASE("The RTL8139's address is written only when it is unlocked, and loaded anew") {
    Classic board;
    board.set(IDR0, 4, 0x44332211);
    CHECK(board.reg(IDR0, 1) == test_mac[0]);
    board.set(CR9346, 1, EEM_write_enable);
    board.set(IDR0, 4, 0x44332211);
    CHECK(board.reg(IDR0, 4) == 0x44332211);
    board.set(CR9346, 1, EEM_auto_load);
    CHECK(board.reg(CR9346, 1) == CR9346_EEDO);
    CHECK(board.reg(IDR0, 1) == test_mac[0]);
}

TEST_CASE("The RTL8139's four descriptors send in turn") {
    Classic board;
    CHECK(board.reg(TSAD, 2) == 0x000F);
    board.send(1, test_frame(61));
    CHECK(board.wire.sent.empty());
    board.send(0, test_frame(60));
    REQUIRE(board.wire.sent.size() == 2);
    CHECK(board.wire.sent[0] == test_frame(60));
    CHECK(board.wire.sent[1] == test_frame(61));
    CHECK((board.reg(TSD0, 4) & (TSD_OWN | TSD_TOK)) == (TSD_OWN | TSD_TOK));
    CHECK(board.reg(TSAD, 2) == 0x300F);
    CHECK(board.interrupt());
    board.set(ISR, 2, ISR_TOK);
    CHECK_FALSE(board.interrupt());
    board.send(2, test_frame(1793));
    CHECK((board.reg(TSD0 + 8, 4) & TSD_TABT) != 0);
    CHECK((board.reg(ISR, 2) & ISR_TER) != 0);
    board.send(3, test_frame(1514));
    board.send(0, test_frame(100));
    CHECK(board.wire.sent.size() == 4);
    // Without the permission to be bus master nothing moves, and then it goes on.
    board.set_config(Classic::at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    board.send(1, test_frame(64));
    CHECK(board.wire.sent.size() == 4);
    board.set_config(Classic::at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    CHECK(board.wire.sent.size() == 5);
}

TEST_CASE("The RTL8139's ring goes round, and what has no room waits") {
    Classic board;
    CHECK(board.take().empty());
    board.wire.deliver(test_frame(42));
    CHECK(board.interrupt());
    Frame padded = test_frame(42);
    padded.resize(60);
    CHECK(board.take() == padded);
    CHECK(board.status == (RX_ROK | RX_PAM));
    for (unsigned i = 0; i < 30; ++i) {
        board.wire.deliver(test_frame(1000 + i));
        CHECK(board.take() == test_frame(1000 + i));
    }
    for (unsigned i = 0; i < 10; ++i) board.wire.deliver(test_frame(1400 + i));
    CHECK(board.wire.waiting.size() == 5);
    for (unsigned i = 0; i < 10; ++i) CHECK(board.take() == test_frame(1400 + i));
    CHECK(board.wire.waiting.empty());
    CHECK(board.take().empty());
}

TEST_CASE("A driver that leaves frames in the RTL8139's ring is told again by ROK") {
    using namespace std::chrono_literals;
    Classic board;
    for (unsigned i = 0; i < 10; ++i) board.wire.deliver(test_frame(1400 + i));
    REQUIRE_FALSE(board.wire.waiting.empty());
    CHECK(board.take() == test_frame(1400));
    board.set(ISR, 2, ISR_ROK);
    CHECK_FALSE(board.interrupt());
    board.clock.advance(1ms);
    CHECK((board.reg(ISR, 2) & ISR_ROK) != 0);
    CHECK(board.interrupt());
    // One that reads them all is not.
    for (unsigned i = 1; i < 9; ++i) CHECK(board.take() == test_frame(1400 + i));
    board.set(ISR, 2, ISR_ROK);
    CHECK(board.take() == test_frame(1409));
    board.clock.advance(10ms);
    CHECK_FALSE(board.interrupt());
    board.set(ISR, 2, ISR_ROK);
    board.clock.advance(10ms);
    CHECK_FALSE(board.interrupt());
}

TEST_CASE("Without WRAP a frame goes on at the start of the RTL8139's ring") {
    Classic board;
    board.set(RCR, 4, RCR_APM);
    for (unsigned i = 0; i < 5; ++i) {
        board.wire.deliver(test_frame(1496));
        CHECK(board.take().size() == 1496);
    }
    CHECK(board.next == 0x2000 - 0x2000 % 1504 - (0x2000 / 1504 - 5) * 1504);
    const uint32_t start = board.next;
    board.wire.deliver(test_frame(1000));
    const Frame end = board.bytes_at(Classic::buffer + start + 4, 0x2000 - start - 4);
    const Frame rest = board.bytes_at(Classic::buffer, 1000 - end.size());
    Frame whole = end;
    whole.insert(whole.end(), rest.begin(), rest.end());
    CHECK(whole == test_frame(1000));
}

TEST_CASE("The RTL8139 filters by address, group and broadcast") {
    Classic board;
    const auto receives = [&board](const MacAddress& to) {
        board.wire.deliver(test_frame(64, to));
        CHECK(board.wire.waiting.empty());
        return !board.take().empty();
    };
    const MacAddress other{0x52, 0x54, 0, 9, 9, 9}, all{255, 255, 255, 255, 255, 255}, group{1, 0, 0x5E, 0, 0, 1};
    CHECK(receives(test_mac));
    CHECK_FALSE(receives(other));
    CHECK(receives(all));
    CHECK_FALSE(receives(group));
    board.set(RCR, 4, RCR_AAP);
    CHECK(receives(other));
    CHECK_FALSE(receives(all));
    board.set(RCR, 4, RCR_AM);
    CHECK_FALSE(receives(group));
    const uint32_t index = multicast_hash(group) >> 26;
    board.set(index < 32 ? MAR0 : MAR4, 4, 1u << (index % 32));
    CHECK(receives(group));
    CHECK(board.status == (RX_ROK | RX_MAR));
    board.set(CR, 1, CR_TE);
    CHECK_FALSE(receives(group));
}

TEST_CASE("In loopback the RTL8139 receives what it sends, and nothing else") {
    Classic board;
    board.set(TCR, 4, TCR_LBK);
    board.send(0, test_frame(100));
    CHECK(board.wire.sent.empty());
    CHECK(board.take() == test_frame(100));
    board.wire.deliver(test_frame(100));
    CHECK(board.take().empty());
}

TEST_CASE("The RTL8139's timer counts at 33 MHz and interrupts") {
    Classic board;
    board.set(IMR, 2, ISR_TimeOut);
    board.set(TCTR, 4, 0);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.reg(TCTR, 4) == 33'000);
    board.set(TIMERINT, 4, 66'000);
    board.clock.advance(std::chrono::microseconds(999));
    CHECK_FALSE(board.interrupt());
    board.clock.advance(std::chrono::microseconds(1));
    CHECK(board.interrupt());
    CHECK(board.reg(ISR, 2) == ISR_TimeOut);
}

TEST_CASE("The RTL8139 tells of the cable") {
    Classic board;
    CHECK((board.reg(MSR, 1) & MSR_LINKB) == 0);
    CHECK((board.reg(BMSR, 2) & 0x24) == 0x24);
    board.wire.plug(false);
    CHECK(board.interrupt());
    CHECK((board.reg(MSR, 1) & MSR_LINKB) != 0);
    CHECK((board.reg(BMSR, 2) & 0x24) == 0);
    constexpr unsigned good = CSCR_Con_status | CSCR_link_OK;
    CHECK((board.reg(CSCR, 2) & (good | CSCR_link_changed)) == CSCR_link_changed);
    CHECK((board.reg(CSCR, 2) & (good | CSCR_link_changed)) == 0);
    board.wire.plug(true);
    CHECK((board.reg(CSCR, 2) & (good | CSCR_link_changed)) == (good | CSCR_link_changed));
}

TEST_CASE("In C+ mode rings of descriptors move frames, in pieces too") {
    Plus board;
    board.send(test_frame(60));
    REQUIRE(board.wire.sent.size() == 1);
    CHECK(board.wire.sent[0] == test_frame(60));
    CHECK(board.memory.load<uint32_t>(Gpa{Plus::transmit_ring}) == (D_FS | D_LS | 60));
    CHECK((board.reg(ISR, 2) & (ISR_TOK | ISR_TDU)) == (ISR_TOK | ISR_TDU));
    const Frame whole = test_frame(300);
    board.put(D_FS, Frame(whole.begin(), whole.begin() + 100));
    board.put(0, Frame(whole.begin() + 100, whole.begin() + 101));
    board.put(D_LS, Frame(whole.begin() + 101, whole.end()));
    board.set(TPPOLL, 1, TPPOLL_NPQ);
    REQUIRE(board.wire.sent.size() == 2);
    CHECK(board.wire.sent[1] == whole);
    for (unsigned i = 0; i < 20; ++i) board.send(test_frame(100 + i));
    CHECK(board.wire.sent.size() == 22);
    for (unsigned i = 0; i < 20; ++i) {
        board.wire.deliver(test_frame(100 + i));
        CHECK((board.take() & (D_FS | D_LS | RD_PAM | RD_SIZE)) == (D_FS | D_LS | RD_PAM | (104 + i)));
        board.got.resize(100 + i);
        CHECK(board.got == test_frame(100 + i));
    }
}

TEST_CASE("In C+ mode frames wait for descriptors, which are looked at again") {
    Plus board;
    for (unsigned i = 0; i < Plus::entries + 1; ++i) board.wire.deliver(test_frame(60 + i));
    CHECK(board.wire.waiting.size() == 1);
    CHECK((board.reg(ISR, 2) & ISR_RDU) != 0);
    CHECK(board.take() != 0);
    CHECK(board.wire.waiting.size() == 1);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.wire.waiting.empty());
}

TEST_CASE("In C+ mode checksums are made and looked at") {
    Plus board;
    for (const auto& [protocol, option] : {std::pair<uint8_t, uint32_t>{6, TD_TCPCS}, {17, TD_UDPCS}}) {
        board.wire.sent.clear();
        board.send(ip_frame_without_sums(protocol, 101), TD_IPCS | option);
        REQUIRE(board.wire.sent.size() == 1);
        CHECK(sums_are_right(board.wire.sent[0]));
        Frame frame = board.wire.sent[0];
        board.wire.deliver(frame);
        constexpr uint32_t bits = RD_IP | RD_IPF | RD_UDPF | RD_TCPF;
        CHECK((board.take() & bits) == (protocol == 6 ? RD_TCP : RD_UDP));
        frame.back() ^= 1;
        board.wire.deliver(frame);
        CHECK((board.take() & bits) == (protocol == 6 ? RD_TCP | RD_TCPF : RD_UDP | RD_UDPF));
        frame[14 + 8] ^= 1;
        board.wire.deliver(frame);
        CHECK((board.take() & RD_IPF) != 0);
    }
}

TEST_CASE("In C+ mode a long TCP packet goes in segments") {
    Plus board;
    const Frame whole = ip_frame_without_sums(6, 3000);
    board.send(whole, TD_LGSEN | 1400u << 16);
    REQUIRE(board.wire.sent.size() == 3);
    Frame payload;
    for (unsigned i = 0; i < 3; ++i) {
        const Frame& frame = board.wire.sent[i];
        CHECK(sums_are_right(frame));
        CHECK(load_big16(frame, 16) == frame.size() - 14);
        CHECK(load_big16(frame, 18) == 0x1000 + i);
        CHECK(load_big32(frame, 38) == 0x01020304 + 1400 * i);
        CHECK(frame[47] == (i == 2 ? 0x19 : 0x10));
        payload.insert(payload.end(), frame.begin() + 54, frame.end());
    }
    CHECK(payload == Frame(whole.begin() + 54, whole.end()));
    // What is no TCP packet, has no length for its segments, or makes too many goes nowhere.
    board.send(ip_frame_without_sums(6, Rtl8139::most_segments + 1), TD_LGSEN | 1u << 16);
    board.send(ip_frame_without_sums(17, 3000), TD_LGSEN | 1400u << 16);
    board.send(whole, TD_LGSEN);
    board.send(Frame(whole.begin(), whole.begin() + 40), TD_LGSEN | 1400u << 16);
    CHECK(board.wire.sent.size() == 3);
    board.send(ip_frame_without_sums(6, Rtl8139::most_segments), TD_LGSEN | 1u << 16);
    CHECK(board.wire.sent.size() == 3 + Rtl8139::most_segments);
}

TEST_CASE("In C+ mode tags are put in and taken off") {
    Plus board;
    board.set(CPCR, 2, CPCR_TxOn | CPCR_RxOn | CPCR_RxVLAN);
    board.send(test_frame(100), 0, TD_TAGC | 0x2301);
    REQUIRE(board.wire.sent.size() == 1);
    const Frame tagged = board.wire.sent[0];
    CHECK(tagged.size() == 104);
    CHECK(load_big32(tagged, 12) == 0x81000123);
    board.wire.deliver(tagged);
    CHECK(board.take() != 0);
    CHECK(board.tag == (RD_TAVA | 0x2301));
    board.got.resize(100);
    CHECK(board.got == test_frame(100));
}

TEST_CASE("Packets that cannot be are dropped by the RTL8139, and nothing is sent of them") {
    Plus board;
    board.put(0, test_frame(100));  // no first piece
    board.put(D_LS, test_frame(100));
    board.set(TPPOLL, 1, TPPOLL_NPQ);
    CHECK(board.wire.sent.empty());
    // A ring that never ends, of descriptors in ROM or nowhere.
    board.set(TNPDS, 4, 0xF0000000);
    board.set(TPPOLL, 1, TPPOLL_NPQ);
    board.set(RDSAR, 4, 0xF0000000);
    board.wire.deliver(test_frame(64));
    board.send(Frame(13, 1));
    for (const auto& frame : board.wire.sent) CHECK(frame.size() >= NetworkLink::least_frame);
}

TEST_CASE("The RTL8139C+ writes its counters where DTCCR says") {
    Plus board;
    board.send(test_frame(60));
    board.wire.deliver(test_frame(60));
    board.wire.deliver(test_frame(60, {255, 255, 255, 255, 255, 255}));
    board.set(DTCCR + 4, 4, 0);
    board.set(DTCCR, 4, 0x9000 | DTCCR_CMD);
    CHECK(board.reg(DTCCR, 4) == 0x9000);
    CHECK(board.memory.load<uint64_t>(Gpa{0x9000}) == 1);
    CHECK(board.memory.load<uint64_t>(Gpa{0x9008}) == 2);
    CHECK(board.memory.load<uint64_t>(Gpa{0x9030}) == 1);
}

TEST_CASE("A state that the RTL8139 never has is refused") {
    Plus board;
    const auto refused = [&board](const char* property, std::vector<std::byte> value, const char* child = nullptr) {
        TreeNode node = board.device->save();
        (child ? *node.child(child) : node).set(property, std::move(value));
        CHECK(!board.device->prepare_load(node));
    };
    CHECK(board.device->prepare_load(board.device->save()));
    const std::byte ones{0xFF};
    refused("next", {std::byte{4}});
    refused("pending", {ones});
    refused("transmit-index", {std::byte{64}});
    refused("causes", {ones, ones});
    refused("position", {ones, ones}, "eeprom");
    refused("bytes", std::vector<std::byte>(Rtl8139::most_bytes + 1), "packet");
    refused("interrupt", {std::byte{1}}, "pci");
}
