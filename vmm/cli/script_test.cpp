#include "vmm/cli/script.hpp"

#include <fmt/format.h>

#include <functional>

#include "devices/serial/char_backend.hpp"
#include "devices/storage/disk_drive.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "vmm/cli/removable_drive_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::cli;
using namespace std::chrono_literals;

namespace {

struct FakeScreen final : Screen {
    TextScreen text() const override {
        TextScreen screen;
        screen.columns = static_cast<unsigned>(line.size());
        screen.rows = 1;
        for (char c : line)
            screen.cells.push_back({.character = static_cast<uint8_t>(c), .foreground = {}, .background = {}});
        return screen;
    }
    std::move_only_function<Image()> freeze() const override {
        return [] { return Image{101, 51, std::vector<Rgb>(size_t{101} * 51)}; };
    }
    uint64_t generation() const override { return changes; }
    void on_changes(uint64_t, std::move_only_function<void()> handler) override { glance = std::move(handler); }
    void show(std::string text) {
        line = std::move(text);
        ++changes;
    }
    std::move_only_function<void()> glance;
    std::string line = " ";
    uint64_t changes = 1;
};

/// A keyboard whose guest takes each key at once, and remembers what was pressed.
struct FakeKeyboard final : KeyboardPort {
    bool press(Key key, Repeat) override {
        pressed.push_back(key);
        if (on_press) on_press();
        return true;
    }
    void release(Key) override {}
    bool idle() const override { return true; }
    void on_idle(std::move_only_function<void()>) override {}
    uint64_t discarded() const override { return 0; }
    KeyboardLeds leds() const override { return {}; }
    std::vector<Key> pressed;
    std::function<void()> on_press;
};

struct FakeSerial final : SerialTap {
    void on_output(std::move_only_function<void(uint8_t)> listener) override {
        listeners.push_back(std::move(listener));
    }
    size_t inject(std::span<const uint8_t> bytes) override { return bytes.size(); }
    size_t injected_pending() const override { return 0; }
    std::string description() const override { return {}; }
    void send(std::string_view text) {
        for (char c : text) {
            for (auto& listener : listeners) listener(static_cast<uint8_t>(c));
        }
    }
    std::vector<std::move_only_function<void(uint8_t)>> listeners;
};

const DriveRegistry no_drives;
const MediaChanger media(no_drives, ImageAccess::writable);

struct Rig {
    ManualClock clock;
    Services services;
    FakeScreen screen;
    GuestMemory memory;
    ScreenReader reader{screen, memory};
    FakeKeyboard keyboard;
    FakeSerial com1;
    std::unique_ptr<Script> script;
    int done = 0;
    std::string failure;

    explicit Rig(std::vector<Step> steps, const MediaChanger& changer = media, Cables* cables = nullptr) {
        services.provide<Screen>(screen);
        services.provide<ScreenReader>(reader);
        services.provide<KeyboardPort>(keyboard);
        if (cables) services.provide(*cables);
        services.provide<SerialTap>(com1, "serial0");
        auto made = Script::create(clock, services, changer, std::move(steps));
        REQUIRE(made);
        script = std::move(*made);
        script->start([this] { ++done; }, [this](const Error& error) { failure = error.message; });
    }
};

constexpr auto until = Step::Kind::until;
constexpr auto type = Step::Kind::type;
constexpr auto insert = Step::Kind::insert;

}  // namespace

TEST_CASE("An empty script is done at once") {
    CHECK(Rig({}).done == 1);
}

TEST_CASE("Text on the screen ends a wait, also when it was there before") {
    Rig rig({{until, "A:\\>"}, {until, "A:"}});
    rig.clock.advance(1s);
    CHECK(rig.done == 0);
    CHECK(rig.script->waiting_for() == "the text 'A:\\>'");
    rig.screen.show("A:\\>");
    rig.clock.advance(1s);
    CHECK(rig.done == 1);
    CHECK(rig.script->waiting_for() == "nothing");
}

