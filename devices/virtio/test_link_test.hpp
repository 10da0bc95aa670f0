#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "devices/network/link/link.hpp"

namespace viv {

/// A link whose other end is the test.
class TestLink final : public NetworkLink {
  public:
    using Frame = std::vector<uint8_t>;
    void send(std::span<const uint8_t> frame) override { sent.emplace_back(frame.begin(), frame.end()); }
    [[nodiscard]] std::span<const uint8_t> front() const override {
        return waiting.empty() ? std::span<const uint8_t>() : waiting.front();
    }
    void pop() override { waiting.pop_front(); }
    void on_receive(std::move_only_function<void()> callback) override { receive_ = std::move(callback); }
    [[nodiscard]] bool up() const override { return up_; }
    void set_up(bool up) override {
        up_ = up;
        state_();
    }
    void on_state(std::move_only_function<void()> callback) override { state_ = std::move(callback); }
    [[nodiscard]] std::string description() const override { return "test"; }
    [[nodiscard]] Offloads offloads() const override { return takes; }
    void send_undone(std::span<const uint8_t> packet, const FrameOffload& offload) override {
        VIV_ASSERT(takes.take(offload) && can_finish(packet, offload));
        send(packet);
        undone.push_back(offload);
    }
    void take_undone(const Offloads& offloads) override { taken = offloads; }
    [[nodiscard]] FrameOffload front_offload() const override { return left; }

    /// The other end sends a frame.
    void arrive(Frame frame) {
        waiting.push_back(std::move(frame));
        receive_();
    }
    std::vector<Frame> sent;
    std::deque<Frame> waiting;
    Offloads takes;                    // the other end
    std::vector<FrameOffload> undone;  // of what was sent
    Offloads taken;                    // by the card
    FrameOffload left;                 // undone of all that waits

  private:
    bool up_ = true;
    std::move_only_function<void()> receive_;
    std::move_only_function<void()> state_;
};

}  // namespace viv
