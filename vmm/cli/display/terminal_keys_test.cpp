#include "vmm/cli/display/terminal_keys.hpp"

#include "vmm/cli/display/key_feeder.hpp"
#include "vmm/core/catch.hpp"

namespace viv {
namespace {
using namespace std::string_literals;
using namespace std::chrono_literals;

std::vector<TerminalInput> decode(const std::string& bytes) {
    TerminalKeys keys;
    std::vector<TerminalInput> out;
    keys.feed(bytes, out);
    keys.expire(out);
    return out;
}

struct Case {
    std::string bytes;
    uint8_t modifiers;
    Key key;
};

TEST_CASE("each of the terminals' sequences is one key") {
    const std::vector<Case> cases = {
        {"a", 0, Key::a},
        {"Z", stroke_shift, Key::z},
        {"0", 0, Key::digit_0},
        {"!", stroke_shift, Key::digit_1},
        {"|", stroke_shift, Key::backslash},
        {"~", stroke_shift, Key::grave},
        {" ", 0, Key::space},
        {"\r", 0, Key::enter},
        {"\t", 0, Key::tab},
        {"\x7F", 0, Key::backspace},
        {"\b", 0, Key::backspace},
        {"\x03", stroke_ctrl, Key::c},
        {"\n", stroke_ctrl, Key::j},
        {"\x1A", stroke_ctrl, Key::z},
        {"\0"s, stroke_ctrl, Key::space},
        {"\x1C", stroke_ctrl, Key::backslash},
        {"\x1D", stroke_ctrl, Key::right_bracket},
        {"\x1F", stroke_ctrl, Key::minus},
        {"\x1B", 0, Key::escape},
        {"\x1Bx", stroke_alt, Key::x},
        {"\x1BX", stroke_alt | stroke_shift, Key::x},
        {"\x1B\x03", stroke_alt | stroke_ctrl, Key::c},
        {"\x1B\r", stroke_alt, Key::enter},
        {"\x1B[", stroke_alt, Key::left_bracket},
        {"\x1BO", stroke_alt | stroke_shift, Key::o},
        {"\x1B[A", 0, Key::up},
        {"\x1BOB", 0, Key::down},
        {"\x1B[1;5C", stroke_ctrl, Key::right},
        {"\x1B[1;2D", stroke_shift, Key::left},
        {"\x1B\x1B[A", stroke_alt, Key::up},
        {"\x1B[H", 0, Key::home},
        {"\x1B[1~", 0, Key::home},
        {"\x1B[7~", 0, Key::home},
        {"\x1B[F", 0, Key::end},
        {"\x1B[4~", 0, Key::end},
        {"\x1B[8~", 0, Key::end},
        {"\x1B[2~", 0, Key::insert},
        {"\x1B[3~", 0, Key::del},
        {"\x1B[3;7~", stroke_ctrl | stroke_alt, Key::del},
        {"\x1B[3$", stroke_shift, Key::del},
        {"\x1B[3^", stroke_ctrl, Key::del},
        {"\x1B[3@", stroke_ctrl | stroke_shift, Key::del},
        {"\x1B[5~", 0, Key::page_up},
        {"\x1B[6~", 0, Key::page_down},
        {"\x1BOP", 0, Key::f1},
        {"\x1B[11~", 0, Key::f1},
        {"\x1B[[A", 0, Key::f1},
        {"\x1B[[E", 0, Key::f5},
        {"\x1B[1;2P", stroke_shift, Key::f1},
        {"\x1BO5Q", stroke_ctrl, Key::f2},
        {"\x1B[15~", 0, Key::f5},
        {"\x1B[17~", 0, Key::f6},
        {"\x1B[21;3~", stroke_alt, Key::f10},
        {"\x1B[23~", 0, Key::f11},
        {"\x1B[24~", 0, Key::f12},
        {"\x1B[25~", stroke_shift, Key::f1},
        {"\x1B[34~", stroke_shift, Key::f8},
        {"\x1B[Z", stroke_shift, Key::tab},
        {"\x1B[a", stroke_shift, Key::up},
        {"\x1BOd", stroke_ctrl, Key::left},
        {"\x1B[E", 0, Key::keypad_5},
        {"\x1BOM", 0, Key::keypad_enter},
        {"\x1BOp", 0, Key::keypad_0},
        {"\x1BOy", 0, Key::keypad_9},
        {"\x1BOk", 0, Key::keypad_plus},
        {"\x1B[27;5;9~", stroke_ctrl, Key::tab},
        {"\x1B[27;6;105~", stroke_ctrl | stroke_shift, Key::i},
        {"\x1B[97;5u", stroke_ctrl, Key::a},
        {"\x1B[27u", 0, Key::escape},
        {"\x1B[13;2u", stroke_shift, Key::enter},
        {"\x1B[97:65;5:1u", stroke_ctrl, Key::a},
    };
    for (const Case& expected : cases) {
        INFO("bytes \"" << (expected.bytes[0] == '\x1B' ? "ESC" + expected.bytes.substr(1) : expected.bytes) << "\"");
        const auto strokes = decode(expected.bytes);
        REQUIRE(strokes.size() == 1);
        CHECK(std::get<KeyStroke>(strokes[0]) == KeyStroke{expected.modifiers, {expected.key}});
    }
}

TEST_CASE("every printable ASCII character has its key") {
    for (char character = ' '; character < 0x7F; ++character) {
        INFO(character);
        CHECK(stroke_for(static_cast<char32_t>(character)).keys.size() == 1);
    }
    CHECK(stroke_for(0x7F).keys.empty());
}

TEST_CASE("a character of code page 437 that the US keyboard lacks is an Alt code") {
    const auto strokes = decode("\xC3\xA9");  // e with acute accent: 130
    REQUIRE(strokes.size() == 1);
    CHECK(std::get<KeyStroke>(strokes[0]) == KeyStroke{stroke_alt, {Key::keypad_1, Key::keypad_3, Key::keypad_0}});
    CHECK(decode("\xE6\xBC\xA2").empty());
    CHECK(decode("\xF0\x9F\x98\x80").empty());
    CHECK(decode("\xFF\xC3"
                 "a")
              .size() == 1);
}

TEST_CASE("what the decoder does not know it swallows whole") {
    for (const auto* bytes : {"\x1B[?1;2c", "\x1B[99~", "\x1B[I", "\x1B[<0;10;20M", "\x1B[5n", "\x1B[57441u"}) {
        INFO(bytes + 1);
        CHECK(decode(bytes).empty());
        const auto strokes = decode(bytes + "x"s);
        REQUIRE(strokes.size() == 1);
        CHECK(std::get<KeyStroke>(strokes[0]) == KeyStroke{0, {Key::x}});
    }
    CHECK(decode("\x1B[" + std::string(1000, '1')).size() < 1000);
    CHECK(decode("\x1B[1\r") == decode("\r"));
}

TEST_CASE("sequences may come in pieces, and ESC is the key only after the time-out") {
    TerminalKeys keys;
    std::vector<TerminalInput> out;
    for (const char* piece : {"\x1B", "[1", ";5", "A"}) {
        CHECK(out.empty());
        keys.feed(piece, out);
    }
    REQUIRE(out.size() == 1);
    CHECK(std::get<KeyStroke>(out[0]) == KeyStroke{stroke_ctrl, {Key::up}});
    CHECK_FALSE(keys.waiting());
    out.clear();
    keys.feed("\x1B", out);
    CHECK(out.empty());
    CHECK(keys.waiting());
    keys.expire(out);
    CHECK(out == std::vector<TerminalInput>{KeyStroke{0, {Key::escape}}});
    CHECK_FALSE(keys.waiting());
    CHECK(decode("\x1B\x1B") == std::vector<TerminalInput>{KeyStroke{0, {Key::escape}}, KeyStroke{0, {Key::escape}}});
}

TEST_CASE("bracketed paste is one text, whatever is in it and however it is cut") {
    const std::string bytes = "a\x1B[200~dir\r\nc:\\<x>\x1B[A\t\x1B[201~b";
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
        TerminalKeys keys;
        std::vector<TerminalInput> out;
        keys.feed(bytes.substr(0, cut), out);
        keys.feed(bytes.substr(cut), out);
        REQUIRE(out.size() == 3);
        CHECK(std::get<PastedText>(out[1]).text == "dir\nc:\\<x>\x1B[A\t");
        CHECK(std::get<KeyStroke>(out[2]) == KeyStroke{0, {Key::b}});
    }
    CHECK(typing_of("dir\nc:\\<x>\x1B\x7F\t") == "dir\nc:\\\\\\<x>\t");
}

TEST_CASE("a paste without end keeps a bounded part") {
    TerminalKeys keys;
    std::vector<TerminalInput> out;
    keys.feed("\x1B[200~", out);
    for (int i = 0; i < 100; ++i) keys.feed(std::string(4096, 'x'), out);
    keys.feed("\x1B[201~", out);
    REQUIRE(out.size() == 1);
    CHECK(std::get<PastedText>(out[0]).text.size() == TerminalKeys::paste_limit);
}

TEST_CASE("any bytes are survived, and keys work afterwards") {
    constexpr std::string_view alphabet = "\x1B\x1B[O;:0159~uAMa<?$@ \r\x03\x7F\xC3\xA9\xE2\x96\x80\xFF";
    uint32_t seed = 1;
    const auto next = [&seed] { return (seed = seed * 1664525 + 1013904223) >> 8; };
    for (int round = 0; round < 3000; ++round) {
        TerminalKeys keys;
        std::vector<TerminalInput> out;
        for (uint32_t length = next() % 40; length > 0; --length) {
            keys.feed(std::string(1, alphabet[next() % alphabet.size()]), out);
            if (next() % 16 == 0) keys.expire(out);
        }
        keys.expire(out);
        CHECK_FALSE(keys.waiting());
        out.clear();
        keys.feed("x", out);
        CHECK(out == std::vector<TerminalInput>{KeyStroke{0, {Key::x}}});
    }
}

struct FakeKeyboard final : KeyboardPort {
    bool press(Key key, Repeat) override {
        if (room == 0) return false;
        --room;
        log += "+" + std::to_string(static_cast<int>(key)) + " ";
        return true;
    }
    void release(Key key) override { log += "-" + std::to_string(static_cast<int>(key)) + " "; }
    bool idle() const override { return true; }
    void on_idle(std::move_only_function<void()>) override {}
    uint64_t discarded() const override { return 0; }
    KeyboardLeds leds() const override { return {}; }
    int room = 1000;
    std::string log;
};

TEST_CASE("a stroke is held for a moment, with its modifiers around it") {
    FakeKeyboard keyboard;
    KeyFeeder feeder(keyboard);
    const KeyFeeder::Time start{};
    CHECK(feeder.push({stroke_ctrl | stroke_alt, {Key::del}}));
    feeder.run(start);
    CHECK(keyboard.log == "+224 +226 +76 ");
    CHECK(feeder.busy());
    feeder.run(start + 49ms);
    CHECK(keyboard.log == "+224 +226 +76 ");
    feeder.run(start + 50ms);
    CHECK(keyboard.log == "+224 +226 +76 -76 -226 -224 ");
    CHECK_FALSE(feeder.busy());
}

TEST_CASE("the next stroke ends the hold, and the keys of an Alt code follow each other") {
    FakeKeyboard keyboard;
    KeyFeeder feeder(keyboard);
    feeder.push({0, {Key::a}});
    feeder.run({});
    feeder.push({stroke_alt, {Key::keypad_1, Key::keypad_3}});
    feeder.run({});
    CHECK(keyboard.log == "+4 -4 +226 +89 -89 +91 ");
}

TEST_CASE("keys wait for room in the keyboard, and too many are refused") {
    FakeKeyboard keyboard;
    keyboard.room = 1;
    KeyFeeder feeder(keyboard);
    feeder.push({0, {Key::a}});
    feeder.push({0, {Key::b}});
    feeder.run({});
    CHECK(keyboard.log == "+4 -4 ");
    CHECK(feeder.busy());
    keyboard.room = 1;
    feeder.run({});
    CHECK(keyboard.log == "+4 -4 +5 ");
    keyboard.room = 0;
    size_t taken = 0;
    while (feeder.push({0, {Key::c}})) ++taken;
    CHECK(taken == KeyFeeder::queue_limit);
    feeder.run({});
    keyboard.room = 1000;
    feeder.run({});
    CHECK(feeder.push({0, {Key::c}}));
}

TEST_CASE("answers of the terminal about graphics are reports, not keys") {
    using Kind = TerminalReport::Kind;
    CHECK(decode("\x1B_Gi=31;OK\x1B\\") == std::vector<TerminalInput>{TerminalReport{Kind::kitty}});
    CHECK(decode("\x1B_Gi=31;ENOTSUPPORTED:no\x1B\\").empty());
    CHECK(decode("\x1B[?62;4;22c") == std::vector<TerminalInput>{TerminalReport{Kind::sixel}});
    CHECK(decode("\x1B[?62;14;22c").empty());
    CHECK(decode("\x1B[6;18;9t") == std::vector<TerminalInput>{TerminalReport{Kind::cell_size, 9, 18}});
    CHECK(decode("\x1B[6;0;9t").empty());
    CHECK(decode("\x1B[6;9999;9t").empty());
    CHECK(decode("\x1B[4;18;9t").empty());
    CHECK(decode("\x1B_x").size() == 2);  // Alt and an underscore, then a letter
    CHECK(decode("\x1B_G" + std::string(1000, 'x')).size() < 1000);
}

}  // namespace
}  // namespace viv
