#include "devices/serial/ns16550a.hpp"

#include <deque>
#include <mutex>
#include <string>
#include <string_view>

#include "devices/test_board.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

using namespace viv;

namespace {

/// The host's end in a test's hands.
class FakeBackend final : public CharBackend {
  public:
    bool write(uint8_t byte) override {
        if (full) return false;
        output.push_back(static_cast<char>(byte));
        return true;
    }
    void on_writable(std::move_only_function<void()> callback) override { writable_ = std::move(callback); }
    bool readable() const override { return !input.empty(); }
    std::optional<uint8_t> read() override {
        if (input.empty()) return std::nullopt;
        const uint8_t byte = input.front();
        input.pop_front();
        return byte;
    }
    void on_readable(std::move_only_function<void()> callback) override { readable_ = std::move(callback); }
    std::string description() const override { return "fake"; }

    void send(std::string_view text) {
        input.insert(input.end(), text.begin(), text.end());
        readable_();
    }
    void make_room() {
        full = false;
        writable_();
    }

    std::string output;
    std::deque<uint8_t> input;
    bool full = false;

  private:
    std::move_only_function<void()> writable_;
    std::move_only_function<void()> readable_;
};

enum Port : uint8_t {
    rbr = 0,
    thr = 0,
    dll = 0,
    ier = 1,
    dlm = 1,
    iir = 2,
    fcr = 2,
    lcr = 3,
    mcr = 4,
    lsr = 5,
    msr = 6,
    scr = 7
};

struct EdgeCounter final : IrqSink {
    explicit EdgeCounter(IrqPin& pin) { pin.connect(*this, 0); }
    void set_irq_level(unsigned, bool level) override { rising += level ? 1 : 0; }
    int rising = 0;
};

struct Rig final : ContractRig {
    Rig() {
        device = &uart;
        windows = {{&uart, 8}};
        pins = {&irq};
        uart.connect(IrqLine(irq));
    }
    uint8_t in(Port port) { return uart.read8(port); }
    void out(Port port, unsigned value) { uart.write8(port, static_cast<uint8_t>(value)); }
    /// 8N1 at 115200 with FIFOs, interrupts to the line.
    void open_port(unsigned fcr_value = 0x07, unsigned ier_value = 0) {
        out(lcr, 0x83);
        out(dll, 1);
        out(dlm, 0);
        out(lcr, 0x03);
        out(fcr, fcr_value);
        out(mcr, 0x0B);
        out(ier, ier_value);
    }
    void characters(int count) { clock.advance(count * Duration{86806}); }

    FakeBackend* backend = new FakeBackend;
    IrqPin irq;
    EdgeCounter edges{irq};  // before the UART: what sees a wire outlives what drives it
    Ns16550a uart{clock, std::unique_ptr<CharBackend>(backend)};
};

}  // namespace

TEST_CASE("ns16550a keeps the device contract") {
    check_device_contract([] { return std::make_unique<Rig>(); });
}

TEST_CASE("ns16550a with a busy host keeps the device contract") {
    check_device_contract([] {
        auto rig = std::make_unique<Rig>();
        rig->backend->full = true;
        return rig;
    });
}

TEST_CASE("registers have their reset values") {
    Rig rig;
    CHECK(rig.in(ier) == 0x00);
    CHECK(rig.in(iir) == 0x01);
    CHECK(rig.in(lcr) == 0x00);
    CHECK(rig.in(mcr) == 0x00);
    CHECK(rig.in(lsr) == 0x60);
    CHECK(rig.in(msr) == 0xB0);
    CHECK_FALSE(rig.irq.level());
}

TEST_CASE("a transmitted byte reaches the host and the transmitter is empty again") {
    Rig rig;
    rig.out(thr, 'A');
    CHECK(rig.backend->output == "A");
    CHECK(rig.in(lsr) == 0x60);
}

