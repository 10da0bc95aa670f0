#include <algorithm>
#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/storage/i82077aa.hpp"
#include "devices/storage/image/memory_image_test.hpp"

using namespace viv;

namespace {

/// A channel that takes and gives in portions of the input's choice.
struct FuzzDma final : DmaController {
    size_t write_memory(unsigned, std::span<const std::byte> data) override { return move(data.size()); }
    size_t read_memory(unsigned, std::span<std::byte> data) override {
        std::ranges::fill(data, std::byte{2});
        return move(data.size());
    }
    [[nodiscard]] bool terminal_count(unsigned) const override { return left == 0; }
    [[nodiscard]] bool ready(unsigned) const override { return left > 0; }
    void set_request(unsigned, bool) override {}
    void on_ready(unsigned, std::move_only_function<void()> callback) override { listener = std::move(callback); }
    size_t move(size_t size) {
        const size_t moved = std::min(size, left);
        left -= moved;
        return moved;
    }
    size_t left = 0;
    std::move_only_function<void()> listener;
};

}  // namespace

// The input is a row of operations: port accesses, whole commands, DMA counts, media, time.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    StateTrips state;
    ManualClock clock;
    FuzzDma dma;
    I82077aa chip(clock, IrqLine{}, dma, 2);
    chip.attach(0, std::make_unique<FloppyDrive>(chip.drive_state(0), uint8_t{0}, FloppyType::d1440k));
    chip.attach(1, std::make_unique<FloppyDrive>(chip.drive_state(1), uint8_t{1}, FloppyType::d2880k));
    VIV_ASSERT(chip.drive(0)->load(std::make_unique<MemoryImage>(size_t{80} * 512)));
    FuzzInput input(data, size);
    const auto take = [&input] { return input.byte(); };
    chip.main_ports().write({2, 1}, 0x0C);
    clock.advance(std::chrono::milliseconds(1));
    for (unsigned steps = 0; steps < 2000 && !input.empty(); ++steps) {
        const uint8_t kind = take();
        switch (kind & 7) {
            case 0: chip.main_ports().write({kind >> 3u & 7u, 1}, take()); break;
            case 1: chip.main_ports().read({kind >> 3u & 7u, 1}); break;
            case 2: chip.rate_port().write({0, 1}, take()); break;
            case 3:
                // A command whose sectors exist, up to the input's changes.
                for (const unsigned byte : {0x40u | (kind >> 3), unsigned{take()}, unsigned{take()}, 0u, 1u, 2u, 9u,
                                            0x1Bu, unsigned{take()}}) {
                    chip.main_ports().write({5, 1}, byte & 0xFF);
                }
                break;
            case 4:
                dma.left = take() * 37u;
                if (dma.left > 0 && dma.listener) dma.listener();
                break;
            case 5: clock.advance(std::chrono::microseconds(take() * 8)); break;
            case 6:
                if ((kind & 8) != 0) {
                    VIV_ASSERT(chip.drive(kind >> 4 & 1)->eject().has_value());
                } else {
                    const size_t sectors = (kind & 16) != 0 ? 80 : 320;  // the start of 1.44M, all of 160K
                    [[maybe_unused]] const auto done =
                        chip.drive(kind >> 5 & 1)->insert(std::make_unique<MemoryImage>(sectors * 512));
                }
                break;
            case 7: {
                state.save_and_load(chip);
                break;
            }
        }
    }
    return 0;
}