TEST_CASE("The power button is pressed in its turn; as the last step it waits for the power-off") {
    struct Button final : PowerButton {
        void press() override { ++presses; }
        int presses = 0;
    } button;
    ManualClock clock;
    Services services;
    CHECK(Script::create(clock, services, media, {{Step::Kind::power_button, ""}}).error().kind == ErrorKind::usage);
    services.provide<PowerButton>(button);
    FakeSerial com1;
    services.provide<SerialTap>(com1, "serial0");
    auto script = Script::create(clock, services, media,
                                 {{Step::Kind::power_button, ""}, {until, "bye"}, {Step::Kind::power_button, ""}});
    REQUIRE(script);
    int done = 0;
    (*script)->start([&] { ++done; }, [](const Error&) {});
    clock.advance(1s);
    CHECK(button.presses == 1);
    CHECK_FALSE((*script)->awaits_power_off());
    com1.send("bye");
    clock.advance(1s);
    CHECK(button.presses == 2);
    CHECK((*script)->awaits_power_off());
    CHECK((*script)->waiting_for() == "the guest to power off");
    clock.advance(10s);
    CHECK(button.presses == 2);
    CHECK(done == 0);
}

TEST_CASE("Text that scrolls away between two looks is not missed") {
    Rig rig({{until, "booting"}, {until, "booting"}});
    rig.clock.advance(1s);
    rig.screen.show("booting");
    rig.screen.glance();
    rig.screen.show("other");
    rig.screen.glance();
    CHECK(rig.done == 0);  // inside the guest's write nothing ends
    rig.clock.advance(1s);
    CHECK(rig.done == 0);
    CHECK(rig.script->waiting_for() == "the text 'booting'");  // the second one, which is not there
    rig.screen.show("booting");
    rig.clock.advance(1s);
    CHECK(rig.done == 1);
}

TEST_CASE("A blank at the end of the text is found at the end of a line too") {
    Rig rig({{until, "# "}});
    rig.screen.show("#");
    rig.clock.advance(1s);
    CHECK(rig.done == 1);
}

TEST_CASE("Text on a serial port ends a wait, also when it came in pieces and more follows") {
    Rig rig({{until, "login:"}});
    rig.com1.send("Welcome\r\nlog");
    rig.clock.advance(1s);
    CHECK(rig.done == 0);
    rig.com1.send("in: \r\n");
    rig.clock.advance(1s);
    CHECK(rig.done == 1);
}

TEST_CASE("What a serial port sends between two looks or two steps is not missed") {
    Rig rig({{until, "login:"}, {type, "root\\n"}, {until, "# "}, {until, "done"}});
    rig.com1.send("login: # done");
    rig.clock.advance(1s);
    CHECK(rig.keyboard.pressed.size() == 5);
    CHECK(rig.done == 1);
}

TEST_CASE("What a serial port sends before the script starts counts") {
    ManualClock clock;
    Services services;
    FakeSerial com1;
    services.provide<SerialTap>(com1, "serial0");
    const auto script = Script::create(clock, services, media, {{until, "ready"}});
    REQUIRE(script);
    com1.send("ready\r\n");
    int done = 0;
    (*script)->start([&done] { ++done; }, [](const Error&) {});
    CHECK(done == 0);
    clock.advance(1s);
    CHECK(done == 1);
}

TEST_CASE("A text seen on the screen is used up on the serial port too") {
    Rig rig({{until, "login:"}, {type, "x"}, {until, "login:"}});
    rig.keyboard.on_press = [&rig] { rig.screen.show(" "); };
    rig.screen.show("login:");
    rig.com1.send("login:");
    rig.clock.advance(1s);
    CHECK(rig.keyboard.pressed.size() == 1);
    CHECK(rig.done == 0);
    rig.com1.send("login:");
    rig.clock.advance(1s);
    CHECK(rig.done == 1);
}

TEST_CASE("What a serial port said before the last match does not count for a step") {
    Rig rig({{until, "one"}, {until, "two"}});
    rig.com1.send("two one");
    rig.clock.advance(1s);
    CHECK(rig.done == 0);
    rig.com1.send("tw");
    rig.com1.send("o");
    rig.clock.advance(1s);
    CHECK(rig.done == 1);
}

