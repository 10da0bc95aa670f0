#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "devices/input/keyboard_port.hpp"

namespace viv {

/// Modifier keys as the terminals number them (xterm's modifier parameter minus one).
inline constexpr uint8_t stroke_shift = 0x01;
inline constexpr uint8_t stroke_alt = 0x02;
inline constexpr uint8_t stroke_ctrl = 0x04;
inline constexpr uint8_t stroke_gui = 0x08;

/// Keys that go down and up one after the other while the modifiers are held: usually one; the digits of an Alt code
/// for a character that a US keyboard lacks.
struct KeyStroke {
    uint8_t modifiers = 0;
    std::vector<Key> keys;
    bool operator==(const KeyStroke&) const = default;
};

/// Text that the user has pasted, as it came, with line ends as '\n'.
struct PastedText {
    std::string text;
    bool operator==(const PastedText&) const = default;
};

/// What a terminal has answered to graphics_questions() (terminal_picture.hpp).
struct TerminalReport {
    enum class Kind { sixel, kitty, cell_size };
    Kind kind = Kind::sixel;
    unsigned width = 0;  // of a cell, in pixels
    unsigned height = 0;
    bool operator==(const TerminalReport&) const = default;
};

using TerminalInput = std::variant<KeyStroke, PastedText, TerminalReport>;

/// The keys of a US keyboard that type this character, or an Alt code of code page 437; no keys when neither has it.
KeyStroke stroke_for(char32_t character);

/// Takes apart what a terminal in raw mode sends: UTF-8, control characters, the sequences of xterm, VT220, rxvt and
/// the Linux console with their modifiers, ESC as an Alt prefix, xterm's modifyOtherKeys and the "CSI u" form, and
/// bracketed paste, and the terminal's own answers. What it does not know it swallows whole.
class TerminalKeys {
  public:
    /// How long the terminal may pause within a sequence before ESC means the key itself.
    static constexpr unsigned escape_timeout_ms = 30;
    static constexpr size_t paste_limit = 64 * 1024;

    /// The strokes that `bytes` complete, appended to `out`.
    void feed(std::string_view bytes, std::vector<TerminalInput>& out);
    /// True while a sequence is incomplete: call expire() when nothing more comes within the time-out.
    [[nodiscard]] bool waiting() const { return !pending_.empty() && !pasting_; }
    /// Ends an incomplete sequence: ESC alone is the key, ESC and a character an Alt stroke, others are dropped.
    void expire(std::vector<TerminalInput>& out);

  private:
    /// How many of the pending bytes were used; 0 when more are needed.
    size_t take(std::string_view bytes, std::vector<TerminalInput>& out);
    void take_paste(std::vector<TerminalInput>& out);

    std::string pending_;
    bool pasting_ = false;
    std::string paste_;
};

/// Pasted text in the notation of the typist (devices/input/typist.hpp), without control characters.
std::string typing_of(std::string_view text);

}  // namespace viv
