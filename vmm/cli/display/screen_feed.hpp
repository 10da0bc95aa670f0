#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "devices/video/screen.hpp"
#include "vmm/core/event_loop.hpp"

namespace viv {

/// What a Screen showed at one moment.
struct ScreenUpdate {
    TextScreen text;
    /// Makes the picture, in a graphics mode.
    std::move_only_function<Image()> picture;
};

/// Carries a screen from the event loop, where it is copied under the machine lock, to a thread that shows it. The
/// screen is only looked at when asked for, and copied when its generation has changed.
class ScreenFeed {
  public:
    /// The screen and the loop must outlive the feed, or not run any more.
    ScreenFeed(Screen& screen, EventLoop& loop);
    ScreenFeed(const ScreenFeed&) = delete;
    ScreenFeed& operator=(const ScreenFeed&) = delete;
    ~ScreenFeed();

    /// Asks the loop to look; nothing when it has not got round to the last request.
    void request();
    /// What has come since the last call.
    std::optional<ScreenUpdate> take();
    /// A descriptor that is readable when there is something to take.
    [[nodiscard]] int ready_fd() const;

  private:
    struct Shared;
    std::shared_ptr<Shared> shared_;
    EventLoop& loop_;
};

}  // namespace viv
