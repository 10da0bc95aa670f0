#include "devices/input/ps2_keyboard.hpp"

#include <set>
#include <utility>
#include <vector>

#include "devices/input/input_rig.hpp"
#include "devices/input/scan_codes.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::testing;

namespace {

using Bytes = std::vector<uint8_t>;

/// Set 2 as the keyboard sends it, without translation.
struct RawRig : InputRig {
    RawRig() { enable(0x01); }
};
/// Set 1 as nearly every guest sees it.
struct TranslatedRig : InputRig {
    TranslatedRig() { enable(0x41); }
};

Bytes press(InputRig& rig, Key key) {
    REQUIRE(rig.keyboard().press(key));
    return rig.take_all();
}
Bytes release(InputRig& rig, Key key) {
    rig.keyboard().release(key);
    return rig.take_all();
}
Bytes answer(InputRig& rig, unsigned command) {
    rig.write(command);
    return rig.take_all();
}

std::vector<Key> all_keys() {
    std::vector<Key> keys;
    for (unsigned usage = 0; usage <= 0xFF; ++usage) {
        if (set3_code(Key{static_cast<uint8_t>(usage)}) != 0 && usage != 0x32)
            keys.push_back(Key{static_cast<uint8_t>(usage)});
    }
    return keys;
}

}  // namespace

TEST_CASE("there are 105 keys, and no two have the same code in set 2 or 3") {
    std::set<std::pair<uint8_t, bool>> set2;
    std::set<uint8_t> set3;
    for (const Key key : all_keys()) {
        const auto [code, extended] = set2_code(key);
        CHECK(set2.insert({code, extended}).second);
        CHECK(set3.insert(set3_code(key)).second);
    }
    CHECK(set2.size() == 105);
}

TEST_CASE("set-2 codes translate to different set-1 codes below 80h") {
    std::set<std::pair<uint8_t, bool>> set1;
    for (const Key key : all_keys()) {
        if (key == Key::pause) continue;
        const auto [code, extended] = set2_code(key);
        const uint8_t translated = translate_to_set1(code);
        CHECK(translated < 0x80);
        CHECK(set1.insert({translated, extended}).second);
    }
}

TEST_CASE("a key sends its make code when pressed and F0h and the code when released") {
    RawRig rig;
    CHECK(press(rig, Key::a) == Bytes{0x1C});
    CHECK(release(rig, Key::a) == Bytes{0xF0, 0x1C});
    CHECK(press(rig, Key::f7) == Bytes{0x83});
    CHECK(release(rig, Key::f7) == Bytes{0xF0, 0x83});
    CHECK(press(rig, Key::right_ctrl) == Bytes{0xE0, 0x14});
    CHECK(release(rig, Key::right_ctrl) == Bytes{0xE0, 0xF0, 0x14});
}

TEST_CASE("translated keys are set 1") {
    TranslatedRig rig;
    CHECK(press(rig, Key::a) == Bytes{0x1E});
    CHECK(release(rig, Key::a) == Bytes{0x9E});
    CHECK(press(rig, Key::f7) == Bytes{0x41});
    CHECK(release(rig, Key::f7) == Bytes{0xC1});
    CHECK(press(rig, Key::f12) == Bytes{0x58});
    CHECK(release(rig, Key::f12) == Bytes{0xD8});
    CHECK(press(rig, Key::keypad_enter) == Bytes{0xE0, 0x1C});
    CHECK(release(rig, Key::keypad_enter) == Bytes{0xE0, 0x9C});
    CHECK(press(rig, Key::left_gui) == Bytes{0xE0, 0x5B});
    CHECK(press(rig, Key::menu) == Bytes{0xE0, 0x5D});
    CHECK(press(rig, Key::iso_backslash) == Bytes{0x56});
}

TEST_CASE("the keyboard's own set 1 is the translated set 2") {
    TranslatedRig translated;
    RawRig native;
    CHECK(answer(native, 0xF0) == Bytes{0xFA});
    CHECK(answer(native, 0x01) == Bytes{0xFA});
    for (const Key key : all_keys()) {
        CHECK(press(native, key) == press(translated, key));
        CHECK(release(native, key) == release(translated, key));
    }
}

