#include "devices/virtio/socket/virtio_socket.hpp"

#include "devices/virtio/socket/socket_rig_test.hpp"
#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

constexpr uint16_t REQUEST = 1, RESPONSE = 2, RST = 3, SHUTDOWN = 4, RW = 5, CREDIT_UPDATE = 6, CREDIT_REQUEST = 7;
constexpr uint32_t END_RECEIVE = 1, END_SEND = 2;
constexpr uint64_t header_size = 44;
constexpr uint32_t cid = 5;
constexpr uint32_t chunk = 4096;  // bytes behind the header of a driver's buffer

struct Ends {
    TestHost* host = nullptr;
    VirtioSocket* socket = nullptr;
};

struct Board : Ends, VirtioBoard {
    Board()
        : VirtioBoard([this] {
              auto made_host = std::make_unique<TestHost>();
              host = made_host.get();
              auto made = std::make_unique<VirtioSocket>(cid, std::move(made_host), clock);
              socket = made.get();
              return made;
          }) {}

    /// A packet of the guest; with `size` it says more than there is.
    void say(uint16_t operation, uint32_t from, uint32_t to, std::string_view bytes = {}, uint32_t flags = 0,
             std::optional<uint32_t> size = {}) {
        VirtioSocketHeader header{.from_cid = from_cid,
                                  .to_cid = to_cid,
                                  .from_port = from,
                                  .to_port = to,
                                  .size = size.value_or(static_cast<uint32_t>(bytes.size())),
                                  .type = type,
                                  .operation = operation,
                                  .flags = flags,
                                  .buffer_size = room,
                                  .forwarded = forwarded};
        memory.write(Gpa{buffer}, std::as_bytes(std::span(&header, 1)).first(header_size));
        memory.write(Gpa{buffer + header_size}, std::as_bytes(std::span(bytes)));
        const auto all = static_cast<uint32_t>(header_size + bytes.size());
        rings.at(1).add({{buffer, header_size, false}, {buffer + header_size, std::max(all - 44, 1u), false}});
        tell(1);
        taken = rings.at(1).take().has_value();
    }
    struct Told {
        uint16_t operation = 0;
        uint32_t from = 0, to = 0;
        uint32_t flags = 0;
        uint32_t forwarded = 0;
        std::string bytes;
        uint64_t from_cid = 0;
        std::string text() const {
            constexpr const char* names[] = {"", "request", "response", "reset", "end", "bytes", "credit", "credit?"};
            std::string all = fmt::format("{} {}>{}", names[operation], from, to);
            if (flags) all += fmt::format(" flags {}", flags);
            if (!bytes.empty()) all += bytes.size() > 40 ? fmt::format(" {} bytes", bytes.size()) : " " + bytes;
            return all;
        }
    };
    /// The next packet for the guest, if there is one.
    std::optional<Told> hear(uint32_t size = chunk) {
        constexpr uint64_t place = buffer + 0x80000;
        if (!waiting) rings.at(0).add({{place, header_size, true}, {place + header_size, size, true}});
        tell(0);
        const auto used = rings.at(0).take();
        waiting = !used;
        if (!used) return std::nullopt;
        VirtioSocketHeader header;
        memory.read(Gpa{place}, std::as_writable_bytes(std::span(&header, 1)).first(header_size));
        CHECK(header.to_cid == cid);
        CHECK(header.type == type);
        CHECK((header.buffer_size == VirtioSocket::buffer_size || header.operation == RST));
        CHECK(used->written == header_size + header.size);
        const auto bytes = bytes_at(place + header_size, header.size);
        return Told{header.operation, header.from_port, header.to_port,
                    header.flags,     header.forwarded, {bytes.begin(), bytes.end()},
                    header.from_cid};
    }
    std::string hear_text(uint32_t size = chunk) {
        const auto told = hear(size);
        return told ? told->text() : "nothing";
    }
    std::shared_ptr<TestProgram> program(uint32_t port) {
        return host->programs[port] = std::make_shared<TestProgram>();
    }
    /// A connection of the guest, from its port 1000.
    std::shared_ptr<TestProgram> connect(uint32_t port) {
        auto made = program(port);
        say(REQUEST, 1000, port);
        REQUIRE(hear_text() == fmt::format("response {}>1000", port));
        return made;
    }

