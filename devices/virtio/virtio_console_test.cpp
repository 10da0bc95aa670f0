#include "devices/virtio/virtio_console.hpp"

#include <algorithm>
#include <deque>

#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

constexpr uint64_t SIZE = feature(0), MULTIPORT = feature(1);
constexpr uint64_t buffer = VirtioBoard::buffer;

/// The host's end of a port: takes `room` bytes, then no more.
class TestBackend final : public CharBackend {
  public:
    [[nodiscard]] bool write(uint8_t byte) override {
        if (room == 0) return false;
        --room;
        written.push_back(static_cast<char>(byte));
        return true;
    }
    void on_writable(std::move_only_function<void()> callback) override { writable = std::move(callback); }
    [[nodiscard]] bool readable() const override { return !input.empty(); }
    [[nodiscard]] std::optional<uint8_t> read() override {
        if (input.empty()) return std::nullopt;
        const auto byte = static_cast<uint8_t>(input.front());
        input.pop_front();
        return byte;
    }
    void on_readable(std::move_only_function<void()> callback) override { readable_ = std::move(callback); }
    [[nodiscard]] std::string description() const override { return "test"; }

    void type(std::string_view text) {
        input.insert(input.end(), text.begin(), text.end());
        readable_();
    }
    size_t room = 1u << 30;
    std::string written;
    std::deque<char> input;
    std::move_only_function<void()> writable;

  private:
    std::move_only_function<void()> readable_;
};

struct Ends {
    TestBackend* first = nullptr;
    TestBackend* second = nullptr;
    VirtioConsole* console = nullptr;
};

struct Board : Ends, VirtioBoard {
    Board()
        : VirtioBoard([this] {
              std::vector<VirtioConsole::Port> made_ports(2);
              for (auto& port : made_ports) port.backend = std::make_unique<TestBackend>();
              made_ports[1].name = "org.viv.0";
              first = static_cast<TestBackend*>(made_ports[0].backend.get());
              second = static_cast<TestBackend*>(made_ports[1].backend.get());
              auto made = std::make_unique<VirtioConsole>(std::move(made_ports), VirtioConsole::Size{80, 25});
              console = made.get();
              return made;
          }) {}

    void write(unsigned queue, std::string_view text) {
        put(buffer, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
        rings.at(queue).add({{buffer, static_cast<uint32_t>(text.size()), false}});
        tell(queue);
    }
    void say(uint32_t port, uint16_t event, uint16_t value) {
        memory.store(Gpa{buffer}, port);
        memory.store(Gpa{buffer + 4}, event);
        memory.store(Gpa{buffer + 6}, value);
        REQUIRE(run(3, {{buffer, 8, false}}));
    }
    /// Control messages as "port event value rest".
    std::vector<std::string> messages_told() {
        std::vector<std::string> told;
        for (unsigned i = 0; i < 10; ++i) {
            rings.at(2).add({{buffer + 0x1000, 100, true}});
            tell(2);
            const auto used = rings.at(2).take();
            if (!used) break;
            std::string text;
            for (unsigned place = 0; place < used->written; ++place) {
                const auto byte = memory.load<uint8_t>(Gpa{buffer + 0x1000 + place});
                if (place == 0 || place == 4 || place == 6) text += std::to_string(byte) + " ";
                if (place >= 8)
                    text +=
                        byte < 32 || byte > 90 + 32 ? std::to_string(byte) : std::string(1, static_cast<char>(byte));
            }
            told.push_back(text);
        }
        return told;
    }
    std::string read(unsigned queue) {
        std::string text;
        while (const auto used = rings.at(queue).take()) {
            for (const uint8_t byte : bytes_at(buffer + 0x2000, used->written)) text += static_cast<char>(byte);
        }
        return text;
    }
};

}  // namespace

TEST_CASE("The virtio console keeps the device contract") {
    check_device_contract(VirtioBoard::closed<Board>);
}

