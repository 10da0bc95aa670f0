// Messages of the system BIOS, through INT 10h so that they go wherever video output goes.

#include "bios/system/services.hpp"

namespace viv::rom {

void print_character(char character) {
    if (character == '\n') call_int10(0x0E0D, 0x0007, 0);
    call_int10(0x0E00u | static_cast<uint8_t>(character), 0x0007, 0);
}

void print_number(uint32_t number) {
    if (number >= 10) print_number(number / 10);
    print_character(static_cast<char>('0' + number % 10));
}

void print_rom(uint16_t offset) {
    for (;;) {
        char character;
        asm volatile("movb %%cs:(%1), %0" : "=q"(character) : "r"(uint32_t{offset}));
        if (character == 0) return;
        print_character(character);
        ++offset;
    }
}

}  // namespace viv::rom
