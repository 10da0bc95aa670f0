#include "vmm/cli/display/terminal_display.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "vmm/cli/display/terminal_guard.hpp"
#include "vmm/core/catch.hpp"

namespace viv {
namespace {
using namespace std::chrono_literals;

/// The two ends of a terminal of 80x25.
struct Pty {
    Pty() {
        master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        REQUIRE(master >= 0);
        REQUIRE(grantpt(master) == 0);
        REQUIRE(unlockpt(master) == 0);
        name = ptsname(master);
        slave = open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
        REQUIRE(slave >= 0);
        REQUIRE(setenv("TERM", "xterm-256color", 1) == 0);  // not what the tests happen to run in
        const winsize size{25, 80, 0, 0};
        REQUIRE(ioctl(slave, TIOCSWINSZ, &size) == 0);
    }
    ~Pty() {
        close(slave);
        close(master);
    }
    [[nodiscard]] bool is_raw() const {
        termios settings{};
        tcgetattr(slave, &settings);
        return (settings.c_lflag & (ICANON | ECHO | ISIG)) == 0;
    }
    /// All output until it contains `text`, which must come within ten seconds.
    std::string read_until(const std::string& text) {
        const auto end = std::chrono::steady_clock::now() + 10s;
        std::string all;
        while (all.find(text) == std::string::npos && std::chrono::steady_clock::now() < end) {
            pollfd ready = {master, POLLIN, 0};
            poll(&ready, 1, 100);
            char buffer[4096];
            const ssize_t size = ::read(master, buffer, sizeof buffer);
            if (size > 0) all.append(buffer, static_cast<size_t>(size));
        }
        INFO("terminal output: " << all);
        CHECK(all.find(text) != std::string::npos);
        return all;
    }
    void write(std::string_view keys) const {
        REQUIRE(::write(master, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
    }
    int master;
    int slave;
    std::string name;
};

TEST_CASE("the guard puts a terminal into raw mode and back") {
    Pty pty;
    CHECK_FALSE(pty.is_raw());
    {
        const auto guard = TerminalGuard::take(pty.slave, pty.slave, "<begin>", "<end>");
        REQUIRE(guard.has_value());
        CHECK(pty.is_raw());
        CHECK((*guard)->active());
        CHECK((*guard)->needs_repaint());
        CHECK_FALSE((*guard)->needs_repaint());
        pty.read_until("<begin>");
    }
    CHECK_FALSE(pty.is_raw());
    pty.read_until("<end>");
    const int file = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK_FALSE(TerminalGuard::take(file, file, "", "").has_value());
    close(file);
}

/// Makes the pty the controlling terminal of this (child) process, which has no signal handlers of the test program's.
int lead_session(const Pty& pty) {
    for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM, SIGINT, SIGHUP}) {
        signal(number, SIG_DFL);
    }
    setsid();
    const int terminal = open(pty.name.c_str(), O_RDWR);
    ioctl(terminal, TIOCSCTTY, 0);
    return terminal;
}

/// Runs `work` in a child whose controlling terminal, standard streams and guard are on the pty; returns how it ended.
int run_in_child(
    const Pty& pty, void (*work)(), void (*before_guard)() = [] {}) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const int terminal = lead_session(pty);
        for (int fd = 0; fd <= 2; ++fd) dup2(terminal, fd);
        before_guard();
        const auto guard = TerminalGuard::take(0, 1, "<begin>", "<end>");
        dprintf(2, "<message>");
        work();
        _exit(99);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

TEST_CASE("a program that dies or exits gives the terminal back, and shows its messages") {
    struct Ending {
        const char* name;
        void (*work)();
        int signal;
    };
    const Ending endings[] = {
        {"SIGTERM", [] { raise(SIGTERM); }, SIGTERM}, {"SIGINT", [] { raise(SIGINT); }, SIGINT},
        {"SIGHUP", [] { raise(SIGHUP); }, SIGHUP},    {"SIGSEGV", [] { raise(SIGSEGV); }, SIGSEGV},
        {"abort", [] { abort(); }, SIGABRT},          {"exit", [] { exit(7); }, 0},
    };
    for (const Ending& ending : endings) {
        INFO(ending.name);
        Pty pty;
        const int status = run_in_child(pty, ending.work);
        if (ending.signal != 0) {
            CHECK(WIFSIGNALED(status));
            CHECK(WTERMSIG(status) == ending.signal);
        } else {
            CHECK(WIFEXITED(status));
            CHECK(WEXITSTATUS(status) == 7);
        }
        CHECK_FALSE(pty.is_raw());
        CHECK(pty.read_until("<end><message>").starts_with("<begin>"));
    }
}

int faults = 0;

TEST_CASE("a fault that an earlier handler deals with leaves the terminal alone") {
    Pty pty;
    const int status = run_in_child(
        pty,
        [] {
            raise(SIGSEGV);
            termios settings{};
            tcgetattr(0, &settings);
            exit(faults == 1 && !(settings.c_lflag & ICANON) ? 5 : 6);
        },
        [] { signal(SIGSEGV, [](int) { ++faults; }); });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 5);
    CHECK_FALSE(pty.is_raw());
}

TEST_CASE("a stopped program gives the terminal back and takes it again") {
    Pty pty;
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const int terminal = lead_session(pty);
        const auto guard = TerminalGuard::take(terminal, terminal, "<begin>", "<end>");
        kill(getpid(), SIGTSTP);
        if (!(*guard)->active()) _exit(1);
        dprintf(terminal, "<again>");
        sleep(20);
        _exit(2);
    }
    int status = 0;
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    CHECK(WIFSTOPPED(status));
    CHECK_FALSE(pty.is_raw());
    pty.read_until("<begin><end>");
    kill(child, SIGCONT);
    pty.read_until("<begin><again>");
    CHECK(pty.is_raw());
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
    CHECK_FALSE(pty.is_raw());
}

