// Models: the two 8237A DMA controllers of a PC with their page registers; all modes of the channels.
// Not modelled: memory-to-memory transfers (a PC refreshes memory with channel 0, and the PIIX3 leaves them out);
// arbitration and timing (a device's transfer is over at once). A software request moves no data: it runs the channel
// to its terminal count, as no device answers DACK#.
// Ignored bits: command D0, D1, D3-D7; page register D0 of channels 5-7; odd ports of the second controller.
// Reference: Intel 8237A data sheet (231466), "Register Description"; Intel 82371SB (290550), 2.5.1.
#include "devices/system/i8237.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "devices/byte_ports.hpp"
#include "devices/system/dma_controller.hpp"

namespace viv {
namespace {

// Registers after the four pairs of address (even) and count (odd).
enum class Register : uint8_t {
    StatusCommand = 0x08,   // r: status, w: command
    Request = 0x09,         // -w
    SingleMask = 0x0A,      // -w
    Mode = 0x0B,            // -w
    ClearFlipFlop = 0x0C,   // -w
    TemporaryClear = 0x0D,  // r: temporary, w: master clear
    ClearMask = 0x0E,       // -w
    AllMask = 0x0F,         // rw (reads as on the 82C37A)
};

constexpr uint8_t COMMAND_DISABLE = 0x04;
constexpr uint8_t REQUEST_SET = 0x04;  // and of the single mask register: MASK_SET
constexpr uint8_t MODE_TYPE = 0x0C;
constexpr uint8_t MODE_WRITE = 0x04;  // device to memory
constexpr uint8_t MODE_READ = 0x08;   // memory to device
constexpr uint8_t MODE_AUTOINITIALIZE = 0x10;
constexpr uint8_t MODE_DECREMENT = 0x20;
constexpr uint8_t MODE_SELECT = 0xC0;
constexpr uint8_t MODE_BLOCK = 0x80;
constexpr uint8_t MODE_CASCADE = 0xC0;

constexpr unsigned cascade_channel = 4;
// Where the page of each channel is among ports 80h-8Fh; channel 4's is that of refresh.
constexpr std::array<uint8_t, 8> page_index = {0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA};

constexpr uint8_t bit(unsigned n) {
    return static_cast<uint8_t>(1u << n);
}

struct Channel {
    uint16_t base_address = 0;
    uint16_t base_count = 0;
    uint16_t address = 0;
    uint16_t count = 0;  // transfers left, less one
    uint8_t mode = 0;
    static void fields(auto& self, auto&& visit) {
        visit("base_address", self.base_address);
        visit("base_count", self.base_count);
        visit("address", self.address);
        visit("count", self.count);
        visit("mode", self.mode);
    }
    bool operator==(const Channel&) const = default;
};

struct Controller {
    std::array<Channel, 4> channels;
    uint8_t command = 0;
    uint8_t terminal_counts = 0;  // status D3-D0
    uint8_t requests = 0;         // levels of DREQ, status D7-D4
    uint8_t mask = 0x0F;
    uint8_t temporary = 0;
    bool high_byte = false;  // the byte pointer flip-flop
    static void fields(auto& self, auto&& visit) {
        visit("channels", self.channels);
        visit("command", self.command);
        visit("terminal_counts", self.terminal_counts);
        visit("requests", self.requests);
        visit("mask", self.mask);
        visit("temporary", self.temporary);
        visit("high_byte", self.high_byte);
    }
    bool operator==(const Controller&) const = default;
};

struct State {
    std::array<Controller, 2> controllers;
    std::array<uint8_t, 16> pages{};
    uint8_t ended = 0;  // channels whose last transfer reached its terminal count
    static void fields(auto& self, auto&& visit) {
        visit("controllers", self.controllers);
        visit("pages", self.pages);
        visit("ended", self.ended);
    }
    bool operator==(const State&) const = default;
};

class I8237Pair final : public StatefulDevice<State>, public DmaController {
  public:
    explicit I8237Pair(GuestMemory& memory) : memory_(memory) {}

    void reset(ResetKind /*kind*/) override {
        const State old = state_;
        state_ = State{};
        // DREQ are wires: they stay until their devices let go.
        for (size_t i = 0; i < 2; ++i) state_.controllers[i].requests = old.controllers[i].requests;
    }

    size_t write_memory(unsigned channel, std::span<const std::byte> data) override {
        return transfer(channel, data.size(), [&](Gpa at, size_t offset, size_t size) {
            if (type(channel) == MODE_WRITE) memory_.write(at, data.subspan(offset, size));
        });
    }
    size_t read_memory(unsigned channel, std::span<std::byte> data) override {
        return transfer(channel, data.size(), [&](Gpa at, size_t offset, size_t size) {
            const auto part = data.subspan(offset, size);
            if (type(channel) == MODE_READ) {
                memory_.read(at, part);
            } else {
                std::ranges::fill(part, std::byte{0xFF});
            }
        });
    }
    [[nodiscard]] bool terminal_count(unsigned channel) const override { return state_.ended & bit(channel); }