TEST_CASE("enabling the transmitter's interrupt while it is empty raises it at once") {
    Rig rig;
    rig.open_port();
    rig.out(ier, 0x02);
    CHECK(rig.irq.level());
    CHECK(rig.in(iir) == 0xC2);
    CHECK_FALSE(rig.irq.level());
    CHECK(rig.in(iir) == 0xC1);
    rig.out(ier, 0x00);
    rig.out(ier, 0x02);
    CHECK(rig.irq.level());
}

TEST_CASE("each transmitted byte raises an edge of the transmitter's interrupt") {
    Rig rig;
    rig.open_port();
    rig.out(ier, 0x02);
    for (const char c : std::string_view("abc")) {
        rig.out(thr, static_cast<unsigned char>(c));
        CHECK(rig.irq.level());
    }
    CHECK(rig.edges.rising == 4);  // the first when the interrupt was enabled
    CHECK(rig.backend->output == "abc");
}

TEST_CASE("Linux tests for a THRE interrupt that comes back") {
    Rig rig;
    rig.open_port();
    rig.out(ier, 0x02);
    CHECK((rig.in(iir)&0x01) == 0);
    rig.out(ier, 0x00);
    rig.out(ier, 0x02);
    CHECK((rig.in(iir)&0x01) == 0);
    rig.out(ier, 0x00);
    CHECK((rig.in(iir)&0x01) != 0);
}

TEST_CASE("Linux autoconfigures the port as a 16550A") {
    Rig rig;
    // IER is four bits wide.
    rig.out(ier, 0x00);
    CHECK((rig.in(ier)&0x0F) == 0x00);
    rig.out(ier, 0x0F);
    CHECK((rig.in(ier)&0x0F) == 0x0F);
    rig.out(ier, 0x00);
    // Loopback connects RTS and OUT2 to CTS and DCD.
    rig.out(mcr, 0x1A);
    CHECK((rig.in(msr)&0xF0) == 0x90);
    rig.out(mcr, 0x00);
    // FIFOs show as 11b; no other chip's extras answer.
    rig.out(lcr, 0xBF);
    rig.out(fcr, 0x00);
    rig.out(lcr, 0x00);
    rig.out(fcr, 0x01);
    CHECK(rig.in(iir) >> 6 == 3);
    rig.out(fcr, 0x00);
    CHECK(rig.in(iir) >> 6 == 0);
    // The FIFO's size: sixteen of 256 looped bytes stay.
    rig.out(fcr, 0x07);
    rig.out(mcr, 0x10);
    rig.out(lcr, 0x83);
    rig.out(dll, 1);
    rig.out(dlm, 0);
    rig.out(lcr, 0x03);
    for (unsigned i = 0; i < 256; ++i) rig.out(thr, i);
    unsigned count = 0;
    while ((rig.in(lsr)&0x01) != 0 && count < 256) {
        CHECK(rig.in(rbr) == count);
        ++count;
    }
    CHECK(count == 16);
    CHECK(rig.backend->output.empty());
}

TEST_CASE("the divisor is behind DLAB and reads back, also as one 16-bit access") {
    Rig rig;
    rig.out(lcr, 0x80);
    rig.uart.write({0, 2}, 0x0180);
    CHECK(rig.in(dll) == 0x80);
    CHECK(rig.in(dlm) == 0x01);
    rig.out(lcr, 0x03);
    CHECK(rig.in(ier) == 0x00);
    CHECK(rig.in(lcr) == 0x03);
}

TEST_CASE("the scratch register keeps a byte") {
    Rig rig;
    for (const unsigned value : {0x55U, 0xAAU, 0x00U}) {
        rig.out(scr, value);
        CHECK(rig.in(scr) == value);
    }
}

TEST_CASE("a received byte raises the data interrupt until it is read") {
    Rig rig;
    rig.open_port(0x00, 0x01);
    rig.backend->send("x");
    CHECK_FALSE(rig.irq.level());
    rig.characters(1);
    CHECK(rig.irq.level());
    CHECK(rig.in(iir) == 0x04);
    CHECK((rig.in(lsr)&0x01) != 0);
    CHECK(rig.in(rbr) == 'x');
    CHECK_FALSE(rig.irq.level());
    CHECK(rig.in(iir) == 0x01);
}

