#include "devices/network/pcnet.hpp"

#include <array>

#include "devices/network/ethernet.hpp"
#include "devices/network/pcnet_registers.hpp"
#include "devices/network/test_link_test.hpp"
#include "devices/pci/pci_rig_test.hpp"

using namespace viv;
using namespace viv::pcnet;

namespace {

using Frame = std::vector<uint8_t>;

/// A card and 1 MiB of RAM.
class Card : public PciBoard {
  public:
    static constexpr uint16_t base = 0xC000;
    static constexpr uint32_t block = 0x8000, receive_ring = 0x10000, transmit_ring = 0x11000, buffers = 0x20000,
                              data = 0x80000, size = 0x600, entries = 8;
    static constexpr PciAddress at{0, 3, 0};

    Card() {
        services.provide(wire);
        if (!memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        make_function(make_on_wire<Pcnet>, at.device);
    }
    void find_bars() {
        set_config(at, pci::BAR0, 4, base);
        set_config(at, pci::BAR0 + 4, 4, 0xE0000000);
        set_config(at, pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER);
    }
    uint16_t csr(uint16_t number) {
        out16(base + word_RAP, number);
        return in16(base + word_RDP);
    }
    void set_csr(uint16_t number, uint16_t value) {
        out16(base + word_RAP, number);
        out16(base + word_RDP, value);
    }
    uint16_t bcr(uint16_t number) {
        out16(base + word_RAP, number);
        return in16(base + word_BDP);
    }
    void set_bcr(uint16_t number, uint16_t value) {
        out16(base + word_RAP, number);
        out16(base + word_BDP, value);
    }
    [[nodiscard]] bool interrupt() { return config(at, pci::STATUS, 2) & 0x08; }
    void put_bytes(uint64_t address, const Frame& bytes) {
        memory.write(Gpa{address}, std::as_bytes(std::span(bytes)));
    }
    TestWire wire;
};

/// What a driver does, with descriptors of a style.
struct Started : Card {
    explicit Started(unsigned software_style, uint16_t mode = 0) : style(software_style) {
        find_bars();
        set_bcr(20, static_cast<uint16_t>(style));
        memory.store(Gpa{block}, mode);
        const unsigned address_at = wide() ? 4 : 2;
        memory.write(Gpa{block + address_at}, std::as_bytes(std::span(test_mac)));
        if (wide()) {
            memory.store(Gpa{block + 2}, uint16_t{0x3030});  // eight descriptors each
            memory.store(Gpa{block + 12}, uint64_t{0});
            memory.store(Gpa{block + 20}, receive_ring);
            memory.store(Gpa{block + 24}, transmit_ring);
        } else {
            memory.store(Gpa{block + 8}, uint64_t{0});
            memory.store(Gpa{block + 16}, receive_ring | 3u << 29);
            memory.store(Gpa{block + 20}, transmit_ring | 3u << 29);
        }
        for (uint32_t i = 0; i < entries; ++i) give(i);
        set_csr(1, static_cast<uint16_t>(block));
        set_csr(2, block >> 16);
        set_csr(0, CSR0_INIT);
        CHECK(csr(0) == (CSR0_INIT | CSR0_IDON | CSR0_INTR));
        set_csr(0, CSR0_IDON | CSR0_STRT | CSR0_IENA);
    }
    [[nodiscard]] bool wide() const { return style != 0; }
    [[nodiscard]] uint32_t step() const { return wide() ? 16 : 8; }
    void write_descriptor(uint32_t place, uint32_t buffer, uint16_t flags, size_t bytes) {
        const auto count = static_cast<uint16_t>(0u - bytes);
        if (!wide()) {
            memory.store(Gpa{place}, std::array<uint16_t, 4>{static_cast<uint16_t>(buffer),
                                                             static_cast<uint16_t>(flags | buffer >> 16), count, 0});
            return;
        }
        std::array<uint32_t, 4> words{buffer, uint32_t{flags} << 16 | count, 0, 0xABCD};
        if (style == 3) std::swap(words[0], words[2]);
        memory.store(Gpa{place}, words);
    }
    uint16_t flags_at(uint32_t place) {
        return static_cast<uint16_t>(memory.load<uint16_t>(Gpa{place + (wide() ? 6 : 2)}) & (wide() ? 0xFFFF : 0xFF00));
    }
    void give(uint32_t index) { write_descriptor(receive_ring + step() * index, buffers + size * index, D_OWN, size); }
    void put(const Frame& bytes, uint16_t flags) {
        put_bytes(data + 0x1000 * tail, bytes);
        write_descriptor(transmit_ring + step() * tail, data + 0x1000 * tail, static_cast<uint16_t>(flags | D_OWN),
                         bytes.size());
        tail = (tail + 1) % entries;
    }
    void send(const Frame& bytes) {
        put(bytes, D_STP | D_ENP);
        set_csr(0, CSR0_TDMD | CSR0_IENA);
    }
    /// The next frame, without its checksum; empty when there is none.
    Frame take() {
        Frame whole;
        for (;;) {
            const uint32_t place = receive_ring + step() * next;
            seen = flags_at(place);
            if (seen & D_OWN) return {};
            const uint32_t count_at = !wide() ? 6 : style == 3 ? 0 : 8;
            const bool last = seen & D_ENP;
            const size_t bytes = last ? (memory.load<uint32_t>(Gpa{place + count_at}) & 0xFFF) - whole.size() : size;
            Frame piece(bytes);
            memory.read(Gpa{buffers + size * next}, std::as_writable_bytes(std::span(piece)));
            whole.insert(whole.end(), piece.begin(), piece.end());
            give(next);
            next = (next + 1) % entries;
            if (!last) continue;
            const uint32_t crc = ethernet_crc(std::span(whole).first(whole.size() - 4));
            CHECK(std::equal(whole.end() - 4, whole.end(), reinterpret_cast<const uint8_t*>(&crc)));
            whole.resize(whole.size() - 4);
            return whole;
        }
    }
    unsigned style;
    uint32_t tail = 0, next = 0;
    uint16_t seen = 0;
};

}  // namespace

TEST_CASE("The PCnet keeps the device contract") {
    check_device_contract([] { return std::make_unique<Card>(); });
}

TEST_CASE("The PCnet is found by words and by double words") {
    Card board;
    board.find_bars();
    CHECK(board.config(Card::at, 0) == 0x20001022);
    CHECK(board.csr(0) == CSR0_STOP);
    CHECK(board.csr(88) == 0x1003);
    CHECK(board.csr(89) == 0x0262);
    CHECK(board.csr(12) == (test_mac[0] | test_mac[1] << 8));
    for (unsigned i = 0; i < 6; ++i) CHECK(board.in(static_cast<uint16_t>(Card::base + i)) == test_mac[i]);
    CHECK(board.in16(Card::base + 14) == 0x5757);
    unsigned sum = 0;
    for (unsigned i = 0; i < 16; ++i) sum += i == 12 || i == 13 ? 0u : board.in(static_cast<uint16_t>(Card::base + i));
    CHECK(board.in16(Card::base + 12) == sum);
    // A double word to RDP changes the ports until the next reset of the machine.
    board.ports.write(Card::base + dword_RDP, 4, 0);
    CHECK(board.in16(Card::base + word_RDP) == 0xFFFF);
    board.ports.write(Card::base + dword_RAP, 4, 89);
    CHECK(board.ports.read(Card::base + dword_RAP, 4) == 89);
    CHECK(board.ports.read(Card::base + dword_RDP, 4) == 0x0262);
    board.ports.read(Card::base + dword_RESET, 4);
    board.ports.write(Card::base + dword_RAP, 4, 88);
    CHECK(board.memory_bus.read(0xE0000000 + dword_RDP, 4) == 0x1003);
    board.device->reset(ResetKind::power_on);
    board.find_bars();
    CHECK(board.csr(88) == 0x1003);
}

TEST_CASE("The PCnet's software styles say the sizes of structures") {
    Card board;
    board.find_bars();
    CHECK(board.bcr(20) == 0x0200);
    for (const auto& [style, all] :
         {std::pair<uint16_t, uint16_t>{1, 0x0101}, {2, 0x0302}, {3, 0x0303}, {0, 0x0200}, {9, 0x0200}}) {
        board.set_bcr(20, style);
        CHECK(board.bcr(20) == all);
        CHECK(board.csr(58) == all);
    }
}

TEST_CASE("The PCnet sends and receives with every style of descriptors") {
    for (const unsigned style : {0u, 2u, 3u}) {
        Started board(style);
        CHECK((board.csr(0) & (CSR0_TXON | CSR0_RXON | CSR0_STRT)) == (CSR0_TXON | CSR0_RXON | CSR0_STRT));
        for (unsigned i = 0; i < 20; ++i) {
            board.send(test_frame(60 + i));
            REQUIRE(board.wire.sent.size() == i + 1);
            CHECK(board.wire.sent.back() == test_frame(60 + i));
            board.wire.deliver(test_frame(100 + i));
            CHECK(board.take() == test_frame(100 + i));
            CHECK((board.seen & D_STP) != 0);
            CHECK((board.seen & RD_PAM) == (board.wide() ? RD_PAM : 0));
        }
        CHECK(board.interrupt());
        CHECK((board.csr(0) & (CSR0_TINT | CSR0_RINT | CSR0_INTR)) == (CSR0_TINT | CSR0_RINT | CSR0_INTR));
        board.set_csr(0, CSR0_TINT | CSR0_RINT | CSR0_IENA);
        CHECK_FALSE(board.interrupt());
        CHECK(board.flags_at(Card::transmit_ring) == (D_STP | D_ENP));
        // In pieces, too.
        const Frame whole = test_frame(1000);
        board.put(Frame(whole.begin(), whole.begin() + 300), D_STP);
        board.put(Frame(whole.begin() + 300, whole.begin() + 301), 0);
        CHECK(board.wire.sent.size() == 20);
        board.put(Frame(whole.begin() + 301, whole.end()), D_ENP);
        board.set_csr(0, CSR0_TDMD);
        REQUIRE(board.wire.sent.size() == 21);
        CHECK(board.wire.sent.back() == whole);
    }
}

TEST_CASE("Structures of 16 bits lie in the 16 MiB of the PCnet's initialization block") {
    Card board;
    board.find_bars();
    constexpr uint32_t high = 0x05000000, block = high, rings = high + 0x100, buffer = high + 0x1000;
    static_cast<void>(board.memory.add(Gpa{high}, 0x10000, GuestMemory::Kind::ram, "more RAM"));
    const auto low = [](uint32_t address) { return address & 0x00FFFFFF; };
    const auto put = [&](uint32_t place, uint16_t flags) {
        board.memory.store(
            Gpa{place}, std::array<uint16_t, 4>{low(buffer) & 0xFFFF, static_cast<uint16_t>(flags | low(buffer) >> 16),
                                                static_cast<uint16_t>(0u - 200u), 0});
    };
    board.memory.write(Gpa{block + 2}, std::as_bytes(std::span(test_mac)));
    board.memory.store(Gpa{block + 16}, low(rings));  // one descriptor each
    board.memory.store(Gpa{block + 20}, low(rings + 64));
    put(rings, D_OWN);
    put(rings + 64, D_OWN | D_STP | D_ENP);
    board.put_bytes(buffer, test_frame(200));
    board.set_csr(1, block & 0xFFFF);
    board.set_csr(2, block >> 16);
    board.set_csr(0, CSR0_INIT);
    board.set_csr(0, CSR0_STRT | CSR0_TDMD);
    REQUIRE(board.wire.sent.size() == 1);
    CHECK(board.wire.sent[0] == test_frame(200));
    board.wire.deliver(test_frame(100));
    Frame came(100);
    board.memory.read(Gpa{buffer}, std::as_writable_bytes(std::span(came)));
    CHECK(came == test_frame(100));
}

TEST_CASE("CSR0 of the PCnet can be written back as it reads") {
    Started board(2);
    board.send(test_frame(60));
    board.set_csr(0, board.csr(0));
    CHECK((board.csr(0) & CSR0_TINT) == 0);
    board.send(test_frame(61));
    REQUIRE(board.wire.sent.size() == 2);
    CHECK(board.wire.sent[1] == test_frame(61));
}

TEST_CASE("Frames wait for descriptors of the PCnet, whose ring is looked at again") {
    Started board(2);
    for (unsigned i = 0; i < Card::entries + 2; ++i) board.wire.deliver(test_frame(60 + i));
    CHECK(board.wire.waiting.size() == 2);
    CHECK(board.take() == test_frame(60));
    CHECK(board.wire.waiting.size() == 2);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.wire.waiting.size() == 1);
    for (unsigned i = 1; i < Card::entries + 1; ++i) CHECK(board.take() == test_frame(60 + i));
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.take() == test_frame(60 + Card::entries + 1));
}

