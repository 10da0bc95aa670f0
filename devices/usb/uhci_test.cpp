#include "devices/usb/uhci.hpp"

#include <algorithm>

#include "devices/input/tablet_port.hpp"

#include "devices/usb/uhci_rig_test.hpp"

using namespace viv;
using namespace viv::uhci;

namespace {

constexpr uint32_t buffer = UhciBoard::buffer, queue = UhciBoard::queue;
constexpr std::array<uint8_t, 8> get_device_descriptor{0x80, 6, 0, 1, 0, 0, 18, 0};

/// Board with a tablet that answers to address 5.
struct Started : UhciBoard {
    Started() {
        start();
        configure(0);
        set(USBSTS, 0x1F);
    }
    /// A read of the device descriptor: SETUP, three times IN, OUT.
    std::vector<Td> descriptor_transfer() {
        memory.write(Gpa{buffer}, std::as_bytes(std::span(get_device_descriptor)));
        return {{PID_SETUP, 5, 0, 8, buffer, 0},
                {PID_IN, 5, 0, 8, buffer + 0x100, 0},
                {PID_IN, 5, 0, 8, buffer + 0x108, 0},
                {PID_IN, 5, 0, 8, buffer + 0x110, 0},
                {PID_OUT, 5, 0, 0, buffer, IOC}};
    }
};

}  // namespace

TEST_CASE("A UHCI controller keeps the device contract") {
    check_device_contract([] {
        auto board = std::make_unique<UhciBoard>();
        board->device->reset(ResetKind::power_on);
        return board;
    });
}

TEST_CASE("The controller is found by its class, and starts halted") {
    UhciBoard board;
    CHECK(board.config(board.at, pci::VENDOR_ID) == 0x70208086);
    CHECK(board.config(board.at, pci::REVISION_ID) >> 8 == 0x0C0300);
    CHECK(board.config(board.at, pci::INTERRUPT_PIN, 1) == 4);
    CHECK(board.config(board.at, SBRNUM, 1) == 0x10);
    CHECK(board.config(board.at, LEGSUP, 2) == USBPIRQEN);
    CHECK(board.reg(USBCMD) == 0);
    CHECK(board.reg(USBSTS) == HCHALTED);
    CHECK(board.in(board.base + SOFMOD) == 0x40);
    CHECK(board.reg(board.port_at(0)) == (ALWAYS_ONE | CCS | CSC | LINE_DPLUS));
    CHECK(board.reg(board.port_at(1)) == (ALWAYS_ONE | CCS | CSC | LINE_DMINUS | LSDA));
    CHECK(board.reg(board.port_at(2)) == 0);  // how drivers count ports
}

TEST_CASE("Registers take words, bytes and double words, and only the bits that are there") {
    UhciBoard board;
    board.ports.write(board.base + FLBASEADD, 4, 0x12345FFF);
    CHECK(board.ports.read(board.base + FLBASEADD, 4) == 0x12345000);
    board.out(board.base + FLBASEADD + 3, 0xAB);
    CHECK(board.ports.read(board.base + FLBASEADD, 4) == 0xAB345000);
    board.set(FRNUM, 0xFFFF);
    CHECK(board.reg(FRNUM) == 0x7FF);
    board.set(USBINTR, 0xFFFF);
    CHECK(board.reg(USBINTR) == 0xF);
    board.out(board.base + SOFMOD, 0xFF);
    CHECK(board.in(board.base + SOFMOD) == 0x7F);
    board.out(board.base + USBSTS, 0xFF);
    CHECK(board.reg(USBSTS) == HCHALTED);
    board.set(USBCMD, HCRESET);
    CHECK(board.reg(USBCMD) == 0);
    CHECK(board.reg(USBINTR) == 0);
    CHECK(board.ports.read(board.base + FLBASEADD, 4) == 0);
}

TEST_CASE("Frames count by the millisecond while it runs") {
    UhciBoard board({});
    board.start();
    CHECK(board.reg(USBSTS) == 0);
    for (unsigned i = 1; i < 300; ++i) {
        board.wait_ms(1);
        REQUIRE(board.reg(FRNUM) == i);
    }
    board.set(FRNUM, 5);  // not while it runs
    CHECK(board.reg(FRNUM) == 299);
    board.wait_ms(2048);
    CHECK(board.reg(FRNUM) == 299);
    board.set(USBCMD, 0);
    CHECK(board.reg(USBSTS) == HCHALTED);
    board.wait_ms(10);
    CHECK(board.reg(FRNUM) == 299);
    // SOFMOD makes frames longer: 63 bits of 12000.
    board.out(board.base + SOFMOD, 0x7F);
    board.set(USBCMD, RS);
    board.wait_ms(1000);
    CHECK(board.reg(FRNUM) == 299 + 994);
}

