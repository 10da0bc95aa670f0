// Models: the virtio memory balloon: inflating and deflating, statistics, deflating on OOM, page poison, free page
//   reporting
// Not modelled: free page hints (for migration), MUST_TELL_HOST (a page may be used again without a word)
// Ignored bits: the low bits of a statistics buffer's size
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.5
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct VirtioBalloonState {
    static constexpr size_t most_statistics = 16;
    uint32_t target = 0;  // pages that the driver is to give
    uint32_t actual = 0;  // that it says it has given
    uint32_t poison = 0;
    std::array<uint64_t, most_statistics> statistics{};  // by tag, as the driver told them last
    uint32_t told = 0;                                   // a bit for each of them that it told
    VirtualTime next_question;                           // for statistics
    uint64_t inflated = 0;                               // bytes given back to the host
    uint64_t deflated = 0;
    uint64_t reported = 0;
    static void fields(auto& self, auto&& visit) {
        visit("target", self.target);
        visit("actual", self.actual);
        visit("poison", self.poison);
        visit("statistics", self.statistics);
        visit("told", self.told);
        visit("next-question", self.next_question);
        visit("inflated", self.inflated);
        visit("deflated", self.deflated);
        visit("reported", self.reported);
    }
    bool operator==(const VirtioBalloonState&) const = default;
};

class VirtioBalloon final : public StatefulDevice<VirtioBalloonState>, public VirtioFunction {
  public:
    static constexpr uint64_t page = 4096;
    /// Pages that one buffer may name; more are not looked at.
    static constexpr size_t most_pages = 16'384;
    /// Calls of the host after which the rest waits.
    static constexpr unsigned calls_at_once = 4096;

    struct Settings {
        uint64_t size = 0;     // bytes that the driver is to give
        Duration interval{0};  // between two questions for statistics; 0: it is asked once
    };
    VirtioBalloon(Clock& clock, Settings settings);

    /// How much the driver is to give, in bytes, from now on.
    void set_size(uint64_t bytes);
    /// What is known, by name: sizes in bytes, and counts.
    [[nodiscard]] std::vector<std::pair<std::string_view, uint64_t>> statistics() const;

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] uint64_t features() const override;
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void write_configuration(uint64_t offset, uint8_t value) override;
    void notified(unsigned queue) override;
    void driver_reset() override;
    [[nodiscard]] Device& device() override { return *this; }
    void reset(ResetKind kind) override;

  protected:
    Result<void> validate(const VirtioBalloonState& staged) const override;
    void after_load() override;

  private:
    enum class Direction { inflate, deflate };
    /// How often it called the host.
    unsigned take_pages(VirtqueueChain& chain, GuestMemory& memory, Direction direction);
    void take_statistics(VirtqueueChain& chain, GuestMemory& memory);
    void ask();
    void arm();
    /// Which queue is for statistics and which for reports follows from what the driver took; 0 is neither's.
    [[nodiscard]] unsigned statistics_queue() const;
    [[nodiscard]] unsigned report_queue() const;

    Settings settings_;
    Clock& clock_;
    Timer timer_;
    VirtioIdentity identity_{
        .id = virtio::DeviceId::balloon, .class_code = 0x00FF00, .queue_sizes = {128, 128, 16, 32}};
};

/// viv,function = "balloon": viv,pages of 4096 bytes, viv,statistics in seconds. Provides VirtioBalloon.
Result<std::unique_ptr<VirtioFunction>> make_virtio_balloon(DeviceContext& context);

}  // namespace viv