TEST_CASE("A frame of the PCnet goes over several buffers, or is missed where it never fits") {
    Started board(0);
    board.set_csr(0, CSR0_STOP);
    for (uint32_t i = 0; i < Card::entries; ++i)
        board.write_descriptor(Card::receive_ring + 8 * i, Card::buffers + Card::size * i, D_OWN, 64);
    board.set_csr(0, CSR0_STRT);
    board.wire.deliver(test_frame(100));
    CHECK(board.flags_at(Card::receive_ring) == D_STP);
    CHECK(board.flags_at(Card::receive_ring + 8) == D_ENP);
    CHECK(board.memory.load<uint16_t>(Gpa{Card::receive_ring + 8 + 6}) == 104);
    CHECK(board.memory.load<uint8_t>(Gpa{Card::buffers + Card::size}) == test_frame(100)[64]);
    for (uint32_t i = 0; i < Card::entries; ++i)
        board.write_descriptor(Card::receive_ring + 8 * i, Card::buffers + Card::size * i, D_OWN, 64);
    board.wire.deliver(test_frame(600));
    CHECK(board.wire.waiting.empty());
    CHECK(board.csr(112) == 1);
    CHECK((board.csr(0) & (CSR0_MISS | CSR0_ERR)) == (CSR0_MISS | CSR0_ERR));
}