    uint64_t from_cid = cid, to_cid = 2;
    uint16_t type = 1;
    uint32_t room = 65536, forwarded = 0;  // of the guest
    bool taken = false;                    // the last packet
    bool waiting = false;                  // a buffer for packets
};

}  // namespace

TEST_CASE("The virtio socket device keeps the device contract") {
    check_device_contract(VirtioBoard::closed<Board>);
}

TEST_CASE("A guest reaches a program of the host, and bytes go both ways") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED, feature(0)}) {
        Board board;
        board.start(layout);
        CHECK(board.configuration(0, 8) == cid);
        const auto program = board.connect(80);
        CHECK(board.socket->connections() == 1);
        board.say(RW, 1000, 80, "GET /");
        CHECK(program->got == "GET /");
        CHECK(board.hear_text() == "nothing");
        program->give("200 OK");
        CHECK(board.hear_text() == "bytes 80>1000 200 OK");
    }
}

TEST_CASE("Bytes of the host come when there is a buffer, in its size, and in turn") {
    Board board;
    board.start(0);
    const auto first = board.connect(80);
    const auto second = board.program(81);
    board.say(REQUEST, 1001, 81);
    CHECK(board.hear_text() == "response 81>1001");
    first->give("abcdefgh");
    second->give("12");
    CHECK(board.hear_text(3) == "bytes 81>1001 12");
    CHECK(board.hear_text(3) == "bytes 80>1000 abc");
    CHECK(board.hear_text(3) == "bytes 80>1000 def");
    CHECK(board.hear_text(3) == "bytes 80>1000 gh");
    CHECK(board.hear_text(3) == "nothing");
    // A buffer that waits is filled at once.
    first->given = "more";
    first->call_readable();
    CHECK(board.hear_text() == "bytes 80>1000 mor");
    CHECK(board.hear_text() == "bytes 80>1000 e");
}

TEST_CASE("A program of the host reaches the guest") {
    Board board;
    board.start(0);
    const auto program = board.host->call(22);
    const auto request = board.hear();
    REQUIRE(request);
    CHECK(request->operation == REQUEST);
    CHECK(request->to == 22);
    CHECK(request->from_cid == 2);
    CHECK(request->from >= 0x40000000);
    CHECK(program->accepted == 0);
    program->given = "early";
    board.say(RESPONSE, 22, request->from);
    CHECK(program->accepted == request->from);
    program->call_readable();
    CHECK(board.hear_text() == fmt::format("bytes {}>22 early", request->from));
    board.say(RW, 22, request->from, "SSH-2.0");
    CHECK(program->got == "SSH-2.0");
    // The next has another port.
    const auto other = board.host->call(22);
    CHECK(board.hear()->from == request->from + 1);
    board.say(RST, 22, request->from + 1);
    CHECK(other->dropped);
    CHECK(board.socket->connections() == 1);
}

TEST_CASE("A guest that does not answer to a program is given up") {
    Board board;
    const auto before = board.host->call(22);
    CHECK(before->dropped);  // no driver
    board.start(0);
    const auto unheard = board.host->call(22);
    board.clock.advance(std::chrono::milliseconds(500));
    board.rings.clear();
    board.start(0);  // a driver that begins anew knows nothing of it
    CHECK(unheard->dropped);
    const auto program = board.host->call(22);
    const auto request = board.hear();
    board.clock.advance(std::chrono::milliseconds(1000));
    const auto later = board.host->call(23);
    board.clock.advance(std::chrono::milliseconds(1200));
    CHECK(program->dropped);
    CHECK_FALSE(later->dropped);
    board.clock.advance(std::chrono::milliseconds(1000));
    CHECK(later->dropped);
    CHECK(board.hear_text() == fmt::format("reset {}>22", request->from));
    // The second was never told of.
    CHECK(board.hear_text() == "nothing");
    CHECK(board.socket->connections() == 0);
}

