// The UHCI controller from inside, as a driver uses it: ports, control transfers, reports of a tablet and a keyboard
// that a script moves.

#include "guest-tests/runtime/cards.hpp"

using namespace guest;

namespace {

constexpr uint16_t USBCMD = 0x00, USBSTS = 0x02, USBINTR = 0x04, FRNUM = 0x06, FLBASEADD = 0x08, PORTSC = 0x10;
constexpr uint32_t IN = 0x69, OUT = 0xE1, SETUP = 0x2D;
constexpr uint32_t TERMINATE = 1, QUEUE = 2, DEPTH_FIRST = 4;
constexpr uint32_t ACTIVE = 1u << 23, IOC = 1u << 24, LOW_SPEED = 1u << 26, THREE_ERRORS = 3u << 27;
constexpr uint32_t NAK = 1u << 19, STALLED = 1u << 22;
// Below the code.
constexpr uint32_t frames = 0x1000, queue = 0x2000, descriptors = 0x2100, setup_at = 0x3000, data = 0x3100;

uint16_t base = 0;

volatile uint32_t* words(uint32_t address) {
    return reinterpret_cast<volatile uint32_t*>(address);
}
uint8_t* bytes(uint32_t address) {
    return reinterpret_cast<uint8_t*>(address);
}

struct Device {
    uint16_t port;
    bool low_speed;
    uint8_t address = 0;
};
Device tablet{0, false}, keyboard{1, true};

uint32_t count = 0;  // of the descriptors in the queue
void begin() {
    count = 0;
    words(queue)[1] = TERMINATE;
}
void add(const Device& device, uint32_t pid, uint32_t endpoint, uint32_t buffer, uint32_t length, uint32_t flags = 0) {
    const uint32_t here = descriptors + 32 * count++;
    words(here)[0] = TERMINATE;
    words(here)[1] = ACTIVE | THREE_ERRORS | 0x7FF | (device.low_speed ? LOW_SPEED : 0) | flags;
    words(here)[2] = pid | uint32_t{device.address} << 8 | endpoint << 15 | ((length - 1) & 0x7FF) << 21;
    words(here)[3] = buffer;
    if (count > 1) words(here - 32)[0] = here | DEPTH_FIRST;
}
uint32_t status(uint32_t index) {
    return words(descriptors + 32 * index)[1];
}
uint32_t length(uint32_t index) {
    return (status(index) + 1) & 0x7FF;
}
// Hangs the descriptors in; whether the last one came to its end in time.
bool run(uint32_t milliseconds) {
    words(queue)[1] = descriptors;
    Deadline deadline(milliseconds);
    while ((status(count - 1) & ACTIVE) && !deadline.passed()) {
        for (uint32_t i = 0; i < count; ++i) {
            if (status(i) & STALLED) return false;
        }
    }
    const bool done = !(status(count - 1) & (ACTIVE | STALLED));
    words(queue)[1] = TERMINATE;
    return done;
}

// A control transfer, with what is to come or go at `data`.
bool control(const Device& device, uint8_t type, uint8_t request, uint16_t value, uint16_t index, uint16_t size) {
    uint8_t* setup = bytes(setup_at);
    setup[0] = type;
    setup[1] = request;
    setup[2] = static_cast<uint8_t>(value);
    setup[3] = static_cast<uint8_t>(value >> 8);
    setup[4] = static_cast<uint8_t>(index);
    setup[5] = static_cast<uint8_t>(index >> 8);
    setup[6] = static_cast<uint8_t>(size);
    setup[7] = static_cast<uint8_t>(size >> 8);
    const bool in = (type & 0x80) && size != 0;
    begin();
    add(device, SETUP, 0, setup_at, 8);
    for (uint32_t done = 0; done < size; done += 8)
        add(device, in ? IN : OUT, 0, data + done, size - done < 8u ? size - done : 8u);
    add(device, in ? OUT : IN, 0, data, 0);
    return run(1000);
}

void test_controller() {
    const uint16_t card = find_card(0x0C0300);
    check(card != 0xFFFF, "there is a UHCI controller");
    check_equal(read_config32(card, 0), 0x70208086, "of a PIIX3");
    base = static_cast<uint16_t>(read_config32(card, 0x20) & 0xFFE0);
    check(base >= 0xC000, "the BIOS has given it ports");
    write_config32(card, 4, 5);
    outw(base + USBCMD, 2);
    delay_milliseconds(1);
    check_equal(inw(base + USBCMD), 0, "it resets");
    check_equal(inw(base + USBSTS), 0x20, "and is halted then");
    for (uint32_t i = 0; i < 1024; ++i) words(frames)[i] = queue | QUEUE;
    words(queue)[0] = TERMINATE;
    begin();
    outl(base + FLBASEADD, frames);
    outw(base + USBINTR, 4);
    outw(base + USBCMD, 0xC1);
    const uint16_t first = inw(base + FRNUM);
    delay_milliseconds(50);
    check_between((inw(base + FRNUM) - first) & 0x7FFu, 49, 1000, "frames go by");
    check_equal(inw(base + PORTSC) & 0x185, 0x081, "port 1 has a device of full speed");
    check_equal(inw(base + PORTSC + 2) & 0x185, 0x181, "port 2 has one of low speed");
    check_equal(inw(base + PORTSC + 4) & 0x80, 0, "there is no third port");
}

void start_device(Device& device, uint8_t address, const char* enabled, const char* described, const char* configured) {
    const uint16_t port = static_cast<uint16_t>(base + PORTSC + 2 * device.port);
    outw(port, 0x200);
    delay_milliseconds(10);
    outw(port, 0);
    outw(port, 0x0E);
    check_equal(inw(port) & 0x0F, 5, enabled);
    for (uint32_t i = 0; i < 18; ++i) bytes(data)[i] = 0;
    check(control(device, 0x80, 6, 0x100, 0, 18) && bytes(data)[0] == 18 && bytes(data)[1] == 1, described);
    const bool addressed = control(device, 0, 5, address, 0, 0);
    device.address = address;
    check(addressed && control(device, 0, 9, 1, 0, 0), configured);
}

void test_refusals() {
    check(!control(tablet, 0x80, 6, 0x900, 0, 8) && (status(1) & STALLED), "a descriptor that is not there stalls");
    outw(base + USBSTS, 0x1F);
    const Device nobody{0, false, 99};
    begin();
    add(nobody, IN, 0, data, 8);
    check(!run(1000) && (status(0) & STALLED), "an address that nobody has fails three times");
    check_equal(inw(base + USBSTS), 2, "which is told as an error");
    outw(base + USBSTS, 0x1F);
}

void test_reports() {
    check(control(keyboard, 0x21, 10, 0, 0, 0), "the keyboard is to speak only when a key moves");
    begin();
    add(keyboard, IN, 1, data, 8);
    check(!run(50) && (status(0) & NAK), "it has nothing to say");
    print("# ready for a key\n");
    begin();
    add(keyboard, IN, 1, data, 8);
    check(run(60000) && length(0) == 8, "a key goes down");
    check(bytes(data)[0] == 0 && bytes(data)[2] == 0x19 && bytes(data)[3] == 0, "it is V");
    begin();
    add(keyboard, IN, 1, data, 8);
    check(run(60000) && bytes(data)[2] == 0, "and comes up");
    bytes(data)[0] = 2;
    check(control(keyboard, 0x21, 9, 0x200, 0, 1), "its lamps can be lit");

    print("# ready for a click\n");
    for (uint32_t i = 0; i < 3; ++i) {
        begin();
        add(tablet, IN, 1, data + 8 * i, 8);
        check(run(60000) && length(0) == 6, i == 0 ? "the tablet moves" : i == 1 ? "is clicked" : "and let go");
    }
    check(bytes(data)[0] == 0 && bytes(data + 8)[0] == 2 && bytes(data + 16)[0] == 0, "with its right button");
    const uint8_t* at = bytes(data + 8);
    check_between(at[1] | at[2] << 8, 32767u / 4 - 100, 32767u / 4 + 100, "at a quarter of the width");
    check_between(at[3] | at[4] << 8, 32767u / 2 - 100, 32767u / 2 + 100, "and half of the height");
}

void test_interrupt() {
    static uint8_t line;
    line = static_cast<uint8_t>(read_config32(find_card(0x0C0300), 0x3C));
    check(line >= 3 && line < 16, "the BIOS has given it an interrupt");
    take_irq(line);
    irq_action[line] = [] { outw(base + USBSTS, 0x1F); };
    begin();
    for (uint32_t i = 0; i < 8; ++i) bytes(setup_at)[i] = 0;
    bytes(setup_at)[1] = 9;
    bytes(setup_at)[2] = 1;
    add(tablet, SETUP, 0, setup_at, 8);
    add(tablet, IN, 0, data, 0, IOC);
    words(queue)[1] = descriptors;
    check(wait_irq(line, 1, 3000), "the end of a transfer interrupts");
    check_equal(status(1) & (ACTIVE | STALLED), 0, "when it is done");
    delay_milliseconds(20);
    check_equal(irq_count[line], 1, "and once only");
    give_irq(line);
    outw(base + USBCMD, 0);
    check_equal(inw(base + USBSTS) & 0x20, 0x20, "at last it halts");
}

}  // namespace

extern "C" void guest_main() {
    test_controller();
    start_device(tablet, 1, "the tablet's port is enabled", "it describes itself", "and is configured");
    start_device(keyboard, 2, "the keyboard's port is enabled", "it describes itself too", "and is configured too");
    test_refusals();
    test_reports();
    test_interrupt();
    finish();
}