TEST_CASE("The PCnet filters by address, group and broadcast") {
    const MacAddress other{0x52, 0x54, 0, 9, 9, 9}, all{255, 255, 255, 255, 255, 255}, group{1, 0, 0x5E, 0, 0, 1};
    const auto receives = [](Started& board, const MacAddress& to) {
        board.wire.deliver(test_frame(64, to));
        CHECK(board.wire.waiting.empty());
        return !board.take().empty();
    };
    Started plain(2);
    CHECK(receives(plain, test_mac));
    CHECK_FALSE(receives(plain, other));
    CHECK(receives(plain, all));
    CHECK_FALSE(receives(plain, group));
    plain.set_csr(0, CSR0_STOP);
    const uint32_t index = ~ethernet_crc(group) >> 26;
    plain.set_csr(static_cast<uint16_t>(8 + index / 16), static_cast<uint16_t>(1u << (index % 16)));
    CHECK_FALSE(receives(plain, test_mac));
    for (uint32_t i = 0; i < Card::entries; ++i) plain.give(i);
    plain.next = 0;
    plain.set_csr(0, CSR0_STRT);
    CHECK(receives(plain, group));
    Started promiscuous(2, MODE_PROM);
    CHECK(receives(promiscuous, other));
    CHECK(receives(promiscuous, group));
    Started quiet(2, MODE_DRCVBC | MODE_DRCVPA);
    CHECK_FALSE(receives(quiet, all));
    CHECK_FALSE(receives(quiet, test_mac));
    Started deaf(2, MODE_DRX);
    CHECK_FALSE(receives(deaf, test_mac));
}

