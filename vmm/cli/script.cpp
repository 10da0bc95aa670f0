#include "vmm/cli/script.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "devices/serial/char_backend.hpp"
#include "devices/system/firmware_disk.hpp"

namespace viv::cli {
namespace {
constexpr Duration look_period = std::chrono::milliseconds(20);
// Recognising text in a picture takes the host some milliseconds.
constexpr Duration picture_look_period = std::chrono::milliseconds(100);
// Half of a small screen: what a guest prints as fast as it can is still there at one of two glances.
constexpr uint64_t glance_changes = 1000;
constexpr size_t serial_history = 64 * 1024;

/// The rows with the blanks at their ends, in which "# " can be found too.
std::string padded(const TextScreen& screen) {
    std::string text;
    for (unsigned row = 0; row < screen.rows; ++row) text += screen.line(row) + std::string(screen.columns, ' ') + '\n';
    return text;
}

struct Click {
    unsigned x = 0;
    unsigned y = 0;
    MouseButton button = MouseButton::left;
};

/// "X,Y" or "X,Y,BUTTON".
std::optional<Click> parse_click(const std::string& text) {
    Click click;
    const char* at = text.data();
    const char* end = at + text.size();
    for (unsigned* number : {&click.x, &click.y}) {
        if (number == &click.y && (at == end || *at++ != ',')) return std::nullopt;
        const auto [after, error] = std::from_chars(at, end, *number);
        if (error != std::errc() || *number > 0xFFFF) return std::nullopt;
        at = after;
    }
    const std::string_view button(at, end);
    if (button == ",right") {
        click.button = MouseButton::right;
    } else if (button == ",middle") {
        click.button = MouseButton::middle;
    } else if (!button.empty() && button != ",left") {
        return std::nullopt;
    }
    return click;
}

/// A dot of `size` of them as a place of the tablet.
int tablet_place(unsigned dot, unsigned size) {
    const unsigned last = std::max(size, 2u) - 1;
    return static_cast<int>((uint64_t{std::min(dot, last)} * TabletPort::limit + last / 2) / last);
}

bool is_instant(const Step& step) {
    switch (step.kind) {
        case Step::Kind::insert:
        case Step::Kind::eject:
        case Step::Kind::grow:
        case Step::Kind::link:
        case Step::Kind::power_button: return true;
        default: return false;
    }
}

}  // namespace

Script::Script(Clock& clock, MediaChanger media, std::vector<Step> steps)
    : media_(media),
      steps_(std::move(steps)),
      clock_(clock),
      timer_(clock, [this](VirtualTime deadline) { look(deadline); }) {}

Result<std::unique_ptr<Script>> Script::create(Clock& clock, const Services& services, MediaChanger media,
                                               std::vector<Step> steps) {
    std::unique_ptr<Script> script(new Script(clock, media, std::move(steps)));
    script->screen_ = services.find<Screen>();
    script->reader_ = services.find<ScreenReader>();
    script->power_button_ = services.find<PowerButton>();
    script->cables_ = services.find<Cables>();
    script->tablet_ = services.find<TabletPort>();
    if (script->screen_) script->screen_->on_changes(glance_changes, [self = script.get()] { self->glance(); });
    KeyboardPort* keyboard = services.find<KeyboardPort>();
    for (const Step& step : script->steps_) {
        if (step.kind == Step::Kind::until && step.text.empty()) return fail_usage("--until needs a text to wait for");
        if (step.kind == Step::Kind::move && step.text != "kvm" && step.text != "soft") {
            return fail_usage(fmt::format("--move: there is no engine '{}'; use kvm or soft", step.text));
        }
        if (step.kind == Step::Kind::insert) {
            if (auto good = media.check_insert(step.text); !good) return add_context(good.error(), "--insert");
        }
        if (step.kind == Step::Kind::eject) {
            if (auto good = media.check_eject(step.text); !good) return add_context(good.error(), "--eject");
        }
        if (step.kind == Step::Kind::grow) {
            if (auto good = media.check_grow(step.text); !good) return add_context(good.error(), "--grow");
        }
        if (step.kind == Step::Kind::link) {
            if (!script->cables_) return fail_usage("--link: this machine has no NIC");
            if (auto good = script->cables_->check(step.text); !good) return add_context(good.error(), "--link");
        }
        if (step.kind == Step::Kind::power_button && !script->power_button_)
            return fail_usage("--power-button: this board has no power management");
        if (step.kind == Step::Kind::click) {
            if (!parse_click(step.text))
                return fail_usage(fmt::format("--click: '{}' is not a place like 320,200 or 320,200,right", step.text));
            if (!script->tablet_ || !script->screen_)
                return fail_usage("--click: this board has no tablet; --usb tablet or --virtio tablet adds one");
        }
        if (step.kind == Step::Kind::wait && !parse_seconds(step.text))
            return fail_usage(fmt::format("--wait: '{}' is not a time in seconds above 0 (try 5 or 0.5)", step.text));
        if (step.kind != Step::Kind::type) continue;
        if (!keyboard) return fail_usage("--type: this board has no keyboard");
        if (auto keys = parse_typing(step.text); !keys) return add_context(keys.error(), "--type");
    }
    if (keyboard) {
        script->typist_ = std::make_unique<Typist>(clock, *keyboard);
        script->typist_->on_done([self = script.get()] { self->typed(); });
        if (FirmwarePort* firmware = services.find<FirmwarePort>()) {
            firmware->on_key([typist = script->typist_.get()](rom::KeyReport report) {
                report == rom::KeyReport::dropped ? typist->on_key_dropped() : typist->on_key_stored();
            });
        }
    }
    for (size_t port = 0; port < script->serial_.size(); ++port) {
        if (SerialTap* tap = services.find<SerialTap>(fmt::format("serial{}", port))) {
            tap->on_output([self = script.get(), port](uint8_t byte) { self->receive(port, byte); });
        }
    }
    return script;
}

void Script::start(std::move_only_function<void()> on_done, std::move_only_function<void(Error)> on_failure) {
    on_done_ = std::move(on_done);
    on_failure_ = std::move(on_failure);
    started_ = true;
    if (done()) return on_done_();
    timer_.arm(clock_.now());
}

Result<std::string> Script::change_plugged(const Step& step) {
    if (step.kind == Step::Kind::insert) return media_.insert(step.text);
    if (step.kind == Step::Kind::grow) return media_.grow(step.text);
    return step.kind == Step::Kind::eject ? media_.eject(step.text) : cables_->change(step.text);
}

/// Does a step that takes no time; false when the script cannot go on.
bool Script::do_at_once(const Step& step) {
    if (step.kind == Step::Kind::power_button) {
        power_button_->press();
        return true;
    }
    const auto changed = change_plugged(step);
    if (changed) return true;
    const char* option = step.kind == Step::Kind::insert  ? "--insert"
                         : step.kind == Step::Kind::eject ? "--eject"
                         : step.kind == Step::Kind::grow  ? "--grow"
                                                          : "--link";
    on_failure_(add_context(changed.error(), option).error());
    return false;
}

void Script::begin_step() {
    while (!done() && is_instant(steps_[position_])) {
        begun_ = true;
        if (!do_at_once(steps_[position_]) || awaits_power_off()) return;
        ++position_;
    }
    if (done()) {
        on_done_();
        return;
    }
    begun_ = true;
    seen_on_serial_ = false;
    seen_on_screen_ = false;
    looked_ = false;
    clicked_ = false;
    const Step& step = steps_[position_];
    if (step.kind == Step::Kind::wait) {
        const std::chrono::duration<double> time(*parse_seconds(step.text));
        return timer_.arm(clock_.now() + std::chrono::duration_cast<Duration>(time));
    }
    if (step.kind == Step::Kind::move) return move_(step.text);
    if (step.kind == Step::Kind::click) return timer_.arm(clock_.now());
    if (step.kind == Step::Kind::until) {
        seen_on_serial_ = consume_serial(step.text);
        timer_.arm(clock_.now());
        return;
    }
    const auto accepted = typist_->type(step.text);
    VIV_ASSERT(accepted.has_value());  // create() has parsed it
    typed();                           // an empty text is done at once
}

/// Clicks once the guest uses the tablet; true when it has taken that.
bool Script::click(const std::string& where) {
    if (!clicked_) {
        if (!tablet_->reporting()) return false;
        const Image picture = screen_->pixels();
        const auto [x, y, button] = *parse_click(where);
        tablet_->move_to(tablet_place(x, picture.width), tablet_place(y, picture.height));
        tablet_->press(button);
        tablet_->release(button);
        clicked_ = true;
    }
    return tablet_->idle();
}

void Script::typed() {
    // What ended may also be typing that is no step of the script: a person's paste.
    if (!started_ || done() || steps_[position_].kind != Step::Kind::type || !typist_->done()) return;
    ++position_;
    begin_step();
}

void Script::moved() {
    if (done() || steps_[position_].kind != Step::Kind::move) return;
    ++position_;
    // The machine is at rest now; what comes next is for when it runs.
    begun_ = false;
    timer_.arm(clock_.now());
}

bool Script::shows_picture() const {
    return reader_ && reader_->last_kind() == ScreenKind::graphics;
}

bool Script::is_on_screen(const std::string& text) {
    if (!screen_ || !reader_) return false;
    const uint64_t generation = screen_->generation();
    if (looked_ && generation == generation_) return false;
    looked_ = true;
    generation_ = generation;
    const TextScreen& shown = reader_->read();
    return shown.plain().find(text) != std::string::npos || padded(shown).find(text) != std::string::npos;
}

bool Script::consume_serial(const std::string& wanted) {
    bool found = false;
    for (std::string& text : serial_) {
        const size_t at = text.find(wanted);
        if (at == std::string::npos) continue;
        text.erase(0, at + wanted.size());
        found = true;
    }
    return found;
}

void Script::look(VirtualTime deadline) {
    if (!begun_) return begin_step();
    if (steps_[position_].kind == Step::Kind::wait) {
        ++position_;
        return begin_step();
    }
    if (steps_[position_].kind == Step::Kind::click) {
        if (!click(steps_[position_].text)) return timer_.arm(deadline + look_period);
        ++position_;
        return begin_step();
    }
    if (seen_on_serial_ || seen_on_screen_ || is_on_screen(steps_[position_].text)) {
        // A console on the screen and on a serial port says everything twice.
        if (!seen_on_serial_) consume_serial(steps_[position_].text);
        ++position_;
        begin_step();
        return;
    }
    timer_.arm(deadline + (shows_picture() ? picture_look_period : look_period));
}

/// The guest is inside its write now, so the next look acts on it.
void Script::glance() {
    if (!begun_ || done() || seen_on_screen_ || steps_[position_].kind != Step::Kind::until) return;
    // Pictures change with every byte, and do not scroll away as fast as text does.
    if (shows_picture()) return;
    seen_on_screen_ = is_on_screen(steps_[position_].text);
}

void Script::receive(size_t port, uint8_t byte) {
    if (done()) return;
    std::string& text = serial_[port];
    text += static_cast<char>(byte);
    if (text.size() > 2 * serial_history) text.erase(0, serial_history);
    const Step& step = steps_[position_];
    if (!begun_ || seen_on_serial_ || step.kind != Step::Kind::until || !text.ends_with(step.text)) return;
    // The guest is inside its OUT now, so the next look acts on it. What follows belongs to the next step.
    seen_on_serial_ = true;
    text.clear();
}

std::string Script::waiting_for() const {
    if (!started_ || done()) return "nothing";
    const Step& step = steps_[position_];
    switch (step.kind) {
        case Step::Kind::until: return fmt::format("the text '{}'", step.text);
        case Step::Kind::type: return fmt::format("the guest to take the keys '{}'", step.text);
        case Step::Kind::wait: return fmt::format("{} s of guest time to pass", step.text);
        case Step::Kind::click: return fmt::format("the guest to take the click at {}", step.text);
        case Step::Kind::insert: return fmt::format("'{}' to be put in", step.text);
        case Step::Kind::eject: return fmt::format("'{}' to be emptied", step.text);
        case Step::Kind::grow: return fmt::format("a disk to grow: '{}'", step.text);
        case Step::Kind::link: return fmt::format("the cable to be changed: '{}'", step.text);
        case Step::Kind::power_button: return "the guest to power off";
        case Step::Kind::move: break;
    }
    return fmt::format("the move to the {} engine", step.text);
}

Result<void> Script::type(std::string_view text) {
    if (!typist_) return {};
    return typist_->type(text);
}

}  // namespace viv::cli
