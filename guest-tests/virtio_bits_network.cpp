// Feature bits of virtio network cards, whose link sends every frame back.

#include "guest-tests/virtio_features.hpp"

namespace guest {
namespace {

constexpr uint32_t CSUM = 0, GUEST_CSUM = 1, GUEST_OFFLOADS = 2, MTU = 3, MAC = 5, GUEST_TSO4 = 7, GUEST_TSO6 = 8,
                   GUEST_ECN = 9, HOST_TSO4 = 11, HOST_TSO6 = 12, HOST_ECN = 13, MRG_RXBUF = 15, STATUS = 16,
                   CTRL_VQ = 17, CTRL_RX = 18, CTRL_VLAN = 19, CTRL_RX_EXTRA = 20, GUEST_ANNOUNCE = 21, MQ = 22,
                   CTRL_MAC_ADDR = 23, SPEED_DUPLEX = 63;
constexpr uint8_t NEEDS_CSUM = 1, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80;
constexpr uint8_t ACK_OK = 0, ACK_ERR = 1, unanswered = 0xEE;
enum Class : uint8_t { RX = 0, MAC_CLASS = 1, VLAN = 2, ANNOUNCE = 3, MQ_CLASS = 4, OFFLOADS = 5 };
enum Mode : uint8_t { PROMISC = 0, ALLMULTI = 1, ALLUNI = 2, NOMULTI = 3, NOUNI = 4, NOBCAST = 5 };

constexpr uint32_t frame = outgoing + 64, incoming_room = 0x2000, answer = command + 0x100;
constexpr uint8_t other_card[6] = {2, 0, 0, 0, 0, 0x33}, group[6] = {1, 0, 0x5E, 1, 2, 3},
                  everybody[6] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
uint8_t own[6];
Queue receiving, sending, controlling;
uint32_t header_size = 12;
bool offered = false;  // a buffer that waits for a frame

// ---- Frames --------------------------------------------------------------------------------------------------------

// What is left to be done of a frame.
struct Undone {
    uint8_t flags = 0, packet = 0;
    uint16_t segment = 0, start = 0, offset = 0;
};

void put16(uint32_t at, uint32_t value) {
    byte(at) = static_cast<uint8_t>(value >> 8);
    byte(at + 1) = static_cast<uint8_t>(value);
}
uint32_t get16(uint32_t at) {
    return uint32_t{byte(at)} << 8 | byte(at + 1);
}

void offer(Queue& queue, uint32_t index, uint32_t room) {
    const Piece piece{incoming + index * incoming_distance, room, true};
    queue.add(&piece, 1, false);
    device.tell(queue.number);
}

void send(Queue& queue, uint32_t bytes, const Undone& undone = {}) {
    fill(outgoing, 12, 0);
    byte(outgoing) = undone.flags;
    byte(outgoing + 1) = undone.packet;
    half(outgoing + 4) = undone.segment;
    half(outgoing + 6) = undone.start;
    half(outgoing + 8) = undone.offset;
    const Piece pieces[] = {{outgoing, header_size, false}, {frame, bytes, false}};
    queue.add(pieces, 2, false);
    device.tell(queue.number);
    wait_for_buffer(queue, 5000);
}

// A frame with an address and a number; its size.
uint32_t make_frame(const uint8_t* to, uint8_t number, uint32_t vlan = 0) {
    fill(frame, 64, number);
    for (uint32_t i = 0; i < 6; ++i) byte(frame + i) = to[i];
    for (uint32_t i = 0; i < 6; ++i) byte(frame + 6 + i) = other_card[i];
    put16(frame + 12, vlan ? 0x8100 : 0x88B5);
    if (vlan) {
        put16(frame + 14, vlan);
        put16(frame + 16, 0x88B5);
    }
    return 64;
}

// Offers a buffer for the next frame; its size, or 0 when none comes.
uint32_t receive(uint32_t milliseconds = 5000) {
    if (!offered) offer(receiving, 0, incoming_room);
    const uint32_t size = wait_for_buffer(receiving, milliseconds);
    offered = size == 0xFFFFFFFF;
    return size == 0xFFFFFFFF || size < header_size ? 0 : size - header_size;
}

// Takes what earlier tests have left on the link, which loses the last of too many.
bool is_empty() {
    constexpr uint8_t last = 0xDD;
    for (uint32_t tries = 0; tries < 3; ++tries) {
        send(sending, make_frame(everybody, last));
        while (receive(200) != 0) {
            if (byte(incoming + header_size + 50) == last) return true;
        }
    }
    return false;
}

// Starts the card with queues for receiving, sending and control.
bool open(uint64_t features) {
    if (!agree(features)) return false;
    offered = false;
    header_size = legacy() && !(features & bit(MRG_RXBUF)) ? 10 : 12;
    const uint32_t pairs = features & bit(MQ) ? device.configuration16(8) : 1;
    receiving = open_queue(0, subject.packed, more_rings);
    sending = open_queue(1, subject.packed, more_rings + ring_distance);
    controlling = open_queue(static_cast<uint16_t>(2 * pairs), subject.packed, more_rings + 2 * ring_distance);
    go();
    for (uint32_t i = 0; i < 6; ++i) own[i] = device.configuration8(i);
    return is_empty();
}

// Whether what is in `frame` comes back. A frame for `always`, which does, is sent behind it.
bool comes_back(uint32_t bytes, const uint8_t* always, const Undone& undone = {}) {
    const uint8_t number = byte(frame + 50);
    send(sending, bytes, undone);
    send(sending, make_frame(always, 0xEE));
    bool came = false;
    for (;;) {
        if (receive() == 0) {
            check(false, "a frame that always comes does");
            return false;
        }
        if (byte(incoming + header_size + 50) == 0xEE) return came;
        came = byte(incoming + header_size + 50) == number;
    }
}
bool passes(const uint8_t* to, uint32_t vlan = 0, const uint8_t* always = own) {
    return comes_back(make_frame(to, 0x11, vlan), always);
}

// A sum of 16-bit numbers, as TCP and IP have it.
uint32_t sum(uint32_t at, uint32_t bytes, uint32_t before) {
    for (uint32_t i = 0; i + 1 < bytes; i += 2) before += get16(at + i);
    if (bytes & 1) before += uint32_t{byte(at + bytes - 1)} << 8;
    while (before >> 16) before = (before & 0xFFFF) + (before >> 16);
    return before;
}

constexpr uint32_t cwr = 0x80, tcp_checksum_at = 16;
struct Ip {
    bool six;
    uint32_t tcp() const { return six ? 14 + 40 : 14 + 20; }
    uint32_t pseudo(uint32_t at, uint32_t bytes) const {
        return six ? sum(at + 14 + 8, 32, 6 + bytes) : sum(at + 14 + 12, 8, 6 + bytes);
    }
};

// A packet of TCP whose checksum is that of the pseudo header; its size.
uint32_t make_packet(Ip ip, uint32_t payload, uint32_t flags) {
    fill(frame, 14 + 40 + 20, 0);
    for (uint32_t i = 0; i < 6; ++i) byte(frame + i) = own[i];
    for (uint32_t i = 0; i < 6; ++i) byte(frame + 6 + i) = other_card[i];
    put16(frame + 12, ip.six ? 0x86DD : 0x0800);
    const uint32_t bytes = 20 + payload, at = frame + ip.tcp();
    if (ip.six) {
        byte(frame + 14) = 0x60;
        put16(frame + 18, bytes);
        byte(frame + 20) = 6;
        byte(frame + 21) = 64;
        for (uint32_t i = 0; i < 32; ++i) byte(frame + 22 + i) = static_cast<uint8_t>(i + 1);
    } else {
        byte(frame + 14) = 0x45;
        put16(frame + 16, 20 + bytes);
        byte(frame + 22) = 64;
        byte(frame + 23) = 6;
        for (uint32_t i = 0; i < 8; ++i) byte(frame + 26 + i) = static_cast<uint8_t>(10 + i);
        put16(frame + 24, ~sum(frame + 14, 20, 0) & 0xFFFF);
    }
    put16(at, 1000);
    put16(at + 2, 2000);
    put16(at + 6, 500);  // sequence number
    byte(at + 12) = 0x50;
    byte(at + 13) = static_cast<uint8_t>(0x10 | flags);
    for (uint32_t i = 0; i < payload; ++i) byte(at + 20 + i) = static_cast<uint8_t>(i * 7);
    put16(at + tcp_checksum_at, ip.pseudo(frame, bytes));
    return ip.tcp() + bytes;
}

// Whether a frame of TCP in `incoming` has this part of the data, and right lengths and sums.
bool is_segment(Ip ip, uint32_t size, uint32_t first, uint32_t payload, bool finished) {
    const uint32_t at = incoming + header_size, tcp = at + ip.tcp(), bytes = 20 + payload;
    bool good = size == ip.tcp() + bytes && get16(tcp + 6) == 500 + first;
    good = good && get16(at + (ip.six ? 18 : 16)) == (ip.six ? bytes : 20 + bytes);
    good = good && (ip.six || sum(at + 14, 20, 0) == 0xFFFF);
    if (finished) good = good && sum(tcp, bytes, ip.pseudo(at, bytes)) == 0xFFFF;
    for (uint32_t i = 0; i < payload && good; ++i) good = byte(tcp + 20 + i) == static_cast<uint8_t>((first + i) * 7);
    return good;
}

Undone open_sum(Ip ip) {
    return {.flags = NEEDS_CSUM, .start = static_cast<uint16_t>(ip.tcp()), .offset = tcp_checksum_at};
}
Undone segments(Ip ip, uint8_t marks = 0) {
    Undone undone = open_sum(ip);
    undone.packet = static_cast<uint8_t>((ip.six ? GSO_TCPV6 : GSO_TCPV4) | marks);
    undone.segment = 1000;
    return undone;
}
constexpr uint32_t payload = 2500;  // three segments

// ---- What the driver leaves undone ---------------------------------------------------------------------------------

// Whether the header of what came says that nothing is left to do.
bool nothing_undone() {
    return (byte(incoming) & NEEDS_CSUM) == 0 && byte(incoming + 1) == 0;
}

void see_checksum(uint64_t taken) {
    if (!open(taken)) return;
    send(sending, make_packet({false}, 101, 0), open_sum({false}));
    const uint32_t size = receive();
    check(is_segment({false}, size, 0, 101, true), "the checksum is finished on the way");
    check(byte(incoming) == 0 && byte(incoming + 1) == 0, "and nothing is said of it to a driver that takes none");
    if (!open(taken & ~bit(CSUM))) return;
    const uint32_t bytes = make_packet({false}, 101, 0);
    check(!comes_back(bytes, own, open_sum({false})), "without it such a frame is not sent");
}

bool comes_in_segments(Ip ip) {
    bool good = true;
    for (uint32_t first = 0; first < payload; first += 1000) {
        const uint32_t bytes = payload - first < 1000 ? payload - first : 1000;
        good = is_segment(ip, receive(), first, bytes, true) && good;
        good = nothing_undone() && good;
    }
    return good;
}

void see_sent_segments(Ip ip, uint64_t taken) {
    if (!open(taken)) return;
    send(sending, make_packet(ip, payload, 0), segments(ip));
    check(comes_in_segments(ip), "a long packet comes back in finished segments");
    if (!open(taken & ~bit(ip.six ? HOST_TSO6 : HOST_TSO4))) return;
    check(!comes_back(make_packet(ip, payload, 0), own, segments(ip)), "without it such a packet is not sent");
}
void see_host_tso4(uint64_t taken) {
    see_sent_segments({false}, taken);
}
void see_host_tso6(uint64_t taken) {
    see_sent_segments({true}, taken);
}

void see_sent_marks(uint64_t taken) {
    const Ip ip{(taken & bit(HOST_TSO6)) != 0};
    if (!open(taken)) return;
    send(sending, make_packet(ip, payload, cwr), segments(ip, GSO_ECN));
    uint32_t marks = 0;
    for (uint32_t i = 0; i < 3; ++i) {
        receive();
        marks |= (byte(incoming + header_size + ip.tcp() + 13) & cwr ? 1u : 0u) << i;
    }
    check_equal(marks, 1, "the first segment alone has the mark");
    if (!open(taken & ~bit(HOST_ECN))) return;
    check(!comes_back(make_packet(ip, payload, cwr), own, segments(ip, GSO_ECN)), "without it it is not sent");
}

// ---- What it takes undone ------------------------------------------------------------------------------------------

bool comes_open() {
    send(sending, make_packet({false}, 101, 0), open_sum({false}));
    const uint32_t size = receive();
    return is_segment({false}, size, 0, 101, false) && byte(incoming) == NEEDS_CSUM && half(incoming + 6) == 34 &&
           half(incoming + 8) == tcp_checksum_at;
}

void see_guest_checksum(uint64_t taken) {
    if (open(taken | bit(CSUM))) check(comes_open(), "an open checksum comes so");
}

bool comes_whole(Ip ip, uint8_t marks) {
    send(sending, make_packet(ip, payload, marks ? cwr : 0), segments(ip, marks));
    const uint32_t size = receive();
    const uint32_t headers = ip.tcp() + 20;
    return is_segment(ip, size, 0, payload, false) && byte(incoming) == NEEDS_CSUM &&
           byte(incoming + 1) == segments(ip, marks).packet && half(incoming + 2) == headers &&
           half(incoming + 4) == 1000 && half(incoming + 6) == ip.tcp() && half(incoming + 8) == tcp_checksum_at;
}

void see_received_packets(Ip ip, uint64_t taken) {
    const uint64_t sender = bits(CSUM, ip.six ? HOST_TSO6 : HOST_TSO4);
    if (!open(taken | sender)) return;
    check(comes_whole(ip, 0), "a long packet comes as one");
    if (!open((taken | sender) & ~bit(ip.six ? GUEST_TSO6 : GUEST_TSO4))) return;
    send(sending, make_packet(ip, payload, 0), segments(ip));
    check(comes_in_segments(ip), "without it in segments");
}
void see_guest_tso4(uint64_t taken) {
    see_received_packets({false}, taken);
}
void see_guest_tso6(uint64_t taken) {
    see_received_packets({true}, taken);
}

void see_received_marks(uint64_t taken) {
    const Ip ip{(taken & bit(GUEST_TSO6)) != 0};
    const uint64_t sender = bits(CSUM, ip.six ? HOST_TSO6 : HOST_TSO4, HOST_ECN);
    if (!open(taken | sender)) return;
    check(comes_whole(ip, GSO_ECN), "a long packet with a mark comes as one");
    if (!open((taken | sender) & ~bit(GUEST_ECN))) return;
    send(sending, make_packet(ip, payload, cwr), segments(ip, GSO_ECN));
    check(comes_in_segments(ip), "without it in segments");
}

void see_merged(uint64_t taken) {
    if (!open(taken)) return;
    offer(receiving, 0, 200);
    offer(receiving, 1, 200);
    make_frame(own, 0x21);
    fill(frame + 64, 236, 0x22);
    send(sending, 300);
    check_equal(wait_for_buffer(receiving, 5000), 200, "a long frame fills one buffer");
    check_equal(wait_for_buffer(receiving, 5000), header_size + 300 - 200, "and goes on in the next");
    check_equal(half(incoming + 10), 2, "the first one says how many there are");
    check_equal(byte(incoming + incoming_distance), 0x22, "and the second begins with what is next");
    if (!open(taken & ~bit(MRG_RXBUF))) return;
    offer(receiving, 0, 200);
    make_frame(own, 0x23);
    send(sending, 300);
    send(sending, make_frame(own, 0x24));
    const uint32_t size = wait_for_buffer(receiving, 5000);
    check(size == header_size + 64 && byte(incoming + header_size + 50) == 0x24, "without it it is lost");
    if (!legacy()) check_equal(half(incoming + 10), 1, "and a buffer is a frame");
}

// ---- Configuration -------------------------------------------------------------------------------------------------

void see_address(uint64_t taken) {
    if (!open(taken)) return;
    check(own[0] == 0x52 && own[1] == 0x54 && own[2] == 0, "it has an address");
    const uint8_t last = device.configuration8(5), wanted = static_cast<uint8_t>(last ^ 0x40);
    device.write_configuration8(5, wanted);
    check_equal(device.configuration8(5), legacy() ? wanted : last, "which drivers before version 1.0 write there");
    open(taken);
    check_equal(device.configuration8(5), last, "and a reset brings back");
}

void see_status(uint64_t) {
    check_equal(device.configuration16(6), 1, "the link is up");
}

void see_mtu(uint64_t taken) {
    check_equal(device.configuration16(10), 1500, "packets have at most 1500 bytes");
    if (!open(taken)) return;
    make_frame(own, 0x31);
    check(comes_back(14 + 1500, own), "which are received");
    make_frame(own, 0x32);
    check(!comes_back(14 + 1501, own), "one more is too many");
    make_frame(own, 0x33, 7);
    check(comes_back(18 + 1500, own), "a VLAN's tag does not count");
    if (!open(taken & ~bit(MTU))) return;
    make_frame(own, 0x34);
    check(comes_back(14 + 1501, own), "without it all are received");
}

void see_speed(uint64_t) {
    check_equal(device.configuration32(12), 10000, "10 Gbit/s");
    check_equal(device.configuration8(16), 1, "both ways at a time, as drivers take it");
}

// ---- Control -------------------------------------------------------------------------------------------------------

uint8_t control(uint8_t kind, uint8_t what, uint32_t bytes, uint32_t milliseconds = 5000) {
    byte(command) = kind;
    byte(command + 1) = what;
    byte(answer) = unanswered;
    const Piece pieces[] = {{command, 2, false}, {command + 16, bytes, false}, {answer, 1, true}};
    const Piece without[] = {pieces[0], pieces[2]};
    controlling.add(bytes ? pieces : without, bytes ? 3 : 2, false);
    device.tell(controlling.number);
    wait_for_buffer(controlling, milliseconds);
    return byte(answer);
}
uint8_t control_number(uint8_t kind, uint8_t what, uint32_t value, uint32_t bytes) {
    words(command + 16)[0] = value;
    words(command + 20)[0] = 0;
    return control(kind, what, bytes);
}
uint8_t set_mode(Mode mode, bool on) {
    return control_number(RX, mode, on, 1);
}

void see_control(uint64_t taken) {
    if (!open(taken)) return;
    bool refused = true;
    for (uint8_t kind = 0; kind < 16; ++kind) refused = refused && control_number(kind, 0, 0, 1) == ACK_ERR;
    check(refused, "every command is refused without its bit");
    if (!open(taken & ~bit(CTRL_VQ))) return;
    check_equal(control(RX, PROMISC, 1, 5), unanswered, "without it nobody answers");
}

void see_modes(uint64_t taken) {
    if (!open(taken)) return;
    check(passes(other_card), "all frames come at first");
    check_equal(set_mode(PROMISC, false), ACK_OK, "not any more");
    check(!passes(other_card) && passes(own) && !passes(group) && passes(everybody), "own ones and broadcasts do");
    check_equal(set_mode(ALLMULTI, true), ACK_OK, "with all groups");
    check(passes(group) && !passes(other_card), "groups do");
    check_equal(set_mode(ALLMULTI, false), ACK_OK, "and without");
    check(!passes(group), "they do not");
    words(command + 16)[0] = 1;
    words(command + 26)[0] = 1;
    for (uint32_t i = 0; i < 6; ++i) byte(command + 20 + i) = other_card[i];
    for (uint32_t i = 0; i < 6; ++i) byte(command + 30 + i) = group[i];
    check_equal(control(MAC_CLASS, 0, 20), ACK_OK, "tables of addresses");
    check(passes(other_card) && passes(group), "let theirs pass");
    check_equal(control(MAC_CLASS, 0, 19), ACK_ERR, "a table that is cut short is refused");
    check_equal(set_mode(ALLUNI, true), ACK_ERR, "the other modes are refused without their bit");
}

void see_more_modes(uint64_t taken) {
    if (!open(taken | bit(CTRL_RX))) return;
    check_equal(set_mode(PROMISC, false), ACK_OK, "a filter");
    check_equal(set_mode(ALLUNI, true), ACK_OK, "with all single addresses");
    check(passes(other_card) && !passes(group), "lets them pass, and no groups");
    check_equal(set_mode(NOUNI, true), ACK_OK, "without any");
    check(!passes(own, 0, everybody) && !passes(other_card, 0, everybody), "none");
    check(set_mode(NOUNI, false) == ACK_OK && set_mode(ALLMULTI, true) == ACK_OK, "with all groups");
    check(passes(group), "groups pass");
    check_equal(set_mode(NOMULTI, true), ACK_OK, "without any");
    check(!passes(group) && passes(everybody), "none but broadcasts");
    check_equal(set_mode(NOBCAST, true), ACK_OK, "without them");
    check(!passes(everybody) && passes(own), "no broadcasts either");
    check_equal(set_mode(ALLUNI, false), ACK_OK, "with own ones only");
    check(!passes(other_card) && passes(own), "own ones");
    check_equal(set_mode(PROMISC, true), ACK_OK, "without a filter");
    check(passes(everybody) && passes(group) && passes(other_card), "everything, whatever the modes");
    if (open(taken)) check_equal(set_mode(PROMISC, true), ACK_ERR, "the first modes are refused without their bit");
}

void see_vlans(uint64_t taken) {
    if (!open(taken)) return;
    check(!passes(own, 5) && passes(own), "tagged frames do not come");
    check_equal(control_number(VLAN, 0, 5, 2), ACK_OK, "but where it is wanted");
    check(passes(own, 5) && !passes(own, 6), "they do");
    check_equal(control_number(VLAN, 1, 5, 2), ACK_OK, "until it is not");
    check(!passes(own, 5), "then they do not");
    check_equal(control_number(VLAN, 0, 4096, 2), ACK_ERR, "numbers end at 4095");
    if (open(bit(CTRL_VQ))) check(passes(own, 5), "without it all come");
}

void see_announcements(uint64_t taken) {
    if (!open(taken)) return;
    check_equal(control(ANNOUNCE, 0, 0), ACK_OK, "that it has announced itself is heard");
    check_equal(device.configuration16(6) & 2, 0, "nobody asks for it");
}

void see_pairs(uint64_t taken) {
    const uint32_t pairs = device.configuration16(8);
    check_equal(pairs, 2, "there are two pairs of queues");
    if (!open(taken)) return;
    check(control_number(MQ_CLASS, 0, 0, 2) == ACK_ERR && control_number(MQ_CLASS, 0, 3, 2) == ACK_ERR,
          "no pair and three are refused");
    if (!agree(taken)) return;
    receiving = open_queue(0, subject.packed, more_rings);
    controlling = open_queue(4, subject.packed, more_rings + 2 * ring_distance);
    Queue receiving_2 = open_queue(2, subject.packed, more_rings + 3 * ring_distance);
    Queue sending_2 = open_queue(3, subject.packed, more_rings + 4 * ring_distance);
    go();
    check_equal(control_number(MQ_CLASS, 0, 2, 2), ACK_OK, "two are taken");
    offer(receiving, 0, incoming_room);
    offer(receiving_2, 1, incoming_room);
    const uint32_t bytes = make_packet({false}, 100, 0);
    put16(frame + 34 + tcp_checksum_at, 0);
    send(sending_2, bytes);
    check_equal(wait_for_buffer(receiving_2, 5000), bytes + header_size, "what the second sends comes back to it");
    check_equal(receiving.take(), 0xFFFFFFFF, "and not to the first");
}

void see_new_address(uint64_t taken) {
    static constexpr uint8_t wanted[6] = {2, 0, 0, 0, 0, 0x77};
    if (!open(taken | bit(CTRL_RX))) return;
    check_equal(set_mode(PROMISC, false), ACK_OK, "with a filter");
    for (uint32_t i = 0; i < 6; ++i) byte(command + 16 + i) = wanted[i];
    check_equal(control(MAC_CLASS, 1, 6), ACK_OK, "another address");
    check_equal(device.configuration8(5), 0x77, "is where it can be read");
    check(passes(wanted, 0, everybody) && !passes(own, 0, everybody), "and what is received");
    check_equal(control(MAC_CLASS, 1, 5), ACK_ERR, "half an address is refused");
}

void see_offloads(uint64_t taken) {
    if (!open(taken | bits(CSUM, GUEST_CSUM))) return;
    check(comes_open(), "an open checksum comes so");
    check_equal(control_number(OFFLOADS, 0, 0, 8), ACK_OK, "until that is switched off");
    send(sending, make_packet({false}, 101, 0), open_sum({false}));
    check(is_segment({false}, receive(), 0, 101, true) && nothing_undone(), "then it comes finished");
    check_equal(control_number(OFFLOADS, 0, 1u << GUEST_CSUM, 8), ACK_OK, "and on");
    check(comes_open(), "then it comes open again");
    check_equal(control_number(OFFLOADS, 0, 1u << GUEST_TSO4, 8), ACK_ERR, "what was not taken is refused");
}

// The script pulls the first card's cable out and plugs it in again.
void see_cable() {
    check(find(0x1000) && open(bits(STATUS, CTRL_VQ, GUEST_ANNOUNCE)), "a card whose cable is moved");
    device.take_isr();
    note("ready for the cable");
    Deadline deadline(30000);
    while (device.configuration16(6) != 3 && !deadline.passed()) delay_milliseconds(1);
    check_equal(device.configuration16(6), 3, "is asked to announce itself once the link is up again");
    check((device.take_isr() & 2) != 0, "by an interrupt");
    check_equal(control(ANNOUNCE, 0, 0), ACK_OK, "it has done so");
    check_equal(device.configuration16(6), 1, "and is not asked again");
    device.set_status(0);
}

constexpr uint64_t by4 = bits(HOST_TSO4, CSUM), by6 = bits(HOST_TSO6, CSUM), to4 = bits(GUEST_TSO4, GUEST_CSUM),
                   to6 = bits(GUEST_TSO6, GUEST_CSUM);
constexpr Bit rows[] = {
    {network, CSUM, 0, 0, "CSUM: a checksum is finished with it only", see_checksum},
    {network, GUEST_CSUM, 0, 0, "GUEST_CSUM: an open checksum comes", see_guest_checksum},
    {network, GUEST_OFFLOADS, 0, bit(CTRL_VQ), "CTRL_GUEST_OFFLOADS: off and on", see_offloads},
    {network, MTU, 0, 0, "MTU: its field, longer frames do not come", see_mtu},
    {network, MAC, 0, 0, "MAC: its field", see_address},
    {network, GUEST_TSO4, bit(GUEST_CSUM), 0, "GUEST_TSO4: a long packet comes as one", see_guest_tso4},
    {network, GUEST_TSO6, bit(GUEST_CSUM), 0, "GUEST_TSO6: a long packet comes as one", see_guest_tso6},
    {network, GUEST_ECN, to4, 0, "GUEST_ECN by IPv4: one with a mark", see_received_marks},
    {network, GUEST_ECN, to6, 0, "GUEST_ECN by IPv6: one with a mark", see_received_marks},
    {network, HOST_TSO4, bit(CSUM), 0, "HOST_TSO4: segments, with it only", see_host_tso4},
    {network, HOST_TSO6, bit(CSUM), 0, "HOST_TSO6: segments, with it only", see_host_tso6},
    {network, HOST_ECN, by4, 0, "HOST_ECN by IPv4: segments with a mark", see_sent_marks},
    {network, HOST_ECN, by6, 0, "HOST_ECN by IPv6: segments with a mark", see_sent_marks},
    {network, MRG_RXBUF, 0, 0, "MRG_RXBUF: a frame in two buffers, their number", see_merged},
    {network, STATUS, 0, 0, "STATUS: its field", see_status},
    {network, CTRL_VQ, 0, 0, "CTRL_VQ: answers, refuses each class without its bit", see_control},
    {network, CTRL_RX, bit(CTRL_VQ), 0, "CTRL_RX: promiscuous, all groups, tables", see_modes},
    {network, CTRL_VLAN, bit(CTRL_VQ), 0, "CTRL_VLAN: tagged frames", see_vlans},
    {network, CTRL_RX_EXTRA, 0, bit(CTRL_VQ), "CTRL_RX_EXTRA: its four modes", see_more_modes},
    {network, GUEST_ANNOUNCE, bit(CTRL_VQ), 0, "GUEST_ANNOUNCE: acknowledged; see_cable()", see_announcements},
    {network, MQ, bit(CTRL_VQ), 0, "MQ: its field, pairs, where answers come", see_pairs},
    {network, CTRL_MAC_ADDR, bit(CTRL_VQ), 0, "CTRL_MAC_ADDR: another address is received", see_new_address},
    {network, SPEED_DUPLEX, 0, 0, "SPEED_DUPLEX: its fields", see_speed},
};

}  // namespace

Board board() {
    return {.tables = {{rows, sizeof(rows) / sizeof(rows[0])}, {}}, .cards = 2, .places = 1, .last = see_cable};
}

}  // namespace guest
