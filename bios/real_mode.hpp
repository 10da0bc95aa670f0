#pragma once

// The little that 16-bit C++ needs: registers of the caller, far memory, ROM tables and ports.
//
// The compiler believes in one flat segment. The service entry (service.inc) makes that true for the stack: DS = ES =
// SS, and FS = 40h for the BIOS data area. Everything else is far and is reached through the functions here; they use
// GS. Constants live in the ROM behind CS, so they are RomTables; the linker script refuses plain ones.

#include <stdint.h>

#include "bios/layout.hpp"

namespace viv::rom {

// ---- The caller's registers ----------------------------------------------------------------------------------------

union Register {
    uint32_t e;
    uint16_t x;
    uint8_t byte[2];
};

inline constexpr uint16_t flag_carry = 0x0001;
inline constexpr uint16_t flag_zero = 0x0040;
inline constexpr uint16_t flag_interrupt = 0x0200;

// Laid out by service.inc; what a service changes here the caller gets.
struct Registers {
    Register di_, si_, bp_, b_, d_, c_, a_;
    uint16_t flags;
    uint16_t ds;
    uint16_t es;
    uint16_t gs;

    uint32_t& eax() { return a_.e; }
    uint32_t& ebx() { return b_.e; }
    uint32_t& ecx() { return c_.e; }
    uint32_t& edx() { return d_.e; }
    uint16_t& ax() { return a_.x; }
    uint16_t& bx() { return b_.x; }
    uint16_t& cx() { return c_.x; }
    uint16_t& dx() { return d_.x; }
    uint16_t& si() { return si_.x; }
    uint16_t& di() { return di_.x; }
    uint16_t& bp() { return bp_.x; }
    uint8_t& al() { return a_.byte[0]; }
    uint8_t& ah() { return a_.byte[1]; }
    uint8_t& bl() { return b_.byte[0]; }
    uint8_t& bh() { return b_.byte[1]; }
    uint8_t& cl() { return c_.byte[0]; }
    uint8_t& ch() { return c_.byte[1]; }
    uint8_t& dl() { return d_.byte[0]; }
    uint8_t& dh() { return d_.byte[1]; }