TEST_CASE("set 3 sends one code a key, and breaks only where they were asked for") {
    RawRig rig;
    answer(rig, 0xF0);
    answer(rig, 0x03);
    CHECK(press(rig, Key::a) == Bytes{0x1C});
    CHECK(release(rig, Key::a).empty());
    CHECK(press(rig, Key::left_shift) == Bytes{0x12});
    CHECK(release(rig, Key::left_shift) == Bytes{0xF0, 0x12});
    CHECK(press(rig, Key::pause) == Bytes{0x62});
    CHECK(release(rig, Key::pause).empty());
    CHECK(answer(rig, 0xFC) == Bytes{0xFA});  // make and break for A
    CHECK(answer(rig, 0x1C) == Bytes{0xFA});
    CHECK(press(rig, Key::a) == Bytes{0x1C});
    CHECK(release(rig, Key::a) == Bytes{0xF0, 0x1C});
    CHECK(answer(rig, 0xFA) == Bytes{0xFA});  // everything for all
    CHECK(press(rig, Key::up) == Bytes{0x63});
    CHECK(release(rig, Key::up) == Bytes{0xF0, 0x63});
    CHECK(answer(rig, 0xF9) == Bytes{0xFA});  // makes only
    press(rig, Key::b);
    CHECK(release(rig, Key::b).empty());
    rig.clock.advance(std::chrono::seconds(1));
    CHECK(rig.take_all().empty());
}

TEST_CASE("the scan code set can be asked for, and a wrong one is refused") {
    RawRig rig;
    answer(rig, 0xF0);
    CHECK(answer(rig, 0x00) == Bytes{0xFA, 0x02});
    answer(rig, 0xF0);
    answer(rig, 0x03);
    answer(rig, 0xF0);
    CHECK(answer(rig, 0x00) == Bytes{0xFA, 0x03});
    answer(rig, 0xF0);
    CHECK(answer(rig, 0x04) == Bytes{0xFE});
}

TEST_CASE("cursor keys carry fake shifts with Num Lock on, so that they are not digits") {
    RawRig rig;
    answer(rig, 0xED);
    answer(rig, 0x02);
    CHECK(press(rig, Key::home) == Bytes{0xE0, 0x12, 0xE0, 0x6C});
    CHECK(release(rig, Key::home) == Bytes{0xE0, 0xF0, 0x6C, 0xE0, 0xF0, 0x12});
    press(rig, Key::left_shift);
    CHECK(press(rig, Key::home) == Bytes{0xE0, 0x6C});
    CHECK(release(rig, Key::home) == Bytes{0xE0, 0xF0, 0x6C});
}

TEST_CASE("cursor keys undo a held shift with Num Lock off") {
    RawRig rig;
    CHECK(press(rig, Key::up) == Bytes{0xE0, 0x75});
    CHECK(release(rig, Key::up) == Bytes{0xE0, 0xF0, 0x75});
    press(rig, Key::left_shift);
    CHECK(press(rig, Key::up) == Bytes{0xE0, 0xF0, 0x12, 0xE0, 0x75});
    CHECK(release(rig, Key::up) == Bytes{0xE0, 0xF0, 0x75, 0xE0, 0x12});
    press(rig, Key::right_shift);
    CHECK(press(rig, Key::up) == Bytes{0xE0, 0xF0, 0x12, 0xE0, 0xF0, 0x59, 0xE0, 0x75});
    // The left shift comes up meanwhile and must not be made again.
    release(rig, Key::left_shift);
    CHECK(release(rig, Key::up) == Bytes{0xE0, 0xF0, 0x75, 0xE0, 0x59});
}

TEST_CASE("the keypad's slash undoes a held shift whatever Num Lock is") {
    RawRig rig;
    CHECK(press(rig, Key::keypad_slash) == Bytes{0xE0, 0x4A});
    release(rig, Key::keypad_slash);
    press(rig, Key::right_shift);
    CHECK(press(rig, Key::keypad_slash) == Bytes{0xE0, 0xF0, 0x59, 0xE0, 0x4A});
    CHECK(release(rig, Key::keypad_slash) == Bytes{0xE0, 0xF0, 0x4A, 0xE0, 0x59});
}

TEST_CASE("Print Screen depends on Shift, Ctrl and Alt") {
    TranslatedRig rig;
    CHECK(press(rig, Key::print_screen) == Bytes{0xE0, 0x2A, 0xE0, 0x37});
    CHECK(release(rig, Key::print_screen) == Bytes{0xE0, 0xB7, 0xE0, 0xAA});
    press(rig, Key::left_ctrl);
    CHECK(press(rig, Key::print_screen) == Bytes{0xE0, 0x37});
    CHECK(release(rig, Key::print_screen) == Bytes{0xE0, 0xB7});
    release(rig, Key::left_ctrl);
    press(rig, Key::left_alt);
    CHECK(press(rig, Key::print_screen) == Bytes{0x54});
    release(rig, Key::left_alt);
    CHECK(release(rig, Key::print_screen) == Bytes{0xD4});
}