TEST_CASE("Steps run in order: typing waits for the text before it") {
    Rig rig({{until, "A:\\>"}, {type, "dir\\n"}, {until, "free"}});
    rig.clock.advance(1s);
    CHECK(rig.keyboard.pressed.empty());
    rig.screen.show("A:\\>");
    rig.clock.advance(5s);
    CHECK(rig.keyboard.pressed == std::vector<Key>{Key::d, Key::i, Key::r, Key::enter});
    CHECK(rig.done == 0);
    rig.screen.show("1 bytes free");
    rig.clock.advance(1s);
    CHECK(rig.done == 1);
}

TEST_CASE("A wait takes its time of the guest, wherever it stands") {
    Rig rig({{Step::Kind::wait, "0.5"}, {Step::Kind::type, "x"}, {Step::Kind::wait, "2"}});
    rig.clock.advance(499ms);
    CHECK(rig.keyboard.pressed.empty());
    CHECK(rig.script->waiting_for() == "0.5 s of guest time to pass");
    rig.clock.advance(200ms);
    CHECK(rig.keyboard.pressed.size() == 1);
    CHECK(rig.done == 0);
    rig.clock.advance(1700ms);
    CHECK(rig.done == 0);
    rig.clock.advance(300ms);
    CHECK(rig.done == 1);
}

TEST_CASE("Typing outside the script moves no step on") {
    Rig rig({{until, "never"}});
    REQUIRE(rig.script->type("x"));
    rig.clock.advance(5s);
    CHECK(rig.keyboard.pressed == std::vector<Key>{Key::x});
    CHECK(rig.done == 0);
    CHECK_FALSE(rig.script->done());
}

TEST_CASE("Media are changed between the steps before and behind") {
    FakeRemovableDrive drive;
    DriveRegistry drives;
    drives.add(drive);
    const TemporaryFile disc{std::as_bytes(std::span(std::string_view("a disc")))};
    Rig rig({{until, "next disc"}, {Step::Kind::eject, "cdrom0"}, {insert, "cdrom0=" + disc.path()}, {type, "x"}},
            MediaChanger(drives, ImageAccess::writable));
    rig.clock.advance(1s);
    CHECK(drive.inserted == 0);
    rig.screen.show("next disc");
    rig.clock.advance(1s);
    CHECK(drive.inserted == 1);
    CHECK(drive.medium()->name() == disc.path());
    CHECK(rig.keyboard.pressed.size() == 1);
    CHECK(rig.done == 1);
}

TEST_CASE("A disk grows between the steps before and behind") {
    DiskDrive disk(std::make_unique<MemoryImage>(size_t{1} << 20), "X");
    disk.on_grown([] {});
    DriveRegistry drives;
    drives.add(disk);
    Rig rig({{until, "full"}, {Step::Kind::grow, "disk0=2M"}, {type, "x"}, {Step::Kind::grow, "disk0=1536K"}},
            MediaChanger(drives, ImageAccess::writable));
    rig.clock.advance(1s);
    CHECK(disk.image().size() == 1 << 20);
    rig.screen.show("full");
    rig.clock.advance(1s);
    CHECK(disk.image().size() == 2 << 20);
    CHECK(rig.keyboard.pressed.size() == 1);
    CHECK(rig.failure.starts_with("--grow: cannot grow"));
    CHECK(rig.done == 0);
}

TEST_CASE("A drive that gives nothing back ends the script with the reason") {
    FakeRemovableDrive drive;
    drive.is_locked = true;
    DriveRegistry drives;
    drives.add(drive);
    Rig rig({{Step::Kind::eject, "cdrom0"}, {type, "x"}}, MediaChanger(drives, ImageAccess::writable));
    rig.clock.advance(1s);
    CHECK(rig.failure == "--eject: locked");
    CHECK(rig.done == 0);
    CHECK(rig.keyboard.pressed.empty());
}

