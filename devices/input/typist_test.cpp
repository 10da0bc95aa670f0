#include "devices/input/typist.hpp"

#include <string>
#include <string_view>
#include <vector>

#include "devices/input/input_rig.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::testing;

namespace {

/// A guest that reads a byte every so often, as INT 09h does, and keeps what was typed in a buffer of limited size.
struct SlowGuest : InputRig {
    SlowGuest() { enable(0x41); }

    /// Lives for a while: looks at the keyboard every `period`.
    void live(Duration time, Duration period) {
        for (Duration passed{0}; passed < time; passed += period) {
            clock.advance(period);
            if (reads && (status() & 0x01) != 0) take_code(data());
        }
    }
    void take_code(uint8_t code) {
        codes.push_back(code);
        if (code == 0x2A || code == 0x36) return void(shift = true);
        if (code == 0xAA || code == 0xB6) return void(shift = false);
        if ((code & 0x80) != 0) return;
        const char c = character(code);
        if (c == 0) return;
        if (buffer.size() >= capacity) {
            ++drops;
            return typist.on_key_dropped();
        }
        buffer.push_back(c);
        typist.on_key_stored();
    }
    char character(uint8_t code) const {
        // Set 1 from 02h (1) to 39h (space); zero where the key has no character.
        static constexpr char plain[] = "1234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
        static constexpr char shifted[] = "!@#$%^&*()_+\b\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
        if (code == 0x01) return '\033';
        if (code < 0x02 || code > 0x39) return 0;
        return shift ? shifted[code - 2] : plain[code - 2];
    }
    void type(std::string_view text) { REQUIRE(typist.type(text).has_value()); }

    Typist typist{clock, keyboard()};
    std::string buffer;
    std::vector<uint8_t> codes;
    size_t capacity = 1000;
    unsigned drops = 0;
    bool shift = false;
    bool reads = true;
};

constexpr Duration ms(int count) {
    return std::chrono::milliseconds(count);
}

std::string complaint(std::string_view text) {
    const auto parsed = parse_typing(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().kind == ErrorKind::usage);
    return parsed.error().message;
}

}  // namespace

TEST_CASE("every character of a US keyboard arrives as it was typed") {
    SlowGuest guest;
    std::string all;
    std::string text;
    for (char c = ' '; c <= '~'; ++c) {
        all.push_back(c);
        if (c == '<' || c == '\\') text.push_back('\\');
        text.push_back(c);
    }
    guest.type(text);
    guest.live(ms(5000), ms(1));
    CHECK(guest.buffer == all);
    CHECK(guest.typist.done());
}

TEST_CASE("escapes and raw control characters press the keys of that name") {
    SlowGuest guest;
    guest.type("a\\n\\t\\e\\b\n\t");
    guest.live(ms(1000), ms(1));
    CHECK(guest.buffer == "a\n\t\033\b\n\t");
}

TEST_CASE("key names press keys, and dashes hold several at once") {
    SlowGuest guest;
    guest.type("<enter><F1><ctrl-alt-del><Up>");
    guest.live(ms(1000), ms(1));
    CHECK(guest.codes == std::vector<uint8_t>{0x1C, 0x9C, 0x3B, 0xBB, 0x1D, 0x38, 0xE0, 0x53, 0xE0, 0xD3, 0xB8, 0x9D,
                                              0xE0, 0x48, 0xE0, 0xC8});
}

TEST_CASE("a chord may hold a character's key") {
    const auto chords = parse_typing("<alt-f4><ctrl-c><ctrl-minus><break>");
    REQUIRE(chords.has_value());
    CHECK(*chords == std::vector<KeyChord>{{Key::left_alt, Key::f4},
                                           {Key::left_ctrl, Key::c},
                                           {Key::left_ctrl, Key::minus},
                                           {Key::left_ctrl, Key::pause}});
}

TEST_CASE("a mistake in the text names its place") {
    CHECK(complaint("dir<entre>").find("'entre' in '<entre>' at character 4") != std::string::npos);
    CHECK(complaint("ab<ctrl-").find("'<' at character 3 has no '>'") != std::string::npos);
    CHECK(complaint("ab\\x").find("'\\x' (character 3)") != std::string::npos);
    CHECK(complaint("ab\\").find("character 3 is a lone") != std::string::npos);
    CHECK(complaint("caf\xC3\xA9").find("'\xC3\xA9' (character 4)") != std::string::npos);
    CHECK(complaint("\xC3\xA9 ").find("character 1") != std::string::npos);
    CHECK(complaint("ok\xFF").find("character 3 is no UTF-8") != std::string::npos);
    CHECK(complaint("<>").find("at character 1") != std::string::npos);
    CHECK(complaint("<ctrl-->").find("at character 1") != std::string::npos);
}

