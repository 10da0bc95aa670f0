#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "devices/input/typist.hpp"

namespace viv {
namespace {

struct Named {
    std::string_view name;
    Key key;
};
constexpr Named key_names[] = {
    {"enter", Key::enter},
    {"return", Key::enter},
    {"esc", Key::escape},
    {"escape", Key::escape},
    {"backspace", Key::backspace},
    {"tab", Key::tab},
    {"space", Key::space},
    {"minus", Key::minus},
    {"equal", Key::equal},
    {"caps", Key::caps_lock},
    {"capslock", Key::caps_lock},
    {"print", Key::print_screen},
    {"prtsc", Key::print_screen},
    {"sysrq", Key::print_screen},
    {"scrolllock", Key::scroll_lock},
    {"pause", Key::pause},
    {"ins", Key::insert},
    {"insert", Key::insert},
    {"home", Key::home},
    {"pgup", Key::page_up},
    {"pageup", Key::page_up},
    {"del", Key::del},
    {"delete", Key::del},
    {"end", Key::end},
    {"pgdn", Key::page_down},
    {"pagedown", Key::page_down},
    {"right", Key::right},
    {"left", Key::left},
    {"down", Key::down},
    {"up", Key::up},
    {"numlock", Key::num_lock},
    {"kpslash", Key::keypad_slash},
    {"kpstar", Key::keypad_asterisk},
    {"kpminus", Key::keypad_minus},
    {"kpplus", Key::keypad_plus},
    {"kpenter", Key::keypad_enter},
    {"kpdot", Key::keypad_period},
    {"menu", Key::menu},
    {"iso", Key::iso_backslash},
    {"ctrl", Key::left_ctrl},
    {"lctrl", Key::left_ctrl},
    {"rctrl", Key::right_ctrl},
    {"shift", Key::left_shift},
    {"lshift", Key::left_shift},
    {"rshift", Key::right_shift},
    {"alt", Key::left_alt},
    {"lalt", Key::left_alt},
    {"ralt", Key::right_alt},
    {"altgr", Key::right_alt},
    {"win", Key::left_gui},
    {"lwin", Key::left_gui},
    {"rwin", Key::right_gui},
};

Key plus(Key first, size_t offset) {
    return Key{static_cast<uint8_t>(std::to_underlying(first) + offset)};
}

/// The chord of one character on a US keyboard.
std::optional<KeyChord> chord_of_character(char32_t character) {
    // The keys from `1` to `/` in the order of their usages, without and with Shift.
    constexpr std::string_view digits = "1234567890";
    constexpr std::string_view shifted_digits = "!@#$%^&*()";
    struct Punctuation {
        char plain;
        char shifted;
        Key key;
    };
    constexpr Punctuation punctuation[] = {
        {'-', '_', Key::minus},         {'=', '+', Key::equal},      {'[', '{', Key::left_bracket},
        {']', '}', Key::right_bracket}, {'\\', '|', Key::backslash}, {';', ':', Key::semicolon},
        {'\'', '"', Key::quote},        {'`', '~', Key::grave},      {',', '<', Key::comma},
        {'.', '>', Key::period},        {'/', '?', Key::slash},
    };
    if (character == U'\n' || character == U'\r') return KeyChord{Key::enter};
    if (character == U'\t') return KeyChord{Key::tab};
    if (character == U' ') return KeyChord{Key::space};
    if (character < U'!' || character > U'~') return std::nullopt;
    const char c = static_cast<char>(character);
    if (c >= 'a' && c <= 'z') return KeyChord{plus(Key::a, static_cast<size_t>(c - 'a'))};
    if (c >= 'A' && c <= 'Z') return KeyChord{Key::left_shift, plus(Key::a, static_cast<size_t>(c - 'A'))};
    if (const size_t at = digits.find(c); at != digits.npos) return KeyChord{plus(Key::digit_1, at)};
    if (const size_t at = shifted_digits.find(c); at != shifted_digits.npos) {
        return KeyChord{Key::left_shift, plus(Key::digit_1, at)};
    }
    for (const auto& [plain, shifted, key] : punctuation) {
        if (c == plain) return KeyChord{key};
        if (c == shifted) return KeyChord{Key::left_shift, key};
    }
    return std::nullopt;
}

std::optional<KeyChord> chord_of_name(std::string_view name) {
    if (name.size() == 1) return chord_of_character(static_cast<unsigned char>(name[0]));
    std::string lower(name);
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (lower == "break") return KeyChord{Key::left_ctrl, Key::pause};
    if (lower == "lt") return KeyChord{Key::left_shift, Key::comma};
    if (lower == "gt") return KeyChord{Key::left_shift, Key::period};
    for (const auto& [known, key] : key_names) {
        if (lower == known) return KeyChord{key};
    }
    for (unsigned number = 1; number <= 12; ++number) {
        if (lower == fmt::format("f{}", number)) return KeyChord{plus(Key::f1, number - 1)};
    }
    for (unsigned number = 0; number <= 9; ++number) {
        if (lower == fmt::format("kp{}", number)) {
            return KeyChord{number == 0 ? Key::keypad_0 : plus(Key::keypad_1, number - 1)};
        }
    }
    return std::nullopt;
}

/// "ctrl-alt-del": the keys of all parts, each once. On failure, the part that is no key.
std::expected<KeyChord, std::string> chord_of_names(std::string_view names) {
    KeyChord chord;
    while (true) {
        const size_t dash = names.find('-');
        const std::string_view part = names.substr(0, dash);
        const auto keys = chord_of_name(part);
        if (!keys) return std::unexpected(std::string(part));
        for (const Key key : *keys) {
            if (std::ranges::find(chord, key) == chord.end()) chord.push_back(key);
        }
        if (dash == std::string_view::npos) return chord;
        names.remove_prefix(dash + 1);
    }
}

/// Reads the characters of a UTF-8 text one by one and counts them.
class Reader {
  public:
    explicit Reader(std::string_view text) : rest_(text) {}
    [[nodiscard]] bool done() const { return rest_.empty(); }
    /// Of the character that next() gave last, from 1.
    [[nodiscard]] size_t position() const { return position_; }
    /// Nothing when the bytes are no UTF-8.
    std::optional<char32_t> next() {
        ++position_;
        const auto first = static_cast<unsigned char>(rest_[0]);
        const size_t size = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
        if (size == 0 || size > rest_.size()) return std::nullopt;
        char32_t character = size == 1 ? first : first & (0x7FU >> size);
        for (size_t i = 1; i < size; ++i) {
            const auto byte = static_cast<unsigned char>(rest_[i]);
            if (byte >> 6 != 2) return std::nullopt;
            character = character << 6 | (byte & 0x3FU);
        }
        last_ = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return character;
    }
    /// The bytes of the last character.
    [[nodiscard]] std::string_view last() const { return last_; }
    /// What stands before the next `end`, which is skipped too; nothing when there is none.
    std::optional<std::string_view> until(char end) {
        const size_t at = rest_.find(end);
        if (at == std::string_view::npos) return std::nullopt;
        const std::string_view before = rest_.substr(0, at);
        rest_.remove_prefix(at + 1);
        position_ += at + 1;
        return before;
    }