TEST_CASE("An idle schedule is looked at in batches, and work ends that") {
    Started board;
    board.wait_ms(200);
    const auto before = board.clock.next_deadline();
    REQUIRE(before.has_value());
    const auto next_look = *before - board.clock.now();
    CHECK(next_look > std::chrono::milliseconds(1));
    CHECK(next_look <= std::chrono::milliseconds(Uhci::idle_batch));
    // A new transfer is found without any access to the controller.
    board.put(board.descriptor_transfer());
    board.wait_ms(Uhci::idle_batch);
    CHECK_FALSE(board.status(4) & ACTIVE);
    CHECK(*board.clock.next_deadline() - board.clock.now() <= std::chrono::milliseconds(1));
}

TEST_CASE("A port is reset, enabled and disabled") {
    UhciBoard board;
    const unsigned port = board.port_at(0);
    board.set(port, CSC);
    CHECK(board.reg(port) == (ALWAYS_ONE | CCS | LINE_DPLUS));
    board.set(port, PORT_RESET | PED);
    CHECK(board.reg(port) == (ALWAYS_ONE | CCS | PORT_RESET));
    board.set(port, 0);
    board.set(port, PED);
    CHECK(board.reg(port) == (ALWAYS_ONE | CCS | LINE_DPLUS | PED));
    board.set(port, 0);
    CHECK_FALSE(board.reg(port) & PED);
    UhciBoard empty({});
    CHECK(empty.reg(port) == ALWAYS_ONE);
    empty.set(port, PED | SUSPEND);
    CHECK(empty.reg(port) == ALWAYS_ONE);
}

TEST_CASE("A control transfer runs down its queue in one frame and interrupts at its end") {
    Started board;
    CHECK_FALSE(board.wire.level);
    board.put(board.descriptor_transfer());
    board.wait_ms(1);
    for (size_t i = 0; i < 5; ++i) CHECK_FALSE(board.status(i) & (ACTIVE | STATUS_BITS));
    CHECK(board.length(board.status(0)) == 8);
    CHECK(board.length(board.status(3)) == 2);
    CHECK(board.length(board.status(4)) == 0);
    CHECK(board.memory.load<uint16_t>(Gpa{buffer + 0x100}) == 0x0112);
    CHECK(board.word(queue + 4) == LINK_TERMINATE);
    CHECK(board.reg(USBSTS) == USBINT);
    CHECK(board.wire.level);
    CHECK(board.config(board.at, LEGSUP, 2) == (USBPIRQEN | USBIRQS));
    board.set(USBINTR, SPIE);
    CHECK_FALSE(board.wire.level);
    board.set(USBINTR, IOCE);
    CHECK(board.wire.level);
    board.set_config(board.at, LEGSUP, 2, 0);
    CHECK_FALSE(board.wire.level);
    board.set_config(board.at, LEGSUP, 2, USBPIRQEN);
    board.set(USBSTS, USBINT);
    CHECK_FALSE(board.wire.level);
}

TEST_CASE("Without depth first a queue moves one descriptor a frame") {
    Started board;
    const auto chain = board.descriptor_transfer();
    board.put(chain);
    for (size_t i = 0; i + 1 < chain.size(); ++i) board.set_word(board.descriptor(i), board.descriptor(i + 1));
    board.wait_ms(1);
    CHECK_FALSE(board.status(0) & ACTIVE);
    CHECK(board.status(1) & ACTIVE);
    CHECK(board.word(queue + 4) == board.descriptor(1));
    board.wait_ms(4);
    CHECK_FALSE(board.status(4) & ACTIVE);
}

