#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/cli/display/terminal_frame.hpp"

namespace viv {

/// How many colours a terminal has.
enum class ColourDepth { sixteen, indexed_256, true_colour };

/// What a terminal can do, by the two environment variables that say so.
struct TerminalAbilities {
    ColourDepth colours = ColourDepth::true_colour;
    /// The Linux console: cursor shapes by its own sequence, no bracketed paste.
    bool linux_console = false;
    bool operator==(const TerminalAbilities&) const = default;
};
TerminalAbilities terminal_abilities(std::string_view term, std::string_view colorterm);

/// Makes the escape sequences that turn what the terminal shows into the next frame, and no more than needed.
class TerminalPainter {
  public:
    explicit TerminalPainter(TerminalAbilities abilities) : abilities_(abilities) {}

    /// Entering and leaving: alternate screen, no automatic line wrap, bracketed paste.
    [[nodiscard]] std::string begin() const;
    [[nodiscard]] std::string end() const;
    /// The bytes for the terminal; empty when nothing changes.
    std::string paint(const TerminalFrame& frame);
    /// The terminal may show anything: the next frame is painted as a whole.
    void forget() { shown_.reset(); }

  private:
    struct Style {
        bool blink = false;
        bool underline = false;
        uint32_t foreground = 0;  // as the colour depth counts
        uint32_t background = 0;
        bool operator==(const Style&) const = default;
    };
    [[nodiscard]] Style style_of(const TerminalCell& cell) const;
    [[nodiscard]] uint32_t colour_of(Rgb colour) const;
    void append_style(std::string& out, const Style& style);
    void append_cursor(std::string& out, const TerminalFrame& frame);

    TerminalAbilities abilities_;
    std::optional<TerminalFrame> shown_;
    std::optional<Style> style_;  // what the terminal draws with
};

}  // namespace viv
