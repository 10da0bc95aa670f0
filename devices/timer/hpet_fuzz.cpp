#include <cstdint>

#include "devices/fuzz_board_test.hpp"
#include "devices/interrupt/ioapic.hpp"
#include "devices/timer/hpet.hpp"

using namespace viv;

namespace {

constexpr uint64_t base = 0xFED00000, ioapic = 0xFEC00000;
constexpr uint64_t GEN_CONF = 0x10, MAIN_CNT = 0xF0;

}  // namespace

// The input is a row of operations: register accesses of every size, the 8254's and the RTC's wires, steps of time from
// a tick to hours, saves and loads. The counter must count while it is on, and stand still while it is off.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    board.services.provide(board.isa);
    Bus& bus = board.memory_bus;
    const auto controller = board.make(make_ioapic, {{DeviceRange::Space::memory, ioapic, 0x1000}});
    board.irqs = {&board.isa.pins[0], &board.isa.pins[8]};
    const auto hpet = board.make(make_hpet, {{DeviceRange::Space::memory, base, 0x400}});
    LegacyTimerInputs& inputs = *board.services.find<LegacyTimerInputs>();
    IrqLine timer(inputs.timer), rtc(inputs.rtc);

    FuzzInput input(data, size);
    for (unsigned steps = 0; steps < 500 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        const auto width = static_cast<uint8_t>(1u << (kind >> 3 & 3));
        switch (kind & 7) {
            case 0:
            case 1: {
                // A whole register, mostly one that is there.
                constexpr uint16_t registers[] = {0x10, 0x20, 0xF0, 0x100, 0x108, 0x120, 0x128, 0x140, 0x148, 0x00};
                bus.write(base + registers[input.byte() % std::size(registers)], kind & 0x80 ? 4 : 8, input.number(4));
                break;
            }
            case 2: bus.write(base + input.number(2) % (0x400 - 8), width, input.number(4)); break;
            case 3: bus.read(base + input.number(2) % (0x400 - 8), width); break;
            case 4: (kind & 8 ? timer : rtc).set(kind & 0x10); break;
            case 5: bus.write(ioapic + (kind & 0x10), 4, input.number(4)); break;
            case 6: {
                // A tick is 10 ns. What happens meanwhile does not change the counter.
                const bool counts = bus.read(base + GEN_CONF, 8) & 1;
                const uint64_t before = bus.read(base + MAIN_CNT, 8);
                // Comparators that match every 10 us make long steps slow.
                const int64_t ticks = std::min(int64_t{input.byte()} << (kind >> 3), int64_t{200'000});
                board.clock.advance(Duration{10 * ticks});
                const uint64_t passed = bus.read(base + MAIN_CNT, 8) - before;
                VIV_ASSERT(passed == (counts ? static_cast<uint64_t>(ticks) : 0));
                break;
            }
            case 7: board.save_and_load(*hpet); break;
        }
    }
    return 0;
}
