#include "vmm/cli/display/terminal_painter.hpp"

#include <fmt/format.h>

#include <array>
#include <iterator>
#include <limits>

#include "devices/video/code_page_437.hpp"

namespace viv {
namespace {

// In the order of the ANSI colour numbers, as the PC shows them.
constexpr std::array<Rgb, 16> ansi_colours = {{
    {0x00, 0x00, 0x00},
    {0xAA, 0x00, 0x00},
    {0x00, 0xAA, 0x00},
    {0xAA, 0x55, 0x00},
    {0x00, 0x00, 0xAA},
    {0xAA, 0x00, 0xAA},
    {0x00, 0xAA, 0xAA},
    {0xAA, 0xAA, 0xAA},
    {0x55, 0x55, 0x55},
    {0xFF, 0x55, 0x55},
    {0x55, 0xFF, 0x55},
    {0xFF, 0xFF, 0x55},
    {0x55, 0x55, 0xFF},
    {0xFF, 0x55, 0xFF},
    {0x55, 0xFF, 0xFF},
    {0xFF, 0xFF, 0xFF},
}};
constexpr std::array<uint8_t, 6> cube_levels = {0x00, 0x5F, 0x87, 0xAF, 0xD7, 0xFF};

constexpr int distance(Rgb a, Rgb b) {
    const int red = a.red - b.red;
    const int green = a.green - b.green;
    const int blue = a.blue - b.blue;
    return 3 * red * red + 4 * green * green + 2 * blue * blue;
}

uint32_t nearest_of_16(Rgb colour) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < 16; ++i) {
        if (distance(colour, ansi_colours[i]) < distance(colour, ansi_colours[best])) best = i;
    }
    return best;
}

// Of the colour cube (16 to 231) and the greys (232 to 255): these, unlike the first 16, look the same everywhere.
uint32_t nearest_of_256(Rgb colour) {
    const auto level = [](uint8_t value) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < cube_levels.size(); ++i) {
            if (std::abs(value - cube_levels[i]) < std::abs(value - cube_levels[best])) best = i;
        }
        return best;
    };
    const uint32_t red = level(colour.red);
    const uint32_t green = level(colour.green);
    const uint32_t blue = level(colour.blue);
    const int cube_error = distance(colour, {cube_levels[red], cube_levels[green], cube_levels[blue]});
    const int grey_mean = (colour.red + colour.green + colour.blue) / 3;
    const int grey = std::min(std::max(grey_mean - 3, 0) / 10, 23);
    const auto grey_level = static_cast<uint8_t>(8 + 10 * grey);
    if (distance(colour, {grey_level, grey_level, grey_level}) < cube_error) return 232 + static_cast<uint32_t>(grey);
    return 16 + 36 * red + 6 * green + blue;
}

// Symbols that some terminals draw two columns wide.
bool has_doubtful_width(char16_t character) {
    return character >= 0x2000 && !(character >= 0x2500 && character < 0x25A0);
}

}  // namespace

TerminalAbilities terminal_abilities(std::string_view term, std::string_view colorterm) {
    const auto has = [term](std::string_view part) { return term.find(part) != std::string_view::npos; };
    TerminalAbilities abilities;
    abilities.linux_console = term == "linux";
    if (colorterm == "truecolor" || colorterm == "24bit" || has("direct") || has("truecolor")) {
        abilities.colours = ColourDepth::true_colour;
    } else if (has("256color") || has("kitty") || has("alacritty")) {
        abilities.colours = ColourDepth::indexed_256;
    } else {
        abilities.colours = ColourDepth::sixteen;
    }
    return abilities;
}

std::string TerminalPainter::begin() const {
    std::string out = "\x1B[?1049h\x1B[?7l\x1B[?25l\x1B[0m\x1B[2J";
    if (!abilities_.linux_console) out += "\x1B[?2004h";
    return out;
}

std::string TerminalPainter::end() const {
    std::string out = "\x1B[0m";
    // The Linux console has no alternate screen to leave.
    out += abilities_.linux_console ? "\x1B[2J\x1B[H\x1B[?0c" : "\x1B[?2004l\x1B[0 q";
    return out + "\x1B[?7h\x1B[?25h\x1B[?1049l";
}