TEST_CASE("Pause sends everything when it goes down, and Ctrl makes it Break") {
    TranslatedRig rig;
    CHECK(press(rig, Key::pause) == Bytes{0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5});
    CHECK(release(rig, Key::pause).empty());
    press(rig, Key::left_ctrl);
    CHECK(press(rig, Key::pause) == Bytes{0xE0, 0x46, 0xE0, 0xC6});
    CHECK(release(rig, Key::pause).empty());
    RawRig raw;
    CHECK(press(raw, Key::pause) == Bytes{0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77});
}

TEST_CASE("a held key repeats after half a second, eleven times a second") {
    TranslatedRig rig;
    press(rig, Key::a);
    // take_all() has used up 2.5 ms for the byte that did not come, and 1 ms for the one that did.
    rig.clock.advance(std::chrono::milliseconds(480));
    CHECK((rig.status() & 0x01) == 0);
    unsigned repeats = 0;
    for (int ms = 0; ms < 1000; ++ms) {
        rig.clock.advance(std::chrono::milliseconds(1));
        if ((rig.status() & 0x01) != 0) {
            CHECK(rig.data() == 0x1E);
            ++repeats;
        }
    }
    CHECK(repeats >= 10);
    CHECK(repeats <= 12);
    CHECK(release(rig, Key::a) == Bytes{0x9E});
    rig.clock.advance(std::chrono::seconds(2));
    CHECK(rig.take_all().empty());
}

TEST_CASE("the guest sets the delay and rate of repeats") {
    TranslatedRig rig;
    CHECK(answer(rig, 0xF3) == Bytes{0xFA});
    CHECK(answer(rig, 0x00) == Bytes{0xFA});  // 250 ms, 30 a second
    press(rig, Key::a);
    unsigned repeats = 0;
    for (int ms = 0; ms < 1250; ++ms) {
        rig.clock.advance(std::chrono::milliseconds(1));
        if ((rig.status() & 0x01) != 0) {
            rig.data();
            ++repeats;
        }
    }
    CHECK(repeats >= 29);
    CHECK(repeats <= 31);
}

TEST_CASE("only the last key pressed repeats, without its fake shifts") {
    TranslatedRig rig;
    press(rig, Key::a);
    press(rig, Key::print_screen);
    rig.clock.advance(std::chrono::milliseconds(510));
    CHECK(rig.take() == 0xE0);
    CHECK(rig.take() == 0x37);
}

TEST_CASE("a key pressed without repeat does not repeat") {
    TranslatedRig rig;
    rig.keyboard().press(Key::a, KeyboardPort::Repeat::none);
    CHECK(rig.take_all() == Bytes{0x1E});
    rig.clock.advance(std::chrono::seconds(3));
    CHECK(rig.take_all().empty());
}

TEST_CASE("repeats into a full buffer end in the overrun code") {
    for (const bool set1 : {false, true}) {
        RawRig rig;
        if (set1) {
            answer(rig, 0xF0);
            answer(rig, 0x01);
        }
        rig.command(0xAD);
        rig.keyboard().press(Key::b);
        rig.clock.advance(std::chrono::seconds(10));
        rig.command(0xAE);
        Bytes expected(16, set1 ? 0x30 : 0x32);
        expected.push_back(set1 ? 0xFF : 0x00);
        Bytes got;
        for (int i = 0; i < 17; ++i) {
            got.push_back(static_cast<uint8_t>(rig.take()));
        }
        CHECK(got == expected);
    }
}

TEST_CASE("a full buffer refuses presses whole, and breaks follow when there is room") {
    TranslatedRig rig;
    rig.command(0xAD);
    const Key keys[] = {Key::a, Key::b, Key::c, Key::d, Key::e, Key::f, Key::g, Key::h,
                        Key::i, Key::j, Key::k, Key::l, Key::m, Key::n, Key::o};
    for (const Key key : keys) CHECK(rig.keyboard().press(key, KeyboardPort::Repeat::none));
    CHECK_FALSE(rig.keyboard().press(Key::home));
    CHECK(rig.keyboard().press(Key::p, KeyboardPort::Repeat::none));
    CHECK_FALSE(rig.keyboard().press(Key::q));
    for (const Key key : keys) rig.keyboard().release(key);
    // A break that is owed goes before a new key.
    rig.command(0xAE);
    Bytes got;
    for (int i = 0; i < 3; ++i) got.push_back(static_cast<uint8_t>(rig.take()));
    CHECK_FALSE(rig.keyboard().press(Key::q));
    for (const uint8_t byte : rig.take_all()) got.push_back(byte);
    Bytes expected;
    for (const Key key : keys) expected.push_back(translate_to_set1(set2_code(key).code));
    expected.push_back(0x19);
    for (const Key key : keys) expected.push_back(static_cast<uint8_t>(translate_to_set1(set2_code(key).code) | 0x80));
    CHECK(got == expected);
    CHECK(press(rig, Key::q) == Bytes{0x10});
}