TEST_CASE("OUT2 gates the interrupt line") {
    Rig rig;
    rig.open_port(0x07, 0x02);
    CHECK(rig.irq.level());
    rig.out(mcr, 0x03);
    CHECK_FALSE(rig.irq.level());
    CHECK(rig.in(mcr) == 0x03);
    rig.out(mcr, 0x0B);
    CHECK(rig.irq.level());
}

TEST_CASE("without FIFOs the host waits until each byte is read") {
    Rig rig;
    rig.open_port(0x00);
    rig.backend->send("abc");
    rig.characters(10);
    CHECK(rig.backend->input.size() == 2);
    CHECK(rig.in(rbr) == 'a');
    rig.characters(1);
    CHECK(rig.in(rbr) == 'b');
    rig.characters(1);
    CHECK(rig.in(rbr) == 'c');
    CHECK((rig.in(lsr)&0x02) == 0);
}

TEST_CASE("characters arrive at the programmed speed") {
    Rig rig;
    rig.open_port();
    rig.out(lcr, 0x83);
    rig.out(dll, 12);  // 9600 baud: 1.04 ms
    rig.out(lcr, 0x03);
    rig.backend->send("abc");
    rig.clock.advance(std::chrono::microseconds(1));
    CHECK(rig.in(rbr) == 'a');
    rig.clock.advance(std::chrono::microseconds(1000));
    CHECK((rig.in(lsr)&0x01) == 0);
    rig.clock.advance(std::chrono::microseconds(50));
    CHECK(rig.in(rbr) == 'b');
}

TEST_CASE("the FIFO interrupts at its trigger level") {
    Rig rig;
    const unsigned fcr_values[] = {0x01, 0x41, 0x81, 0xC1};
    const int levels[] = {1, 4, 8, 14};
    for (int i = 0; i < 4; ++i) {
        rig.open_port(fcr_values[i] | 0x06, 0x01);
        for (int n = 1; n <= levels[i]; ++n) {
            CHECK_FALSE(rig.irq.level());
            rig.backend->send("z");
            rig.characters(1);
        }
        CHECK(rig.irq.level());
        CHECK(rig.in(iir) == 0xC4);
        rig.in(rbr);
        CHECK_FALSE(rig.irq.level());
        rig.out(fcr, 0x07);
    }
}

TEST_CASE("characters below the trigger level interrupt after four character times") {
    Rig rig;
    rig.open_port(0xC7, 0x01);
    rig.backend->send("ab");
    rig.characters(2);
    CHECK_FALSE(rig.irq.level());
    rig.characters(2);
    CHECK_FALSE(rig.irq.level());
    rig.characters(2);
    CHECK(rig.irq.level());
    CHECK(rig.in(iir) == 0xCC);
    CHECK(rig.in(rbr) == 'a');
    CHECK_FALSE(rig.irq.level());
    rig.characters(4);
    CHECK(rig.irq.level());
    CHECK(rig.in(rbr) == 'b');
    CHECK(rig.in(iir) == 0xC1);
}

TEST_CASE("a full FIFO holds the host back and loses nothing") {
    Rig rig;
    rig.open_port();
    std::string sent;
    for (int i = 0; i < 100; ++i) sent.push_back(static_cast<char>('!' + i % 90));
    rig.backend->send(sent);
    rig.characters(1000);
    CHECK(rig.backend->input.size() == 84);
    std::string got;
    while (got.size() < sent.size() && (rig.in(lsr)&0x01) != 0) {
        CHECK((rig.in(lsr)&0x02) == 0);
        got.push_back(static_cast<char>(rig.in(rbr)));
        rig.characters(1);
    }
    CHECK(got == sent);
}