TEST_CASE("A driver that knows one port has it open at once") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        Board board;
        board.start(layout | SIZE);
        CHECK(board.configuration(0, 4) == (25u << 16 | 80));
        CHECK(board.configuration(4, 4) == 2);
        board.write(1, "hello");
        CHECK(board.first->written == "hello");
        board.first->type("typed");
        CHECK(board.first->input.size() == 5);
        board.rings.at(0).add({{buffer + 0x2000, 3, true}});
        board.tell(0);
        CHECK(board.read(0) == "typ");
        board.rings.at(0).add({{buffer + 0x2000, 100, true}});
        board.tell(0);
        CHECK(board.read(0) == "ed");
        board.first->type("!");
        CHECK(board.read(0).empty());
        board.rings.at(0).add({{buffer + 0x2000, 100, true}});
        board.tell(0);
        CHECK(board.read(0) == "!");
        // Nobody listens where it has no queues.
        CHECK_FALSE(board.run(3, {{buffer, 8, false}}));
        CHECK_FALSE(board.run(5, {{buffer, 8, false}}));
        CHECK(board.second->written.empty());
    }
}

TEST_CASE("Ports are told of, named and opened by messages") {
    Board board;
    board.start(MULTIPORT | SIZE);
    board.say(0, 0, 1);
    CHECK(board.messages_told() == std::vector<std::string>{"0 1 1 ", "1 1 1 "});
    board.start(MULTIPORT | SIZE);
    board.say(0, 0, 1);
    board.say(0, 3, 1);
    board.say(1, 3, 1);
    CHECK(board.messages_told() ==
          std::vector<std::string>{"0 1 1 ", "0 4 1 ", "0 6 1 ", "0 5 0 P0250", "1 1 1 ", "1 7 1 org.viv.0", "1 6 1 "});
    // What the host sends waits until the port is open.
    board.start(MULTIPORT);
    board.rings.at(4).add({{buffer + 0x2000, 100, true}});
    board.tell(4);
    board.second->type("early");
    CHECK(board.read(4).empty());
    board.say(1, 6, 1);
    CHECK(board.read(4) == "early");
    board.write(5, "answer");
    CHECK(board.second->written == "answer");
    CHECK(board.first->written.empty());
    // Of ports that are not there, and cut short.
    board.say(2, 3, 1);
    board.say(~0u, 6, 1);
    CHECK(board.run(3, {{buffer, 7, false}}));
    CHECK(board.messages_told().empty());
}

TEST_CASE("A console that gets another size tells the driver") {
    Board board;
    board.start(MULTIPORT | SIZE);
    board.say(0, 6, 1);
    board.isr();
    board.console->resize({132, 50});
    CHECK(board.isr() == ISR_CONFIGURATION);
    CHECK(board.configuration(0, 4) == (50u << 16 | 132));
    CHECK(board.messages_told() == std::vector<std::string>{"0 5 0 132020"});
}

TEST_CASE("A slow reader of the host holds the buffer back, and no byte is lost or doubled") {
    Board board;
    board.start(0);
    board.first->room = 3;
    board.write(1, "abcdefg");
    CHECK(board.first->written == "abc");
    CHECK_FALSE(board.rings.at(1).take());
    board.save_and_load();
    board.first->room = 2;
    board.first->writable();
    CHECK(board.first->written == "abcde");
    board.first->room = 100;
    board.first->writable();
    CHECK(board.first->written == "abcdefg");
    CHECK(board.rings.at(1).take());
}

TEST_CASE("A huge buffer is sent in several turns") {
    Board board;
    board.start(0);
    board.rings.at(1).add({{0x100000, 0x300000, false}});
    board.tell(1);
    CHECK(board.first->written.size() == 1u << 20);
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.first->written.size() == 3u << 20);
    CHECK(board.rings.at(1).take());
}

TEST_CASE("In an emergency a byte gets out without any queue") {
    Board board;
    board.set(VirtioPci::configuration + 8, 4, 'X');
    CHECK(board.first->written == "X");
}

TEST_CASE("A console's node has its ports") {
    PciBoard board;
    board.node.set_cells("reg", std::array<uint32_t, 2>{5, 0});
    board.node.set_string("viv,function", "console");
    board.node.set_string("viv,chardev", "teapot");
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
    board.node.erase("viv,chardev");
    for (int i = 0; i < 8; ++i) board.node.children.push_back({"port@" + std::to_string(i), {}, {}});
    CHECK(board.try_make(make_virtio_pci, {}));
    board.node.children.back().set_string("viv,name", std::string(65, 'x'));
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
    board.node.children.push_back({"port@8", {}, {}});
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
}
