#include "vmm/core/event_loop.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <utility>

#include "vmm/core/machine_lock.hpp"

namespace viv {
namespace asio = boost::asio;

struct EventLoop::Impl {
    explicit Impl(std::mutex& machine_lock) : lock(machine_lock), timer(context), guard(context.get_executor()) {}

    void sleep_until_deadline() {
        const auto hold = hold_machine(lock);
        const auto deadline = clock ? clock->next_deadline() : std::nullopt;
        const auto wake = deadline ? clock->host_time_of(*deadline) : std::nullopt;
        alarm = wake;
        if (!wake) {
            timer.cancel();
            return;
        }
        // steady_clock is CLOCK_MONOTONIC, the clock HostClock counts by.
        timer.expires_at(std::chrono::steady_clock::time_point(std::chrono::nanoseconds(*wake)));
        timer.async_wait([this](const boost::system::error_code& error) {
            if (error) return;
            {
                const auto run_hold = hold_machine(lock);
                clock->run_due();
            }
            sleep_until_deadline();
        });
    }

    /// A deadline has become the earliest one. Guests put theirs off and on at every turn of their idle loop: while the
    /// alarm is not later, it finds the new one soon enough, and nobody is woken. Under the machine lock.
    void deadline_came_first() {
        const auto wake = clock->host_time_of(*clock->next_deadline());
        if (!wake || (alarm && *alarm <= *wake)) return;
        alarm = wake;
        look_again();
    }
    void look_again() {
        asio::post(context, [this] { sleep_until_deadline(); });
    }

    std::mutex& lock;
    asio::io_context context;
    asio::steady_timer timer;
    std::optional<int64_t> alarm;  // when the timer ends, or will; nanoseconds of the host, under the machine lock
    asio::executor_work_guard<asio::io_context::executor_type> guard;
    HostClock* clock = nullptr;
};

namespace {

/// The descriptor and handler outlive the Watch until the last completion has been delivered.
struct WatchState : std::enable_shared_from_this<WatchState> {
    WatchState(asio::io_context& context, int fd, EventLoop::Ready ready_for, std::mutex& machine_lock,
               std::move_only_function<void()> on_ready)
        : descriptor(context, fd), ready(ready_for), lock(machine_lock), handler(std::move(on_ready)) {}
    ~WatchState() { descriptor.release(); }

    void wait() {
        if (!active || !enabled || waiting) return;
        waiting = true;
        const auto kind = ready == EventLoop::Ready::read ? asio::posix::stream_descriptor::wait_read
                                                          : asio::posix::stream_descriptor::wait_write;
        descriptor.async_wait(kind, [self = shared_from_this()](const boost::system::error_code& error) {
            const auto hold = hold_machine(self->lock);
            self->waiting = false;
            if (error || !self->active || !self->enabled) return;
            self->handler();
            self->wait();
        });
    }

    asio::posix::stream_descriptor descriptor;
    EventLoop::Ready ready;
    std::mutex& lock;
    std::move_only_function<void()> handler;
    // Guarded by the machine lock.
    bool active = true;
    bool enabled = true;
    bool waiting = false;
};

class AsioWatch final : public EventLoop::Watch {
  public:
    explicit AsioWatch(std::shared_ptr<WatchState> state) : state_(std::move(state)) { state_->wait(); }
    ~AsioWatch() override {
        state_->active = false;
        boost::system::error_code ignored;
        state_->descriptor.cancel(ignored);
        // The caller may close its descriptor as soon as this returns, so asio must forget it now.
        state_->descriptor.release();
    }
    void enable(bool enabled) override {
        state_->enabled = enabled;
        state_->wait();
    }

  private:
    std::shared_ptr<WatchState> state_;
};

}  // namespace

EventLoop::EventLoop(std::mutex& machine_lock) : impl_(std::make_unique<Impl>(machine_lock)) {}
EventLoop::~EventLoop() = default;

void EventLoop::post(std::move_only_function<void()> work) {
    // asio wants copyable handlers; a shared holder makes one.
    auto holder = std::make_shared<std::move_only_function<void()>>(std::move(work));
    asio::post(impl_->context, [this, holder] {
        const auto hold = hold_machine(impl_->lock);
        (*holder)();
    });
}

std::unique_ptr<EventLoop::Watch> EventLoop::watch(int fd, Ready ready, std::move_only_function<void()> handler) {
    return std::make_unique<AsioWatch>(
        std::make_shared<WatchState>(impl_->context, fd, ready, impl_->lock, std::move(handler)));
}

void EventLoop::drive(HostClock& clock) {
    impl_->clock = &clock;
    clock.on_earlier_deadline([this] { impl_->deadline_came_first(); });
    clock_changed();
}

void EventLoop::clock_changed() {
    impl_->look_again();
}

void EventLoop::run() {
    impl_->context.run();
}

void EventLoop::poll() {
    impl_->context.poll();
}

void EventLoop::wait() {
    impl_->context.run_one();
}

void EventLoop::stop() {
    impl_->context.stop();
}

}  // namespace viv