TEST_CASE("line status has priority over data, data over the transmitter, the transmitter over the modem") {
    Rig rig;
    rig.open_port(0x01, 0x0F);
    rig.out(mcr, 0x10);  // the modem lines fall: deltas
    rig.out(lcr, 0x43);  // break, looped back
    CHECK(rig.in(iir) == 0xC6);
    CHECK(rig.in(lsr) == 0xF9);
    CHECK(rig.in(iir) == 0xC4);
    CHECK(rig.in(rbr) == 0x00);
    CHECK(rig.in(iir) == 0xC2);
    CHECK(rig.in(iir) == 0xC0);
    CHECK(rig.in(msr) == 0x0B);
    CHECK(rig.in(iir) == 0xC1);
}

TEST_CASE("an overrun in loopback keeps the FIFO and loses the newest byte") {
    Rig rig;
    rig.open_port(0x07, 0x04);
    rig.out(mcr, 0x10);
    for (unsigned i = 0; i < 17; ++i) rig.out(thr, i);
    CHECK(rig.in(iir) == 0xC6);
    CHECK((rig.in(lsr)&0x02) != 0);
    CHECK((rig.in(lsr)&0x02) == 0);
    for (unsigned i = 0; i < 16; ++i) CHECK(rig.in(rbr) == i);
    CHECK((rig.in(lsr)&0x01) == 0);
}

TEST_CASE("an overrun without FIFOs keeps the newest byte") {
    Rig rig;
    rig.out(mcr, 0x10);
    rig.out(thr, 'a');
    rig.out(thr, 'b');
    CHECK((rig.in(lsr)&0x03) == 0x03);
    CHECK(rig.in(rbr) == 'b');
}

TEST_CASE("modem deltas are set by changes and cleared by reading, RI only when it falls") {
    Rig rig;
    rig.out(mcr, 0x10);
    CHECK(rig.in(msr) == 0x0B);
    CHECK(rig.in(msr) == 0x00);
    rig.out(mcr, 0x14);
    CHECK(rig.in(msr) == 0x40);
    rig.out(mcr, 0x10);
    CHECK(rig.in(msr) == 0x04);
    rig.out(mcr, 0x13);
    CHECK(rig.in(msr) == 0x33);
}

TEST_CASE("in loopback the wire is off: interrupts, input and output") {
    Rig rig;
    rig.open_port(0x07, 0x01);
    rig.out(mcr, 0x1B);
    rig.backend->send("host");
    rig.characters(10);
    CHECK((rig.in(lsr)&0x01) == 0);
    rig.out(thr, 'q');
    CHECK(rig.backend->output.empty());
    CHECK(rig.in(iir) == 0xC4);
    CHECK_FALSE(rig.irq.level());
    CHECK(rig.in(rbr) == 'q');
    rig.out(mcr, 0x0B);
    rig.characters(1);
    CHECK(rig.in(rbr) == 'h');
}

TEST_CASE("switching the FIFOs on or off empties them") {
    Rig rig;
    rig.open_port();
    rig.backend->send("abc");
    rig.characters(3);
    rig.out(fcr, 0x00);
    CHECK((rig.in(lsr)&0x01) == 0);
    rig.backend->send("d");
    rig.characters(1);
    rig.out(fcr, 0x01);
    CHECK((rig.in(lsr)&0x01) == 0);
    CHECK(rig.in(iir) >> 6 == 3);
}

TEST_CASE("the trigger level is kept only while the FIFOs are enabled") {
    Rig rig;
    rig.open_port(0xC0, 0x01);
    rig.backend->send("a");
    rig.characters(1);
    CHECK(rig.in(iir) == 0x04);
}

TEST_CASE("a slow host makes the transmitter full and then empty again with an interrupt") {
    Rig rig;
    rig.open_port(0x07, 0x02);
    rig.in(iir);
    rig.backend->full = true;
    for (unsigned i = 0; i < 16; ++i) rig.out(thr, 'A' + i);
    CHECK((rig.in(lsr)&0x60) == 0);
    CHECK_FALSE(rig.irq.level());
    rig.backend->make_room();
    CHECK(rig.backend->output == "ABCDEFGHIJKLMNOP");
    CHECK((rig.in(lsr)&0x60) == 0x60);
    CHECK(rig.irq.level());
    CHECK(rig.uart.lost_output() == 0);
}

