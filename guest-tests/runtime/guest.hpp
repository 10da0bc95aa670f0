#pragma once

// What test guests are made of. They run in real mode in one segment at 0, print TAP on COM1 and end through the exit
// port.

#include <stdint.h>

namespace guest {

inline constexpr uint16_t exit_port = 0x501;
inline constexpr uint16_t com1 = 0x3F8;

inline void outb(uint16_t port, uint8_t value) {
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void outw(uint16_t port, uint16_t value) {
    asm volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
inline void outl(uint16_t port, uint32_t value) {
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
inline uint8_t inb(uint16_t port) {
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
inline uint16_t inw(uint16_t port) {
    uint16_t value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
inline uint32_t inl(uint16_t port) {
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
inline void cli() {
    asm volatile("cli" ::: "memory");
}
inline void sti() {
    asm volatile("sti" ::: "memory");
}
inline uint8_t read_cmos(uint8_t index) {
    outb(0x70, index);
    return inb(0x71);
}
inline void write_cmos(uint8_t index, uint8_t value) {
    outb(0x70, index);
    outb(0x71, value);
}
inline void sti_hlt() {
    asm volatile("sti; hlt" ::: "memory");
}

// Bytes anywhere in the first megabyte (and the 64 KiB above it), by segment and offset.
inline uint8_t peek8(uint16_t segment, uint16_t offset) {
    uint8_t value;
    asm volatile("movw %1, %%fs; movb %%fs:(%2), %0" : "=q"(value) : "r"(segment), "b"(uint32_t{offset}) : "memory");
    return value;
}
inline uint16_t peek16(uint16_t segment, uint16_t offset) {
    return static_cast<uint16_t>(peek8(segment, offset) | peek8(segment, static_cast<uint16_t>(offset + 1)) << 8);
}
inline void poke8(uint16_t segment, uint16_t offset, uint8_t value) {
    asm volatile("movw %1, %%fs; movb %0, %%fs:(%2)" ::"q"(value), "r"(segment), "b"(uint32_t{offset}) : "memory");
}
inline void poke16(uint16_t segment, uint16_t offset, uint16_t value) {
    poke8(segment, offset, static_cast<uint8_t>(value));
    poke8(segment, static_cast<uint16_t>(offset + 1), static_cast<uint8_t>(value >> 8));
}

// The registers of call_interrupt; it returns all of them and FLAGS.
struct Registers {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0, esi = 0, edi = 0, ebp = 0;
    uint16_t es = 0, ds = 0;
    uint32_t flags = 0;
    bool carry() const { return flags & 1; }
    bool zero() const { return flags & 0x40; }
    uint8_t al() const { return static_cast<uint8_t>(eax); }
    uint8_t ah() const { return static_cast<uint8_t>(eax >> 8); }
    uint16_t ax() const { return static_cast<uint16_t>(eax); }
    uint16_t bx() const { return static_cast<uint16_t>(ebx); }
    uint16_t cx() const { return static_cast<uint16_t>(ecx); }
    uint16_t dx() const { return static_cast<uint16_t>(edx); }
};
static_assert(sizeof(Registers) == 36);

extern "C" void call_interrupt(uint8_t vector, Registers* registers);
extern "C" uint8_t boot_drive;

// INT `vector` with AX and friends; the answer.
inline Registers interrupt(uint8_t vector, Registers registers) {
    call_interrupt(vector, &registers);
    return registers;
}

// ---- Report: TAP on COM1 -------------------------------------------------------------------------------------------

void print(const char* text);
void print_number(uint32_t value);
void print_hex(uint32_t value);

// One test point. A failed one does not end the run.
void check(bool condition, const char* name);
// As check(got == expected), and says both when they differ.
void check_equal(uint32_t got, uint32_t expected, const char* name);
// As check(low <= got && got <= high), and says all three when not.
void check_between(uint32_t got, uint32_t low, uint32_t high, const char* name);
void note(const char* text);
// What has been reported so far: a test that starts the machine anew keeps it where it survives, and goes on from
// there.
struct Report {
    uint32_t points = 0;
    uint32_t failed = 0;
};
Report report();
void continue_report(Report report);
// Waits until COM1 has sent everything.
void flush_report();
// Prints the plan and ends the run: exit code 0 when every point passed, else 1.
[[noreturn]] void finish();

// ---- Interrupts and time -------------------------------------------------------------------------------------------

// How often each IRQ came since take_irq().
extern volatile uint32_t irq_count[16];
// Called by each counted IRQ before its EOI; for devices that must be read to let their line fall. May be null.
extern void (*volatile irq_action[16])();

// Hooks the IRQ's vector (08h or 70h base), opens its mask, and clears its count. The handler counts and sends EOIs.
void take_irq(uint8_t irq);
// Puts back the vector and the mask as they were before take_irq().
void give_irq(uint8_t irq);
// Waits for `count` of a taken IRQ to come, at most so many milliseconds; whether it came.
bool wait_irq(uint8_t irq, uint32_t count, uint32_t milliseconds);

// Time since it was made, by polling counter 0 of the PIT, which must have the BIOS's setting: 65536 in mode 3 (or 2).
// Interrupts stay as they are. Polls more than 55 ms apart, as on a busy host, lose time: what was measured may have
// taken longer, never less.
class Stopwatch {
  public:
    Stopwatch();
    uint32_t ticks();  // of 1193182 Hz
    uint32_t milliseconds() { return ticks() / 1193; }

  private:
    uint16_t last_;
    uint32_t passed_ = 0;
};

// A time limit that is checked by polling.
class Deadline {
  public:
    explicit Deadline(uint32_t milliseconds) : limit_(milliseconds * 1193) {}
    bool passed() { return watch_.ticks() >= limit_; }

  private:
    Stopwatch watch_;
    uint32_t limit_;
};

void delay_milliseconds(uint32_t milliseconds);

// Waits for the next second of the real-time clock; whether it came. Counter 0 may have any setting.
bool wait_second();

}  // namespace guest

// The test itself.
extern "C" void guest_main();
