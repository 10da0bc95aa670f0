#include "vmm/cli/display/terminal_keys.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "devices/video/code_page_437.hpp"

namespace viv {
namespace {

constexpr char escape = '\x1B';
constexpr size_t sequence_limit = 32;
constexpr std::string_view paste_begin = "\x1B[200~";
constexpr std::string_view paste_end = "\x1B[201~";

Key offset_key(Key first, int offset) {
    return static_cast<Key>(static_cast<int>(first) + offset);
}

KeyStroke stroke(Key key, uint8_t modifiers = 0) {
    return {modifiers, {key}};
}

struct Symbol {
    char plain;
    char shifted;
    Key key;
};
// The keys of the US layout that carry two characters, letters apart.
constexpr Symbol symbols[] = {
    {'1', '!', Key::digit_1},      {'2', '@', Key::digit_2},       {'3', '#', Key::digit_3},
    {'4', '$', Key::digit_4},      {'5', '%', Key::digit_5},       {'6', '^', Key::digit_6},
    {'7', '&', Key::digit_7},      {'8', '*', Key::digit_8},       {'9', '(', Key::digit_9},
    {'0', ')', Key::digit_0},      {'-', '_', Key::minus},         {'=', '+', Key::equal},
    {'[', '{', Key::left_bracket}, {']', '}', Key::right_bracket}, {'\\', '|', Key::backslash},
    {';', ':', Key::semicolon},    {'\'', '"', Key::quote},        {'`', '~', Key::grave},
    {',', '<', Key::comma},        {'.', '>', Key::period},        {'/', '?', Key::slash},
};

KeyStroke alt_code(unsigned code) {
    KeyStroke result{stroke_alt, {}};
    for (const unsigned digit : {code / 100, code / 10 % 10, code % 10}) {
        result.keys.push_back(digit == 0 ? Key::keypad_0 : offset_key(Key::keypad_1, static_cast<int>(digit) - 1));
    }
    return result;
}

KeyStroke with(KeyStroke result, uint8_t modifiers) {
    result.modifiers |= modifiers;
    return result;
}

// What a byte below 80h means by itself; ESC is not asked for.
KeyStroke ascii_stroke(char byte) {
    switch (byte) {
        case '\0': return stroke(Key::space, stroke_ctrl);
        case '\b':
        case '\x7F': return stroke(Key::backspace);
        case '\t': return stroke(Key::tab);
        case '\r': return stroke(Key::enter);
        case '\x1C': return stroke(Key::backslash, stroke_ctrl);
        case '\x1D': return stroke(Key::right_bracket, stroke_ctrl);
        case '\x1E': return stroke(Key::digit_6, stroke_ctrl);
        case '\x1F': return stroke(Key::minus, stroke_ctrl);
        default: break;
    }
    if (byte < ' ') return stroke(offset_key(Key::a, byte - 1), stroke_ctrl);
    return stroke_for(static_cast<char32_t>(byte));
}

struct Named {
    int code;
    Key key;
    uint8_t modifiers = 0;
};

// CSI number ~ (VT220, xterm, rxvt; 25 to 34 are the shifted function keys of the Linux console).
constexpr Named tilde_keys[] = {
    {1, Key::home},
    {2, Key::insert},
    {3, Key::del},
    {4, Key::end},
    {5, Key::page_up},
    {6, Key::page_down},
    {7, Key::home},
    {8, Key::end},
    {11, Key::f1},
    {12, Key::f2},
    {13, Key::f3},
    {14, Key::f4},
    {15, Key::f5},
    {17, Key::f6},
    {18, Key::f7},
    {19, Key::f8},
    {20, Key::f9},
    {21, Key::f10},
    {23, Key::f11},
    {24, Key::f12},
    {25, Key::f1, stroke_shift},
    {26, Key::f2, stroke_shift},
    {28, Key::f3, stroke_shift},
    {29, Key::f4, stroke_shift},
    {31, Key::f5, stroke_shift},
    {32, Key::f6, stroke_shift},
    {33, Key::f7, stroke_shift},
    {34, Key::f8, stroke_shift},
};

// CSI letter and SS3 letter.
constexpr Named letter_keys[] = {
    {'A', Key::up},       {'B', Key::down}, {'C', Key::right}, {'D', Key::left},
    {'E', Key::keypad_5}, {'F', Key::end},  {'H', Key::home},  {'P', Key::f1},
    {'Q', Key::f2},       {'R', Key::f3},   {'S', Key::f4},    {'Z', Key::tab, stroke_shift},
};

// SS3 letter only: the keypad in application mode.
constexpr Named keypad_keys[] = {
    {'M', Key::keypad_enter}, {'X', Key::equal},        {'j', Key::keypad_asterisk}, {'k', Key::keypad_plus},
    {'l', Key::comma},        {'m', Key::keypad_minus}, {'n', Key::keypad_period},   {'o', Key::keypad_slash},
    {'p', Key::keypad_0},     {'q', Key::keypad_1},     {'r', Key::keypad_2},        {'s', Key::keypad_3},
    {'t', Key::keypad_4},     {'u', Key::keypad_5},     {'v', Key::keypad_6},        {'w', Key::keypad_7},
    {'x', Key::keypad_8},     {'y', Key::keypad_9},
};

std::optional<KeyStroke> find(std::span<const Named> table, int code) {
    const auto at = std::ranges::find(table, code, &Named::code);
    if (at == table.end()) return std::nullopt;
    return stroke(at->key, at->modifiers);
}

uint8_t modifiers_of(int parameter) {
    return parameter >= 2 ? static_cast<uint8_t>((parameter - 1) & 0x0F) : 0;
}

// A character that the terminal names by its code, in the modifyOtherKeys and "CSI u" forms.
std::optional<KeyStroke> coded_stroke(int code, uint8_t modifiers) {
    if (code == escape) return stroke(Key::escape, modifiers);
    if (code < 0) return std::nullopt;
    const KeyStroke result =
        code < 0x80 ? ascii_stroke(static_cast<char>(code)) : stroke_for(static_cast<char32_t>(code));
    if (result.keys.empty()) return std::nullopt;
    return with(result, modifiers);
}

struct Sequence {
    std::vector<int> parameters;
    char final_byte = 0;
    [[nodiscard]] int parameter(size_t i, int otherwise) const {
        return i < parameters.size() && parameters[i] >= 0 ? parameters[i] : otherwise;
    }
};

Sequence parse_parameters(std::string_view body, char final_byte) {
    Sequence result{{}, final_byte};
    int number = -1;
    bool any = false;
    bool sub_parameter = false;  // after a colon: details that only the kitty protocol has
    for (const char byte : body) {
        if (byte >= '0' && byte <= '9') {
            if (!sub_parameter) number = std::min((number < 0 ? 0 : number) * 10 + (byte - '0'), 0x110000);
            any = true;
        } else if (byte == ';') {
            result.parameters.push_back(number);
            number = -1;
            any = true;
            sub_parameter = false;
        } else if (byte == ':') {
            sub_parameter = true;
        }
    }
    if (any) result.parameters.push_back(number);
    return result;
}

std::optional<KeyStroke> csi_stroke(std::string_view body, char final_byte) {
    const Sequence sequence = parse_parameters(body, final_byte);
    const uint8_t modifiers = modifiers_of(sequence.parameter(1, 1));
    const int first = sequence.parameter(0, 0);
    std::optional<KeyStroke> result;
    switch (final_byte) {
        case '~':
            if (first == 27 && sequence.parameters.size() >= 3) {
                return coded_stroke(sequence.parameter(2, -1), modifiers);
            }
            result = find(tilde_keys, first);
            break;
        case 'u': return coded_stroke(first, modifiers);
        // rxvt's modified keys.
        case '$':
            result = find(tilde_keys, first);
            if (result) *result = with(*result, stroke_shift);
            break;
        case '^':
            result = find(tilde_keys, first);
            if (result) *result = with(*result, stroke_ctrl);
            break;
        case '@':
            result = find(tilde_keys, first);
            if (result) *result = with(*result, stroke_ctrl | stroke_shift);
            break;
        case 'a':
        case 'b':
        case 'c':
        case 'd':
            result = find(letter_keys, final_byte - 'a' + 'A');
            if (result) *result = with(*result, stroke_shift);
            break;
        default: result = find(letter_keys, final_byte); break;
    }
    if (result) *result = with(*result, modifiers);
    return result;
}

std::optional<KeyStroke> ss3_stroke(std::string_view body, char final_byte) {
    const Sequence sequence = parse_parameters(body, final_byte);
    const uint8_t modifiers = modifiers_of(sequence.parameter(sequence.parameters.size() > 1 ? 1 : 0, 1));
    if (final_byte >= 'a' && final_byte <= 'd') {  // rxvt's arrows with Ctrl
        return with(*find(letter_keys, final_byte - 'a' + 'A'), stroke_ctrl);
    }
    auto result = find(keypad_keys, final_byte);
    if (!result) result = find(letter_keys, final_byte);
    if (result) *result = with(*result, modifiers);
    return result;
}

// The length of the UTF-8 character that begins with this byte, or 0 when none does.
size_t utf8_length(unsigned char lead) {
    if (lead >= 0xC2 && lead < 0xE0) return 2;
    if (lead >= 0xE0 && lead < 0xF0) return 3;
    if (lead >= 0xF0 && lead < 0xF5) return 4;
    return 0;
}

bool is_parameter(char byte) {
    return byte >= 0x20 && byte < 0x40 && byte != '$';
}

// ESC _ G ... ESC \ , with "OK" when the terminal has the kitty graphics protocol.
size_t take_graphics_answer(std::string_view bytes, std::vector<TerminalInput>& out) {
    constexpr size_t answer_limit = 256;
    const size_t end = bytes.find("\x1B\\", 3);
    if (end == std::string_view::npos) return bytes.size() >= answer_limit ? bytes.size() : 0;
    if (bytes.substr(0, end).ends_with(";OK")) out.emplace_back(TerminalReport{TerminalReport::Kind::kitty});
    return end + 2;
}

bool has_attribute(std::string_view body, int attribute) {
    const Sequence sequence = parse_parameters(body, 'c');
    return std::ranges::count(sequence.parameters, attribute) != 0;
}

// CSI 6 ; height ; width t
void take_cell_size(std::string_view body, std::vector<TerminalInput>& out) {
    const Sequence sequence = parse_parameters(body, 't');
    constexpr int largest = 256;
    if (sequence.parameter(0, 0) != 6) return;
    const int height = sequence.parameter(1, 0), width = sequence.parameter(2, 0);
    if (height < 1 || width < 1 || height > largest || width > largest) return;
    out.emplace_back(
        TerminalReport{TerminalReport::Kind::cell_size, static_cast<unsigned>(width), static_cast<unsigned>(height)});
}

void add(std::vector<TerminalInput>& out, KeyStroke result) {
    if (!result.keys.empty()) out.emplace_back(std::move(result));
}

}  // namespace

KeyStroke stroke_for(char32_t character) {
    if (character >= 'a' && character <= 'z') return stroke(offset_key(Key::a, static_cast<int>(character - 'a')));
    if (character >= 'A' && character <= 'Z') {
        return stroke(offset_key(Key::a, static_cast<int>(character - 'A')), stroke_shift);
    }
    if (character == ' ') return stroke(Key::space);
    for (const Symbol& symbol : symbols) {
        if (character == static_cast<char32_t>(symbol.plain)) return stroke(symbol.key);
        if (character == static_cast<char32_t>(symbol.shifted)) return stroke(symbol.key, stroke_shift);
    }
    if (character < 0x80) return {};
    const auto at = std::ranges::find(code_page_437, character);
    if (at == code_page_437.end()) return {};
    return alt_code(static_cast<unsigned>(at - code_page_437.begin()));
}

size_t TerminalKeys::take(std::string_view bytes, std::vector<TerminalInput>& out) {
    const char first = bytes[0];
    if (first != escape) {
        if (static_cast<unsigned char>(first) < 0x80) {
            add(out, ascii_stroke(first));
            return 1;
        }
        const size_t length = utf8_length(static_cast<unsigned char>(first));
        if (length == 0) return 1;
        char32_t point = static_cast<unsigned char>(first) & (0x7Fu >> length);
        for (size_t i = 1; i < length; ++i) {
            if (i >= bytes.size()) return 0;
            const auto next = static_cast<unsigned char>(bytes[i]);
            if ((next & 0xC0) != 0x80) return i;
            point = point << 6 | (next & 0x3Fu);
        }
        add(out, stroke_for(point));
        return length;
    }
    if (bytes.size() < 2) return 0;
    const char second = bytes[1];
    if (second == escape) {
        // Either the key twice, or a sequence with Alt as rxvt and the Linux console send it.
        if (bytes.size() < 3) return 0;
        if (bytes[2] != '[' && bytes[2] != 'O') {
            out.emplace_back(stroke(Key::escape));
            return 1;
        }
        std::vector<TerminalInput> inner;
        const size_t used = take(bytes.substr(1), inner);
        if (used == 0) return 0;
        for (TerminalInput& input : inner) {
            if (auto* key = std::get_if<KeyStroke>(&input)) key->modifiers |= stroke_alt;
            out.push_back(std::move(input));
        }
        return used + 1;
    }
    if (second == '_') {
        // Alt and an underscore, or an answer about graphics.
        if (bytes.size() < 3) return 0;
        if (bytes[2] == 'G') return take_graphics_answer(bytes, out);
    }
    if (second != '[' && second != 'O') {
        std::vector<TerminalInput> inner;
        const size_t used = take(bytes.substr(1), inner);
        if (used == 0) return 0;
        for (TerminalInput& input : inner) {
            // An Alt code cannot have an Alt of its own.
            auto& key = std::get<KeyStroke>(input);
            if (key.keys.size() == 1) key.modifiers |= stroke_alt;
            out.push_back(std::move(input));
        }
        return used + 1;
    }
    // The Linux console's F1 to F5: ESC [ [ A.
    if (bytes.starts_with("\x1B[[")) {
        if (bytes.size() < 4) return 0;
        if (bytes[3] >= 'A' && bytes[3] <= 'E') out.emplace_back(stroke(offset_key(Key::f1, bytes[3] - 'A')));
        return 4;
    }
    size_t end = 2;
    while (end < bytes.size() && is_parameter(bytes[end])) ++end;
    if (end >= bytes.size()) return bytes.size() >= sequence_limit ? bytes.size() : 0;
    const std::string_view body = bytes.substr(2, end - 2);
    const char final_byte = bytes[end];
    // A control character breaks a sequence off and is itself again.
    if (static_cast<unsigned char>(final_byte) < 0x20 || static_cast<unsigned char>(final_byte) > 0x7E) return end;
    // Private sequences are reports (mouse, device attributes), never keys.
    if (!body.empty() && body[0] >= '<' && body[0] <= '?') {
        if (body[0] == '?' && final_byte == 'c' && has_attribute(body.substr(1), 4)) {
            out.emplace_back(TerminalReport{TerminalReport::Kind::sixel});
        }
        return end + 1;
    }
    if (second == '[' && final_byte == 't') {
        take_cell_size(body, out);
        return end + 1;
    }
    if (const auto result = second == '[' ? csi_stroke(body, final_byte) : ss3_stroke(body, final_byte)) {
        add(out, *result);
    }
    return end + 1;
}

void TerminalKeys::take_paste(std::vector<TerminalInput>& out) {
    const size_t end = pending_.find(paste_end);
    // What may be the beginning of the end mark stays until it is decided.
    size_t keep = 0;
    if (end == std::string::npos) {
        keep = std::min(pending_.size(), paste_end.size() - 1);
        while (keep > 0 && !paste_end.starts_with(std::string_view(pending_).substr(pending_.size() - keep))) --keep;
    }
    const size_t length = end == std::string::npos ? pending_.size() - keep : end;
    paste_.append(pending_, 0, std::min(length, paste_limit - paste_.size()));
    pending_.erase(0, end == std::string::npos ? length : end + paste_end.size());
    if (end == std::string::npos) return;
    pasting_ = false;
    std::string text;
    for (size_t i = 0; i < paste_.size(); ++i) {
        if (paste_[i] == '\r') {
            text += '\n';
            if (i + 1 < paste_.size() && paste_[i + 1] == '\n') ++i;
        } else {
            text += paste_[i];
        }
    }
    paste_.clear();
    if (!text.empty()) out.emplace_back(PastedText{std::move(text)});
}

void TerminalKeys::feed(std::string_view bytes, std::vector<TerminalInput>& out) {
    pending_ += bytes;
    while (!pending_.empty()) {
        if (pasting_) {
            take_paste(out);
            if (pasting_) return;
            continue;
        }
        if (pending_.starts_with(paste_begin)) {
            pending_.erase(0, paste_begin.size());
            pasting_ = true;
            continue;
        }
        const size_t used = take(pending_, out);
        if (used == 0) return;
        pending_.erase(0, used);
    }
}

void TerminalKeys::expire(std::vector<TerminalInput>& out) {
    if (!waiting()) return;
    const std::string rest = std::exchange(pending_, {});
    if (rest[0] != escape) return;
    if (rest.size() == 1) {
        out.emplace_back(stroke(Key::escape));
    } else if (rest == "\x1B\x1B") {
        out.emplace_back(stroke(Key::escape));
        out.emplace_back(stroke(Key::escape));
    } else if (rest.size() == 2) {
        add(out, with(ascii_stroke(rest[1]), stroke_alt));
    }
}

std::string typing_of(std::string_view text) {
    std::string out;
    for (const char byte : text) {
        if (byte == '\\' || byte == '<') out += '\\';
        if (static_cast<unsigned char>(byte) >= ' ' || byte == '\n' || byte == '\t') out += byte;
    }
    std::erase(out, '\x7F');
    return out;
}

}  // namespace viv
