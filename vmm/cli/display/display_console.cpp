#include "vmm/cli/display/display_console.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace viv {
namespace {

/// As wide as a terminal is at least; 1 to = and ] are for who knows them.
constexpr const char* menu_text = " c C-A-Del r reset b power p pause s save i in o out g grow l link e move q quit";

constexpr size_t longest_line = 4096;

/// The ASCII character that the keys type; 0 when it is another one or none.
char character_of(const KeyStroke& stroke) {
    for (char32_t character = ' '; character <= '~'; ++character) {
        if (stroke_for(character) == stroke) return static_cast<char>(character);
    }
    return 0;
}

const KeyStroke menu_stroke{stroke_ctrl, {Key::right_bracket}};

}  // namespace

void DisplayConsole::input(const TerminalInput& input, Time /*now*/) {
    if (const auto* report = std::get_if<TerminalReport>(&input)) return learn(*report);
    notice_.clear();
    if (const auto* paste = std::get_if<PastedText>(&input)) {
        menu_open_ = false;
        if (prompt_) {
            line_ += paste->text.substr(0, std::min(paste->text.find('\n'), longest_line - line_.size()));
        } else {
            sink_.type(typing_of(paste->text));
        }
        return;
    }
    const auto& stroke = std::get<KeyStroke>(input);
    if (prompt_) {
        prompt_key(stroke);
    } else if (menu_open_) {
        menu_open_ = false;
        menu_key(stroke);
    } else if (stroke == menu_stroke) {
        menu_open_ = true;
    } else {
        sink_.stroke(stroke);
    }
}

void DisplayConsole::menu_key(const KeyStroke& stroke) {
    if (stroke == menu_stroke) return sink_.stroke(menu_stroke);
    if (stroke.keys.size() != 1) return;
    const Key key = stroke.keys[0];
    switch (key) {
        case Key::c: return sink_.stroke({stroke_ctrl | stroke_alt, {Key::del}});
        case Key::r: return sink_.command(MenuCommand::reset);
        case Key::b: return sink_.command(MenuCommand::power_button);
        case Key::p: return sink_.command(MenuCommand::pause);
        case Key::s: return sink_.command(MenuCommand::screenshot);
        case Key::e: return sink_.command(MenuCommand::move);
        case Key::i: return open_prompt(PlugChange::insert);
        case Key::o: return open_prompt(PlugChange::eject);
        case Key::g: return open_prompt(PlugChange::grow);
        case Key::l: return open_prompt(PlugChange::cable);
        case Key::q: return sink_.command(MenuCommand::quit);
        case Key::right_bracket: return sink_.stroke(menu_stroke);
        case Key::minus: return sink_.stroke({stroke.modifiers, {Key::f11}});
        case Key::equal: return sink_.stroke({stroke.modifiers, {Key::f12}});
        default: break;
    }
    if (key >= Key::digit_1 && key <= Key::digit_0) {
        const int number = std::to_underlying(key) - std::to_underlying(Key::digit_1);
        sink_.stroke({stroke.modifiers, {static_cast<Key>(std::to_underlying(Key::f1) + number)}});
    }
}

void DisplayConsole::open_prompt(PlugChange change) {
    prompt_ = change;
    line_.clear();
}

void DisplayConsole::prompt_key(const KeyStroke& stroke) {
    if (stroke == KeyStroke{0, {Key::escape}} || stroke == menu_stroke) {
        prompt_.reset();
    } else if (stroke == KeyStroke{0, {Key::enter}}) {
        const PlugChange change = *std::exchange(prompt_, std::nullopt);
        if (!line_.empty()) sink_.change(change, line_);
    } else if (stroke == KeyStroke{0, {Key::backspace}}) {
        if (!line_.empty()) line_.pop_back();
    } else if (const char character = character_of(stroke); character != 0 && line_.size() < longest_line) {
        line_ += character;
    }
}

void DisplayConsole::notify(std::string text, Time now) {
    notice_ = std::move(text);
    notice_until_ = now + notice_time;
}

std::string DisplayConsole::bottom_line(TerminalSize size, Time now) {
    if (size != size_) {
        size_ = size;
        if (!picture_ && (size.columns < text_.columns || size.rows < text_.rows)) {
            notify(fmt::format(" The terminal is {}x{}, the screen {}x{}: showing the part around the cursor",
                               size.columns, size.rows, text_.columns, text_.rows),
                   now);
        }
    }
    if (menu_open_) return menu_text;
    if (prompt_) {
        const char* asks = *prompt_ == PlugChange::insert  ? "Insert FILE or DRIVE=FILE"
                           : *prompt_ == PlugChange::eject ? "Eject DRIVE (cdrom0)"
                           : *prompt_ == PlugChange::grow  ? "Grow a disk (disk0=20G, disk0=+1G)"
                                                           : "Cable of a NIC (nic0=down, nic0=up)";
        std::string line = fmt::format(" {}: {}_", asks, line_);
        // The end of a long line is where it is being typed.
        if (line.size() > size.columns) line.erase(0, line.size() - size.columns);
        return line;
    }
    if (!notice_.empty() && now < notice_until_) return notice_;
    notice_.clear();
    return paused_ ? " Paused: Ctrl-] p continues" : "";
}

std::string DisplayConsole::paint(TerminalSize size, Time now) {
    const std::string line = bottom_line(size, now);
    const bool draws = picture_ && graphics_ != TerminalGraphics::none && size.columns > 0 && size.rows > 1;
    const auto place = draws ? std::optional(place_picture(*picture_, size, cell_)) : std::nullopt;
    std::string out = drawn_ != place ? remove_drawn() : std::string();
    TerminalFrame frame = draws      ? TerminalFrame(size)
                          : picture_ ? frame_of(*picture_, size)
                                     : frame_of(text_, size, view_);
    if (!line.empty()) put_line(frame, line);
    out += painter_.paint(frame);
    if (draws && (picture_is_new_ || !drawn_)) {
        out += graphics_ == TerminalGraphics::kitty ? kitty_picture(*picture_, *place)
                                                    : sixel_picture(*picture_, *place, cell_);
        picture_is_new_ = false;
        drawn_ = place;
    }
    return out;
}

std::string DisplayConsole::remove_drawn() {
    if (!drawn_) return {};
    forget();
    return graphics_ == TerminalGraphics::kitty ? kitty_clear() : std::string();
}

void DisplayConsole::learn(const TerminalReport& report) {
    switch (report.kind) {
        case TerminalReport::Kind::sixel: graphics_ = std::max(graphics_, TerminalGraphics::sixel); break;
        case TerminalReport::Kind::kitty: graphics_ = TerminalGraphics::kitty; break;
        case TerminalReport::Kind::cell_size: cell_ = {report.width, report.height}; break;
    }
}

}  // namespace viv