TEST_CASE("In loopback the PCnet receives what it sends, and nothing else") {
    Started board(2, MODE_LOOP | MODE_PROM);
    board.send(test_frame(100));
    CHECK(board.wire.sent.empty());
    CHECK(board.take() == test_frame(100));
    board.wire.deliver(test_frame(100));
    CHECK(board.take().empty());
}

TEST_CASE("The PCnet pads what it sends and strips what it receives when it is told to") {
    Started board(2);
    board.send(test_frame(42));
    CHECK(board.wire.sent.back().size() == 42);
    board.set_csr(4, CSR4_APAD_XMT | CSR4_ASTRP_RCV);
    board.send(test_frame(42));
    CHECK(board.wire.sent.back().size() == 60);
    Frame frame = test_frame(60);
    store_big16(frame, 12, 20);
    board.wire.deliver(frame);
    CHECK((board.memory.load<uint32_t>(Gpa{Card::receive_ring + 8}) & 0xFFF) == 34);
}

TEST_CASE("The PCnet's masks and commands make and hold interrupts") {
    Started board(2);
    board.set_csr(3, CSR0_TINT);
    board.send(test_frame(60));
    CHECK_FALSE(board.interrupt());
    CHECK((board.csr(0) & CSR0_TINT) != 0);
    board.set_csr(3, 0);
    CHECK(board.interrupt());
    board.set_csr(0, CSR0_TINT | CSR0_IENA);
    board.set_csr(4, CSR4_UINTCMD);
    CHECK(board.interrupt());
    board.set_csr(4, CSR4_UINT);
    CHECK_FALSE(board.interrupt());
    CHECK(board.bcr(4) == (0x00C0 | BCR4_LEDOUT));
    board.wire.plug(false);
    CHECK(board.bcr(4) == 0x00C0);
    board.set_csr(0, CSR0_STOP);
    CHECK(board.csr(0) == CSR0_STOP);
}