    [[nodiscard]] bool ready(unsigned channel) const override {
        if (channel == cascade_channel) return false;
        if (channel < 4 && !cascades()) return false;
        const Controller& owner = controller(channel);
        return !(owner.command & COMMAND_DISABLE) && !(owner.mask & bit(channel & 3)) &&
               (at(channel).mode & MODE_SELECT) != MODE_CASCADE;
    }

    void set_request(unsigned channel, bool asserted) override {
        uint8_t& requests = state_.controllers[channel / 4].requests;
        requests = static_cast<uint8_t>(asserted ? requests | bit(channel & 3) : requests & ~bit(channel & 3));
    }
    void on_ready(unsigned channel, std::move_only_function<void()> listener) override {
        listeners_[channel] = std::move(listener);
    }

    Result<void> attach(const DeviceContext& context) {
        TRY(context.map(0, first_ports_));
        TRY(context.map(1, page_ports_));
        TRY(context.map(2, second_ports_));
        context.services.provide<DmaController>(*this);
        return {};
    }

  protected:
    Result<void> validate(const State& staged) const override {
        for (const Controller& each : staged.controllers) {
            if (each.mask > 0x0F || each.requests > 0x0F || each.terminal_counts > 0x0F) {
                return fail("8237A: the saved state holds more channels than the chip");
            }
        }
        return {};
    }
    void after_load() override {}

  private:
    [[nodiscard]] const Controller& controller(unsigned channel) const { return state_.controllers[channel / 4]; }
    [[nodiscard]] const Channel& at(unsigned channel) const { return controller(channel).channels[channel & 3]; }
    [[nodiscard]] uint8_t type(unsigned channel) const { return at(channel).mode & MODE_TYPE; }

    /// Whether the second controller passes the first one's HRQ on.
    [[nodiscard]] bool cascades() const {
        const Controller& second = state_.controllers[1];
        return !(second.command & COMMAND_DISABLE) && !(second.mask & bit(cascade_channel & 3)) &&
               (second.channels[cascade_channel & 3].mode & MODE_SELECT) == MODE_CASCADE;
    }

    /// The address on the bus: the page above 16 bits, shifted by one on the word channels (A0 is 0).
    [[nodiscard]] Gpa address(unsigned channel) const {
        const uint64_t page = state_.pages[page_index[channel]];
        if (channel < 4) return {page << 16 | at(channel).address};
        return {(page & 0xFE) << 16 | uint64_t{at(channel).address} << 1};
    }

    size_t transfer(unsigned channel, size_t bytes, auto&& move) {
        state_.ended = static_cast<uint8_t>(state_.ended & ~bit(channel));
        if (!ready(channel)) return 0;
        const size_t unit = channel < 4 ? 1 : 2;
        Channel& current = state_.controllers[channel / 4].channels[channel & 3];
        size_t done = 0;
        while (done < bytes / unit && !terminal_count(channel)) {
            const size_t left = size_t{current.count} + 1;
            size_t step = 1;
            if (!(current.mode & MODE_DECREMENT)) {
                // The page register takes no carry: the address wraps within its page.
                step = std::min({bytes / unit - done, left, size_t{0x10000} - current.address});
            }
            move(address(channel), done * unit, step * unit);
            done += step;
            current.address =
                static_cast<uint16_t>(current.mode & MODE_DECREMENT ? current.address - step : current.address + step);
            current.count = static_cast<uint16_t>(current.count - step);
            if (step == left) end_of_process(channel);
        }
        return done * unit;
    }

    void end_of_process(unsigned channel) {
        Controller& owner = state_.controllers[channel / 4];
        Channel& current = owner.channels[channel & 3];
        state_.ended |= bit(channel);
        owner.terminal_counts |= bit(channel & 3);
        if (current.mode & MODE_AUTOINITIALIZE) {
            current.address = current.base_address;
            current.count = current.base_count;
        } else {
            owner.mask |= bit(channel & 3);
        }
    }

    uint8_t read_controller(unsigned which, uint8_t index) {
        Controller& owner = state_.controllers[which];
        if (index < 8) {
            const Channel& channel = owner.channels[index / 2];
            const uint16_t value = index & 1 ? channel.count : channel.address;
            owner.high_byte = !owner.high_byte;
            return static_cast<uint8_t>(owner.high_byte ? value : value >> 8);
        }
        switch (static_cast<Register>(index)) {
            case Register::StatusCommand: {
                const auto status = static_cast<uint8_t>(owner.requests << 4 | owner.terminal_counts);
                owner.terminal_counts = 0;
                return status;
            }
            case Register::TemporaryClear: return owner.temporary;
            case Register::AllMask: return 0xF0 | owner.mask;
            default: return 0xFF;
        }
    }

