// Network cards from inside: every card's link echoes, so a driver finds its own frames again; without cables only a
// card that loops by itself does.

#include "guest-tests/runtime/cards.hpp"

using namespace guest;

namespace {

// Above the program's segment; the frames begin with this card's address, twice.
constexpr uint32_t receive_ring = 0x20000, transmit_ring = 0x21000, block = 0x22000, outgoing = 0x24000,
                   taken = 0x26000, incoming = 0x30000;
constexpr uint32_t entries = 8, buffer_size = 0x800;
enum class Loop { no, yes };

uint16_t place = 0;  // of the card, as the PCI BIOS has it
uint32_t base = 0;   // of its ports or registers
uint8_t irq = 0;
uint32_t next_in = 0, next_out = 0;

void port8(uint32_t at, uint32_t value) {
    outb(static_cast<uint16_t>(base + at), static_cast<uint8_t>(value));
}
void port16(uint32_t at, uint32_t value) {
    outw(static_cast<uint16_t>(base + at), static_cast<uint16_t>(value));
}
void port32(uint32_t at, uint32_t value) {
    outl(static_cast<uint16_t>(base + at), value);
}
uint8_t port8(uint32_t at) {
    return inb(static_cast<uint16_t>(base + at));
}
uint16_t port16(uint32_t at) {
    return inw(static_cast<uint16_t>(base + at));
}

void copy(uint32_t to, uint32_t from, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i += 4) write32(to + i, read32(from + i));
}
void descriptor(uint32_t at, uint32_t word0, uint32_t word1, uint32_t word2, uint32_t word3) {
    write32(at, word0);
    write32(at + 4, word1);
    write32(at + 8, word2);
    write32(at + 12, word3);
}
uint32_t buffer(uint32_t index) {
    return incoming + buffer_size * index;
}
template <class Condition>
bool wait_for(Condition condition) {
    Deadline deadline(1000);
    while (!condition()) {
        if (deadline.passed()) return condition();
    }
    return true;
}

// ---- 82540EM: legacy descriptors -----------------------------------------------------------------------------------

namespace e1000 {

constexpr uint32_t CTRL = 0x0, STATUS = 0x8, ICR = 0xC0, IMS = 0xD0, IMC = 0xD8, RCTL = 0x100, TCTL = 0x400,
                   RDBAL = 0x2800, TDBAL = 0x3800, RAL = 0x5400;
constexpr uint32_t high = 4, length = 8, head = 0x10, tail = 0x18;

uint32_t get(uint32_t at) {
    return read32(base + at);
}
void set(uint32_t at, uint32_t value) {
    write32(base + at, value);
}

void start(Loop loop) {
    base = read_config32(place, 0x10) & ~uint32_t{0xF};
    set(CTRL, 1u << 26);
    wait_for([] { return !(get(CTRL) & 1u << 26); });
    set(CTRL, 0x41);
    set(IMC, 0xFFFFFFFF);
    for (uint32_t i = 0; i < entries; ++i) {
        descriptor(receive_ring + 16 * i, buffer(i), 0, 0, 0);
        descriptor(transmit_ring + 16 * i, 0, 0, 0, 0);
    }
    constexpr uint32_t rings[] = {RDBAL, TDBAL};
    for (const uint32_t at : rings) {
        set(at, at == RDBAL ? receive_ring : transmit_ring);
        set(at + high, 0);
        set(at + length, 16 * entries);
        set(at + head, 0);
        set(at + tail, 0);
    }
    set(RDBAL + tail, entries - 1);
    set(RCTL, 1u << 1 | 1u << 26 | (loop == Loop::yes ? 1u << 6 : 0));  // EN, SECRC, LBM
    set(TCTL, 1u << 1);
}
void send(uint32_t bytes) {
    descriptor(transmit_ring + 16 * next_out, outgoing, 0, bytes | 0x0Bu << 24, 0);  // EOP, IFCS, RS
    const uint32_t sent = next_out;
    next_out = (next_out + 1) % entries;
    set(TDBAL + tail, next_out);
    wait_for([sent] { return (read32(transmit_ring + 16 * sent + 12) & 1) != 0; });
}
uint32_t receive() {
    const uint32_t at = receive_ring + 16 * next_in;
    if (!(read32(at + 12) & 1)) return 0;
    const uint32_t bytes = read32(at + 8) & 0xFFFF;
    copy(taken, buffer(next_in), bytes);
    descriptor(at, buffer(next_in), 0, 0, 0);
    set(RDBAL + tail, next_in);
    next_in = (next_in + 1) % entries;
    return bytes;
}
uint8_t address(uint32_t i) {
    return static_cast<uint8_t>(get(RAL + (i & 4)) >> 8 * (i & 3));
}
bool up() {
    return get(STATUS) & 2;
}
void allow() {
    get(ICR);
    set(IMS, 0x80);
}
void silence() {
    set(IMC, 0xFFFFFFFF);
    get(ICR);
}

}  // namespace e1000

