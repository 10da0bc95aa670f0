#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string_view>
#include <vector>

#include "devices/input/keyboard_port.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// Keys that go down one after the other and come up in reverse order: one character, or <ctrl-alt-del>.
using KeyChord = std::vector<Key>;

/// The chords that type `text` on a US keyboard. Text is UTF-8 of what that keyboard has; '\n' and '\t' may stand
/// for themselves. Escapes: \n \t \e \b \\ \< and key names in angle brackets, joined by '-': <enter> <f12>
/// <ctrl-alt-del>. A usage error names the position (in characters, from 1) and the thing.
Result<std::vector<KeyChord>> parse_typing(std::string_view text);

/// Types on a keyboard no faster than the guest takes the keys. The next key goes down only after the guest has read
/// every byte of the last one; a key that the guest's BIOS reports as dropped, or that a keyboard reset has swept
/// away, is pressed again. Takes the port's on_idle for itself.
class Typist {
  public:
    Typist(Clock& clock, KeyboardPort& keyboard);
    ~Typist();

    /// Appends text to what is still to be typed; an error changes nothing.
    Result<void> type(std::string_view text);
    /// True when every key has been pressed, released, and taken by the guest.
    [[nodiscard]] bool done() const { return chords_.empty(); }
    /// `callback` is called when done() becomes true.
    void on_done(std::move_only_function<void()> callback) { on_done_ = std::move(callback); }
    /// Forgets what has not been typed and lets go of all keys.
    void stop();

    /// The BIOS had no room for the key in its buffer (firmware port +4, value 1).
    void on_key_dropped();
    /// The BIOS has stored the key (firmware port +4, value 2).
    void on_key_stored();

  private:
    /// What the fingers do next, once the guest has taken what went before.
    enum class Step { press, release, settle };

    void proceed();

    KeyboardPort& keyboard_;
    std::deque<KeyChord> chords_;  // the first one is being typed
    Step step_ = Step::press;
    size_t position_ = 0;      // keys of the first chord that are down
    uint64_t discarded_ = 0;   // the port's count when the chord began
    bool dropped_ = false;     // the BIOS dropped the last key of the chord
    bool proceeding_ = false;  // guards against calls from inside press() and release()
    std::move_only_function<void()> on_done_;
    Clock& clock_;
    Timer retry_;
};

}  // namespace viv