struct FakeScreen final : Screen {
    TextScreen text() const override {
        TextScreen screen;
        screen.columns = 80;
        screen.rows = 25;
        screen.cells.resize(2000);
        for (size_t i = 0; i < content.size(); ++i) screen.cells[i].character = static_cast<uint8_t>(content[i]);
        screen.cursor = {true, 0, 1, 13, 14, 16};
        return screen;
    }
    std::move_only_function<Image()> freeze() const override {
        return [] { return Image{1, 1, {{1, 2, 3}}}; };
    }
    uint64_t generation() const override { return version; }
    void on_changes(uint64_t, std::move_only_function<void()>) override {}
    std::string content = "hello";
    uint64_t version = 1;
};

struct FakeKeyboard final : KeyboardPort {
    bool press(Key key, Repeat) override {
        pressed.push_back(key);
        return true;
    }
    void release(Key key) override { released.push_back(key); }
    bool idle() const override { return true; }
    void on_idle(std::move_only_function<void()>) override {}
    uint64_t discarded() const override { return 0; }
    KeyboardLeds leds() const override { return {}; }
    std::vector<Key> pressed;
    std::vector<Key> released;
};

/// A loop on a thread, as the machine has it.
struct Loop {
    ~Loop() {
        loop.stop();
        thread.join();
    }
    /// Waits up to ten seconds until `condition` holds under the lock.
    bool eventually(const std::function<bool()>& condition) {
        const auto end = std::chrono::steady_clock::now() + 10s;
        while (std::chrono::steady_clock::now() < end) {
            {
                const std::lock_guard hold(lock);
                if (condition()) return true;
            }
            std::this_thread::sleep_for(1ms);
        }
        return false;
    }
    std::mutex lock;
    EventLoop loop{lock};
    std::thread thread{[this] { loop.run(); }};
};

TEST_CASE("the display shows the screen, brings keys to the guest and menu actions to the machine") {
    Pty pty;
    FakeScreen screen;
    FakeKeyboard keyboard;
    Loop loop;
    bool quit = false;
    std::string typed;
    DisplayActions actions;
    actions.quit = [&] { quit = true; };
    actions.type = [&](std::string_view text) -> Result<void> {
        typed = text;
        return fail("no typist");
    };
    actions.save_screenshot = [](const Image& picture) -> Result<std::string> {
        return "shot-" + std::to_string(picture.width) + ".png";
    };
    auto display = open_terminal_display({screen, &keyboard, loop.loop, std::move(actions), pty.slave, pty.slave});
    REQUIRE(display.has_value());
    pty.read_until("hello");
    {
        const std::lock_guard hold(loop.lock);
        screen.content = "world";
        screen.version = 2;
    }
    pty.read_until("w");
    pty.write("\x1B[A");
    CHECK(loop.eventually([&] { return keyboard.released == std::vector{Key::up}; }));
    CHECK(keyboard.pressed == std::vector{Key::up});
    pty.write("\x1B");
    CHECK(loop.eventually([&] { return keyboard.pressed.size() == 2 && keyboard.pressed[1] == Key::escape; }));
    pty.write(
        "\x1D"
        "s");
    pty.read_until("Saved shot-1.png");
    pty.write("\x1B[200~dir\r\x1B[201~");
    pty.read_until("no typist");
    CHECK(loop.eventually([&] { return typed == "dir\n"; }));
    pty.write(
        "\x1D"
        "q");
    CHECK(loop.eventually([&] { return quit; }));
    display->reset();
    CHECK_FALSE(pty.is_raw());
}

TEST_CASE("a terminal that takes nothing holds neither the machine nor the end of the display") {
    Pty pty;
    FakeScreen screen;
    Loop loop;
    auto display = open_terminal_display({screen, nullptr, loop.loop, {}, pty.slave, pty.slave});
    REQUIRE(display.has_value());
    // Nobody reads the other end; much more than a terminal buffers is drawn.
    for (int i = 0; i < 100; ++i) {
        CHECK(loop.eventually([&] {
            screen.content = std::string(2000, static_cast<char>('a' + i % 26));
            ++screen.version;
            return true;
        }));
        std::this_thread::sleep_for(1ms);
    }
    display->reset();
    CHECK_FALSE(pty.is_raw());
}

TEST_CASE("a pipe gets lines, the unfinished ones at the end") {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    FakeScreen screen;
    {
        Loop loop;
        auto display = open_terminal_display({screen, nullptr, loop.loop, {}, 0, ends[1]});
        REQUIRE(display.has_value());
        char buffer[64] = {};
        CHECK(::read(ends[0], buffer, sizeof buffer) == 6);
        CHECK(std::string(buffer) == "hello\n");
        loop.eventually([&] {
            screen.content = "hello" + std::string(75, ' ') + "rest";
            ++screen.version;
            return true;
        });
        display->reset();
        std::memset(buffer, 0, sizeof buffer);
        CHECK(::read(ends[0], buffer, sizeof buffer) == 5);
        CHECK(std::string(buffer) == "rest\n");
    }
    close(ends[0]);
    close(ends[1]);
}

}  // namespace
}  // namespace viv