TEST_CASE("A short packet with detection stops its queue and interrupts") {
    Started board;
    auto chain = board.descriptor_transfer();
    chain[3].flags = SPD;
    board.put(chain);
    board.wait_ms(3);
    CHECK_FALSE(board.status(3) & ACTIVE);
    CHECK(board.status(4) & ACTIVE);
    CHECK(board.word(queue + 4) == board.descriptor(3));
    CHECK(board.reg(USBSTS) == USBINT);
    board.set(USBINTR, IOCE);
    CHECK_FALSE(board.wire.level);
    board.set(USBINTR, SPIE);
    CHECK(board.wire.level);
}

TEST_CASE("Who has nothing to say is asked again every frame") {
    Started board;
    board.put({{.address = 5, .endpoint = 1, .length = 8, .buffer = buffer}});
    board.wait_ms(5);
    CHECK((board.status() & (ACTIVE | NAK)) == (ACTIVE | NAK));
    CHECK((board.status() & C_ERR) == C_ERR);
    CHECK(board.reg(USBSTS) == 0);
    board.services.find<TabletPort>()->move_to(1, 2);
    board.wait_ms(1);
    CHECK_FALSE(board.status() & (ACTIVE | NAK));
    CHECK(board.reg(USBSTS) == USBINT);
}

TEST_CASE("Silence counts errors down to a stall") {
    Started board;
    board.put({{.address = 99, .length = 8, .buffer = buffer, .flags = 0}});
    board.wait_ms(2);
    CHECK((board.status() & (ACTIVE | CRC_TIMEOUT | STALLED)) == (ACTIVE | CRC_TIMEOUT));
    CHECK((board.status() & C_ERR) == C_ERR_ONE);
    CHECK(board.reg(USBSTS) == 0);
    board.wait_ms(1);
    CHECK((board.status() & (ACTIVE | CRC_TIMEOUT | STALLED)) == (CRC_TIMEOUT | STALLED));
    CHECK((board.status() & C_ERR) == 0);
    CHECK(board.reg(USBSTS) == ERROR_INT);
    CHECK(board.wire.level);
    // Without a limit it goes on for ever.
    board.set(USBSTS, ERROR_INT);
    board.put({{.address = 99, .length = 8, .buffer = buffer, .flags = 0}});
    board.set_word(board.descriptor(0) + 4, ACTIVE | ACTLEN);
    board.wait_ms(50);
    CHECK(board.status() & ACTIVE);
    CHECK(board.reg(USBSTS) == 0);
}

TEST_CASE("A low speed token does not reach a device of full speed") {
    Started board;
    board.low_speed[0] = true;
    board.put(board.descriptor_transfer());
    board.wait_ms(5);
    CHECK(board.status() & STALLED);
}

TEST_CASE("A refused request stalls, and the next one does not") {
    Started board;
    CHECK_FALSE(board.succeeds(0, {0x80, 6, 0, 9, 0, 0, 18, 0}));
    CHECK(board.status(1) & STALLED);
    CHECK((board.reg(USBSTS) & ERROR_INT) != 0);
    CHECK(board.succeeds(0, get_device_descriptor));
}

TEST_CASE("More data than asked for is babble") {
    Started board;
    auto chain = board.descriptor_transfer();
    chain[1].length = 5;
    board.put(chain);
    board.wait_ms(2);
    CHECK((board.status(1) & (ACTIVE | BABBLE | STALLED)) == (BABBLE | STALLED));
    CHECK((board.reg(USBSTS) & ERROR_INT) != 0);
}

TEST_CASE("An isochronous descriptor is done with after one try") {
    Started board;
    board.put({{.address = 5, .endpoint = 1, .length = 8, .buffer = buffer, .flags = IOS | IOC}});
    for (uint32_t i = 0; i < 1024; ++i) board.set_word(board.frames + 4 * i, board.descriptor(0));
    board.wait_ms(1);
    CHECK_FALSE(board.status() & ACTIVE);
    CHECK(board.reg(USBSTS) == USBINT);
}

TEST_CASE("What cannot be is a process error and halts") {
    for (const uint32_t token : {0x69u | 0x500u << 21, 0x12u}) {
        Started board;
        board.put({{.address = 5, .endpoint = 1, .length = 8, .buffer = buffer}});
        board.set_word(board.descriptor(0) + 8, token);
        board.set(USBINTR, 0);
        board.wait_ms(1);
        CHECK(board.reg(USBSTS) == (HCPE | HCHALTED));
        CHECK_FALSE(board.reg(USBCMD) & RS);
        CHECK(board.wire.level);  // nothing masks it
        board.set(USBSTS, HCPE);
        CHECK_FALSE(board.wire.level);
    }
}

