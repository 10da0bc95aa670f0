#include "devices/virtio/virtio_transport.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace viv {
namespace {

using namespace virtio;

constexpr Duration moment = std::chrono::microseconds(10);

}  // namespace

VirtioTransport::VirtioTransport(std::unique_ptr<VirtioFunction> function, Clock& clock, VirtioState& state,
                                 uint64_t offered)
    : function_(std::move(function)),
      clock_(clock),
      timer_(clock, [this](VirtualTime) { run_waiting(); }),
      virtio_(state),
      offered_(offered) {
    VIV_ASSERT(function_->identity().queue_sizes.size() <= 64);
    function_->connect(*this);
}

VirtioTransport::~VirtioTransport() = default;

// ---- For the function ----------------------------------------------------------------------------------------------

bool VirtioTransport::running() const {
    return (virtio_.status & (DRIVER_OK | DEVICE_NEEDS_RESET)) == DRIVER_OK;
}

void VirtioTransport::take_each(unsigned index, const Step& step) {
    VirtqueueState& state = virtio_.queues.at(index);
    GuestMemory* memory = this->memory();
    if (!running() || !state.enabled) return;
    const uint64_t bit = uint64_t{1} << index;
    if (!memory) {
        virtio_.waiting |= bit;
        return;
    }
    Virtqueue queue(state, virtio_.features, *memory);
    // Its own chain: a handler may serve another queue.
    VirtqueueChain chain = std::exchange(chain_, {});
    for (;;) {
        if (budget_ <= least_cost) {
            virtio_.waiting |= bit;
            break;
        }
        const auto taken = queue.take(chain);
        if (taken == Virtqueue::Taken::nothing) break;
        if (taken == Virtqueue::Taken::broken) {
            break_down();
            break;
        }
        const uint64_t cost = std::max(least_cost, chain.readable_size + chain.writable_size);
        if (!step(queue, chain, *memory)) break;
        budget_ -= std::min(budget_, cost);
        if (!running()) break;
    }
    chain_ = std::move(chain);
    if (queue.wants_interrupt()) interrupt(ISR_QUEUE, state.vector);
    if (virtio_.waiting && !virtio_.resume && memory) arm();
}

void VirtioTransport::arm() {
    virtio_.resume = clock_.now() + moment;
    timer_.arm(*virtio_.resume);
}

void VirtioTransport::serve(unsigned index, const Handler& handler) {
    take_each(index, [&](Virtqueue& queue, VirtqueueChain& chain, GuestMemory& memory) {
        const auto written = handler(chain, memory);
        if (!written) {
            queue.put_back(chain);
            return false;
        }
        if (queue.give(chain, *written)) return true;
        break_down();
        return false;
    });
}

void VirtioTransport::take(unsigned index, const Starter& start) {
    take_each(index, [&](Virtqueue& queue, VirtqueueChain& chain, GuestMemory& memory) {
        if (start(chain, memory) == Start::taken) return true;
        queue.put_back(chain);
        return false;
    });
}

void VirtioTransport::give_back(unsigned index, std::span<const Virtqueue::Use> uses, GuestMemory& memory) {
    VirtqueueState& state = virtio_.queues.at(index);
    if (uses.empty() || !running() || !state.enabled) return;
    Virtqueue queue(state, virtio_.features, memory);
    if (!queue.give(uses)) break_down();
    if (queue.wants_interrupt()) interrupt(ISR_QUEUE, state.vector);
}

void VirtioTransport::go_on_in_a_moment(unsigned index) {
    go_on_later(index);
    if (!virtio_.resume && memory()) arm();
}

