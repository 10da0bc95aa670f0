#include "devices/network/link/queued_link.hpp"

#include "devices/network/link/link_activity.hpp"

namespace viv {

void QueuedLink::send(std::span<const uint8_t> frame) {
    if (!up_ || frame.size() < least_frame || frame.size() > most_frame) {
        ++dropped_;
        return;
    }
    if (record_) record_->record(frame);
    if (impairment_) return impairment_->send(frame);
    transmit(frame, {});
}

/// A cable that loses frames, or a file that has them all, is about frames as they are on a wire.
Offloads QueuedLink::offloads() const {
    return record_ || impairment_ ? Offloads() : can_take_undone();
}

void QueuedLink::send_undone(std::span<const uint8_t> packet, const FrameOffload& offload) {
    VIV_ASSERT(packet.size() >= least_frame && packet.size() <= most_packet && offloads().take(offload));
    if (!up_) {
        ++dropped_;
        return;
    }
    transmit(packet, offload);
}

void QueuedLink::take_undone(const Offloads& offloads) {
    const Offloads wanted = record_ ? Offloads() : offloads;
    if (std::exchange(taken_, wanted) == wanted) return;
    const bool was_full = full();
    for (Waiting& waiting : std::exchange(queue_, {})) enqueue(std::move(waiting));
    taken_changed();
    if (was_full && !full()) room_again();
}

void QueuedLink::impair(const Impairment::Choice& choice, Clock& clock) {
    impairment_ =
        std::make_unique<Impairment>(choice, clock, [this](std::span<const uint8_t> frame) { transmit(frame, {}); });
}

std::span<const uint8_t> QueuedLink::front() const {
    return queue_.empty() ? std::span<const uint8_t>() : std::span<const uint8_t>(queue_.front().frame);
}

FrameOffload QueuedLink::front_offload() const {
    return queue_.empty() ? FrameOffload() : queue_.front().offload;
}

void QueuedLink::pop() {
    VIV_ASSERT(!queue_.empty());
    const bool was_full = full();
    queue_.pop_front();
    if (was_full && !full()) room_again();
}

void QueuedLink::set_up(bool up) {
    if (std::exchange(up_, up) == up) return;
    const bool was_full = full();
    queue_.clear();
    if (impairment_) impairment_->clear();
    if (was_full) room_again();
    post([this] {
        if (on_state_) on_state_();
    });
}

void QueuedLink::deliver(std::span<const uint8_t> frame, const FrameOffload& offload) {
    const size_t most = offload.packet == FrameOffload::Packet::whole ? most_frame : most_packet;
    if (!up_ || full() || frame.size() < least_frame || frame.size() > most) {
        ++dropped_;
        return;
    }
    enqueue({{frame.begin(), frame.end()}, offload});
    if (on_receive_ && !queue_.empty()) on_receive_();
}

void QueuedLink::enqueue(Waiting waiting) {
    if (taken_.take(waiting.offload)) {
        if (record_) record_->record(waiting.frame);
        queue_.push_back(std::move(waiting));
        return;
    }
    // One packet may become more frames than fit, which then are a few more.
    const bool good = finish_frame(waiting.frame, waiting.offload, scratch_, [this](std::span<const uint8_t> frame) {
        if (frame.size() > most_frame) {
            ++dropped_;
            return;
        }
        if (record_) record_->record(frame);
        queue_.push_back({{frame.begin(), frame.end()}, {.checked = true}});
    });
    if (!good) ++dropped_;
}

void QueuedLink::post(std::move_only_function<void()> work) {
    if (activity_) activity_->begin_work();
    loop_.post([self = std::weak_ptr(self_), activity = activity_, work = std::move(work)]() mutable {
        if (activity) activity->end_work();
        if (self.lock()) work();
    });
}

void QueuedLink::expect_at(int fd) {
    if (activity_) activity_->expect(this, fd);
}

}  // namespace viv
