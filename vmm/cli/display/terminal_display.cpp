#include "vmm/cli/display/terminal_display.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/cli/display/display_console.hpp"
#include "vmm/cli/display/key_feeder.hpp"
#include "vmm/cli/display/plain_printer.hpp"
#include "vmm/cli/display/screen_feed.hpp"
#include "vmm/cli/display/terminal_guard.hpp"

namespace viv {
namespace {

using HostClockTime = std::chrono::steady_clock;
constexpr std::chrono::milliseconds refresh_interval{20};
constexpr std::chrono::milliseconds picture_interval{40};  // scaling a picture costs some milliseconds
constexpr std::chrono::milliseconds key_interval{10};

/// Wakes a thread out of poll().
class Wake {
  public:
    Wake() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        if (fd_ < 0) panic("cannot make an eventfd");
    }
    Wake(const Wake&) = delete;
    Wake& operator=(const Wake&) = delete;
    ~Wake() { close(fd_); }
    void set() {
        const uint64_t one = 1;
        [[maybe_unused]] const auto written = write(fd_, &one, sizeof one);
    }
    void clear() {
        uint64_t count = 0;
        [[maybe_unused]] const auto drained = read(fd_, &count, sizeof count);
    }
    [[nodiscard]] int fd() const { return fd_; }

  private:
    int fd_;
};

std::string_view environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

/// The part of the display that the event loop uses; it may outlive the display until its last handler has run.
class MachineSide {
  public:
    MachineSide(Screen& screen, KeyboardPort* keyboard, DisplayActions actions)
        : screen_(screen), actions_(std::move(actions)) {
        if (keyboard) feeder_.emplace(*keyboard);
    }

    // Called by the loop, under the machine lock.
    void stroke(const KeyStroke& stroke) {
        const std::lock_guard hold(lock_);
        if (!alive_ || !feeder_) return;
        if (!feeder_->push(stroke)) notices_.emplace_back(" The guest takes no keys");
        run_keys();
    }
    void keys() {
        const std::lock_guard hold(lock_);
        if (alive_ && feeder_) run_keys();
    }
    void type(const std::string& typing) {
        const std::lock_guard hold(lock_);
        if (!alive_ || !actions_.type) return;
        if (const auto done = actions_.type(typing); !done) notices_.push_back(" " + done.error().message);
        wake_.set();
    }
    void change(PlugChange change, const std::string& what) {
        const std::lock_guard hold(lock_);
        auto& action = change == PlugChange::insert  ? actions_.insert
                       : change == PlugChange::eject ? actions_.eject
                       : change == PlugChange::grow  ? actions_.grow
                                                     : actions_.change_cable;
        if (!alive_ || !action) return;
        const auto changed = action(what);
        notices_.push_back(" " + (changed ? *changed : changed.error().message));
        wake_.set();
    }
    void command(MenuCommand command) {
        const std::lock_guard hold(lock_);
        if (!alive_) return;
        switch (command) {
            case MenuCommand::reset:
                if (actions_.reset) actions_.reset();
                break;
            case MenuCommand::pause:
                if (actions_.toggle_pause) paused_ = actions_.toggle_pause();
                break;
            case MenuCommand::move:
                if (actions_.move) actions_.move();
                break;
            case MenuCommand::power_button:
                if (actions_.press_power_button) {
                    const auto pressed = actions_.press_power_button();
                    notices_.push_back(" " + (pressed ? *pressed : pressed.error().message));
                }
                break;
            case MenuCommand::quit:
                if (actions_.quit) actions_.quit();
                break;
            case MenuCommand::screenshot: picture_ = screen_.freeze(); break;
        }
        wake_.set();
    }

    // Called by the display's thread.
    [[nodiscard]] bool keys_waiting() const { return keys_waiting_; }
    [[nodiscard]] bool paused() const { return paused_; }
    Wake& wake() { return wake_; }
    std::vector<std::string> take_notices() {
        const std::lock_guard hold(lock_);
        return std::exchange(notices_, {});
    }
    void save_screenshot_if_asked() {
        std::move_only_function<Image()> picture;
        {
            const std::lock_guard hold(lock_);
            picture = std::exchange(picture_, {});
        }
        if (!picture || !actions_.save_screenshot) return;
        const auto saved = actions_.save_screenshot(picture());
        const std::lock_guard hold(lock_);
        notices_.push_back(saved ? " Saved " + *saved : " " + saved.error().message);
    }

    /// From now on handlers that are still posted do nothing.
    void end() {
        const std::lock_guard hold(lock_);
        alive_ = false;
    }