  private:
    std::string_view rest_;
    std::string_view last_;
    size_t position_ = 0;
};

}  // namespace

Result<std::vector<KeyChord>> parse_typing(std::string_view text) {
    std::vector<KeyChord> chords;
    Reader reader(text);
    while (!reader.done()) {
        const auto character = reader.next();
        const size_t position = reader.position();
        if (!character) return fail_usage(fmt::format("text to type: character {} is no UTF-8", position));
        if (*character == U'<') {
            const auto names = reader.until('>');
            if (!names) {
                return fail_usage(fmt::format(
                    "text to type: the '<' at character {} has no '>'; write '\\<' for the character", position));
            }
            auto chord = chord_of_names(*names);
            if (!chord) {
                return fail_usage(
                    fmt::format("text to type: there is no key '{}' in '<{}>' at character {}; keys are named like "
                                "<enter>, <f12>, <ctrl-alt-del>, and '\\<' is the character",
                                chord.error(), *names, position));
            }
            chords.push_back(std::move(*chord));
            continue;
        }
        if (*character == U'\\') {
            if (reader.done())
                return fail_usage(fmt::format("text to type: character {} is a lone '\\'; write '\\\\'", position));
            const auto escaped = reader.next().value_or(0);
            switch (escaped) {
                case U'n': chords.push_back({Key::enter}); break;
                case U't': chords.push_back({Key::tab}); break;
                case U'e': chords.push_back({Key::escape}); break;
                case U'b': chords.push_back({Key::backspace}); break;
                case U'\\': chords.push_back({Key::backslash}); break;
                case U'<': chords.push_back({Key::left_shift, Key::comma}); break;
                default:
                    return fail_usage(fmt::format(
                        "text to type: there is no escape '\\{}' (character {}); there are \\n \\t \\e \\b \\\\ \\<",
                        reader.last(), position));
            }
            continue;
        }
        auto chord = chord_of_character(*character);
        if (!chord) {
            return fail_usage(
                fmt::format("text to type: '{}' (character {}) is not on a US keyboard", reader.last(), position));
        }
        chords.push_back(std::move(*chord));
    }
    return chords;
}

}  // namespace viv
