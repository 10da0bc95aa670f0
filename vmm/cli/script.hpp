#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/input/tablet_port.hpp"
#include "devices/input/typist.hpp"
#include "devices/network/link/cables.hpp"
#include "devices/pci/power_button.hpp"
#include "devices/video/screen.hpp"
#include "vmm/cli/media_changer.hpp"
#include "vmm/cli/options.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/services.hpp"
#include "vmm/machine/screen_reader.hpp"

namespace viv::cli {

/// Works through the steps of a run: waits for text on the screen or a serial port, types, changes media. Everything
/// happens under the machine lock, in guest time, so that a deterministic run takes the same course every time.
class Script {
  public:
    /// Errors: a step that cannot work on this machine (no keyboard; a key name, drive or file that does not exist).
    static Result<std::unique_ptr<Script>> create(Clock& clock, const Services& services, MediaChanger media,
                                                  std::vector<Step> steps);

    /// Begins with the first step as soon as the clock runs; `on_done` is called after the last one (at once when there
    /// is none). What the guest sends on a serial port counts from create() on, and after a match from its end on: like
    /// this nothing is missed between two steps, however fast the guest answers.
    /// `on_failure` is called when a medium, a disk or a cable cannot be changed; no further step follows.
    void start(std::move_only_function<void()> on_done, std::move_only_function<void(Error)> on_failure);
    [[nodiscard]] bool done() const { return position_ == steps_.size(); }
    /// The last step pressed the power button: the run ends when the guest powers off.
    [[nodiscard]] bool awaits_power_off() const {
        return position_ + 1 == steps_.size() && steps_[position_].kind == Step::Kind::power_button && begun_;
    }
    /// What it waits for, in words: "text 'A:\>'", for messages.
    [[nodiscard]] std::string waiting_for() const;
    /// `move` is called for a step that names an engine ("kvm" or "soft"); moved() ends the step. To be set before
    /// start().
    void on_move(std::move_only_function<void(const std::string& engine)> move) { move_ = std::move(move); }
    void moved();
    /// Types outside the steps, for a person's paste. Without a keyboard nothing happens.
    Result<void> type(std::string_view text);

  private:
    Script(Clock& clock, MediaChanger media, std::vector<Step> steps);
    void begin_step();
    Result<std::string> change_plugged(const Step& step);
    bool do_at_once(const Step& step);
    void typed();
    bool click(const std::string& where);
    void look(VirtualTime deadline);
    void glance();
    [[nodiscard]] bool shows_picture() const;
    [[nodiscard]] bool is_on_screen(const std::string& text);
    void receive(size_t port, uint8_t byte);
    /// Forgets each port's text up to the end of `wanted`, where it occurs; false when it does not.
    bool consume_serial(const std::string& wanted);

    MediaChanger media_;
    std::vector<Step> steps_;
    size_t position_ = 0;
    Screen* screen_ = nullptr;
    ScreenReader* reader_ = nullptr;  // of that screen
    PowerButton* power_button_ = nullptr;
    Cables* cables_ = nullptr;
    TabletPort* tablet_ = nullptr;
    std::unique_ptr<Typist> typist_;
    std::array<std::string, 4> serial_;  // what each port sent since the last match, bounded
    bool begun_ = false;                 // the first step
    bool clicked_ = false;               // in this step
    bool seen_on_serial_ = false;
    bool seen_on_screen_ = false;  // between two looks
    uint64_t generation_ = 0;
    bool looked_ = false;
    bool started_ = false;
    std::move_only_function<void()> on_done_;
    std::move_only_function<void(Error)> on_failure_;
    std::move_only_function<void(const std::string& engine)> move_;
    Clock& clock_;
    Timer timer_;
};

}  // namespace viv::cli