    void set_carry() { flags |= flag_carry; }
    void clear_carry() { flags &= static_cast<uint16_t>(~flag_carry); }
    void set_zero() { flags |= flag_zero; }
    void clear_zero() { flags &= static_cast<uint16_t>(~flag_zero); }
};
static_assert(sizeof(Registers) == 36);

// ---- Far memory ----------------------------------------------------------------------------------------------------

inline void set_gs(uint16_t segment) {
    asm volatile("movw %0, %%gs" : : "rm"(segment));
}

template <class T>
inline T far_read(uint16_t segment, uint16_t offset) {
    T value;
    set_gs(segment);
    asm volatile("mov %%gs:%1, %0" : "=q"(value) : "m"(*reinterpret_cast<const T*>(uint32_t{offset})) : "memory");
    return value;
}

template <class T>
inline void far_write(uint16_t segment, uint16_t offset, T value) {
    set_gs(segment);
    asm volatile("mov %0, %%gs:%1" : : "q"(value), "m"(*reinterpret_cast<T*>(uint32_t{offset})) : "memory");
}

// The BIOS data area. Always inline: as arguments the fields would be objects in memory, and the ROM has none there.
template <class T>
[[gnu::always_inline]] inline T get(Field<T> field) {
    T value;
    asm volatile("mov %%fs:%1, %0" : "=q"(value) : "m"(*reinterpret_cast<const T*>(uint32_t{field.offset})) : "memory");
    return value;
}

template <class T, class V>
[[gnu::always_inline]] inline void put(Field<T> field, V value) {
    asm volatile("mov %0, %%fs:%1"
                 :
                 : "q"(static_cast<T>(value)), "m"(*reinterpret_cast<T*>(uint32_t{field.offset}))
                 : "memory");
}

// Element `index` of an array of fields.
template <class T>
[[gnu::always_inline]] constexpr Field<T> at(Field<T> field, uint16_t index) {
    return {static_cast<uint16_t>(field.offset + index * sizeof(T))};
}

// The extended BIOS data area, wherever the guest has moved it.
#define VIV_EBDA_FIELD(name) \
    (::viv::rom::Field<decltype(::viv::rom::Ebda::name)>{__builtin_offsetof(::viv::rom::Ebda, name)})

template <class T>
[[gnu::always_inline]] inline T ebda_get(Field<T> field) {
    return far_read<T>(get(bda::ebda_segment), field.offset);
}

template <class T, class V>
[[gnu::always_inline]] inline void ebda_put(Field<T> field, V value) {
    far_write<T>(get(bda::ebda_segment), field.offset, static_cast<T>(value));
}

// Copies between segments, forwards, like a 16-bit rep movs (offsets wrap at 64 KiB).
inline void far_copy(uint16_t to_segment, uint16_t to, uint16_t from_segment, uint16_t from, uint16_t bytes) {
    uint32_t destination = to, source = from, count = bytes;
    asm volatile(
        "pushw %%ds\n\t"
        "pushw %%es\n\t"
        "movw %w3, %%es\n\t"
        "movw %w4, %%ds\n\t"
        "pushw %w2\n\t"
        "shrw $2, %w2\n\t"
        "rep movsl\n\t"
        "popw %w2\n\t"
        "andw $3, %w2\n\t"
        "rep movsb\n\t"
        "popw %%es\n\t"
        "popw %%ds"
        : "+D"(destination), "+S"(source), "+c"(count)
        : "r"(to_segment), "r"(from_segment)
        : "memory", "cc");
}

// Fills `words` 16-bit words.
inline void far_fill(uint16_t segment, uint16_t to, uint16_t value, uint16_t words) {
    uint32_t destination = to, count = words;
    uint32_t pattern = uint32_t{value} << 16 | value;
    asm volatile(
        "pushw %%es\n\t"
        "movw %w3, %%es\n\t"
        "shrw $1, %w1\n\t"
        "pushfw\n\t"
        "rep stosl\n\t"
        "popfw\n\t"
        "jnc 1f\n\t"
        "stosw\n"
        "1:\n\t"
        "popw %%es"
        : "+D"(destination), "+c"(count)
        : "a"(pattern), "r"(segment)
        : "memory", "cc");
}

inline uint16_t stack_segment() {
    uint16_t segment;
    asm("movw %%ss, %0" : "=r"(segment));
    return segment;
}

inline uint16_t near_offset(const void* place) {
    return static_cast<uint16_t>(reinterpret_cast<uintptr_t>(place));
}

// Physical address of segment:offset.
constexpr uint32_t physical(uint16_t segment, uint16_t offset) {
    return (uint32_t{segment} << 4) + offset;
}

// ---- Constants in the ROM ------------------------------------------------------------------------------------------

// A section for each, because the compiler does not give all of them the same section type.
#define VIV_TEXT_OF(x) #x
#define VIV_ROM_SECTION(number) ".rom." VIV_TEXT_OF(number)
#define VIV_IN_ROM __attribute__((section(VIV_ROM_SECTION(__COUNTER__))))

template <class T, uint16_t N>
class RomTable {
  public:
    template <class Source>
    consteval explicit RomTable(const Source& source) {
        for (uint16_t i = 0; i < N; ++i) values_[i] = source[i];
    }

    T operator[](uint16_t index) const {
        T value;
        asm("mov %%cs:%1, %0" : "=q"(value) : "m"(values_[index]));
        return value;
    }

    uint16_t offset() const { return near_offset(values_); }
    static constexpr uint16_t size() { return N; }

  private:
    T values_[N] = {};
};

template <class T, uint16_t N>
RomTable(const T (&)[N]) -> RomTable<T, N>;

// A message: `VIV_MESSAGE(name, "text")` makes a RomTable of its characters including the final 0.
#define VIV_MESSAGE(name, text)                             \
    VIV_IN_ROM static constexpr ::viv::rom::RomTable name { \
        text                                                \
    }

// ---- Ports and processor -------------------------------------------------------------------------------------------

inline uint8_t in_byte(uint16_t port) {
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline uint16_t in_word(uint16_t port) {
    uint16_t value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline uint32_t in_dword(uint16_t port) {
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline void out_byte(uint16_t port, uint8_t value) {
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out_word(uint16_t port, uint16_t value) {
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline void out_dword(uint16_t port, uint32_t value) {
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

inline void enable_interrupts() {
    asm volatile("sti" : : : "memory");
}
inline void disable_interrupts() {
    asm volatile("cli" : : : "memory");
}

// Opens interrupts and sleeps until one came; leaves them closed, so that a test after it sees what the test before it
// saw. An interrupt cannot slip in between STI and HLT.
inline void wait_for_interrupt() {
    asm volatile("sti\n\thlt\n\tcli" : : : "memory", "cc");
}

}  // namespace viv::rom