TEST_CASE("Where no program waits a connection is refused") {
    Board board;
    board.start(0);
    board.say(REQUEST, 1000, 80);
    CHECK(board.hear_text() == "reset 80>1000");
    // Nor anywhere but at the host, nor of another type.
    board.program(80);
    board.to_cid = 77;
    board.say(REQUEST, 1000, 80);
    const auto told = board.hear();
    CHECK(told->text() == "reset 80>1000");
    CHECK(told->from_cid == 77);
    board.to_cid = 2;
    board.type = 2;
    board.say(REQUEST, 1000, 80);
    CHECK(board.hear_text() == "reset 80>1000");
    board.say(RST, 1000, 80);
    CHECK(board.hear_text() == "nothing");
    board.type = 1;
    // In the name of others: not worth an answer.
    board.from_cid = 6;
    board.say(REQUEST, 1000, 80);
    CHECK(board.hear_text() == "nothing");
    CHECK(board.socket->malformed() == 1);
}

TEST_CASE("The guest sends no more than there is room for, and is told of it") {
    Board board;
    board.start(0);
    const auto program = board.connect(80);
    program->room = 10;
    const std::string piece(65536, 'x');
    for (unsigned i = 0; i < 4; ++i) board.say(RW, 1000, 80, piece);
    CHECK(program->got.size() == 10);
    CHECK(board.socket->malformed() == 0);
    CHECK(board.hear_text() == "nothing");
    program->room = 200'000;
    program->call_writable();
    CHECK(program->got.size() == 200'010);
    const auto told = board.hear();
    REQUIRE(told);
    CHECK(told->operation == CREDIT_UPDATE);
    CHECK(told->forwarded == 200'010);
    CHECK(board.hear_text() == "nothing");
    board.say(CREDIT_REQUEST, 1000, 80);
    CHECK(board.hear()->operation == CREDIT_UPDATE);
    program->room = 1u << 30;
    program->call_writable();
    CHECK(program->got == std::string(4 * 65536, 'x'));
    // A byte too much ends it.
    program->room = 0;
    for (unsigned i = 0; i < 4; ++i) board.say(RW, 1000, 80, piece);
    CHECK_FALSE(program->dropped);
    board.say(RW, 1000, 80, "y");
    CHECK(program->dropped);
    CHECK(board.socket->malformed() == 1);
    while (const auto last = board.hear()) CHECK(last->operation == RST);
}

TEST_CASE("The host's bytes wait for the guest's credit") {
    Board board;
    board.room = 10;
    board.start(0);
    const auto program = board.connect(80);
    program->give("0123456789abcdef");
    CHECK(board.hear_text() == "bytes 80>1000 0123456789");
    CHECK(board.hear_text() == "credit? 80>1000");
    CHECK(board.hear_text() == "nothing");
    // No news is no reason to ask again.
    board.say(CREDIT_UPDATE, 1000, 80);
    CHECK(board.hear_text() == "nothing");
    board.forwarded = 4;
    board.say(CREDIT_UPDATE, 1000, 80);
    CHECK(board.hear_text() == "bytes 80>1000 abcd");
    CHECK(board.hear_text() == "credit? 80>1000");
    // Numbers that cannot be are no credit.
    board.forwarded = 1000;
    board.say(CREDIT_UPDATE, 1000, 80);
    CHECK(board.hear_text() == "nothing");
    board.forwarded = 14;
    board.say(CREDIT_UPDATE, 1000, 80);
    CHECK(board.hear_text() == "bytes 80>1000 ef");
}

TEST_CASE("A connection ends on one side, then on the other") {
    Board board;
    board.start(0);
    const auto program = board.connect(80);
    program->room = 2;
    board.say(RW, 1000, 80, "request");
    board.say(SHUTDOWN, 1000, 80, {}, END_SEND);
    CHECK_FALSE(program->end_seen);  // there are bytes before it
    program->room = 100;
    program->call_writable();
    CHECK(program->got == "request");
    CHECK(program->end_seen);
    program->given = "answer";
    program->closed_sending = true;
    program->call_readable();
    CHECK(board.hear_text() == "bytes 80>1000 answer");
    CHECK(board.hear_text() == "end 80>1000 flags 2");
    CHECK(board.hear_text() == "nothing");
    board.say(SHUTDOWN, 1000, 80, {}, END_SEND | END_RECEIVE);
    CHECK(program->dropped);
    CHECK(board.hear_text() == "reset 80>1000");
    CHECK(board.socket->connections() == 0);
    // It had said that it was to be the last.
    const auto second = board.connect(81);
    board.say(SHUTDOWN, 1000, 81, {}, END_SEND);
    board.say(RW, 1000, 81, "more");
    CHECK(second->got.empty());
    CHECK(second->dropped);
    CHECK(board.hear_text() == "reset 81>1000");
}

TEST_CASE("What the guest sent before it closed still reaches the host") {
    Board board;
    board.start(0);
    const auto program = board.connect(80);
    program->room = 2;
    board.say(RW, 1000, 80, "the whole text");
    board.say(SHUTDOWN, 1000, 80, {}, END_SEND | END_RECEIVE);
    CHECK(board.hear_text() == "reset 80>1000");
    CHECK_FALSE(program->dropped);
    CHECK(board.socket->connections() == 1);
    program->room = 5;
    program->call_writable();
    // Its ports are free again.
    const auto second = board.connect(81);
    CHECK(board.socket->connections() == 2);
    program->room = 100;
    program->call_writable();
    CHECK(program->got == "the whole text");
    CHECK(program->dropped);
    CHECK_FALSE(second->dropped);
    CHECK(board.socket->connections() == 1);
}

TEST_CASE("A program that closes its end altogether ends both directions") {
    Board board;
    board.start(0);
    const auto program = board.connect(80);
    program->given = "bye";
    program->closed_sending = program->closed = true;
    program->call_readable();
    CHECK(board.hear_text() == "bytes 80>1000 bye");
    CHECK(board.hear_text() == "end 80>1000 flags 3");
    board.say(RST, 1000, 80);
    CHECK(program->dropped);
    CHECK(board.hear_text() == "nothing");
    // One that only does not read any more is noticed when there is something to read.
    const auto deaf = board.connect(81);
    deaf->closed = true;
    board.say(RW, 1000, 81, "hello?");
    CHECK(board.hear_text() == "end 81>1000 flags 1");
    CHECK(board.hear_text() == "nothing");
    CHECK_FALSE(deaf->dropped);
}

TEST_CASE("A guest that reads no more is not read for") {
    Board board;
    board.start(0);
    const auto program = board.connect(80);
    board.say(SHUTDOWN, 1000, 80, {}, END_RECEIVE);
    program->give("unwanted");
    CHECK(board.hear_text() == "nothing");
    CHECK(program->given == "unwanted");
}

TEST_CASE("Packets that make no sense end their connection") {
    const auto ends = [](const std::function<void(Board&)>& act) {
        Board board;
        board.start(0);
        const auto program = board.connect(80);
        act(board);
        CHECK(board.hear_text() == "reset 80>1000");
        return program->dropped && board.socket->malformed() == 1;
    };
    CHECK(ends([](Board& board) { board.say(REQUEST, 1000, 80); }));
    CHECK(ends([](Board& board) { board.say(RESPONSE, 1000, 80); }));
    CHECK(ends([](Board& board) { board.say(0, 1000, 80); }));
    CHECK(ends([](Board& board) { board.say(99, 1000, 80); }));
    CHECK(ends([](Board& board) { board.say(RW, 1000, 80, "abc", 0, 400); }));
    CHECK(ends([](Board& board) { board.say(RW, 1000, 80, "abc", 0, 0xFFFFFFFF); }));
    Board board;
    board.start(0);
    board.program(80);
    // Of connections that there are none of.
    board.say(RW, 1000, 80, "abc");
    CHECK(board.hear_text() == "reset 80>1000");
    // Cut short.
    CHECK(board.run(1, {{VirtioBoard::buffer, 43, false}}));
    CHECK(board.socket->malformed() == 1);
    // Bytes to a program before the guest has taken the call.
    const auto caller = board.host->call(22);
    const auto request = board.hear();
    board.say(RW, 22, request->from, "abc");
    CHECK(caller->dropped);
    CHECK(board.hear_text() == fmt::format("reset {}>22", request->from));
}

TEST_CASE("Refusals wait for buffers, and with too many of them the guest does") {
    Board board;
    board.start(0, 128);
    unsigned sent = 0;
    do {
        board.say(REQUEST, sent, 80);
        ++sent;
    } while (board.taken && sent < 100);
    CHECK(sent == VirtioSocket::most_refusals + 1);
    for (unsigned i = 0; i < sent; ++i) {
        CHECK(board.hear_text() == fmt::format("reset 80>{}", i));
        board.clock.advance(std::chrono::milliseconds(1));
    }
    CHECK(board.rings.at(1).take());
    CHECK(board.hear_text() == "nothing");
}

TEST_CASE("There are only so many connections") {
    Board board;
    board.start(0);
    board.program(80);
    for (uint32_t i = 0; i < VirtioSocket::most_connections; ++i) {
        board.say(REQUEST, i, 80);
        REQUIRE(board.hear_text() == fmt::format("response 80>{}", i));
    }
    board.say(REQUEST, 5000, 80);
    CHECK(board.hear_text() == "reset 80>5000");
    CHECK(board.host->call(22)->dropped);
    board.say(RST, 7, 80);
    board.say(REQUEST, 5000, 80);
    CHECK(board.hear_text() == "response 80>5000");
    board.start(0);
    CHECK(board.socket->connections() == 0);
}

TEST_CASE("A buffer without room for a packet comes back empty") {
    Board board;
    board.start(0);
    board.program(80);
    board.say(REQUEST, 1000, 80);
    const auto used = board.run(0, {{VirtioBoard::buffer, 43, true}});
    REQUIRE(used);
    CHECK(used->written == 0);
    CHECK(board.hear_text() == "response 80>1000");
}

TEST_CASE("A guest learns that a restored machine has lost its connections") {
    Board board;
    board.start(0);
    board.rings.at(2).add({{VirtioBoard::buffer, 8, true}});
    board.tell(2);
    board.save_and_load();
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK_FALSE(board.rings.at(2).take());  // there were none
    const auto program = board.connect(80);
    board.save_and_load();
    CHECK(program->dropped);
    CHECK_FALSE(board.rings.at(2).take());
    board.put(VirtioBoard::buffer, std::vector<uint8_t>(8, 0xEE));
    board.clock.advance(std::chrono::milliseconds(1));
    const auto used = board.rings.at(2).take();
    REQUIRE(used);
    CHECK(used->written == 4);
    CHECK(board.memory.load<uint64_t>(Gpa{VirtioBoard::buffer}) == 0xEEEEEEEE00000000);
    board.rings.at(2).add({{VirtioBoard::buffer, 8, true}});
    board.tell(2);
    CHECK_FALSE(board.rings.at(2).take());  // once
}

TEST_CASE("A socket device's node has a number and a path") {
    PciBoard board;
    board.node.set_cells("reg", std::array<uint32_t, 2>{5, 0});
    board.node.set_string("viv,function", "socket");
    board.node.set_string("viv,socket", "/nowhere/to/be/found/socket");
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
    for (const uint32_t number : {0u, 2u, 0xFFFFFFFFu}) {
        board.node.set_u32("viv,cid", number);
        CHECK(board.try_make(make_virtio_pci, {}).error().message.find("from 3 to") != std::string::npos);
    }
    board.node.set_u32("viv,cid", 3);
    CHECK(board.try_make(make_virtio_pci, {}).error().message.find("cannot listen on unix socket") !=
          std::string::npos);
}
