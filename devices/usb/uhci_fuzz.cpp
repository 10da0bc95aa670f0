#include <array>
#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/pci/pci_bus.hpp"
#include "devices/usb/uhci.hpp"
#include "devices/usb/usb_keyboard.hpp"
#include "devices/usb/usb_pointer.hpp"

using namespace viv;

namespace {

constexpr uint16_t base = 0xC800;
constexpr uint32_t frames = 0x1000, queues = 0x2000, descriptors = 0x3000, data_at = 0x4000, memory_size = 0x10000;
constexpr uint8_t place_count = 8;
constexpr PciAddress at{0, 1, 2};

}  // namespace

// The input is a row of operations: descriptors, queues and links among a few places, control transfers, register
// accesses, bytes of memory, what hands and fingers do, time, saves and loads. Port 1 has a tablet, port 2 a keyboard.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    GuestMemory& memory = board.memory;
    Bus& ports = board.ports;
    static_cast<void>(memory.add(Gpa{0}, memory_size, GuestMemory::Kind::ram, "RAM"));
    const auto bridge = board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    Uhci uhci(board.clock);
    auto tablet_made = std::make_unique<UsbTablet>(uhci.device_state(0), board.clock);
    auto keyboard_made = std::make_unique<UsbKeyboard>(uhci.device_state(1), board.clock);
    UsbTablet& tablet = *tablet_made;
    UsbKeyboard& keyboard = *keyboard_made;
    uhci.attach(0, std::move(tablet_made));
    uhci.attach(1, std::move(keyboard_made));
    auto context = board.context_at(at.device, at.function);
    VIV_ASSERT(uhci.pci().attach(context).has_value());
    PciBus& bus = *board.services.find<PciBus>();
    bus.config_write(at, pci::BAR0 + 16, 4, base);
    bus.config_write(at, pci::COMMAND, 2, pci::IO_SPACE | pci::BUS_MASTER);

    const auto start = [&] {
        for (uint32_t i = 0; i < 1024; ++i) memory.store(Gpa{frames + 4 * i}, queues | uhci::LINK_QH);
        ports.write(base + uhci::FLBASEADD, 4, frames);
        ports.write(base + uhci::PORTSC1, 2, uhci::PED);
        ports.write(base + uhci::PORTSC1 + 2, 2, uhci::PED);
        ports.write(base + uhci::USBINTR, 2, 0xF);
        ports.write(base + uhci::USBCMD, 2, uhci::RS);
    };
    start();

    FuzzInput input(data, size);
    const auto take = [&input] { return input.byte(); };
    // A link to one of the places, or now and then anywhere.
    const auto link = [&]() -> uint32_t {
        const uint8_t chosen = take();
        const uint32_t place = chosen % place_count;
        if (chosen >= 0xF8) return input.number(4);
        if (chosen & 0x80) return uhci::LINK_TERMINATE;
        return chosen & 0x40 ? queues + 16 * place + uhci::LINK_QH
                             : descriptors + 32 * place + (chosen & 0x20 ? uhci::LINK_DEPTH_FIRST : 0);
    };
    for (unsigned steps = 0; steps < 300 && !input.empty(); ++steps) {
        const uint8_t kind = take();
        const uint32_t place = kind >> 4 & (place_count - 1);
        switch (kind & 15) {
            case 0:
            case 1:
            case 2: {
                constexpr uint8_t pids[] = {uhci::PID_IN, uhci::PID_OUT, uhci::PID_SETUP, uhci::PID_IN};
                const uint32_t here = descriptors + 32 * place;
                const uint8_t flags = take(), where = take();
                memory.store(Gpa{here}, link());
                memory.store(Gpa{here + 4}, uint32_t{flags} << 23 | uhci::ACTIVE | (kind & 0x80 ? uhci::C_ERR : 0));
                const uint32_t pid = where >= 0xFC ? take() : pids[where & 3];
                const uint32_t length = where & 4 ? 7 : where & 8 ? 0x7FF : take();
                const uint32_t target = where & 0x10 ? 0 : take() & 3;
                memory.store(Gpa{here + 8}, pid | target << 8 | (where >> 5 & 1u) << 15 | length << 21);
                memory.store(Gpa{here + 12}, where & 0x40 ? data_at : uint32_t{take()} << 8);
                break;
            }
            case 3: {
                memory.store(Gpa{queues + 16 * place}, link());
                memory.store(Gpa{queues + 16 * place + 4}, link());
                break;
            }
            case 4: {
                // A request, straight to a device.
                std::array<uint8_t, 8> request{};
                constexpr uint8_t types[] = {0x00, 0x01, 0x02, 0x21, 0x80, 0x81, 0x82, 0xA1};
                request[0] = types[place];
                for (size_t i = 1; i < request.size() - 1; ++i) request[i] = take();
                memory.write(Gpa{data_at}, std::as_bytes(std::span(request)));
                UsbHid& device = kind & 0x80 ? static_cast<UsbHid&>(keyboard) : tablet;
                device.setup(0, request);
                std::array<uint8_t, usb_largest_packet> packet{};
                if (request[0] & 0x80) device.in(0, packet);
                device.out(0, std::span(packet).first(take() % 10));
                device.in(0, packet);
                break;
            }
            case 5:
                ports.write(base + (take() & 31), static_cast<uint8_t>(1u << (kind >> 4 & 1)), input.number(2));
                break;
            case 6: ports.read(base + (take() & 31), static_cast<uint8_t>(1u << (kind >> 4 & 3))); break;
            case 7: memory.store(Gpa{input.number(2)}, take()); break;
            case 8: tablet.move_to(take() << 7, take() << 7); break;
            case 9:
                kind & 0x10 ? tablet.press(MouseButton{take()}) : tablet.release(MouseButton{take()});
                tablet.scroll(take() - 128);
                break;
            case 10: keyboard.press(static_cast<Key>(take()), KeyboardPort::Repeat::none); break;
            case 11: keyboard.release(static_cast<Key>(take())); break;
            case 12: start(); break;
            case 13:
            case 14: board.clock.advance(std::chrono::microseconds(300 * (kind >> 4))); break;
            case 15: board.save_and_load(uhci); break;
        }
    }
    return 0;
}