TEST_CASE("Rings of the PCnet that cannot be move nothing and come to an end") {
    Started board(2);
    board.put(test_frame(100), 0);  // no first piece
    board.put(test_frame(100), D_ENP);
    for (unsigned i = 0; i < 3; ++i) board.put(Frame(2000, 1), i == 0 ? D_STP : 0);
    board.put(test_frame(100), D_ENP);
    board.put(Frame(13, 1), D_STP | D_ENP);
    board.set_csr(0, CSR0_TDMD);
    CHECK(board.wire.sent.empty());
    // In ROM or nowhere: all its descriptors are the chip's, for ever.
    board.set_csr(0, CSR0_STOP);
    board.memory.store(Gpa{Card::block + 20}, 0xF0000000);
    board.memory.store(Gpa{Card::block + 24}, 0xF0000000);
    board.set_csr(0, CSR0_INIT);
    board.set_csr(0, CSR0_STRT | CSR0_TDMD);
    board.wire.deliver(test_frame(64));
    board.clock.advance(std::chrono::milliseconds(10));
    for (const Frame& frame : board.wire.sent) CHECK(frame.size() >= NetworkLink::least_frame);
}

TEST_CASE("A state that the PCnet never has is refused") {
    Started board(2);
    const auto refused = [&board](const char* property, std::vector<std::byte> value, const char* child = nullptr) {
        TreeNode node = board.device->save();
        (child ? *node.child(child) : node).set(property, std::move(value));
        CHECK(!board.device->prepare_load(node));
    };
    CHECK(board.device->prepare_load(board.device->save()));
    const std::byte ones{0xFF};
    refused("status", {ones, ones});
    refused("address", {ones, ones});
    refused("next", {ones, ones, ones, ones}, "receive");
    refused("software-style", {ones, ones});
    refused("packet", std::vector<std::byte>(Pcnet::most_bytes + 1));
}