// ---- RTL8139: one ring of bytes, four buffers; and the C+ with rings of descriptors ---------------------------------

namespace rtl8139 {

constexpr uint32_t IDR = 0x00, TSD = 0x10, TSAD = 0x20, RBSTART = 0x30, CR = 0x37, CAPR = 0x38, IMR = 0x3C, ISR = 0x3E,
                   TCR = 0x40, RCR = 0x44, MSR = 0x58, TPPOLL = 0xD9, CPCR = 0xE0, RDSAR = 0xE4;
constexpr uint32_t ring_bytes = 8192;
bool plus = false;

void give(uint32_t i) {
    descriptor(receive_ring + 16 * i, 1u << 31 | (i == entries - 1 ? 1u << 30 : 0) | buffer_size, 0, buffer(i), 0);
}
void start_kind(Loop loop) {
    base = read_config32(place, 0x10) & ~uint32_t{3};
    port8(CR, 0x10);
    wait_for([] { return !(port8(CR) & 0x10); });
    if (plus) {
        for (uint32_t i = 0; i < entries; ++i) {
            give(i);
            descriptor(transmit_ring + 16 * i, 0, 0, 0, 0);
        }
        port16(CPCR, 3);
    }
    port8(CR, 0x0C);
    if (plus) {
        port32(RDSAR, receive_ring);
        port32(RDSAR + 4, 0);
        port32(TSAD, transmit_ring);
        port32(TSAD + 4, 0);
    } else {
        port32(RBSTART, incoming);
        port16(CAPR, 0xFFF0);
    }
    port32(TCR, loop == Loop::yes ? 3u << 17 : 0);
    port32(RCR, 0x8A);  // this address, broadcasts, WRAP
    port16(IMR, 0);
    port16(ISR, 0xFFFF);
}
void start(Loop loop) {
    plus = false;
    start_kind(loop);
}
void start_plus(Loop loop) {
    plus = true;
    start_kind(loop);
}
void send(uint32_t bytes) {
    if (!plus) {
        port32(TSAD + 4 * next_out, outgoing);
        port32(TSD + 4 * next_out, bytes);
        const uint32_t status = TSD + 4 * next_out;
        wait_for([status] { return (inl(static_cast<uint16_t>(base + status)) & 1u << 15) != 0; });
        next_out = (next_out + 1) % 4;
        return;
    }
    const uint32_t at = transmit_ring + 16 * next_out;
    descriptor(at, 0, 0, outgoing, 0);
    write32(at, 0xB0000000 | (next_out == entries - 1 ? 1u << 30 : 0) | bytes);  // OWN, FS, LS
    next_out = (next_out + 1) % entries;
    port8(TPPOLL, 0x40);
    wait_for([at] { return !(read32(at) & 1u << 31); });
}
uint32_t receive() {
    if (!plus) {
        if (port8(CR) & 1) return 0;
        const uint32_t header = read32(incoming + next_in);
        const uint32_t bytes = header >> 16;
        if (!(header & 1) || bytes > 1600) return 0;
        copy(taken, incoming + next_in + 4, bytes);
        next_in = ((next_in + 4 + bytes + 3) & ~3u) % ring_bytes;
        port16(CAPR, next_in - 16);
        return bytes - 4;
    }
    const uint32_t status = read32(receive_ring + 16 * next_in);
    if (status & 1u << 31) return 0;
    const uint32_t bytes = status & 0x1FFF;
    copy(taken, buffer(next_in), bytes);
    give(next_in);
    next_in = (next_in + 1) % entries;
    return bytes - 4;
}
uint8_t address(uint32_t i) {
    return port8(IDR + i);
}
bool up() {
    return !(port8(MSR) & 4);
}
void allow() {
    port16(ISR, 0xFFFF);
    port16(IMR, 1);
}
void silence() {
    port16(IMR, 0);
    port16(ISR, 0xFFFF);
}

}  // namespace rtl8139