TEST_CASE("text with a mistake types nothing") {
    SlowGuest guest;
    CHECK_FALSE(guest.typist.type("abc<nokey>").has_value());
    CHECK(guest.typist.done());
    guest.live(ms(100), ms(1));
    CHECK(guest.buffer.empty());
}

TEST_CASE("however slow the guest, no key is lost or repeated") {
    SlowGuest guest;
    guest.type("Hello, World");
    guest.live(ms(120'000), ms(1700));
    CHECK(guest.buffer == "Hello, World");
    CHECK(guest.typist.done());
}

TEST_CASE("a guest that stops reading for a while gets the rest later") {
    SlowGuest guest;
    guest.type("abcdef");
    guest.live(ms(12), ms(1));
    guest.reads = false;
    guest.live(ms(10'000), ms(10));
    CHECK_FALSE(guest.typist.done());
    guest.reads = true;
    guest.live(ms(1000), ms(1));
    CHECK(guest.buffer == "abcdef");
}

TEST_CASE("a key that the BIOS drops is pressed again until it is stored") {
    SlowGuest guest;
    guest.capacity = 3;
    guest.type("ABcdEF");
    guest.live(ms(2000), ms(1));
    CHECK(guest.buffer == "ABc");
    CHECK(guest.drops > 10);
    CHECK_FALSE(guest.typist.done());
    guest.capacity = 4;
    guest.live(ms(200), ms(1));
    CHECK(guest.buffer == "ABcd");
    guest.capacity = 100;
    guest.live(ms(500), ms(1));
    CHECK(guest.buffer == "ABcdEF");
    CHECK(guest.typist.done());
}

TEST_CASE("a dropped key is tried about twenty times a second") {
    SlowGuest guest;
    guest.capacity = 0;
    guest.type("a");
    guest.live(ms(1000), ms(1));
    CHECK(guest.drops >= 15);
    CHECK(guest.drops <= 20);
}

TEST_CASE("a key that a keyboard reset swept away is pressed again") {
    SlowGuest guest;
    guest.reads = false;
    guest.type("ab");
    guest.live(ms(1), std::chrono::microseconds(100));
    CHECK((guest.status() & 0x01) != 0);
    guest.data();  // `a` is taken; its break is in the keyboard
    guest.write(0xFF);
    CHECK(guest.take() == 0xFA);
    CHECK(guest.take() == 0xAA);
    guest.reads = true;
    guest.live(ms(500), ms(1));
    CHECK(guest.buffer == "ab");
}

TEST_CASE("typing waits while the guest has the keyboard switched off") {
    SlowGuest guest;
    guest.write(0xF5);
    CHECK(guest.take() == 0xFA);
    guest.type("ok");
    guest.live(ms(1000), ms(1));
    CHECK(guest.buffer.empty());
    guest.write(0xF4);
    CHECK(guest.take() == 0xFA);
    guest.live(ms(500), ms(1));
    CHECK(guest.buffer == "ok");
}

TEST_CASE("more text is appended, and the end is told once") {
    SlowGuest guest;
    int done = 0;
    guest.typist.on_done([&] { ++done; });
    guest.type("one ");
    guest.type("two");
    CHECK(done == 0);
    guest.live(ms(500), ms(1));
    CHECK(guest.buffer == "one two");
    CHECK(done == 1);
    guest.type("!");
    guest.live(ms(100), ms(1));
    CHECK(done == 2);
}

TEST_CASE("stopping lets go of the keys that are down") {
    SlowGuest guest;
    guest.type("<ctrl-alt-del>");
    guest.live(ms(4), ms(1));
    guest.typist.stop();
    CHECK(guest.typist.done());
    guest.live(ms(100), ms(1));
    unsigned makes = 0;
    unsigned breaks = 0;
    for (const uint8_t code : guest.codes) {
        if (code == 0x1D || code == 0x38 || code == 0x53) ++makes;
        if (code == 0x9D || code == 0xB8 || code == 0xD3) ++breaks;
    }
    CHECK(makes == breaks);
    CHECK(makes > 0);
}

TEST_CASE("a command line is typed in a fraction of a second") {
    SlowGuest guest;
    guest.type("DIR C:\\\\WINDOWS /S\\n");
    guest.live(ms(300), ms(1));
    CHECK(guest.typist.done());
}
