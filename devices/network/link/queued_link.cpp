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
    transmit(frame);
}

void QueuedLink::impair(const Impairment::Choice& choice, Clock& clock) {
    impairment_ =
        std::make_unique<Impairment>(choice, clock, [this](std::span<const uint8_t> frame) { transmit(frame); });
}

std::span<const uint8_t> QueuedLink::front() const {
    return queue_.empty() ? std::span<const uint8_t>() : std::span<const uint8_t>(queue_.front());
}

void QueuedLink::pop() {
    VIV_ASSERT(!queue_.empty());
    const bool was_full = full();
    queue_.pop_front();
    if (was_full) room_again();
}

void QueuedLink::set_up(bool up) {
    if (std::exchange(up_, up) == up) return;
    queue_.clear();
    if (impairment_) impairment_->clear();
    post([this] {
        if (on_state_) on_state_();
    });
}

void QueuedLink::deliver(std::span<const uint8_t> frame) {
    if (!up_ || full() || frame.size() < least_frame || frame.size() > most_frame) {
        ++dropped_;
        return;
    }
    if (record_) record_->record(frame);
    queue_.emplace_back(frame.begin(), frame.end());
    if (on_receive_) on_receive_();
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
