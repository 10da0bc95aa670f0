#include "devices/network/link/links.hpp"
#include "devices/network/link/queued_link.hpp"

namespace viv {
namespace {

class LoopbackLink final : public QueuedLink {
  public:
    using QueuedLink::QueuedLink;
    [[nodiscard]] std::string description() const override { return "loopback"; }

  private:
    void transmit(std::span<const uint8_t> frame, const FrameOffload& offload) override {
        if (on_the_way_ + waiting() >= queue_limit) return;
        ++on_the_way_;
        post([this, offload, copy = std::vector<uint8_t>(frame.begin(), frame.end())] {
            --on_the_way_;
            deliver(copy, offload);
        });
    }
    [[nodiscard]] Offloads can_take_undone() const override {
        return {.checksum = true, .tcp4 = true, .tcp6 = true, .marks = true};
    }

    size_t on_the_way_ = 0;
};

}  // namespace

std::unique_ptr<QueuedLink> make_loopback_link(const LinkSetup& setup) {
    return std::make_unique<LoopbackLink>(setup);
}

}  // namespace viv
