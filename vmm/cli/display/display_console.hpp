#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "vmm/cli/display/terminal_frame.hpp"
#include "vmm/cli/display/terminal_keys.hpp"
#include "vmm/cli/display/terminal_painter.hpp"
#include "vmm/cli/display/terminal_picture.hpp"

namespace viv {

enum class MenuCommand { reset, power_button, pause, screenshot, move, quit };
enum class PlugChange { insert, eject, grow, cable };

/// Where the console's decisions go.
class DisplaySink {
  public:
    virtual ~DisplaySink() = default;
    virtual void stroke(const KeyStroke& stroke) = 0;
    /// Pasted text in the typist's notation.
    virtual void type(const std::string& typing) = 0;
    virtual void command(MenuCommand command) = 0;
    /// What the person has typed at the prompt: "FILE" or "DRIVE=FILE", "DRIVE", or "NIC=STATE".
    virtual void change(PlugChange change, const std::string& what) = 0;
};

/// The terminal display without the terminal: what keys mean, what is on the screen, the menu and the notices.
class DisplayConsole {
  public:
    using Time = std::chrono::steady_clock::time_point;
    static constexpr std::chrono::seconds notice_time{3};

    DisplayConsole(TerminalAbilities abilities, DisplaySink& sink) : painter_(abilities), sink_(sink) {}

    /// A key of the user: for the guest, or for the menu that Ctrl-] opens.
    void input(const TerminalInput& input, Time now);
    void show(TextScreen screen) {
        text_ = std::move(screen);
        picture_.reset();
    }
    void show(Image picture) {
        picture_ = std::move(picture);
        picture_is_new_ = true;
    }
    /// Shows a line at the bottom for a moment. It covers the guest's last line when there is no room below.
    void notify(std::string text, Time now);
    /// Paused machines say so at the bottom until they continue.
    void set_paused(bool paused) { paused_ = paused; }

    /// The bytes that bring the terminal up to date.
    std::string paint(TerminalSize size, Time now);
    /// The terminal may show anything now.
    void forget() {
        painter_.forget();
        drawn_.reset();
    }

  private:
    void menu_key(const KeyStroke& stroke);
    void open_prompt(PlugChange change);
    void prompt_key(const KeyStroke& stroke);
    [[nodiscard]] std::string bottom_line(TerminalSize size, Time now);
    void learn(const TerminalReport& report);
    /// Takes a picture of the terminal's own kind away.
    std::string remove_drawn();

    TerminalPainter painter_;
    DisplaySink& sink_;
    TextScreen text_;
    std::optional<Image> picture_;
    bool picture_is_new_ = false;
    TerminalGraphics graphics_ = TerminalGraphics::none;
    CellSize cell_;
    std::optional<PicturePlace> drawn_;  // where the terminal shows a picture of its own kind
    TextView view_;
    TerminalSize size_{0, 0};
    bool menu_open_ = false;
    std::optional<PlugChange> prompt_;  // what the line that is being typed is for
    std::string line_;
    bool paused_ = false;
    std::string notice_;
    Time notice_until_{};
};

}  // namespace viv