TEST_CASE("Structures and data where no memory is are a system error and halt") {
    const auto halts = [](auto damage) {
        Started board;
        board.put(board.descriptor_transfer());
        damage(board);
        board.wait_ms(9);
        CHECK(board.reg(USBSTS) == (HSE | HCHALTED));
        CHECK(board.wire.level);
    };
    halts([](Started& board) { board.ports.write(board.base + FLBASEADD, 4, 0x80000000); });
    halts([](Started& board) {
        board.set_word(queue, 0x80000000);
        board.put({});
    });
    halts([](Started& board) {
        board.set_word(queue, 0x80000002);
        board.put({});
    });
    halts([](Started& board) { board.set_word(board.descriptor(0) + 12, 0x80000000); });
    halts([](Started& board) { board.set_word(board.descriptor(1) + 12, 0x80000000); });
}

TEST_CASE("Nothing moves before the function may be bus master") {
    Started board;
    board.set_config(board.at, pci::COMMAND, 2, pci::IO_SPACE);
    board.put(board.descriptor_transfer());
    const uint16_t before = board.reg(FRNUM);
    board.wait_ms(5);
    CHECK(board.status() & ACTIVE);
    CHECK(board.reg(FRNUM) == before + 5);
    board.set_config(board.at, pci::COMMAND, 2, pci::IO_SPACE | pci::BUS_MASTER);
    board.wait_ms(9);
    CHECK_FALSE(board.status(4) & ACTIVE);
}

TEST_CASE("Queues and descriptors in circles end with their frame") {
    Started board;
    board.set_word(queue, queue | LINK_QH);  // as drivers do for bandwidth reclamation
    board.put(board.descriptor_transfer());
    board.wait_ms(1);
    CHECK_FALSE(board.status(4) & ACTIVE);
    board.set_word(queue + 4, queue | LINK_QH);
    board.wait_ms(100);
    // A descriptor that follows itself: not active, and active without end.
    board.put({{.address = 5, .endpoint = 1, .length = 8, .buffer = buffer}});
    board.set_word(board.descriptor(0), board.descriptor(0));
    for (uint32_t i = 0; i < 1024; ++i) board.set_word(board.frames + 4 * i, board.descriptor(0));
    board.wait_ms(100);
    CHECK((board.status() & (ACTIVE | NAK)) == (ACTIVE | NAK));
    CHECK(board.reg(USBSTS) == USBINT);
}

TEST_CASE("A frame has an end in bytes") {
    Started board;
    // SETUP is always taken: 71 of its 21 byte times and the next fill 1500.
    std::vector<UhciBoard::Td> chain(100, {PID_SETUP, 5, 0, 8, buffer, 0});
    board.memory.write(Gpa{buffer}, std::as_bytes(std::span(get_device_descriptor)));
    board.put(chain);
    board.wait_ms(1);
    size_t done = 0;
    for (size_t i = 0; i < chain.size(); ++i) done += !(board.status(i) & ACTIVE);
    CHECK(done == 72);
    board.wait_ms(1);
    CHECK_FALSE(board.status(99) & ACTIVE);
}

TEST_CASE("Debug mode runs one transaction a start") {
    Started board;
    board.set(USBCMD, 0);
    board.put(board.descriptor_transfer());
    for (size_t i = 0; i < 5; ++i) {
        CHECK(board.status(i) & ACTIVE);
        board.set(USBCMD, RS | SWDBG);
        board.wait_ms(2);
        CHECK(board.reg(USBCMD) == SWDBG);
        CHECK((board.reg(USBSTS) & HCHALTED) != 0);
        CHECK_FALSE(board.status(i) & ACTIVE);
    }
}

TEST_CASE("Global reset and controller reset make ports start anew") {
    Started board;
    board.set(USBCMD, GRESET);
    CHECK(board.reg(USBCMD) == GRESET);
    CHECK(board.reg(USBSTS) == HCHALTED);
    CHECK_FALSE(board.reg(board.port_at(0)) & CCS);
    board.set(USBCMD, RS | GRESET);
    CHECK(board.reg(USBCMD) == GRESET);
    board.set(USBCMD, 0);
    CHECK(board.reg(board.port_at(0)) == (ALWAYS_ONE | CCS | CSC | LINE_DPLUS));
    board.addresses[0] = 0;
    board.start();
    board.configure(0);
    board.set(USBCMD, HCRESET);
    CHECK(board.reg(board.port_at(0)) == (ALWAYS_ONE | CCS | CSC | LINE_DPLUS));
}

