// Feature bits of consoles, balloons, shared folders and sockets.

#include "guest-tests/virtio_features.hpp"

namespace guest {
namespace {

constexpr uint32_t not_back = 0xFFFFFFFF;
constexpr uint32_t second_ring = more_rings;

// ---- Console -------------------------------------------------------------------------------------------------------

// The other end of the first console sends back what it gets, in the order in which it comes.
constexpr uint32_t emergency_at = 8;

bool has_echo() {
    return device.configuration16(0) == 0;
}

bool echoes(Queue& receiving, uint8_t expected) {
    const Piece piece{incoming, 64, true};
    for (uint32_t tries = 0; tries < 200; ++tries) {
        receiving.add(&piece, 1, false);
        device.tell(receiving.number);
        const uint32_t bytes = wait_for_buffer(receiving, 5000);
        if (bytes == not_back) return false;
        for (uint32_t i = 0; i < bytes; ++i) {
            if (byte(incoming + i) == expected) return true;
        }
    }
    return false;
}

void see_size(uint64_t) {
    check(device.configuration16(0) == 100 && device.configuration16(2) == 40, "100 columns and 40 rows");
}

void send_message(Queue& sending, uint16_t event, uint16_t value, uint32_t milliseconds = 5000) {
    words(command)[0] = 0;
    half(command + 4) = event;
    half(command + 6) = value;
    const Piece piece{command, 8, false};
    sending.add(&piece, 1, false);
    device.tell(sending.number);
    wait_for_buffer(sending, milliseconds);
}
// The next message of the device: its event and value, if it is of port 0.
uint32_t next_message(Queue& receiving, uint32_t milliseconds) {
    words(incoming)[0] = words(incoming)[1] = not_back;
    const Piece piece{incoming, 64, true};
    receiving.add(&piece, 1, false);
    device.tell(receiving.number);
    wait_for_buffer(receiving, milliseconds);
    return words(incoming)[0] == 0 ? words(incoming)[1] : not_back;
}

void see_ports(uint64_t taken) {
    constexpr uint16_t DEVICE_READY = 0, DEVICE_ADD = 1, PORT_READY = 3, CONSOLE_PORT = 4, PORT_OPEN = 6;
    check_equal(device.configuration32(4), 1, "there is one port");
    for (const bool without : either) {
        if (!agree(without ? 0 : taken)) return;
        Queue receiving = open_queue(2, subject.packed, second_ring);
        Queue sending = open_queue(3, subject.packed, second_ring + ring_distance);
        go();
        send_message(sending, DEVICE_READY, 1, without ? 5 : 5000);
        if (without) {
            check_equal(next_message(receiving, 5), not_back, "without it nobody tells");
            continue;
        }
        check_equal(next_message(receiving, 5000), 1u << 16 | DEVICE_ADD, "which is told of");
        send_message(sending, PORT_READY, 1);
        check_equal(next_message(receiving, 5000), 1u << 16 | CONSOLE_PORT, "is a console");
        check_equal(next_message(receiving, 5000), 1u << 16 | PORT_OPEN, "and is open");
    }
}

void see_emergency(uint64_t taken) {
    static uint8_t number = 0;
    if (!has_echo() || !agree(taken)) return;
    number = static_cast<uint8_t>(number % 100 + 1);
    device.write_configuration8(emergency_at, static_cast<uint8_t>(100 + number));
    Queue receiving = open_queue(0, subject.packed, second_ring);
    go();
    check(echoes(receiving, static_cast<uint8_t>(100 + number)), "a byte goes out before the console is started");
}

// ---- Balloon -------------------------------------------------------------------------------------------------------

constexpr uint32_t reporting_bit = 5, poison_bit = 4, statistics_bit = 1, poison_at = 12, actual_at = 4;
constexpr uint32_t page = 0x400000;

bool reports(Queue& reporting, uint32_t milliseconds) {
    const Piece piece{page, 4096, true};
    reporting.add(&piece, 1, false);
    device.tell(reporting.number);
    return wait_for_buffer(reporting, milliseconds) != not_back;
}
bool is_filled(uint8_t value) {
    bool good = true;
    for (uint32_t i = 0; i < 4096; i += 64) good = good && byte(page + i) == value;
    return good;
}

void see_statistics(uint64_t taken) {
    if (!agree(taken)) return;
    Queue statistics = open_queue(2, subject.packed, second_ring);
    go();
    fill(data, 20, 0);
    half(data) = 4;  // free memory
    words(data + 2)[0] = 12345;
    half(data + 10) = 0x7777;  // nobody knows that
    const Piece piece{data, 20, false};
    statistics.add(&piece, 1, false);
    device.tell(statistics.number);
    check_equal(statistics.take(), not_back, "the device keeps what it was told");
    check(wait_for_buffer(statistics, 5000) != not_back, "until it asks again");
}

void see_deflation(uint64_t taken) {
    if (!agree(taken)) return;
    Queue deflating = open_queue(1, subject.packed, second_ring);
    go();
    words(header)[0] = page >> 12;
    const Piece piece{header, 4, false};
    deflating.add(&piece, 1, false);
    device.tell(deflating.number);
    check(wait_for_buffer(deflating, 5000) != not_back, "a page is taken back");
    device.write_configuration8(actual_at, 3);
    check_equal(device.configuration32(actual_at), 3, "the driver says how many it has given");
}

void see_poison(uint64_t taken) {
    if (!agree(taken | bit(reporting_bit))) return;
    Queue reporting = open_queue(2, subject.packed, second_ring);
    go();
    for (uint32_t i = 0; i < 4; ++i) device.write_configuration8(poison_at + i, 0xAA);
    check_equal(device.configuration32(poison_at), 0xAAAAAAAA, "the poison is what the driver says");
    fill(page, 4096, 0xAA);
    check(reports(reporting, 5000) && is_filled(0xAA), "a page that is reported keeps it");
    if (!start_with(0)) return;
    device.write_configuration8(poison_at, 0x55);
    check_equal(device.configuration32(poison_at), 0, "without it there is no such field");
}

void see_reports(uint64_t taken) {
    // Where the driver has statistics they are in front.
    for (const bool both : either) {
        if (!agree(taken | (both ? bit(statistics_bit) : 0))) return;
        Queue reporting = open_queue(both ? 3 : 2, subject.packed, second_ring);
        go();
        fill(page, 4096, 0x5A);
        check(reports(reporting, 5000) && is_filled(0), "a page that is reported goes back to the host");
    }
    if (!agree(0)) return;
    Queue reporting = open_queue(2, subject.packed, second_ring);
    go();
    fill(page, 4096, 0x5A);
    check(!reports(reporting, 5) && is_filled(0x5A), "without it nobody takes reports");
}

// ---- Shared folder -------------------------------------------------------------------------------------------------

void see_tag(uint64_t) {
    static constexpr char tag[] = "share";
    check_equal(device.configuration16(0), 5, "its tag has five letters");
    bool same = true;
    for (uint32_t i = 0; i < 5; ++i) same = same && device.configuration8(2 + i) == static_cast<uint8_t>(tag[i]);
    check(same, "which are these");
}

// ---- Sockets -------------------------------------------------------------------------------------------------------

constexpr uint16_t STREAM = 1, REQUEST = 1, RST = 3;

// What the answer to a call to a port where nobody waits is.
uint32_t answer_to_call(Queue& receiving, Queue& sending, uint16_t type) {
    fill(command, 44, 0);
    words(command)[0] = 7;  // from the guest
    words(command)[2] = 2;  // to the host
    words(command)[4] = 1024;
    words(command)[5] = 80;
    half(command + 28) = type;
    half(command + 30) = REQUEST;
    const Piece packet{command, 44, false}, room{incoming, 256, true};
    receiving.add(&room, 1, false);
    device.tell(receiving.number);
    sending.add(&packet, 1, false);
    device.tell(sending.number);
    wait_for_buffer(sending, 5000);
    if (wait_for_buffer(receiving, 5000) != 44) return not_back;
    const bool right = words(incoming)[0] == 2 && words(incoming)[2] == 7 && words(incoming)[4] == 80 &&
                       words(incoming)[5] == 1024 && half(incoming + 28) == type;
    return right ? half(incoming + 30) : not_back;
}

void see_streams(uint64_t taken) {
    check(device.configuration32(0) == 7 && device.configuration32(4) == 0, "the guest has its number");
    for (const bool without : either) {
        if (!agree(without ? 0 : taken)) return;
        Queue receiving = open_queue(0, subject.packed, second_ring);
        Queue sending = open_queue(1, subject.packed, second_ring + ring_distance);
        go();
        check_equal(answer_to_call(receiving, sending, STREAM), RST, "a call is refused where nobody waits");
        check_equal(answer_to_call(receiving, sending, 9), RST, "and one of no known type");
    }
}

constexpr Bit rows[] = {
    {console, 0, 0, 0, "SIZE: its fields", see_size},
    {console, 1, 0, 0, "MULTIPORT: its field, messages of a port", see_ports},
    {console, 2, 0, 0, "EMERG_WRITE: a byte before the driver is ready", see_emergency},
    {balloon, statistics_bit, 0, 0, "STATS_VQ: the buffer comes back with a question", see_statistics},
    {balloon, 2, 0, 0, "DEFLATE_ON_OOM: a page comes back", see_deflation},
    {balloon, poison_bit, 0, 0, "PAGE_POISON: its field, what is reported stays", see_poison},
    {balloon, reporting_bit, 0, 0, "REPORTING: what is reported goes", see_reports},
    {folder, 0, 0, 0, "MOUNT_TAG: its field", see_tag},
    {sockets, 0, 0, 0, "STREAM: calls, with it or without any bit", see_streams},
};

}  // namespace

Board board() {
    return {.tables = {disk_bits(), {rows, sizeof(rows) / sizeof(rows[0])}}, .cards = 12, .places = 2, .last = nullptr};
}

}  // namespace guest