uint32_t TerminalPainter::colour_of(Rgb colour) const {
    switch (abilities_.colours) {
        case ColourDepth::sixteen: return nearest_of_16(colour);
        case ColourDepth::indexed_256: return nearest_of_256(colour);
        case ColourDepth::true_colour: break;
    }
    return static_cast<uint32_t>(colour.red << 16 | colour.green << 8 | colour.blue);
}

TerminalPainter::Style TerminalPainter::style_of(const TerminalCell& cell) const {
    return {cell.blink, cell.underline, colour_of(cell.foreground), colour_of(cell.background)};
}

void TerminalPainter::append_style(std::string& out, const Style& style) {
    if (style_ == style) return;
    std::string codes;
    const auto add = [&codes](const std::string& code) { codes += (codes.empty() ? "" : ";") + code; };
    const auto add_colour = [&](uint32_t colour, unsigned base) {
        switch (abilities_.colours) {
            case ColourDepth::sixteen:
                add(fmt::format("{}", colour < 8 ? base + colour : base + 60 + colour - 8));
                break;
            case ColourDepth::indexed_256: add(fmt::format("{};5;{}", base + 8, colour)); break;
            case ColourDepth::true_colour:
                add(fmt::format("{};2;{};{};{}", base + 8, colour >> 16, colour >> 8 & 0xFF, colour & 0xFF));
                break;
        }
    };
    if (!style_) add("0");
    const Style before = style_.value_or(Style{});
    if (style.blink != before.blink) add(style.blink ? "5" : "25");
    if (style.underline != before.underline) add(style.underline ? "4" : "24");
    if (!style_ || style.foreground != before.foreground) add_colour(style.foreground, 30);
    if (!style_ || style.background != before.background) add_colour(style.background, 40);
    out += "\x1B[" + codes + "m";
    style_ = style;
}

void TerminalPainter::append_cursor(std::string& out, const TerminalFrame& frame) {
    if (frame.cursor == TerminalFrame::Cursor::hidden) return;
    fmt::format_to(std::back_inserter(out), "\x1B[{};{}H", frame.cursor_row + 1, frame.cursor_column + 1);
    const bool block = frame.cursor == TerminalFrame::Cursor::block;
    if (!shown_ || shown_->cursor != frame.cursor) {
        // Both blink: the VGA's cursor always does.
        if (abilities_.linux_console) {
            out += block ? "\x1B[?6c" : "\x1B[?2c";
        } else {
            out += block ? "\x1B[1 q" : "\x1B[3 q";
        }
    }
    out += "\x1B[?25h";
}

std::string TerminalPainter::paint(const TerminalFrame& frame) {
    if (shown_ == frame) return {};
    if (shown_ && shown_->size != frame.size) shown_.reset();
    std::string out;
    const bool cursor_was_shown = shown_ && shown_->cursor != TerminalFrame::Cursor::hidden;
    if (!shown_) {
        style_.reset();
        out += "\x1B[?25l\x1B[0m\x1B[2J";
    } else if (cursor_was_shown) {
        out += "\x1B[?25l";
    }
    constexpr unsigned unknown = std::numeric_limits<unsigned>::max();
    for (unsigned row = 0; row < frame.size.rows; ++row) {
        unsigned terminal_column = unknown;  // where the terminal's cursor is on this row
        for (unsigned column = 0; column < frame.size.columns; ++column) {
            const TerminalCell& cell = frame.at(column, row);
            if (shown_ && shown_->at(column, row) == cell) continue;
            if (terminal_column != column) {
                fmt::format_to(std::back_inserter(out), "\x1B[{};{}H", row + 1, column + 1);
            }
            append_style(out, style_of(cell));
            append_utf8(out, cell.character);
            terminal_column = has_doubtful_width(cell.character) ? unknown : column + 1;
        }
    }
    append_cursor(out, frame);
    shown_ = frame;
    return out;
}

}  // namespace viv