TEST_CASE("A suspended port is deaf until it is resumed") {
    Started board;
    const unsigned port = board.port_at(0);
    board.set(port, PED | SUSPEND);
    board.put(board.descriptor_transfer());
    board.wait_ms(10);
    CHECK((board.status() & STALLED) != 0);
    board.services.find<TabletPort>()->move_to(5, 5);
    CHECK((board.reg(port) & (SUSPEND | PORT_RESUME)) == SUSPEND);  // it may not wake us
    board.set(port, PED | SUSPEND | PORT_RESUME);
    board.wait_ms(20);
    board.set(port, PED);
    CHECK((board.reg(port) & (SUSPEND | PORT_RESUME)) == 0);
    CHECK(board.poll(0).has_value());
}

TEST_CASE("A device that may wakes its port and a sleeping bus") {
    Started board;
    const unsigned port = board.port_at(0);
    REQUIRE(board.succeeds(0, {0, 3, 1, 0, 0, 0, 0, 0}));
    board.set(USBSTS, 0x1F);
    board.set(port, PED | SUSPEND);
    board.services.find<TabletPort>()->move_to(5, 5);
    CHECK((board.reg(port) & (SUSPEND | PORT_RESUME)) == (SUSPEND | PORT_RESUME));
    CHECK(board.reg(USBSTS) == 0);
    board.set(port, PED);

    board.set(USBCMD, 0);
    board.set(USBCMD, EGSM);
    CHECK(board.reg(USBSTS) == HCHALTED);
    board.services.find<TabletPort>()->press(MouseButton::left);
    CHECK(board.reg(USBSTS) == (RESUME_DETECT | HCHALTED));
    CHECK(board.reg(USBCMD) == (EGSM | FGR));
    CHECK(board.wire.level);
    board.set(USBSTS, RESUME_DETECT);
    CHECK_FALSE(board.wire.level);
}

TEST_CASE("A host that was away for long makes up for some frames only") {
    Started board;
    const uint16_t before = board.reg(FRNUM);
    // The clock moves without calling timers: as on a host that did not run.
    const TreeNode saved = board.device->save();
    board.wait_ms(1500);
    auto commit = board.device->prepare_load(saved);
    REQUIRE(commit.has_value());
    (*commit)();
    CHECK(board.reg(FRNUM) == ((before + 1500) & 0x7FF));
}

TEST_CASE("A state that the UHCI controller never has is refused") {
    UhciBoard board;
    const auto refuses = [&](const char* key, uint16_t value) {
        TreeNode saved = board.device->save();
        saved.set(key, {std::byte(value >> 8), std::byte(value & 0xFF)});
        return !board.device->prepare_load(saved).has_value();
    };
    CHECK(refuses("command", RS));
    CHECK(refuses("status", 0));
    CHECK(refuses("frame", 0x800));
    CHECK(refuses("interrupts", 0x10));
    CHECK(refuses("idle-frames", 1000));
    CHECK_FALSE(refuses("interrupts", 0xF));
}

TEST_CASE("A board that makes no controller is refused with a reason") {
    const auto error = [](uint32_t reg, const char* kind, unsigned count = 1) {
        TestBoard board;
        GuestMemory& memory = board.memory;
        PciBus bus(board.ports, board.memory_bus, memory);
        board.services.provide(bus);
        board.node.set_cells("reg", std::vector<uint32_t>{1, 2});
        for (unsigned i = 0; i < count; ++i) {
            TreeNode& child = board.node.children.emplace_back(TreeNode{"port@1", {}, {}});
            child.set_u32("reg", reg);
            child.set_string("viv,device-type", kind);
        }
        const auto made = board.try_make(make_uhci, {});
        return made ? std::string() : made.error().message;
    };
    CHECK(error(3, "tablet") == "/test: port@1: `reg` is not <1> or <2>, a port of the controller");
    CHECK(error(1, "camera") == "/test: port@1: `viv,device-type` is not tablet, keyboard or mouse");
    CHECK(error(1, "mouse", 2) == "/test: port@1: port 1 has a device already");
    CHECK(error(2, "mouse").empty());
}