VirtioTransport::Delivered VirtioTransport::deliver(unsigned index, std::span<std::byte> bytes, unsigned most_buffers,
                                                    const std::function<void(unsigned buffers)>& prepare) {
    VirtqueueState& state = virtio_.queues.at(index);
    GuestMemory* memory = this->memory();
    if (!running() || !state.enabled || !memory) return Delivered::no_room;
    Virtqueue queue(state, virtio_.features, *memory);
    std::vector<VirtqueueChain> chains;
    std::vector<Virtqueue::Use> uses;
    auto result = Delivered::done;
    for (uint64_t room = 0; room < bytes.size();) {
        if (chains.size() == most_buffers) {
            result = Delivered::too_large;
            break;
        }
        VirtqueueChain& chain = chains.emplace_back();
        const auto taken = queue.take(chain);
        if (taken != Virtqueue::Taken::buffer) {
            chains.pop_back();
            if (taken == Virtqueue::Taken::broken) break_down();
            result = Delivered::no_room;
            break;
        }
        const auto used = std::min<uint64_t>(chain.writable_size, bytes.size() - room);
        uses.push_back({chain.id, chain.entries, static_cast<uint32_t>(used)});
        room += used;
    }
    if (result != Delivered::done) {
        while (!chains.empty()) {
            queue.put_back(chains.back());
            chains.pop_back();
        }
        return result;
    }
    prepare(static_cast<unsigned>(chains.size()));
    for (size_t i = 0; i < chains.size(); ++i) {
        static_cast<void>(chains[i].write(*memory, 0, bytes.first(uses[i].written)));
        bytes = bytes.subspan(uses[i].written);
    }
    if (!queue.give(uses)) break_down();
    if (queue.wants_interrupt()) interrupt(ISR_QUEUE, state.vector);
    return Delivered::done;
}

void VirtioTransport::run_waiting() {
    virtio_.resume.reset();
    timer_.cancel();
    budget_ = bytes_at_once;
    if (!running() || !memory()) return;
    for (uint64_t queues = std::exchange(virtio_.waiting, 0); queues != 0; queues &= queues - 1) {
        function_->notified(static_cast<unsigned>(std::countr_zero(queues)));
    }
}

void VirtioTransport::configuration_changed() {
    ++virtio_.generation;
    if (virtio_.status & DRIVER_OK) interrupt(ISR_CONFIGURATION, virtio_.configuration_vector);
}

void VirtioTransport::break_down() {
    ++breakdowns_;
    if (virtio_.status & DEVICE_NEEDS_RESET) return;
    virtio_.status |= DEVICE_NEEDS_RESET;
    if (virtio_.status & DRIVER_OK) interrupt(ISR_CONFIGURATION, virtio_.configuration_vector);
}

// ---- Registers -----------------------------------------------------------------------------------------------------

uint64_t VirtioTransport::offered_features() const {
    return function_->features() | offered_;
}

void VirtioTransport::accept_features(uint32_t half, uint32_t bits) {
    if (half > 1 || (virtio_.status & (FEATURES_OK | DRIVER_OK))) return;
    const unsigned shift = 32 * half;
    virtio_.features = (virtio_.features & ~(uint64_t{0xFFFFFFFF} << shift)) | uint64_t{bits} << shift;
}

void VirtioTransport::write_status(uint8_t status) {
    if (status == 0) return reset_by_driver();
    const uint8_t before = virtio_.status;
    // Only a reset takes bits away (2.1.1).
    auto now = static_cast<uint8_t>(before | (status & static_cast<uint8_t>(~DEVICE_NEEDS_RESET)));
    if (now & ~before & FEATURES_OK) {
        const bool good =
            !(virtio_.features & ~offered_features()) && has(VERSION_1) && function_->accepts(virtio_.features);
        if (!good) now = static_cast<uint8_t>(now & ~FEATURES_OK);
    }
    // A driver of before version 1.0 does not ask.
    if ((now & ~before & DRIVER_OK) && !(now & FEATURES_OK)) {
        virtio_.features &= (offered_features() | ANY_LAYOUT) & 0xFFFFFFFF;
    }
    virtio_.status = now;
    if (now & ~before & DRIVER_OK) {
        virtio_.waiting = 0;
        for (size_t i = 0; i < virtio_.queues.size(); ++i) {
            if (virtio_.queues[i].enabled) virtio_.waiting |= uint64_t{1} << i;
        }
        run_waiting();
    }
}

VirtqueueState* VirtioTransport::selected() {
    return virtio_.selected < virtio_.queues.size() ? &virtio_.queues[virtio_.selected] : nullptr;
}

void VirtioTransport::enable_selected() {
    VirtqueueState* queue = selected();
    // A split queue's indices are free-running, so its size is a power of two (2.7).
    if (!queue || queue->enabled || queue->size == 0) return;
    if (!has(RING_PACKED) && !std::has_single_bit(queue->size)) return;
    if (has(RING_PACKED) && !(virtio_.status & FEATURES_OK)) return;
    queue->enabled = true;
    if (running()) tell(virtio_.selected);
}

