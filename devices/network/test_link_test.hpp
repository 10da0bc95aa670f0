#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "devices/network/link/link.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// The other end of a cable in a test: what the NIC sent, and what is sent to it.
struct TestWire {
    std::vector<std::vector<uint8_t>> sent;
    std::deque<std::vector<uint8_t>> waiting;
    std::function<void()> on_receive;
    std::function<void()> on_state;
    bool up = true;

    void deliver(std::vector<uint8_t> frame) {
        waiting.push_back(std::move(frame));
        if (on_receive) on_receive();
    }
    void plug(bool in) {
        up = in;
        if (on_state) on_state();
    }
};

/// A link to a TestWire, which outlives it.
class TestLink final : public NetworkLink {
  public:
    explicit TestLink(TestWire& wire) : wire_(wire) {}
    void send(std::span<const uint8_t> frame) override { wire_.sent.emplace_back(frame.begin(), frame.end()); }
    [[nodiscard]] std::span<const uint8_t> front() const override {
        return wire_.waiting.empty() ? std::span<const uint8_t>() : std::span<const uint8_t>(wire_.waiting.front());
    }
    void pop() override { wire_.waiting.pop_front(); }
    void on_receive(std::move_only_function<void()> callback) override {
        wire_.on_receive = [call = std::make_shared<std::move_only_function<void()>>(std::move(callback))] {
            (*call)();
        };
    }
    [[nodiscard]] bool up() const override { return wire_.up; }
    void set_up(bool up) override { wire_.plug(up); }
    void on_state(std::move_only_function<void()> callback) override {
        wire_.on_state = [call = std::make_shared<std::move_only_function<void()>>(std::move(callback))] { (*call)(); };
    }
    [[nodiscard]] std::string description() const override { return "test"; }

  private:
    TestWire& wire_;
};

inline constexpr MacAddress test_mac{0x52, 0x54, 0x00, 0xA1, 0xB2, 0xC3};

/// The port of a NIC on the TestWire that the board provides.
inline Result<NetworkPort> test_port(DeviceContext& context) {
    TestWire& wire = *TRY(context.need<TestWire>("a wire for a test"));
    return NetworkPort{test_mac, std::make_unique<TestLink>(wire)};
}

/// A PCI NIC there.
template <class Nic, auto... choices>
Result<std::unique_ptr<Device>> make_on_wire(DeviceContext& context) {
    auto card = std::make_unique<Nic>(TRY(test_port(context)), choices..., context.clock);
    TRY(card->pci().attach(context));
    return card;
}

/// An ISA NIC there.
template <class Nic>
Result<std::unique_ptr<Device>> make_isa_on_wire(DeviceContext& context) {
    auto line = TRY(context.irq(0));
    auto card = std::make_unique<Nic>(TRY(test_port(context)), std::move(line), context.clock);
    TRY(context.map(0, card->ports()));
    return card;
}

/// A frame of `size` bytes to `to`, whose data count up.
inline std::vector<uint8_t> test_frame(size_t size, const MacAddress& to = test_mac) {
    std::vector<uint8_t> frame(size);
    std::iota(frame.begin(), frame.end(), uint8_t{1});
    std::copy(to.begin(), to.end(), frame.begin());
    frame[12] = 0x12;
    frame[13] = 0x34;
    return frame;
}

}  // namespace viv