  private:
    void run_keys() {
        feeder_->run(HostClockTime::now());
        keys_waiting_ = feeder_->busy();
        wake_.set();
    }

    std::mutex lock_;  // taken after the machine lock, never the other way round
    bool alive_ = true;
    Screen& screen_;
    DisplayActions actions_;
    std::optional<KeyFeeder> feeder_;
    std::vector<std::string> notices_;
    std::move_only_function<Image()> picture_;
    std::atomic<bool> keys_waiting_ = false;
    std::atomic<bool> paused_ = false;
    Wake wake_;
};

class FullDisplay final : public TerminalDisplay, private DisplaySink {
  public:
    FullDisplay(TerminalDisplaySetup setup, TerminalAbilities abilities, std::unique_ptr<TerminalGuard> guard)
        : guard_(std::move(guard)),
          machine_(std::make_shared<MachineSide>(setup.screen, setup.keyboard, std::move(setup.actions))),
          loop_(setup.loop),
          input_(isatty(setup.input) ? setup.input : -1),
          feed_(setup.screen, setup.loop),
          console_(abilities, *this),
          asks_(!abilities.linux_console) {
        if (input_ >= 0) console_.notify(" Ctrl-] opens the menu, Ctrl-] q quits", HostClockTime::now());
        thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    }

    ~FullDisplay() override {
        thread_.request_stop();
        machine_->wake().set();
        thread_.join();
        machine_->end();
    }

  private:
    void stroke(const KeyStroke& stroke) override {
        loop_.post([machine = machine_, stroke] { machine->stroke(stroke); });
    }
    void type(const std::string& typing) override {
        loop_.post([machine = machine_, typing] { machine->type(typing); });
    }
    void change(PlugChange change, const std::string& what) override {
        loop_.post([machine = machine_, change, what] { machine->change(change, what); });
    }
    void command(MenuCommand command) override {
        loop_.post([machine = machine_, command] { machine->command(command); });
    }

    void run(const std::stop_token& stop) {
        auto next_refresh = HostClockTime::now();
        while (!stop.stop_requested()) {
            const auto now = HostClockTime::now();
            if (now >= next_refresh) {
                feed_.request();
                next_refresh = now + (shows_picture_ ? picture_interval : refresh_interval);
            }
            if (machine_->keys_waiting() && now >= next_keys_) {
                loop_.post([machine = machine_] { machine->keys(); });
                next_keys_ = now + key_interval;
            }
            draw(now);
            wait(next_refresh - now);
        }
    }

    void draw(HostClockTime::time_point now) {
        if (!guard_->active()) {
            unsent_.clear();
            return;
        }
        if (guard_->needs_repaint()) {
            unsent_.clear();
            console_.forget();
            // Answers come back as input.
            if (asks_ && input_ >= 0) unsent_ = graphics_questions();
            asks_ = false;
        }
        if (auto update = feed_.take()) {
            shows_picture_ = static_cast<bool>(update->picture);
            if (shows_picture_) {
                console_.show(update->picture());
            } else {
                console_.show(std::move(update->text));
            }
        }
        machine_->save_screenshot_if_asked();
        for (std::string& notice : machine_->take_notices()) console_.notify(std::move(notice), now);
        if (const std::string line = last_line(guard_->new_messages()); !line.empty()) console_.notify(" " + line, now);
        console_.set_paused(machine_->paused());
        // A frame that the terminal has not taken yet is finished first; what came meanwhile is skipped.
        if (unsent_.empty()) unsent_ = console_.paint(terminal_size(), now);
        send();
    }

    static std::string last_line(std::string text) {
        while (!text.empty() && text.back() == '\n') text.pop_back();
        const size_t begin = text.rfind('\n');
        return begin == std::string::npos ? text : text.substr(begin + 1);
    }