// ---- PCnet: 32-bit structures, ports by words -----------------------------------------------------------------------

namespace pcnet {

constexpr uint32_t RDP = 0x10, RAP = 0x12, RESET = 0x14, BDP = 0x16;
constexpr uint32_t OWN = 1u << 31, whole = 3u << 24, ones = 0xF000;

void set_csr(uint32_t number, uint32_t value) {
    port16(RAP, number);
    port16(RDP, value);
}
uint16_t csr(uint32_t number) {
    port16(RAP, number);
    return port16(RDP);
}
void give(uint32_t i) {
    descriptor(receive_ring + 16 * i, buffer(i), OWN | ones | (0x1000 - buffer_size), 0, 0);
}
uint8_t address(uint32_t i) {
    return port8(i);
}
void start(Loop loop) {
    base = read_config32(place, 0x10) & ~uint32_t{3};
    port16(RESET);
    port16(RAP, 20);
    port16(BDP, 2);
    for (uint32_t i = 0; i < entries; ++i) {
        give(i);
        descriptor(transmit_ring + 16 * i, 0, 0, 0, 0);
    }
    // Eight descriptors each; the mode is internal loopback or none.
    write32(block, 0x30300000 | (loop == Loop::yes ? 0x44 : 0));
    write32(block + 4, address(0) | address(1) << 8 | address(2) << 16 | uint32_t{address(3)} << 24);
    write32(block + 8, address(4) | address(5) << 8);
    write32(block + 12, 0);
    write32(block + 16, 0);
    write32(block + 20, receive_ring);
    write32(block + 24, transmit_ring);
    set_csr(1, block & 0xFFFF);
    set_csr(2, block >> 16);
    set_csr(0, 1);
    wait_for([] { return (csr(0) & 0x100) != 0; });
    set_csr(0, 0x102);
}
void send(uint32_t bytes) {
    const uint32_t at = transmit_ring + 16 * next_out;
    descriptor(at, outgoing, 0, 0, 0);
    write32(at + 4, OWN | whole | ones | (0x1000 - bytes));
    next_out = (next_out + 1) % entries;
    set_csr(0, csr(0) & 0x40 ? 0x48 : 0x08);  // TDMD, and interrupts as they are
    wait_for([at] { return !(read32(at + 4) & OWN); });
}
uint32_t receive() {
    const uint32_t at = receive_ring + 16 * next_in;
    if (read32(at + 4) & OWN) return 0;
    const uint32_t bytes = read32(at + 8) & 0xFFF;
    copy(taken, buffer(next_in), bytes);
    give(next_in);
    next_in = (next_in + 1) % entries;
    return bytes - 4;
}
bool up() {
    port16(RAP, 4);
    return port16(BDP) & 0x8000;
}
void allow() {
    set_csr(0, 0x7F40);
}
void silence() {
    set_csr(0, 0x7F00);
}

}  // namespace pcnet

// ---- NE2000: a ring of pages on the card, read by its data port -----------------------------------------------------

