#include "guest-tests/runtime/guest.hpp"

extern "C" char irq_entries[];
extern "C" void count_irq(uint32_t irq);

namespace guest {
namespace {

uint32_t points = 0;
uint32_t failed = 0;

struct Vector {
    uint16_t offset;
    uint16_t segment;
};
Vector saved_vectors[16];
uint8_t saved_masks[16];

void put(char c) {
    while (!(inb(com1 + 5) & 0x20)) {
    }
    outb(com1, static_cast<uint8_t>(c));
}

uint8_t vector_of(uint8_t irq) {
    return static_cast<uint8_t>(irq < 8 ? 0x08 + irq : 0x70 + irq - 8);
}
uint16_t mask_port(uint8_t irq) {
    return irq < 8 ? 0x21 : 0xA1;
}
uint8_t mask_bit(uint8_t irq) {
    return static_cast<uint8_t>(1u << (irq & 7));
}

Vector* vector_entry(uint8_t irq) {
    uint32_t address = uint32_t{vector_of(irq)} * 4;
    asm("" : "+r"(address));  // the IVT begins at 0, which the compiler takes for a null pointer
    return reinterpret_cast<Vector*>(address);
}

// How far counter 0 is in its period of 65536 ticks. In mode 3 it falls by two, once with OUT high and once with OUT
// low.
uint16_t counter_0_position() {
    outb(0x43, 0xC2);  // read-back: status and count of the same moment
    const uint8_t status = inb(0x40);
    const uint8_t low = inb(0x40);
    const auto fallen = static_cast<uint16_t>(-(low | inb(0x40) << 8));
    if ((status & 0x06) != 0x06) return fallen;
    return static_cast<uint16_t>(fallen / 2 + (status & 0x80 ? 0 : 0x8000));
}

void begin_point(bool passed) {
    ++points;
    if (!passed) ++failed;
    print(passed ? "ok " : "not ok ");
    print_number(points);
    print(" - ");
}

}  // namespace

volatile uint32_t irq_count[16];
void (*volatile irq_action[16])();

void print(const char* text) {
    for (; *text; ++text) put(*text);
}

void print_number(uint32_t value) {
    char digits[11];
    char* at = digits + sizeof(digits) - 1;
    *at = 0;
    do {
        *--at = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value);
    print(at);
}

void print_hex(uint32_t value) {
    for (int shift = 28; shift >= 0; shift -= 4) put("0123456789abcdef"[value >> shift & 15]);
}

void check(bool condition, const char* name) {
    begin_point(condition);
    print(name);
    print("\n");
}

void check_equal(uint32_t got, uint32_t expected, const char* name) {
    check(got == expected, name);
    if (got == expected) return;
    print("# got ");
    print_hex(got);
    print(", expected ");
    print_hex(expected);
    print("\n");
}

void check_between(uint32_t got, uint32_t low, uint32_t high, const char* name) {
    const bool passed = low <= got && got <= high;
    check(passed, name);
    if (passed) return;
    print("# got ");
    print_number(got);
    print(", expected ");
    print_number(low);
    print(" to ");
    print_number(high);
    print("\n");
}

void note(const char* text) {
    print("# ");
    print(text);
    print("\n");
}

Report report() {
    return {points, failed};
}

void continue_report(Report earlier) {
    points = earlier.points;
    failed = earlier.failed;
}

void flush_report() {
    while (!(inb(com1 + 5) & 0x40)) {
    }
}

void finish() {
    print("1..");
    print_number(points);
    print("\n# end of test\n");
    flush_report();
    outb(exit_port, failed ? 1 : 0);
    for (;;) asm volatile("hlt");
}

void take_irq(uint8_t irq) {
    cli();
    Vector* entry = vector_entry(irq);
    saved_vectors[irq] = *entry;
    saved_masks[irq] = inb(mask_port(irq)) & mask_bit(irq);
    *entry = {static_cast<uint16_t>(reinterpret_cast<uint32_t>(irq_entries) + irq * 8), 0};
    irq_count[irq] = 0;
    irq_action[irq] = nullptr;
    outb(mask_port(irq), static_cast<uint8_t>(inb(mask_port(irq)) & ~mask_bit(irq)));
    if (irq >= 8) outb(0x21, inb(0x21) & ~0x04);
    sti();
}

void give_irq(uint8_t irq) {
    cli();
    *vector_entry(irq) = saved_vectors[irq];
    outb(mask_port(irq), static_cast<uint8_t>((inb(mask_port(irq)) & ~mask_bit(irq)) | saved_masks[irq]));
    sti();
}

bool wait_irq(uint8_t irq, uint32_t count, uint32_t milliseconds) {
    Deadline deadline(milliseconds);
    sti();
    while (irq_count[irq] < count) {
        if (deadline.passed()) return irq_count[irq] >= count;
    }
    return true;
}

Stopwatch::Stopwatch() : last_(counter_0_position()) {}

uint32_t Stopwatch::ticks() {
    const uint16_t now = counter_0_position();
    passed_ += static_cast<uint16_t>(now - last_);
    last_ = now;
    return passed_;
}

void delay_milliseconds(uint32_t milliseconds) {
    Deadline deadline(milliseconds);
    while (!deadline.passed()) {
    }
}

bool wait_second() {
    const auto second = [] {
        outb(0x70, 0x0A);
        while (inb(0x71) & 0x80) {
        }
        outb(0x70, 0x00);
        return inb(0x71);
    };
    const uint8_t start = second();
    // No deadline by the PIT, which may be what is being tested.
    for (uint32_t polls = 0; polls < 8'000'000; ++polls) {
        if (second() != start) return true;
    }
    return false;
}

}  // namespace guest

extern "C" void count_irq(uint32_t irq) {
    guest::irq_count[irq] = guest::irq_count[irq] + 1;
    if (const auto action = guest::irq_action[irq]) action();
    if (irq >= 8) guest::outb(0xA0, 0x20);
    guest::outb(0x20, 0x20);
}

// The compiler calls these by itself.
extern "C" void* memset(void* to, int value, __SIZE_TYPE__ size) {
    auto* at = static_cast<uint8_t*>(to);
    for (__SIZE_TYPE__ i = 0; i < size; ++i) {
        at[i] = static_cast<uint8_t>(value);
        asm volatile("" ::: "memory");  // keeps this loop from becoming a call of itself
    }
    return to;
}
extern "C" void* memcpy(void* to, const void* from, __SIZE_TYPE__ size) {
    for (__SIZE_TYPE__ i = 0; i < size; ++i) {
        static_cast<uint8_t*>(to)[i] = static_cast<const uint8_t*>(from)[i];
        asm volatile("" ::: "memory");
    }
    return to;
}
