// BIOS services that wait for hardware: INT 15h waits, mouse and protected mode, INT 1Ah alarm, INT 14h and 17h
// transfers, INT 05h, and a restart by Ctrl-Alt-Del.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

// Hooks: each counts its calls in a word of its own.
asm(R"(
    .text
    .code16
    .globl alarm_hook, int17_hook, mouse_hook, timer_gate, enter_protected_mode
alarm_hook:
    pushw %ds
    pushw $0
    popw %ds
    incl alarm_calls
    popw %ds
    iretw

int17_hook:
    pushw %ds
    pushw %bx
    pushw $0
    popw %ds
    movl printed, %ebx
    cmpw $16, %bx
    jae 1f
    movb %al, printed_first(%bx)
1:  incl printed
    movb printer_answer, %ah
    popw %bx
    popw %ds
    iretw

mouse_hook:                     # far call; above the return address: Z, Y, X, status
    pushw %bp
    movw %sp, %bp
    pushw %ds
    pushw %ax
    pushw $0
    popw %ds
    movw 6(%bp), %ax
    movw %ax, mouse_words + 6
    movw 8(%bp), %ax
    movw %ax, mouse_words + 4
    movw 10(%bp), %ax
    movw %ax, mouse_words + 2
    movw 12(%bp), %ax
    movw %ax, mouse_words
    incl mouse_calls
    popw %ax
    popw %ds
    popw %bp
    lretw

timer_gate:                     # 16-bit protected mode, DS = 18h with base 0
    incl timer_gate_calls
    movb $0x20, %al
    outb %al, $0x20
    jmp timer_came              # some hosts' KVM cannot do IRET in 16-bit protected mode

# INT 15h/89 with tables at protected_gdt; waits there for an IRQ 0 and comes back.
enter_protected_mode:
    pushal
    pushfl
    movl %esp, protected_stack
    movw $protected_gdt, %si
    movw $0x2028, %bx           # IRQ 0 at 20h, IRQ 8 at 28h
    movb $0x89, %ah
    int $0x15
    jc 9f
    movw %cs, protected_selectors
    movw %ds, protected_selectors + 2
    movw %es, protected_selectors + 4
    movw %ss, protected_selectors + 6
    movb %ah, protected_status
    smsww protected_msw
    inb $0x21, %al
    movb %al, protected_masks
    inb $0xA1, %al
    movb %al, protected_masks + 1
    movb $0xFE, %al
    outb %al, $0x21
    sti
    movl $0x10000, %ecx         # turns of port 61h's refresh bit: a second
1:  cmpl $0, timer_gate_calls
    jne timer_came
    inb $0x61, %al
    andb $0x10, %al
    cmpb %al, %ah
    je 1b
    movb %al, %ah
    decl %ecx
    jnz 1b
timer_came:
    cli
    movl protected_stack, %esp
    movb $0xFF, %al
    outb %al, $0x21
    movl %cr0, %eax
    andb $0xFE, %al
    movl %eax, %cr0
    ljmpw $0, $3f
3:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    lidtl real_idt
9:  popfl
    popal
    retl
    .code16gcc                  # what the compiler writes
)");

extern "C" {
extern char alarm_hook[], int17_hook[], mouse_hook[], timer_gate[];
void enter_protected_mode();
volatile uint32_t alarm_calls, printed, mouse_calls, timer_gate_calls;
volatile uint8_t printer_answer, printed_first[16], protected_status = 0xFF, protected_masks[2];
volatile uint16_t mouse_words[4], protected_selectors[4], protected_msw;
uint32_t protected_gdt[16], protected_stack;
uint32_t protected_idt[2 * 0x30];
struct __attribute__((packed)) {
    uint16_t limit = 0x3FF;
    uint32_t base = 0;
} real_idt;
}

