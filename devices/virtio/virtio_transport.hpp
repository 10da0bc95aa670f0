#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/virtio/virtio_function.hpp"
#include "devices/virtio/virtqueue.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// What every transport keeps of its device.
struct VirtioState {
    uint64_t features = 0;  // what the driver took
    uint32_t offered_half = 0;
    uint32_t accepted_half = 0;
    uint32_t selected = 0;  // queue
    uint8_t status = 0;
    uint8_t isr = 0;
    uint8_t generation = 0;  // of the configuration space
    uint16_t configuration_vector = virtio::NO_VECTOR;
    std::vector<VirtqueueState> queues;
    uint64_t waiting = 0;               // a bit for each queue that has something to do
    std::optional<VirtualTime> resume;  // when they go on, if that was too much at once
    static void fields(auto& self, auto&& visit) {
        visit("features", self.features);
        visit("offered-half", self.offered_half);
        visit("accepted-half", self.accepted_half);
        visit("selected", self.selected);
        visit("status", self.status);
        visit("isr", self.isr);
        visit("generation", self.generation);
        visit("configuration-vector", self.configuration_vector);
        visit("queues", self.queues);
        visit("waiting", self.waiting);
        visit("resume", self.resume);
    }
    bool operator==(const VirtioState&) const = default;
};

/// The part of a virtio device that PCI and MMIO have in common: status, features, queues, when work is done.
///
/// Buffers are served in the access that tells of them, in order. What would hold the machine for too long goes on a
/// moment later; what comes before the driver is ready, or before memory may be reached, when that changes.
class VirtioTransport {
  public:
    /// What one turn may move, in bytes, before the rest waits.
    static constexpr uint64_t bytes_at_once = 64u << 20;
    /// What a buffer costs at least.
    static constexpr uint64_t least_cost = 8192;

    /// `state` stays where it is. `offered` are the queue features.
    VirtioTransport(std::unique_ptr<VirtioFunction> function, Clock& clock, VirtioState& state, uint64_t offered);
    virtual ~VirtioTransport();
    VirtioTransport(const VirtioTransport&) = delete;
    VirtioTransport& operator=(const VirtioTransport&) = delete;

    // For the function.

    /// Whether this feature was negotiated.
    [[nodiscard]] bool has(uint64_t feature) const { return (virtio_.features & feature) == feature; }
    /// The driver is of before version 1.0.
    [[nodiscard]] bool legacy() const { return !has(virtio::VERSION_1); }
    /// Handles a buffer: how many bytes it wrote, or nothing to leave it in the queue and stop.
    using Handler = std::function<std::optional<uint32_t>(VirtqueueChain&, GuestMemory&)>;
    /// Gives the buffers of a queue to the handler, and interrupts as the driver wants it. Nothing happens while the
    /// device is not started or the queue not enabled.
    void serve(unsigned queue, const Handler& handler);
    /// Takes buffers of a queue that come back later, by give_back(): `start` gets each, and may say to leave it and
    /// stop.
    enum class Start { taken, leave };
    using Starter = std::function<Start(VirtqueueChain&, GuestMemory&)>;
    void take(unsigned queue, const Starter& start);
    /// Gives buffers of take() back, in the memory that they were taken from, and interrupts as the driver wants it.
    void give_back(unsigned queue, std::span<const Virtqueue::Use> uses, GuestMemory& memory);
    /// For a handler that left a buffer because that was enough for one turn: the queue goes on a moment later.
    void go_on_later(unsigned queue) { virtio_.waiting |= uint64_t{1} << queue; }
    /// As go_on_later(), outside of handlers.
    void go_on_in_a_moment(unsigned queue);
    /// Serves a queue now, as if the driver had told of it.
    void go_on(unsigned queue) { tell(queue); }
    enum class Delivered { done, no_room, too_large };
    /// Puts bytes into the next buffer of a queue, or over as many as `most_buffers`, all at once; `prepare` is told
    /// how many, and may still change the bytes. no_room: there are not enough buffers now. too_large: there never will
    /// be.
    Delivered deliver(unsigned queue, std::span<std::byte> bytes, unsigned most_buffers,
                      const std::function<void(unsigned buffers)>& prepare);
    /// The configuration space has changed: tells the driver.
    void configuration_changed();
    /// The driver did what it must not: the device does nothing more until it is reset.
    void break_down();
    /// Whether the driver has started the device, and it is not broken.
    [[nodiscard]] bool running() const;

    [[nodiscard]] VirtioFunction& function() { return *function_; }
    /// How often drivers broke their queues.
    [[nodiscard]] uint64_t breakdowns() const { return breakdowns_; }

  protected:
    /// The memory that the device may reach now, or nullptr.
    [[nodiscard]] virtual GuestMemory* memory() = 0;
    /// A reason to interrupt has come: a bit of ISR, and the vector of MSI-X.
    virtual void interrupt(uint8_t reason, uint16_t vector) = 0;
    /// Called with every reset, by the driver or of the board.
    virtual void interrupts_reset() = 0;

    // Registers
    [[nodiscard]] uint64_t offered_features() const;
    /// Half 0 or 1 of what the driver takes; others are ignored.
    void accept_features(uint32_t half, uint32_t bits);
    void write_status(uint8_t status);
    /// The selected queue; nullptr when there is none of this number.
    [[nodiscard]] VirtqueueState* selected();
    [[nodiscard]] unsigned most_entries(unsigned queue) const { return function_->identity().queue_sizes.at(queue); }
    void enable_selected();
    void reset_selected();
    /// `legacy` drivers give one page for all.
    void place_selected_legacy(uint32_t page);
    void tell(uint64_t queue);
    [[nodiscard]] uint64_t read_configuration(uint64_t offset, unsigned size) const;
    void write_configuration(uint64_t offset, unsigned size, uint64_t value);
    /// Serves the queues that wait, if that is possible now.
    void run_waiting();

    void reset_by_driver();
    /// As new; for the derived device's reset().
    void reset_virtio(ResetKind kind);
    [[nodiscard]] Result<void> validate_virtio(const VirtioState& staged) const;
    void virtio_loaded();
    /// The parts of a save and a load that are the function's.
    void save_function(TreeNode& node);
    Result<Device::Commit> prepare_function(const TreeNode& node, Device::Commit own);

  private:
    /// Gives each buffer of a queue to `step`, until that returns false.
    using Step = std::function<bool(Virtqueue&, VirtqueueChain&, GuestMemory&)>;
    void take_each(unsigned queue, const Step& step);
    /// Waiting queues go on a moment later.
    void arm();
    [[nodiscard]] VirtqueueState fresh_queue(unsigned index) const;

    std::unique_ptr<VirtioFunction> function_;
    Clock& clock_;
    Timer timer_;
    VirtioState& virtio_;
    uint64_t offered_;
    uint64_t budget_ = 0;
    uint64_t breakdowns_ = 0;
    VirtqueueChain chain_;
};

}  // namespace viv