namespace ne2000 {

constexpr uint32_t CR = 0, PSTART = 1, PSTOP = 2, BNRY = 3, TPSR = 4, TBCR = 5, ISR = 7, RSAR = 8, RBCR = 10, RCR = 12,
                   TCR = 13, DCR = 14, IMR = 15, data = 16, reset = 31;
constexpr uint32_t CURR = 7;  // of page 1
constexpr uint32_t first = 0x46, end = 0x80, transmitted = 0x40;
constexpr uint32_t in_ports = 0x300;  // of the ISA card

void remote(uint32_t at, uint32_t bytes, uint32_t command) {
    port8(RSAR, at);
    port8(RSAR + 1, at >> 8);
    port8(RBCR, bytes);
    port8(RBCR + 1, bytes >> 8);
    port8(CR, command);
}
uint8_t address(uint32_t i) {
    remote(2 * i, 2, 0x0A);
    return static_cast<uint8_t>(port16(data));
}
void start(Loop /*loop*/) {
    base = place ? read_config32(place, 0x10) & ~uint32_t{3} : in_ports;
    port8(reset, port8(reset));
    port8(CR, 0x21);
    port8(DCR, 0x49);
    port8(RCR, 0x04);
    port8(TCR, 0);
    port8(PSTART, first);
    port8(PSTOP, end);
    port8(BNRY, first);
    port8(IMR, 0);
    port8(ISR, 0xFF);
    port8(CR, 0x22);
    uint8_t own[6];
    for (uint32_t i = 0; i < 6; ++i) own[i] = address(i);
    port8(CR, 0x61);
    for (uint32_t i = 0; i < 6; ++i) port8(1 + i, own[i]);
    port8(CURR, first + 1);
    port8(CR, 0x22);
    next_in = first + 1;
}
void send(uint32_t bytes) {
    remote(transmitted << 8, bytes, 0x12);
    for (uint32_t i = 0; i < bytes; i += 4) {
        const uint32_t word = read32(outgoing + i);
        port16(data, word);
        port16(data, word >> 16);
    }
    port8(TPSR, transmitted);
    port8(TBCR, bytes);
    port8(TBCR + 1, bytes >> 8);
    port8(CR, 0x26);
    wait_for([] { return !(port8(CR) & 4); });
}
uint32_t receive() {
    port8(CR, 0x62);
    const uint32_t current = port8(CURR);
    port8(CR, 0x22);
    if (current == next_in) return 0;
    remote(next_in << 8, 4, 0x0A);
    const uint32_t status = port16(data);
    const uint32_t bytes = port16(data) - 4u;
    if (!(status & 1) || bytes > 1600) return 0;
    // A remote read goes on at the ring's beginning by itself.
    remote((next_in << 8) + 4, (bytes + 3) & ~3u, 0x0A);
    for (uint32_t i = 0; i < bytes; i += 4) {
        const uint32_t low = port16(data);
        write32(taken + i, low | uint32_t{port16(data)} << 16);
    }
    next_in = status >> 8;
    port8(BNRY, next_in == first ? end - 1 : next_in - 1);
    return bytes;
}
bool up() {
    return true;
}
void allow() {
    port8(ISR, 0xFF);
    port8(IMR, 1);
}
void silence() {
    port8(IMR, 0);
    port8(ISR, 0xFF);
}

}  // namespace ne2000

// ---- What all do ----------------------------------------------------------------------------------------------------

struct Kind {
    const char* name;
    uint32_t identity;  // 0: on the ISA bus
    uint8_t revision;   // 0: any
    void (*start)(Loop loop);
    void (*send)(uint32_t bytes);
    uint32_t (*receive)();
    uint8_t (*address)(uint32_t i);
    bool (*up)();
    void (*allow)();    // interrupts for a frame
    void (*silence)();  // no interrupts, and no cause for one
    bool knows_cable;
    bool loops;
};

// In the order of --net, which numbers their addresses.
const Kind kinds[] = {
    {"e1000", 0x100E8086, 0, e1000::start, e1000::send, e1000::receive, e1000::address, e1000::up, e1000::allow,
     e1000::silence, true, true},
    {"rtl8139", 0x813910EC, 0x10, rtl8139::start, rtl8139::send, rtl8139::receive, rtl8139::address, rtl8139::up,
     rtl8139::allow, rtl8139::silence, true, true},
    {"rtl8139cp", 0x813910EC, 0x20, rtl8139::start_plus, rtl8139::send, rtl8139::receive, rtl8139::address, rtl8139::up,
     rtl8139::allow, rtl8139::silence, true, true},
    {"pcnet", 0x20001022, 0, pcnet::start, pcnet::send, pcnet::receive, pcnet::address, pcnet::up, pcnet::allow,
     pcnet::silence, true, true},
    {"ne2k_pci", 0x802910EC, 0, ne2000::start, ne2000::send, ne2000::receive, ne2000::address, ne2000::up,
     ne2000::allow, ne2000::silence, false, false},
    {"ne2k_isa", 0, 0, ne2000::start, ne2000::send, ne2000::receive, ne2000::address, ne2000::up, ne2000::allow,
     ne2000::silence, false, false},
};
const Kind* kind = nullptr;

void point(bool condition, const char* what) {
    static char text[80];
    uint32_t size = 0;
    const char* parts[] = {kind->name, ": ", what};
    for (const char* part : parts) {
        for (; *part && size + 1 < sizeof text; ++part) text[size++] = *part;
    }
    text[size] = 0;
    check(condition, text);
}

