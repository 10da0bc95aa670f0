#pragma once

#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "devices/input/keyboard_port.hpp"
#include "devices/video/screen.hpp"
#include "vmm/core/event_loop.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// What the menu asks of the machine. Called from the event loop, under the machine lock, unless said otherwise; they
/// must not destroy the display. Menu entries whose action is empty do nothing.
struct DisplayActions {
    std::move_only_function<void()> reset;
    /// Returns whether the machine is paused now.
    std::move_only_function<bool()> toggle_pause;
    /// To the other engine.
    std::move_only_function<void()> move;
    /// The answer is for the person.
    std::move_only_function<Result<std::string>()> press_power_button;
    std::move_only_function<void()> quit;
    /// Plain lines cannot be written any more: the reader has gone, or a disk is full. Called once; without the machine
    /// lock when the display is destroyed.
    std::move_only_function<void(int errno_value)> output_failed;
    /// Pasted text in the typist's notation.
    std::move_only_function<Result<void>(std::string_view typing)> type;
    /// Puts a medium in ("FILE" or "DRIVE=FILE") or takes one out ("DRIVE"); the answer is for the person.
    std::move_only_function<Result<std::string>(const std::string& what)> insert;
    std::move_only_function<Result<std::string>(const std::string& drive)> eject;
    /// Makes a disk larger ("disk0=20G").
    std::move_only_function<Result<std::string>(const std::string& what)> grow;
    /// Plugs the cable of a NIC in or out ("nic0=down").
    std::move_only_function<Result<std::string>(const std::string& what)> change_cable;
    /// Saves the picture and returns the file's name. Called from the display's thread, without the machine lock.
    std::move_only_function<Result<std::string>(const Image& picture)> save_screenshot;
};

struct TerminalDisplaySetup {
    Screen& screen;
    KeyboardPort* keyboard = nullptr;  // nullptr: the display only shows
    EventLoop& loop;
    DisplayActions actions;
    int input = STDIN_FILENO;
    int output = STDOUT_FILENO;
};

/// The guest's screen in the user's terminal, or as plain lines where the output is no terminal. It has a thread of its
/// own, so that a slow terminal never holds the machine lock; all that touches the machine is posted to the loop.
/// Destroy it when the machine has stopped, before the screen, keyboard and loop: the plain form looks at the screen
/// one last time then, to print the lines that are not finished.
class TerminalDisplay {
  public:
    virtual ~TerminalDisplay() = default;
};

/// Starts the display that fits the output: with keys, menu and colours on a terminal, plain lines otherwise. Open it
/// before the process gives up its rights: it opens the terminal's device once more.
Result<std::unique_ptr<TerminalDisplay>> open_terminal_display(TerminalDisplaySetup setup);

}  // namespace viv