TEST_CASE("the lamps follow the guest") {
    TranslatedRig rig;
    CHECK(answer(rig, 0xED) == Bytes{0xFA});
    CHECK(answer(rig, 0x05) == Bytes{0xFA});
    CHECK(rig.keyboard().leds() == KeyboardLeds{.scroll_lock = true, .num_lock = false, .caps_lock = true});
}

TEST_CASE("a command in place of an argument is a command") {
    TranslatedRig rig;
    answer(rig, 0xED);
    CHECK(answer(rig, 0xF4) == Bytes{0xFA});
    CHECK(rig.keyboard().leds() == KeyboardLeds{});
    CHECK(answer(rig, 0x02) == Bytes{0xFE});
}

TEST_CASE("identify answers AB 83, which translation makes AB 41") {
    RawRig raw;
    CHECK(answer(raw, 0xF2) == Bytes{0xFA, 0xAB, 0x83});
    TranslatedRig translated;
    CHECK(answer(translated, 0xF2) == Bytes{0xFA, 0xAB, 0x41});
}

TEST_CASE("echo is answered by echo, unknown commands by resend") {
    RawRig rig;
    CHECK(answer(rig, 0xEE) == Bytes{0xEE});
    CHECK(answer(rig, 0xEF) == Bytes{0xFE});
    CHECK(answer(rig, 0xF1) == Bytes{0xFE});
    CHECK(answer(rig, 0x12) == Bytes{0xFE});
}

TEST_CASE("resend repeats the last byte") {
    RawRig rig;
    press(rig, Key::a);
    CHECK(answer(rig, 0xFE) == Bytes{0x1C});
    CHECK(answer(rig, 0xFE) == Bytes{0x1C});
}

TEST_CASE("reset passes its test and restores everything") {
    RawRig rig;
    answer(rig, 0xF0);
    answer(rig, 0x01);
    answer(rig, 0xED);
    answer(rig, 0x07);
    answer(rig, 0xF5);
    CHECK(answer(rig, 0xFF) == Bytes{0xFA, 0xAA});
    CHECK(rig.keyboard().leds() == KeyboardLeds{});
    CHECK(press(rig, Key::a) == Bytes{0x1C});
}

TEST_CASE("a disabled keyboard takes no keys until it is enabled") {
    RawRig rig;
    press(rig, Key::a);
    CHECK(answer(rig, 0xF5) == Bytes{0xFA});
    CHECK_FALSE(rig.keyboard().press(Key::b));
    CHECK(release(rig, Key::a).empty());
    CHECK(answer(rig, 0xF4) == Bytes{0xFA});
    CHECK(press(rig, Key::b) == Bytes{0x32});
    CHECK(press(rig, Key::a) == Bytes{0x1C});
}

TEST_CASE("a command that clears the buffer is seen in the count of discarded bytes") {
    RawRig rig;
    const uint64_t before = rig.keyboard().discarded();
    rig.keyboard().press(Key::home);
    CHECK(answer(rig, 0xF4) == Bytes{0xFA});
    CHECK(rig.keyboard().discarded() == before + 2);
    CHECK(rig.keyboard().idle());
}

TEST_CASE("Linux's atkbd probes the keyboard") {
    TranslatedRig rig;
    CHECK(answer(rig, 0xF2) == Bytes{0xFA, 0xAB, 0x41});
    CHECK(answer(rig, 0xED) == Bytes{0xFA});
    CHECK(answer(rig, 0x00) == Bytes{0xFA});
    CHECK(answer(rig, 0xF3) == Bytes{0xFA});
    CHECK(answer(rig, 0x00) == Bytes{0xFA});
    CHECK(answer(rig, 0xF4) == Bytes{0xFA});
    CHECK(press(rig, Key::enter) == Bytes{0x1C});
}