bool find() {
    place = 0;
    irq = 5;
    if (!kind->identity) return true;
    for (uint16_t at = 0; at < 0x100; at = static_cast<uint16_t>(at + 8)) {
        if (read_config32(at, 0) != kind->identity) continue;
        if (kind->revision && (read_config32(at, 8) & 0xFF) != kind->revision) continue;
        place = at;
        irq = static_cast<uint8_t>(read_config32(at, 0x3C));
        write_config32(at, 4, 7);
        return true;
    }
    return false;
}

void start(Loop loop) {
    next_in = next_out = 0;
    kind->start(loop);
}

// A frame to this card itself, with data of which no two frames have the same.
void send(uint32_t bytes, uint32_t number) {
    uint8_t own[6];
    for (uint32_t i = 0; i < 6; ++i) own[i] = kind->address(i);
    const uint32_t low = own[0] | own[1] << 8 | own[2] << 16 | uint32_t{own[3]} << 24;
    const uint32_t high = own[4] | uint32_t{own[5]} << 8;
    write32(outgoing, low);
    write32(outgoing + 4, high | low << 16);
    write32(outgoing + 8, low >> 16 | high << 16);
    write32(outgoing + 12, 0xB588 | number << 16);
    for (uint32_t i = 16; i < bytes; i += 4) write32(outgoing + i, (number * 0x10001 + i) * 0x01010101u);
    kind->send(bytes);
}

// Whether the frame that was sent comes, as it was.
bool comes_back(uint32_t bytes) {
    uint32_t got = 0;
    wait_for([&got] { return (got = kind->receive()) != 0; });
    if (got != bytes) return false;
    for (uint32_t i = 0; i < bytes; i += 4) {
        if (read32(taken + i) != read32(outgoing + i)) return false;
    }
    return true;
}

void test_card(uint32_t number) {
    const bool found = find();
    point(found, "is there");
    if (!found) return;
    start(Loop::no);
    const uint8_t wanted[] = {0x52, 0x54, 0x00, 0x12, 0x34, static_cast<uint8_t>(0x56 + number)};
    bool right = true;
    for (uint32_t i = 0; i < 6; ++i) right = right && kind->address(i) == wanted[i];
    point(right, "has its address");
    if (kind->knows_cable) point(kind->up(), "has a cable");
    point(kind->receive() == 0, "has no frame at first");
    send(100, 1);
    point(comes_back(100), "sends a frame and receives it");
    point(kind->receive() == 0, "once");

    take_irq(irq);
    irq_action[irq] = kind->silence;
    kind->allow();
    send(200, 2);
    point(wait_irq(irq, 1, 1000), "interrupts for a frame");
    point(comes_back(200), "that is there then");
    delay_milliseconds(2);
    point(irq_count[irq] == 1, "and not again");
    irq_action[irq] = nullptr;
    give_irq(irq);

    bool whole = true;
    uint32_t bytes = 64;
    for (uint32_t i = 3; i < 3 + 3 * entries && whole; ++i, bytes += 60) {
        send(bytes, i);
        whole = comes_back(bytes);
    }
    point(whole, "takes frames of all sizes around its ring");
    // More at once than the ring has room for.
    constexpr uint32_t many = 20;
    start(Loop::no);
    for (uint32_t i = 0; i < many; ++i) send(1000, i);
    uint32_t came = 0;
    while (came < many - 1 && wait_for([] { return kind->receive() != 0; })) ++came;
    point(came == many - 1 && comes_back(1000), "loses no frame that nobody has taken yet");
}

void test_without_cable() {
    find();
    start(Loop::no);
    if (kind->knows_cable) point(wait_for([] { return !kind->up(); }), "has no cable now");
    send(100, 9);
    delay_milliseconds(5);
    point(kind->receive() == 0, "receives nothing then");
    if (!kind->loops) return;
    start(Loop::yes);
    send(300, 10);
    point(comes_back(300), "loops by itself");
}

}  // namespace

extern "C" void guest_main() {
    make_segments_flat();
    uint32_t number = 0;
    for (const Kind& one : kinds) {
        kind = &one;
        test_card(number++);
    }
    note("ready without cables");
    flush_report();
    kind = &kinds[0];
    find();
    start(Loop::no);
    wait_for([] { return !kind->up(); });
    for (const Kind& one : kinds) {
        kind = &one;
        test_without_cable();
    }
    finish();
}