TEST_CASE("a guest that does not wait for a full transmitter loses only its newest bytes") {
    Rig rig;
    rig.open_port();
    rig.backend->full = true;
    for (unsigned i = 0; i < 20; ++i) rig.out(thr, 'A' + i);
    CHECK(rig.uart.lost_output() == 4);
    rig.backend->make_room();
    CHECK(rig.backend->output == "ABCDEFGHIJKLMNOP");
}

TEST_CASE("a restored port sends what its host had not taken") {
    Rig rig;
    rig.open_port();
    rig.backend->full = true;
    rig.out(thr, 'A');
    Rig other;
    auto commit = other.uart.prepare_load(rig.uart.save());
    REQUIRE(commit.has_value());
    (*commit)();
    other.clock.advance(Duration{1});
    CHECK(other.backend->output == "A");
    CHECK((other.in(lsr)&0x60) == 0x60);
}

TEST_CASE("a reset empties the port and takes the line down") {
    Rig rig;
    rig.open_port(0xC7, 0x03);
    rig.backend->send("ab");
    rig.characters(2);
    CHECK(rig.irq.level());
    rig.uart.reset(ResetKind::hard);
    CHECK_FALSE(rig.irq.level());
    CHECK(rig.in(lsr) == 0x60);
    CHECK(rig.in(ier) == 0x00);
}

TEST_CASE("listeners see what the guest sends, also what the host has not yet taken") {
    Rig rig;
    rig.open_port();
    std::string seen;
    rig.uart.on_output([&](uint8_t byte) { seen.push_back(static_cast<char>(byte)); });
    rig.out(thr, 'o');
    rig.backend->full = true;
    rig.out(thr, 'k');
    CHECK(seen == "ok");
    rig.backend->make_room();
    CHECK(seen == "ok");
    CHECK(rig.backend->output == "ok");
}

TEST_CASE("injected bytes come before the host's and wait for the guest") {
    Rig rig;
    rig.open_port(0x00);
    const uint8_t text[] = {'h', 'i'};
    rig.backend->send("!");
    CHECK(rig.uart.inject(text) == 2);
    rig.characters(5);
    CHECK(rig.uart.injected_pending() == 1);
    CHECK(rig.in(rbr) == 'h');
    rig.characters(1);
    CHECK(rig.in(rbr) == 'i');
    CHECK(rig.uart.injected_pending() == 0);
    rig.characters(1);
    CHECK(rig.in(rbr) == '!');
}