    void write_controller(unsigned which, uint8_t index, uint8_t value) {
        Controller& owner = state_.controllers[which];
        const unsigned selected = value & 3;
        if (index < 8) return write_channel(owner, index, value);
        switch (static_cast<Register>(index)) {
            case Register::StatusCommand: owner.command = value; break;
            case Register::Request:
                if (value & REQUEST_SET) request_by_software(which * 4 + selected);
                break;
            case Register::SingleMask:
                owner.mask = static_cast<uint8_t>(value & REQUEST_SET ? owner.mask | bit(selected)
                                                                      : owner.mask & ~bit(selected));
                break;
            case Register::Mode: owner.channels[selected].mode = value & 0xFC; break;
            case Register::ClearFlipFlop: owner.high_byte = false; break;
            case Register::TemporaryClear:
                owner.command = 0;
                owner.terminal_counts = 0;
                owner.temporary = 0;
                owner.high_byte = false;
                owner.mask = 0x0F;
                break;
            case Register::ClearMask: owner.mask = 0; break;
            case Register::AllMask: owner.mask = value & 0x0F; break;
        }
    }

    static void write_channel(Controller& owner, uint8_t index, uint8_t value) {
        Channel& channel = owner.channels[index / 2];
        uint16_t& base = index & 1 ? channel.base_count : channel.base_address;
        base = static_cast<uint16_t>(owner.high_byte ? (base & 0x00FF) | value << 8 : (base & 0xFF00) | value);
        // Base and current register are written together.
        uint16_t& current = index & 1 ? channel.count : channel.address;
        current = static_cast<uint16_t>(owner.high_byte ? (current & 0x00FF) | value << 8 : (current & 0xFF00) | value);
        owner.high_byte = !owner.high_byte;
    }

    /// "Software requests must be in block mode"; they are not maskable.
    void request_by_software(unsigned channel) {
        const Controller& owner = controller(channel);
        if ((at(channel).mode & MODE_SELECT) != MODE_BLOCK || (owner.command & COMMAND_DISABLE)) return;
        if (channel < 4 && !cascades()) return;
        Channel& current = state_.controllers[channel / 4].channels[channel & 3];
        const auto steps = static_cast<uint32_t>(current.count) + 1;
        current.address =
            static_cast<uint16_t>(current.mode & MODE_DECREMENT ? current.address - steps : current.address + steps);
        current.count = 0xFFFF;
        end_of_process(channel);
    }

    /// Carries out a guest's write and tells devices whose channel it has made ready.
    void change(auto&& write) {
        std::array<bool, 8> before{};
        for (unsigned i = 0; i < 8; ++i) before[i] = ready(i);
        write();
        for (unsigned i = 0; i < 8; ++i) {
            if (!before[i] && listeners_[i] && ready(i)) listeners_[i]();
        }
    }

    uint8_t read_first(uint64_t offset) { return read_controller(0, static_cast<uint8_t>(offset & 15)); }
    void write_first(uint64_t offset, uint8_t value) {
        change([&] { write_controller(0, static_cast<uint8_t>(offset & 15), value); });
    }
    // The second controller's A0 is the bus's A1.
    uint8_t read_second(uint64_t offset) {
        return offset & 1 ? uint8_t{0xFF} : read_controller(1, static_cast<uint8_t>(offset / 2 & 15));
    }
    void write_second(uint64_t offset, uint8_t value) {
        if (offset & 1) return;
        change([&] { write_controller(1, static_cast<uint8_t>(offset / 2 & 15), value); });
    }
    uint8_t read_page(uint64_t offset) { return state_.pages[offset & 15]; }
    void write_page(uint64_t offset, uint8_t value) { state_.pages[offset & 15] = value; }

    GuestMemory& memory_;
    std::array<std::move_only_function<void()>, 8> listeners_;
    BytePorts<I8237Pair> first_ports_{*this, &I8237Pair::read_first, &I8237Pair::write_first};
    BytePorts<I8237Pair> page_ports_{*this, &I8237Pair::read_page, &I8237Pair::write_page};
    BytePorts<I8237Pair> second_ports_{*this, &I8237Pair::read_second, &I8237Pair::write_second};
};

}  // namespace

Result<std::unique_ptr<Device>> make_i8237(DeviceContext& context) {
    auto pair = std::make_unique<I8237Pair>(context.memory);
    TRY(pair->attach(context));
    return pair;
}

}  // namespace viv