namespace {

uint8_t block[512];

uint16_t offset_of(const void* place) {
    return static_cast<uint16_t>(reinterpret_cast<uint32_t>(place));
}

uint32_t hook(uint8_t vector, const void* handler) {
    const auto at = static_cast<uint16_t>(vector * 4);
    const uint32_t old = peek16(0, at) | uint32_t{peek16(0, static_cast<uint16_t>(at + 2))} << 16;
    cli();
    poke16(0, at, offset_of(handler));
    poke16(0, static_cast<uint16_t>(at + 2), 0);
    sti();
    return old;
}

void unhook(uint8_t vector, uint32_t old) {
    const auto at = static_cast<uint16_t>(vector * 4);
    cli();
    poke16(0, at, static_cast<uint16_t>(old));
    poke16(0, static_cast<uint16_t>(at + 2), static_cast<uint16_t>(old >> 16));
    sti();
}

Registers call(uint8_t vector, uint16_t ax, uint16_t bx = 0, uint16_t cx = 0, uint16_t dx = 0) {
    Registers r;
    r.eax = ax;
    r.ebx = bx;
    r.ecx = cx;
    r.edx = dx;
    return interrupt(vector, r);
}

uint16_t ticks() {
    return peek16(0x40, 0x6C);
}

// ---- Restart -------------------------------------------------------------------------------------------------------

void controller(uint8_t command, uint8_t value) {
    while (inb(0x64) & 0x02) {
    }
    outb(0x64, command);
    while (inb(0x64) & 0x02) {
    }
    outb(0x60, value);
}

// A code as if from the keyboard, when the last one has been taken.
void scan_code(uint8_t code) {
    Deadline deadline(1000);
    while ((inb(0x64) & 0x01) && !deadline.passed()) {
    }
    controller(0xD2, code);
    delay_milliseconds(5);
}

// The first start restarts itself; what RAM holds at 5000:0 tells the second one.
void test_restart() {
    constexpr uint16_t marker_segment = 0x5000, marker = 0x1E57;
    if (peek16(marker_segment, 0) != marker) {
        poke16(marker_segment, 0, marker);
        scan_code(0x1D);
        scan_code(0x38);
        scan_code(0x53);
        delay_milliseconds(3000);
        check(false, "Ctrl-Alt-Del restarts the machine");
        return;
    }
    poke16(marker_segment, 0, 0);
    check(true, "Ctrl-Alt-Del restarts the machine");
    check_equal(peek16(0x40, 0x72), 0x1234, "40:72 says that this was a warm start");
    check_equal(peek8(0x40, 0x17) & 0x0F, 0, "no shift key is down after it");
}

// ---- INT 15h waits -------------------------------------------------------------------------------------------------

void test_waits() {
    volatile static uint8_t flag;
    flag = 0x01;
    uint16_t start = ticks();
    // The clock interrupts 1024 times a second, which a busy host cannot keep up with; a wait gets longer then.
    Registers r;
    r.eax = 0x8300;
    r.ebx = offset_of(const_cast<uint8_t*>(&flag));
    r.ecx = 3;
    r.edx = 0x0D40;  // 200 ms
    check(!interrupt(0x15, r).carry(), "INT 15h/83 begins to wait");
    check(interrupt(0x15, r).carry(), "a second wait is refused");
    check(call(0x15, 0x8600, 0, 0, 1000).carry(), "INT 15h/86 too, as they share the clock");
    check_equal(flag, 0x01, "the flag is not set before its time");
    Deadline deadline(20'000);
    while (!(flag & 0x80) && !deadline.passed()) {
    }
    check_equal(flag, 0x81, "INT 70h sets bit 7 of the caller's byte");
    check_between(static_cast<uint16_t>(ticks() - start), 3, 400, "after 200 ms, or more where interrupts get lost");
    check_equal(peek8(0x40, 0xA0) & 0x01, 0, "40:A0 says that no wait is going on");
    flag = 0;
    r.ecx = 1;
    check(!interrupt(0x15, r).carry(), "another wait may begin");
    check(!call(0x15, 0x8301).carry(), "INT 15h/8301 ends it");
    delay_milliseconds(150);
    check_equal(flag, 0, "and its flag stays clear");
    start = ticks();
    check(!call(0x15, 0x8600, 0, 0x0004, 0x93E0).carry(), "INT 15h/86 waits 300 ms");
    check_between(static_cast<uint16_t>(ticks() - start), 4, 400, "that are six ticks or more");
    start = ticks();
    check(!call(0x15, 0x8600, 0, 0, 1).carry(), "INT 15h/86 waits 1 us");
    check_between(static_cast<uint16_t>(ticks() - start), 0, 3, "which is soon over");
}

// ---- INT 1Ah -------------------------------------------------------------------------------------------------------

void test_clock() {
    check(!call(0x1A, 0x0300, 0, 0x2359, 0x5800).carry(), "INT 1Ah/03 sets the time");
    Registers r = call(0x1A, 0x0200);
    check(r.cx() == 0x2359 && (r.dx() >> 8) >= 0x58, "INT 1Ah/02 reads it back");
    check(!call(0x1A, 0x0500, 0, 0x1999, 0x1231).carry(), "INT 1Ah/05 sets the date");
    const uint32_t old = hook(0x4A, alarm_hook);
    check(!call(0x1A, 0x0600, 0, 0x0000, 0x0100).carry(), "INT 1Ah/06 sets an alarm at 00:00:01");
    check(call(0x1A, 0x0600, 0, 0x0000, 0x0200).carry(), "a second alarm is refused");
    Deadline deadline(6000);
    while (!alarm_calls && !deadline.passed()) {
    }
    check_equal(alarm_calls, 1, "the alarm calls INT 4Ah");
    r = call(0x1A, 0x0200);
    check(r.cx() == 0x0000 && (r.dx() >> 8) >= 0x01, "at its time");
    r = call(0x1A, 0x0400);
    check(r.cx() == 0x2000 && r.dx() == 0x0101, "the date has gone into the next century");
    call(0x1A, 0x0700);
    check(!call(0x1A, 0x0600, 0, 0x0000, 0x0300).carry(), "INT 1Ah/07 makes room for another alarm");
    call(0x1A, 0x0700);
    unhook(0x4A, old);
    cli();
    poke16(0x40, 0x6C, 0x00AE);
    poke16(0x40, 0x6E, 0x0018);
    sti();
    call(0x1A, 0x0000);
    delay_milliseconds(200);
    r = call(0x1A, 0x0000);
    check(r.al() == 1 && r.cx() == 0 && r.dx() < 10, "midnight starts the ticks anew and INT 1Ah/00 tells once");
    check_equal(call(0x1A, 0x0000).al(), 0, "only once");
    call(0x1A, 0x0100, 0, 0x0012, 0x3456);
    r = call(0x1A, 0x0000);
    check(r.cx() == 0x12 && r.dx() >= 0x3456 && r.dx() < 0x3460, "INT 1Ah/01 sets the ticks");
}

// ---- INT 14h, 17h, 05h ---------------------------------------------------------------------------------------------

void test_serial() {
    constexpr uint16_t com2 = 0x2F8;
    Registers r = call(0x14, 0x00E3, 0, 0, 1);
    check(r.ah() & 0x60, "INT 14h/00 sets COM2 to 9600 8N1");
    check_equal(inb(com2 + 3), 0x03, "in its line control");
    outb(com2 + 3, 0x83);
    check_equal(inb(com2), 12, "and its divisor");
    outb(com2 + 3, 0x03);
    outb(com2 + 4, 0x10);  // loop back
    r = call(0x14, 0x015A, 0, 0, 1);
    check(!(r.ah() & 0x80) && r.al() == 0x5A, "INT 14h/01 sends a byte");
    delay_milliseconds(5);
    check(call(0x14, 0x0300, 0, 0, 1).ah() & 0x01, "INT 14h/03 sees it come back");
    r = call(0x14, 0x0200, 0, 0, 1);
    check(!(r.ah() & 0x80) && r.al() == 0x5A, "INT 14h/02 receives it");
    poke8(0x40, 0x7D, 1);
    const uint16_t start = ticks();
    check_equal(call(0x14, 0x0200, 0, 0, 1).ah() & 0x80, 0x80, "without a byte it times out");
    check_between(static_cast<uint16_t>(ticks() - start), 15, 40, "after the second that 40:7D says");
    outb(com2 + 4, 0);
    r = call(0x14, 0x0400, 0x0001, 0x0308, 1);
    outb(com2 + 3, static_cast<uint8_t>(inb(com2 + 3) | 0x80));
    check_equal(inb(com2), 6, "INT 14h/04 sets 19200 baud");
    outb(com2 + 3, static_cast<uint8_t>(inb(com2 + 3) & 0x7F));
    check_equal(inb(com2 + 3), 0x07, "8 bits, 2 stop bits");
    call(0x14, 0x0501, 0x0003, 0, 1);
    check_equal(call(0x14, 0x0500, 0, 0, 1).ebx & 0xFF, 0x03, "INT 14h/05 sets and reads the modem control");
    outb(com2 + 4, 0);
    const Registers none = call(0x14, 0x0341, 0, 0, 4);
    check_equal(none.ax(), 0x0341, "a port that is not there changes nothing");
}

void test_printer() {
    const uint16_t old = peek16(0x40, 0x08);
    check(call(0x17, 0x0041).ah() & 0x01, "INT 17h/00 without a printer port times out at once");
    poke16(0x40, 0x08, 0x2FC);  // COM2's modem control as data and line status as status: it looks busy
    poke8(0x40, 0x78, 1);
    const uint16_t start = ticks();
    check_equal(call(0x17, 0x0000).ah() & 0x01, 0x01, "a printer that stays busy times out");
    check_between(static_cast<uint16_t>(ticks() - start), 15, 40, "after the time that 40:78 says");
    poke16(0x40, 0x08, 0x378);  // nothing there: FFh, which is ready
    check_equal(call(0x17, 0x0041).ah() & 0x01, 0, "a ready one takes the character");
    check_equal(call(0x17, 0x0200).ah(), 0xB0, "and its status has the inverted bits of the port");
    poke16(0x40, 0x08, old);
}

void test_print_screen() {
    call(0x10, 0x0003);
    call(0x10, 0x0200, 0, 0, 0x0000);
    call(0x10, 0x0E4F, 7);
    call(0x10, 0x0E4B, 7);
    call(0x10, 0x0200, 0, 0, 0x0307);
    const uint32_t old = hook(0x17, int17_hook);
    printer_answer = 0x90;
    poke8(0x50, 0, 0);
    call(0x05, 0);
    check_equal(printed, 25 * 82 + 2, "INT 05h prints 25 lines of 80 characters");
    check(printed_first[2] == 'O' && printed_first[3] == 'K' && printed_first[4] == ' ', "that are on the screen");
    check_equal(peek8(0x50, 0), 0, "50:0 says that it worked");
    check_equal(call(0x10, 0x0300).dx(), 0x0307, "the cursor is where it was");
    printed = 0;
    printer_answer = 0x29;
    call(0x05, 0);
    check_equal(peek8(0x50, 0), 0xFF, "50:0 says that the printer failed");
    check_equal(printed, 1, "after which nothing more is sent");
    poke8(0x50, 0, 1);
    call(0x05, 0);
    check_equal(printed, 1, "while one is printing another does nothing");
    poke8(0x50, 0, 0);
    unhook(0x17, old);
}

// ---- PS/2 mouse ----------------------------------------------------------------------------------------------------

void mouse_packet(uint8_t status, uint8_t x, uint8_t y) {
    const uint8_t bytes[3] = {status, x, y};
    for (uint8_t byte : bytes) {
        Deadline deadline(1000);
        while ((inb(0x64) & 0x01) && !deadline.passed()) {
        }
        controller(0xD3, byte);
        delay_milliseconds(5);
    }
    delay_milliseconds(20);
}

void test_mouse() {
    check_equal(call(0x15, 0xC200, 0x0100).ah(), 0x05, "INT 15h/C200 wants a handler first");
    Registers r = call(0x15, 0xC205, 0x0300);
    check(!r.carry() && r.ah() == 0, "INT 15h/C205 initialises the mouse for 3-byte packets");
    r = call(0x15, 0xC201);
    check(!r.carry() && r.bx() == 0x00AA, "INT 15h/C201 resets it: self-test AAh, a standard mouse");
    check(!call(0x15, 0xC202, 0x0500).carry(), "INT 15h/C202 sets 100 reports a second");
    check(!call(0x15, 0xC203, 0x0300).carry(), "INT 15h/C203 sets 8 counts a millimetre");
    r = call(0x15, 0xC204);
    check(!r.carry() && r.bx() >> 8 == 0, "INT 15h/C204 identifies it");
    check(!call(0x15, 0xC206, 0x0200).carry(), "INT 15h/C206 sets 2:1");
    r = call(0x15, 0xC206, 0x0000);
    check(!r.carry() && (r.ebx & 0xFF) == 0x10 && (r.ecx & 0xFF) == 3 && (r.edx & 0xFF) == 100,
          "and reads all of it back");
    call(0x15, 0xC206, 0x0100);
    check_equal(call(0x15, 0xC202, 0x0900).ah(), 0x02, "a wrong rate is refused");
    check_equal(call(0x15, 0xC209).ah(), 0x01, "a function that does not exist too");
    r = {};
    r.eax = 0xC207;
    r.ebx = offset_of(mouse_hook);
    check(!interrupt(0x15, r).carry(), "INT 15h/C207 takes a handler");
    r = call(0x15, 0xC200, 0x0100);
    check(!r.carry(), "INT 15h/C200 enables the mouse");
    r = call(0x15, 0xC206, 0x0000);
    check_equal(r.ebx & 0x20, 0x20, "whose status says so");
    check_equal(mouse_calls, 0, "no answer of the mouse reaches the handler");
    mouse_packet(0x29, 0x12, 0xFE);
    check_equal(mouse_calls, 1, "a packet calls the handler");
    check(mouse_words[0] == 0x29 && mouse_words[1] == 0x12 && mouse_words[2] == 0xFE && mouse_words[3] == 0,
          "with status, X, Y and 0 on its stack");
    mouse_packet(0x08, 0x01, 0x02);
    mouse_packet(0x0A, 0x03, 0x04);
    check_equal(mouse_calls, 3, "each packet calls it once");
    check_equal(mouse_words[2], 0x04, "with its own words");
    check_equal(inb(0xA1) & 0x10, 0, "IRQ 12 is open");
    check(!call(0x15, 0xC200, 0x0000).carry(), "the mouse is disabled");
    check_equal(call(0x16, 0x0100).zero(), 1, "and no mouse byte became a key");
}

// ---- INT 15h/89 ----------------------------------------------------------------------------------------------------

void describe(uint32_t index, uint32_t base, uint16_t limit, uint8_t access) {
    protected_gdt[index * 2] = base << 16 | limit;
    protected_gdt[index * 2 + 1] = (base >> 16 & 0xFF) | uint32_t{access} << 8 | (base & 0xFF000000);
}

void test_protected_mode() {
    describe(1, reinterpret_cast<uint32_t>(protected_gdt), sizeof(protected_gdt) - 1, 0x93);
    describe(2, reinterpret_cast<uint32_t>(protected_idt), sizeof(protected_idt) - 1, 0x93);
    for (uint32_t data = 3; data <= 5; ++data) describe(data, 0, 0xFFFF, 0x93);
    describe(6, 0, 0xFFFF, 0x9B);
    protected_idt[0x20 * 2] = 0x30u << 16 | offset_of(timer_gate);
    protected_idt[0x20 * 2 + 1] = 0x8600;  // present, 16-bit interrupt gate
    const uint8_t masks[2] = {inb(0x21), inb(0xA1)};
    enter_protected_mode();
    cli();
    const uint8_t words[2][4] = {{0x11, 0x08, 0x04, 0x01}, {0x11, 0x70, 0x02, 0x01}};
    for (uint8_t chip = 0; chip < 2; ++chip) {
        const uint16_t port = chip ? 0xA0 : 0x20;
        outb(port, words[chip][0]);
        for (uint8_t i = 1; i < 4; ++i) outb(port + 1, words[chip][i]);
        outb(port + 1, masks[chip]);
    }
    sti();
    check_equal(protected_status, 0, "INT 15h/89 succeeds");
    check(protected_msw & 1, "and comes back in protected mode");
    check_equal(protected_selectors[0], 0x30, "CS is the caller's descriptor at 30h");
    check(protected_selectors[1] == 0x18 && protected_selectors[2] == 0x20 && protected_selectors[3] == 0x28,
          "DS, ES and SS are 18h, 20h and 28h");
    check(protected_masks[0] == 0xFF && protected_masks[1] == 0xFF, "all interrupts are masked");
    check(timer_gate_calls >= 1, "BH is where IRQ 0 comes in the caller's IDT");
    check_equal(protected_gdt[15] >> 8 & 0xFF, 0x9B, "the BIOS filled the descriptor at 38h for itself");
    check_equal(inb(0x92) & 0x02, 0x02, "A20 is open");
    const uint16_t start = ticks();
    delay_milliseconds(200);
    check(ticks() != start, "back in real mode the ticks go on");
}

// ---- INT 15h/87 ----------------------------------------------------------------------------------------------------

uint8_t move_gdt[48];

Registers move(uint32_t from, uint32_t to, uint16_t words) {
    const auto put = [](uint32_t index, uint32_t base) {
        uint8_t* entry = move_gdt + index * 8;
        entry[0] = entry[1] = 0xFF;
        entry[2] = static_cast<uint8_t>(base);
        entry[3] = static_cast<uint8_t>(base >> 8);
        entry[4] = static_cast<uint8_t>(base >> 16);
        entry[5] = 0x93;
        entry[6] = 0;
        entry[7] = static_cast<uint8_t>(base >> 24);
    };
    put(2, from);
    put(3, to);
    Registers r;
    r.eax = 0x8700;
    r.ecx = words;
    r.esi = offset_of(move_gdt);
    r.edi = 0x12345678;
    r.ebp = 0x9ABCDEF0;
    return interrupt(0x15, r);
}

void test_move() {
    const uint8_t a20 = inb(0x92);
    outb(0x92, a20 & 0xFC);
    for (uint32_t i = 0; i < 512; ++i) block[i] = static_cast<uint8_t>(i * 3);
    Registers r = move(reinterpret_cast<uint32_t>(block), 0x100000 + 0x234567, 201);
    check(!r.carry() && r.ah() == 0 && r.zero(), "INT 15h/87 moves an odd number of words with A20 closed");
    check(r.ecx == 201 && r.edi == 0x12345678 && r.ebp == 0x9ABCDEF0, "and keeps the registers");
    check_equal(inb(0x92) & 0x02, 0, "and A20");
    for (uint32_t i = 0; i < 512; ++i) block[i] = 0xEE;
    r = move(0x100000 + 0x234567, reinterpret_cast<uint32_t>(block), 201);
    bool same = !r.carry();
    for (uint32_t i = 0; i < 402; ++i) same = same && block[i] == static_cast<uint8_t>(i * 3);
    check(same && block[402] == 0xEE, "every word of them and not one more");
    check(!move(0x200000, 0x300000, 0x8000).carry(), "64 KiB is the most");
    check_equal(move(0x200000, 0x300000, 0x8001).ah(), 2, "more is refused");
    check(!move(0x200000, 0x300000, 0).carry(), "0 words are moved at once");
    outb(0x92, a20);
    const uint16_t start = ticks();
    delay_milliseconds(150);
    check(ticks() != start, "interrupts go on after it");
}

}  // namespace

extern "C" void guest_main() {
    test_restart();
    test_move();
    test_waits();
    test_clock();
    test_serial();
    test_printer();
    test_print_screen();
    test_mouse();
    test_protected_mode();
    finish();
}