    [[nodiscard]] TerminalSize terminal_size() const {
        winsize size{};
        if (ioctl(guard_->output(), TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {80, 25};
        // A terminal wider than any screen gains nothing.
        return {std::min<unsigned>(size.ws_col, 512), std::min<unsigned>(size.ws_row, 512)};
    }

    void send() {
        // A signal handler may give the terminal back at any moment.
        while (!unsent_.empty() && guard_->active()) {
            const ssize_t written = write(guard_->output(), unsent_.data(), unsent_.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) {
                // A terminal that has gone takes nothing ever again.
                if (errno != EAGAIN) unsent_.clear();
                return;
            }
            unsent_.erase(0, static_cast<size_t>(written));
        }
    }

    void wait(HostClockTime::duration until_refresh) {
        std::array<pollfd, 4> fds = {{{machine_->wake().fd(), POLLIN, 0},
                                      {guard_->active() ? feed_.ready_fd() : -1, POLLIN, 0},
                                      {guard_->active() ? input_ : -1, POLLIN, 0},
                                      {unsent_.empty() ? -1 : guard_->output(), POLLOUT, 0}}};
        auto timeout = std::chrono::ceil<std::chrono::milliseconds>(until_refresh);
        if (machine_->keys_waiting()) timeout = std::min(timeout, key_interval);
        poll(fds.data(), fds.size(), static_cast<int>(std::max<int64_t>(timeout.count(), 0)));
        machine_->wake().clear();
        const auto now = HostClockTime::now();
        std::vector<TerminalInput> strokes;
        if (fds[2].revents != 0) {
            std::array<char, 4096> bytes;
            const ssize_t size = read(input_, bytes.data(), bytes.size());
            if (size > 0) {
                keys_.feed({bytes.data(), static_cast<size_t>(size)}, strokes);
                last_input_ = now;
            } else if (size == 0 || (errno != EINTR && errno != EAGAIN)) {
                input_ = -1;
            }
        } else if (keys_.waiting() && now - last_input_ >= std::chrono::milliseconds(TerminalKeys::escape_timeout_ms)) {
            keys_.expire(strokes);
        }
        for (const TerminalInput& stroke : strokes) console_.input(stroke, now);
    }

    std::unique_ptr<TerminalGuard> guard_;
    std::shared_ptr<MachineSide> machine_;
    EventLoop& loop_;
    int input_;
    ScreenFeed feed_;
    DisplayConsole console_;
    TerminalKeys keys_;
    HostClockTime::time_point last_input_;
    HostClockTime::time_point next_keys_;
    std::string unsent_;
    bool shows_picture_ = false;
    bool asks_;  // the terminal what it can do; the Linux console would show the question
    std::jthread thread_;
};

class PlainDisplay final : public TerminalDisplay {
  public:
    explicit PlainDisplay(TerminalDisplaySetup setup)
        : screen_(setup.screen),
          output_(setup.output),
          loop_(setup.loop),
          failed_(std::make_shared<std::move_only_function<void(int)>>(std::move(setup.actions.output_failed))),
          feed_(setup.screen, setup.loop) {
        thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    }
    ~PlainDisplay() override {
        thread_.request_stop();
        wake_.set();
        thread_.join();
        if (const int failure = print(printer_.finish(screen_.text())); failure && *failed_) (*failed_)(failure);
    }

  private:
    void run(const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            feed_.request();
            // A reader that goes away is seen at once, not when the guest happens to print more.
            std::array<pollfd, 2> fds = {{{wake_.fd(), POLLIN, 0}, {output_, 0, 0}}};
            poll(fds.data(), fds.size(), static_cast<int>(refresh_interval.count()));
            int failure = 0;
            if (fds[1].revents & POLLERR) {
                output_ = -1;
                failure = EPIPE;
            } else if (auto update = feed_.take()) {
                failure = print(printer_.update(update->text));
            }
            if (failure == 0) continue;
            loop_.post([failed = failed_, failure] {
                if (*failed) (*failed)(failure);
            });
        }
    }
    /// Returns the errno value when the output takes nothing any more, once; else 0.
    int print(std::string_view text) {
        while (!text.empty() && output_ >= 0) {
            const ssize_t written = write(output_, text.data(), text.size());
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) {
                output_ = -1;
                return written < 0 ? errno : EIO;
            }
            text.remove_prefix(static_cast<size_t>(written));
        }
        return 0;
    }

    Screen& screen_;
    int output_;  // -1: it takes nothing any more
    EventLoop& loop_;
    std::shared_ptr<std::move_only_function<void(int)>> failed_;
    ScreenFeed feed_;
    PlainPrinter printer_;
    Wake wake_;
    std::jthread thread_;
};

}  // namespace

Result<std::unique_ptr<TerminalDisplay>> open_terminal_display(TerminalDisplaySetup setup) {
    const std::string_view term = environment("TERM");
    if (!isatty(setup.output) || term == "dumb") return std::make_unique<PlainDisplay>(std::move(setup));
    const TerminalAbilities abilities = terminal_abilities(term, environment("COLORTERM"));
    const TerminalPainter painter(abilities);
    auto guard = TRY(TerminalGuard::take(setup.input, setup.output, painter.begin(), painter.end()));
    return std::make_unique<FullDisplay>(std::move(setup), abilities, std::move(guard));
}

}  // namespace viv