TEST_CASE("A cable is pulled out and plugged in between the steps before and behind") {
    std::mutex lock;
    EventLoop loop(lock);
    ManualClock clock;
    const auto link = open_network_link("loopback", {loop, clock, {}}).value();
    Cables cables;
    REQUIRE(cables.add(*link, std::nullopt));
    Rig rig({{until, "out"}, {Step::Kind::link, "nic0=down"}, {until, "in"}, {Step::Kind::link, "up"}}, media, &cables);
    rig.clock.advance(1s);
    CHECK(link->up());
    rig.screen.show("out");
    rig.clock.advance(1s);
    CHECK_FALSE(link->up());
    rig.screen.show("in");
    rig.clock.advance(1s);
    CHECK(link->up());
    CHECK(rig.done == 1);
}

TEST_CASE("A click waits until the guest uses the tablet, and for the guest to take it") {
    struct Tablet final : TabletPort {
        void move_to(int x, int y) override { log.push_back(fmt::format("to {} {}", x, y)); }
        void scroll(int) override {}
        void press(MouseButton button) override { log.push_back(fmt::format("press {}", static_cast<int>(button))); }
        void release(MouseButton) override { log.push_back("release"); }
        [[nodiscard]] bool reporting() const override { return used; }
        [[nodiscard]] bool idle() const override { return taken; }
        std::vector<std::string> log;
        bool used = false, taken = false;
    } tablet;
    ManualClock clock;
    Services services;
    FakeScreen screen;
    GuestMemory memory;
    ScreenReader reader(screen, memory);
    services.provide<Screen>(screen);
    services.provide<ScreenReader>(reader);
    const Step click{Step::Kind::click, "1,0,right"};
    CHECK(Script::create(clock, services, media, {click}).error().message ==
          "--click: this board has no tablet; --usb tablet or --virtio tablet adds one");
    services.provide<TabletPort>(tablet);
    for (const char* wrong : {"", "1", "1,", ",1", "1,2,3", "1,2,", "-1,2", "1,70000", "1,2,left "}) {
        CHECK(Script::create(clock, services, media, {{Step::Kind::click, wrong}}).error().kind == ErrorKind::usage);
    }
    auto made = Script::create(clock, services, media, {click, {Step::Kind::click, "9999,9999"}});
    REQUIRE(made);
    Script& script = **made;
    int done = 0;
    script.start([&done] { ++done; }, [](const Error&) {});
    clock.advance(1s);
    CHECK(tablet.log.empty());
    CHECK(script.waiting_for() == "the guest to take the click at 1,0,right");
    tablet.used = true;
    clock.advance(1s);
    CHECK(tablet.log == std::vector<std::string>{"to 328 0", "press 2", "release"});
    CHECK(done == 0);
    tablet.taken = true;
    tablet.log.clear();
    clock.advance(1s);
    CHECK(tablet.log == std::vector<std::string>{"to 32767 32767", "press 1", "release"});
    CHECK(done == 1);
}

TEST_CASE("Steps that cannot work are refused before the run") {
    ManualClock clock;
    Services none;
    CHECK(Script::create(clock, none, media, {{type, "x"}}).error().kind == ErrorKind::usage);
    CHECK(Script::create(clock, none, media, {{until, ""}}).error().kind == ErrorKind::usage);
    CHECK(Script::create(clock, none, media, {{Step::Kind::wait, "0"}}).error().message.starts_with("--wait: '0'"));
    FakeKeyboard keyboard;
    none.provide<KeyboardPort>(keyboard);
    CHECK(Script::create(clock, none, media, {{type, "<nokey>"}}).error().message.starts_with("--type"));
    CHECK(Script::create(clock, none, media, {{insert, "cdrom0=x.iso"}}).error().message.starts_with("--insert"));
    CHECK(Script::create(clock, none, media, {{Step::Kind::eject, "disk0"}}).error().message.starts_with("--eject"));
    CHECK(Script::create(clock, none, media, {{Step::Kind::grow, "disk0=2G"}}).error().message.starts_with("--grow"));
    CHECK(Script::create(clock, none, media, {{Step::Kind::link, "up"}}).error().message ==
          "--link: this machine has no NIC");
    Cables cables;
    none.provide(cables);
    CHECK(Script::create(clock, none, media, {{Step::Kind::link, "up"}}).error().kind == ErrorKind::usage);
}