TEST_CASE("the injection queue is bounded") {
    Rig rig;
    const std::vector<uint8_t> much(100'000, 'x');
    CHECK(rig.uart.inject(much) == 65536);
    CHECK(rig.uart.inject(much) == 0);
}

TEST_CASE("a DOS program polls with the BIOS's settings") {
    Rig rig;
    // INT 14h AH=0, 2400 baud 8N1: divisor 48.
    rig.out(lcr, 0x80);
    rig.out(dll, 48);
    rig.out(dlm, 0);
    rig.out(lcr, 0x03);
    rig.out(ier, 0x00);
    // INT 14h AH=1: DTR and RTS, wait for DSR and CTS, then for THRE.
    rig.out(mcr, 0x03);
    REQUIRE((rig.in(msr)&0x30) == 0x30);
    REQUIRE((rig.in(lsr)&0x20) != 0);
    rig.out(thr, 'D');
    CHECK(rig.backend->output == "D");
    CHECK_FALSE(rig.irq.level());
}

TEST_CASE("FIFOs longer than they are are refused") {
    Rig rig;
    for (const char* fifo : {"rx", "rx-errors", "tx"}) {
        TreeNode saved = rig.uart.save();
        saved.child(fifo)->set("size", {std::byte{17}});
        CHECK_FALSE(rig.uart.prepare_load(saved).has_value());
    }
}

TEST_CASE("the board's nodes make ports that are named by their place") {
    TestBoard board;
    using Space = DeviceRange::Space;
    board.make(make_ns16550a, {{Space::ports, 0x3F8, 8}}, {4});
    board.make(make_ns16550a, {{Space::ports, 0x2E8, 8}}, {3});
    board.make(make_ns16550a, {{Space::ports, 0x500, 8}}, {5});
    for (const char* name : {"serial0", "serial3", "serial@500"}) CHECK(board.services.find<SerialTap>(name));
    CHECK_FALSE(board.services.find<SerialTap>("serial1"));
    std::string seen;
    board.services.find<SerialTap>("serial0")->on_output(
        [&](uint8_t byte) { seen.push_back(static_cast<char>(byte)); });
    board.out(0x3F8, 'v');
    board.out(0x2E8, 'x');
    CHECK(seen == "v");
    board.out(0x3FC, 0x08);
    board.out(0x3F9, 0x02);
    CHECK(board.isa.pins[4].level());
}

TEST_CASE("a backend that cannot be opened is an error of the node") {
    TestBoard board;
    board.node.set_string("viv,chardev", "telepathy");
    const auto made = board.try_make(make_ns16550a, {{DeviceRange::Space::ports, 0x3F8, 8}}, {4});
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().message.starts_with("/test: 'telepathy'"));
    CHECK(made.error().kind == ErrorKind::usage);
}

TEST_CASE("FreeBSD measures the FIFO by the overrun") {
    Rig rig;
    // Bits that are always zero.
    CHECK((rig.in(iir)&0x30) == 0);
    CHECK((rig.in(mcr)&0xE0) == 0);
    rig.out(mcr, 0x10);
    rig.out(fcr, 0x01);
    if ((rig.in(iir)&0xC0) == 0) FAIL("no FIFOs");
    rig.out(fcr, 0x07);
    unsigned count = 0;
    unsigned status = 0;
    do {
        rig.out(thr, 0);
        ++count;
        status = rig.in(lsr);
        CHECK((status & 0x40) != 0);
    } while ((status & 0x02) == 0 && count < 1030);
    CHECK(count - 1 == 16);
}

TEST_CASE("a driver's interrupt handler empties the port until IIR says that nothing is pending") {
    Rig rig;
    rig.open_port(0x87, 0x0F);
    rig.in(iir);  // the transmitter
    rig.backend->send("0123456789");
    std::string got;
    unsigned interrupts = 0;
    for (int i = 0; i < 100; ++i) {
        rig.characters(1);
        if (!rig.irq.level()) continue;
        ++interrupts;
        for (unsigned id = rig.in(iir); (id & 0x01) == 0; id = rig.in(iir)) {
            REQUIRE(((id & 0x0F) == 0x04 || (id & 0x0F) == 0x0C));
            while ((rig.in(lsr)&0x01) != 0) got.push_back(static_cast<char>(rig.in(rbr)));
        }
        CHECK_FALSE(rig.irq.level());
    }
    CHECK(got == "0123456789");
    CHECK(interrupts == 2);  // at eight characters, and by the time-out
}

TEST_CASE("a terminal program on a 16450's one-byte interface gets every character by interrupt") {
    Rig rig;
    rig.out(lcr, 0x80);
    rig.out(dll, 96);  // 1200 baud
    rig.out(dlm, 0);
    rig.out(lcr, 0x03);
    rig.out(mcr, 0x0B);
    rig.out(ier, 0x01);
    rig.backend->send("ATDT");
    std::string got;
    for (int ms = 0; ms < 100; ++ms) {
        rig.clock.advance(std::chrono::milliseconds(1));
        if (!rig.irq.level()) continue;
        CHECK(rig.in(iir) == 0x04);
        got.push_back(static_cast<char>(rig.in(rbr)));
    }
    CHECK(got == "ATDT");
}
