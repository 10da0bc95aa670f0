#pragma once

#include <cstdint>

#include "devices/input/keyboard_port.hpp"

namespace viv {

/// What a key sends in scan code set 2, after its E0h prefix if it has one. Code 0: the key has no single code (Pause),
/// or there is no such key.
struct ScanCode {
    uint8_t code = 0;
    bool extended = false;
};

/// Set 2, the keyboard's own. Reference: IBM PS/2 hardware interface technical reference, keyboard, "scan code set 2".
[[nodiscard]] ScanCode set2_code(Key key);
/// Set 3: one byte for every key; 0 when there is no such key. Reference: as above, "scan code set 3".
[[nodiscard]] uint8_t set3_code(Key key);
/// The 8042's translation of one set-2 byte to set 1 (the F0h prefix is the caller's). Reference: IBM PC AT technical
/// reference, keyboard controller, "scan code translation".
[[nodiscard]] uint8_t translate_to_set1(uint8_t set2);

}  // namespace viv