void VirtioTransport::reset_selected() {
    VirtqueueState* queue = selected();
    if (!queue || !has(RING_RESET)) return;
    function_->settle();
    *queue = fresh_queue(virtio_.selected);
    virtio_.waiting &= ~(uint64_t{1} << virtio_.selected);
}

void VirtioTransport::place_selected_legacy(uint32_t page) {
    VirtqueueState* queue = selected();
    if (!queue) return;
    function_->settle();
    const uint16_t vector = queue->vector;
    *queue = fresh_queue(virtio_.selected);
    queue->vector = vector;
    if (page == 0) return;
    // Descriptors and available ring; the used ring from the next page on (2.7.2).
    constexpr uint64_t page_size = 4096;
    queue->descriptors = page * page_size;
    queue->driver = queue->descriptors + uint64_t{16} * queue->size;
    queue->device = (queue->driver + 6 + uint64_t{2} * queue->size + page_size - 1) & ~(page_size - 1);
    enable_selected();
}

void VirtioTransport::tell(uint64_t queue) {
    if (queue >= virtio_.queues.size()) return;
    virtio_.waiting |= uint64_t{1} << queue;
    if (!virtio_.resume) run_waiting();
}

uint64_t VirtioTransport::read_configuration(uint64_t offset, unsigned size) const {
    const std::vector<uint8_t> bytes = function_->configuration();
    uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
        if (offset + i < bytes.size()) value |= uint64_t{bytes[offset + i]} << (8 * i);
    }
    return value;
}

void VirtioTransport::write_configuration(uint64_t offset, unsigned size, uint64_t value) {
    for (unsigned i = 0; i < size; ++i)
        function_->write_configuration(offset + i, static_cast<uint8_t>(value >> 8 * i));
}

// ---- Reset and state -----------------------------------------------------------------------------------------------

VirtqueueState VirtioTransport::fresh_queue(unsigned index) const {
    VirtqueueState queue;
    queue.size = static_cast<uint16_t>(most_entries(index));
    return queue;
}

void VirtioTransport::reset_by_driver() {
    function_->settle();
    const uint8_t generation = virtio_.generation;
    virtio_ = {};
    virtio_.generation = generation;
    for (unsigned i = 0; i < function_->identity().queue_sizes.size(); ++i) virtio_.queues.push_back(fresh_queue(i));
    timer_.cancel();
    function_->driver_reset();
    interrupts_reset();
}

void VirtioTransport::reset_virtio(ResetKind kind) {
    reset_by_driver();
    virtio_.generation = 0;
    function_->device().reset(kind);
}

Result<void> VirtioTransport::validate_virtio(const VirtioState& staged) const {
    const size_t count = virtio_.queues.size();
    const bool ready = staged.status & (FEATURES_OK | DRIVER_OK);
    bool good = staged.queues.size() == count && !(staged.isr & ~(ISR_QUEUE | ISR_CONFIGURATION)) &&
                (!ready || !(staged.features & ~(offered_features() | ANY_LAYOUT))) &&
                (count == 64 || !(staged.waiting >> count)) && (!staged.resume || staged.waiting);
    for (unsigned i = 0; good && i < count; ++i) {
        const VirtqueueState& queue = staged.queues[i];
        const bool packed = staged.features & RING_PACKED;
        good = queue.size <= most_entries(i) && (!queue.enabled || queue.size != 0) &&
               (!queue.enabled || packed || std::has_single_bit(queue.size)) &&
               (!packed || !queue.enabled || (queue.taken < queue.size && queue.used < queue.size));
    }
    if (!good) return fail("the saved state of the virtio device cannot be");
    return {};
}

void VirtioTransport::virtio_loaded() {
    timer_.cancel();
    if (virtio_.resume) timer_.arm(*virtio_.resume);
}

void VirtioTransport::save_function(TreeNode& node) {
    TreeNode inner = function_->device().save();
    inner.name = "function";
    node.children.push_back(std::move(inner));
}

Result<Device::Commit> VirtioTransport::prepare_function(const TreeNode& node, Device::Commit own) {
    const TreeNode* inner = node.child("function");
    if (!inner) return fail("the saved state of the virtio device has no function");
    auto commit = TRY(function_->device().prepare_load(*inner));
    return Device::Commit([own = std::move(own), commit = std::move(commit)]() mutable {
        own();
        commit();
    });
}

}  // namespace viv
