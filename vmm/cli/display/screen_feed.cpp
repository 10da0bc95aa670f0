#include "vmm/cli/display/screen_feed.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <mutex>
#include <utility>

#include "vmm/core/result.hpp"

namespace viv {

struct ScreenFeed::Shared {
    explicit Shared(Screen& watched) : screen(&watched), ready(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        if (ready < 0) panic("cannot make an eventfd");
    }
    ~Shared() { close(ready); }

    // Runs in the event loop.
    void look() {
        const std::lock_guard hold(lock);
        requested = false;
        if (!screen || seen == screen->generation()) return;
        seen = screen->generation();
        ScreenUpdate next{screen->text(), {}};
        if (next.text.kind == ScreenKind::graphics) next.picture = screen->freeze();
        update = std::move(next);
        const uint64_t one = 1;
        [[maybe_unused]] const auto written = write(ready, &one, sizeof one);
    }

    std::mutex lock;  // taken after the machine lock, never the other way round
    Screen* screen;   // nullptr when the feed is gone
    int ready;
    bool requested = false;
    std::optional<uint64_t> seen;
    std::optional<ScreenUpdate> update;
};

ScreenFeed::ScreenFeed(Screen& screen, EventLoop& loop) : shared_(std::make_shared<Shared>(screen)), loop_(loop) {}

ScreenFeed::~ScreenFeed() {
    const std::lock_guard hold(shared_->lock);
    shared_->screen = nullptr;
}

void ScreenFeed::request() {
    {
        const std::lock_guard hold(shared_->lock);
        if (std::exchange(shared_->requested, true)) return;
    }
    loop_.post([shared = shared_] { shared->look(); });
}

std::optional<ScreenUpdate> ScreenFeed::take() {
    const std::lock_guard hold(shared_->lock);
    uint64_t count = 0;
    [[maybe_unused]] const auto drained = read(shared_->ready, &count, sizeof count);
    return std::exchange(shared_->update, std::nullopt);
}

int ScreenFeed::ready_fd() const {
    return shared_->ready;
}

}  // namespace viv
