// Two CPUs, their local APICs and the IOAPIC.

#include "guest-tests/runtime/cards.hpp"

using namespace guest;

extern "C" char ap_start[], ap_start_end[];
extern "C" char ipi_entry[], timer_entry[], ioapic_entry[], nmi_entry[];
extern "C" {
volatile uint32_t ipi_count[2];  // by local APIC ID
volatile uint32_t timer_count = 0, ioapic_count = 0, nmi_count = 0;
volatile uint16_t ap_code_segment = 0;
}
extern "C" void ap_main();

asm(R"(
    .text
# Copied to a page of its own: a SIPI gives the page. CS is that page.
    .globl ap_start, ap_start_end
ap_start:
    cli
    cld
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x6000, %esp
    movw %cs, %ax
    movw %ax, ap_code_segment
    ljmpw $0, $1f
ap_start_end:
1:  calll ap_main
2:  hlt
    jmp 2b

# Each handler counts and ends its interrupt at the local APIC.
    .macro apic_handler name, counter
    .globl \name
\name:
    pushl %eax
    pushw %ds
    pushw %gs
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %gs
    lock incl \counter
    movl $0xFEE000B0, %eax
    movl $0, %gs:(%eax)
    popw %gs
    popw %ds
    popl %eax
    iretw
    .endm
    apic_handler timer_entry, timer_count
    apic_handler ioapic_entry, ioapic_count
    .globl ipi_entry
ipi_entry:
    pushl %eax
    pushl %ebx
    pushw %ds
    pushw %gs
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %gs
    movl $0xFEE00020, %ebx
    movl %gs:(%ebx), %ebx
    shrl $24, %ebx
    andl $1, %ebx
    lock incl ipi_count(,%ebx,4)
    movl $0xFEE000B0, %ebx
    movl %eax, %gs:(%ebx)
    popw %gs
    popw %ds
    popl %ebx
    popl %eax
    iretw
    .globl nmi_entry
nmi_entry:
    pushl %eax
    pushw %ds
    xorl %eax, %eax
    movw %ax, %ds
    lock incl nmi_count
    popw %ds
    popl %eax
    iretw
)");

namespace {

constexpr uint32_t apic = 0xFEE00000, ioapic = 0xFEC00000;
constexpr uint32_t apic_id = 0x20, apic_version = 0x30, task_priority = 0x80, spurious = 0xF0, icr_low = 0x300,
                   icr_high = 0x310, lvt_timer = 0x320, timer_initial = 0x380, timer_current = 0x390,
                   timer_divide = 0x3E0;
constexpr uint8_t ipi_vector = 0x60, timer_vector = 0x61, ioapic_vector = 0x62;
constexpr uint16_t start_page = 0x70;  // 70000h
constexpr uint32_t rounds = 20000;

uint32_t read_ioapic(uint8_t index) {
    write32(ioapic, index);
    return read32(ioapic + 0x10);
}

void write_ioapic(uint8_t index, uint32_t value) {
    write32(ioapic, index);
    write32(ioapic + 0x10, value);
}

void set_vector(uint8_t vector, const char* entry) {
    poke16(0, static_cast<uint16_t>(vector * 4), static_cast<uint16_t>(reinterpret_cast<uint32_t>(entry)));
    poke16(0, static_cast<uint16_t>(vector * 4 + 2), 0);
}

// What the second CPU does next, and what it has done.
enum class Task : uint32_t { halt, count, send, clear_halt, run_on };
volatile Task task = Task::halt;
volatile uint32_t starts = 0, tasks_done = 0, ap_id = 0xFF;
volatile uint32_t shared_count = 0;

template <class Condition>
bool wait_for(Condition condition, uint32_t milliseconds = 3000) {
    Deadline deadline(milliseconds);
    while (!condition()) {
        if (deadline.passed()) return condition();
    }
    return true;
}

void send(uint8_t to, uint32_t command) {
    write32(apic + icr_high, uint32_t{to} << 24);
    write32(apic + icr_low, command);
    wait_for([] { return !(read32(apic + icr_low) & 0x1000); }, 500);
}

void count_together() {
    for (uint32_t i = 0; i < rounds; ++i) asm volatile("lock incl %0" : "+m"(shared_count));
}

void test_local_apic() {
    make_segments_flat();
    check_equal(read32(apic + apic_id) >> 24, 0, "the first CPU has local APIC 0");
    const uint32_t version = read32(apic + apic_version);
    check_between(version & 0xFF, 0x10, 0x1F, "which is an integrated one");
    check_between(version >> 16 & 0xFF, 3, 7, "with a local vector table");
    uint32_t eax = 1, ebx = 0, ecx = 0, edx = 0;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    check(edx & 0x200, "CPUID says that it is there");
    check_equal(ebx >> 24, 0, "and gives its ID");
    check_equal(read_cmos(0x5F), 1, "CMOS 5Fh counts one further CPU");
    write32(apic + task_priority, 0);
    write32(apic + spurious, 0x17F);
    check_equal(read32(apic + spurious) & 0x1FF, 0x17F, "the spurious vector register enables it");
    set_vector(ipi_vector, ipi_entry);
    set_vector(timer_vector, timer_entry);
    set_vector(ioapic_vector, ioapic_entry);
    set_vector(2, nmi_entry);
    sti();
    write32(apic + icr_low, 0x40000 | ipi_vector);
    check(wait_for([] { return ipi_count[0] == 1; }), "an interrupt to itself arrives");
    write32(apic + timer_divide, 0x0B);
    write32(apic + lvt_timer, timer_vector);
    write32(apic + timer_initial, 100'000);
    check(wait_for([] { return timer_count == 1; }), "the timer interrupts");
    check_equal(read32(apic + timer_current), 0, "once, and stands at 0");
    write32(apic + lvt_timer, 0x20000 | timer_vector);
    write32(apic + timer_initial, 1'000'000);
    check(wait_for([] { return timer_count >= 4; }), "a periodic one goes on");
    write32(apic + lvt_timer, 0x10000);
    write32(apic + timer_initial, 0);
}

void test_ioapic() {
    check_equal(read_ioapic(0x01) >> 16 & 0xFF, 23, "the IOAPIC has 24 pins");
    check_between(read_ioapic(0x01) & 0xFF, 0x11, 0x2F, "and the version of one");
    check(read_ioapic(0x10 + 2 * 5) & 0x10000, "its pins are masked");
    write_ioapic(0x10 + 2 * 5, 0x1A955);
    check_equal(read_ioapic(0x10 + 2 * 5), 0x1A955, "an entry reads back");
    write_ioapic(0x10 + 2 * 5, 0x10000);
    const uint8_t mask = inb(0x21);
    outb(0x21, mask | 0x01);
    write_ioapic(0x11 + 2 * 2, 0x00000000);
    write_ioapic(0x10 + 2 * 2, ioapic_vector);
    check(wait_for([] { return ioapic_count >= 3; }), "IRQ0 arrives through pin 2");
    write_ioapic(0x10 + 2 * 2, 0x10000 | ioapic_vector);
    delay_milliseconds(1);
    const uint32_t before = ioapic_count;
    delay_milliseconds(150);
    check_equal(ioapic_count, before, "and not through a masked one");
    write_ioapic(0x11 + 2 * 2, 0x01000000);
    outb(0x21, mask);
}

bool start_second(uint8_t page) {
    const uint32_t before = starts;
    for (uint16_t i = 0; i < ap_start_end - ap_start; ++i) {
        poke8(static_cast<uint16_t>(page << 8), i, static_cast<uint8_t>(ap_start[i]));
    }
    send(1, 0x4500);
    delay_milliseconds(10);
    send(1, 0x4600u | page);
    return wait_for([before] { return starts == before + 1; });
}

bool run(Task next) {
    const uint32_t before = tasks_done;
    task = next;
    send(1, 0x4000u | ipi_vector);
    return wait_for([before] { return tasks_done != before; });
}

void test_second_cpu() {
    delay_milliseconds(20);
    check_equal(starts, 0, "the second CPU waits");
    check(start_second(start_page), "INIT and SIPI start it");
    check_equal(ap_id, 1, "it has local APIC 1");
    check_equal(ap_code_segment, start_page << 8, "and began in the page of the SIPI");
    send(1, 0x4600u | start_page);
    delay_milliseconds(20);
    check_equal(starts, 1, "a further SIPI does nothing");

    const uint32_t taken = ipi_count[1];
    check(run(Task::halt), "an interrupt wakes it from HLT");
    check_equal(ipi_count[1], taken + 1, "and is its own");

    const uint32_t done = tasks_done;
    task = Task::count;
    send(1, 0x4000u | ipi_vector);
    count_together();
    check(wait_for([done] { return tasks_done != done; }), "both CPUs count at once");
    check_equal(shared_count, 2 * rounds, "and lose nothing");

    const uint32_t own = ipi_count[0];
    check(run(Task::send), "it sends an interrupt");
    check(wait_for([own] { return ipi_count[0] == own + 1; }), "which the first CPU takes");

    const uint32_t nmis = nmi_count;
    check(run(Task::clear_halt), "it halts with interrupts off");
    send(1, 0x4400);
    check(wait_for([nmis] { return nmi_count == nmis + 1; }), "an NMI reaches it all the same");

    // The second page also shows that the first start is over.
    check(start_second(start_page + 1), "INIT takes it from there, and SIPI starts it anew");
    check_equal(ap_code_segment, (start_page + 1) << 8, "in another page");
    write_ioapic(0x11 + 2 * 2, 0x01000000);
    const uint8_t mask = inb(0x21);
    outb(0x21, mask | 0x01);
    const uint32_t before = ioapic_count;
    write_ioapic(0x10 + 2 * 2, ioapic_vector);
    check(wait_for([before] { return ioapic_count >= before + 2; }), "the IOAPIC reaches it, too");
    write_ioapic(0x10 + 2 * 2, 0x10000);
    outb(0x21, mask);
}

constexpr uint8_t cmos_points = 0x41, cmos_failed = 0x42, cmos_magic = 0x43, magic = 0x5B;

uint32_t run_on_count() {
    return peek16(0, 0x600) | static_cast<uint32_t>(peek16(0, 0x602)) << 16;
}

void reset_while_it_runs() {
    const uint32_t before = run_on_count();
    task = Task::run_on;
    send(1, 0x4000u | ipi_vector);
    check(wait_for([before] { return run_on_count() != before; }), "the second CPU runs in a loop");
    write_cmos(cmos_points, static_cast<uint8_t>(report().points));
    write_cmos(cmos_failed, static_cast<uint8_t>(report().failed));
    write_cmos(cmos_magic, magic);
    flush_report();
    outb(0xCF9, 0x02);
    outb(0xCF9, 0x06);
    delay_milliseconds(2000);
    check(false, "a reset of the machine stops it");
}

void test_after_reset() {
    write_cmos(cmos_magic, 0);
    continue_report({read_cmos(cmos_points), read_cmos(cmos_failed)});
    const uint32_t before = run_on_count();
    delay_milliseconds(20);
    check_equal(run_on_count(), before, "a reset of the machine stops it");
    make_segments_flat();
    check_equal(read32(apic + spurious) & 0x1FF, 0xFF, "and resets the local APIC");
    write32(apic + spurious, 0x17F);
    set_vector(ipi_vector, ipi_entry);
    check(start_second(start_page), "after which INIT and SIPI start it again");
    check(run(Task::halt), "and it takes interrupts");
}

}  // namespace

extern "C" void ap_main() {
    make_segments_flat();
    ap_id = read32(apic + apic_id) >> 24;
    write32(apic + task_priority, 0);
    write32(apic + spurious, 0x17F);
    starts = starts + 1;
    for (;;) {
        cli();
        const uint32_t taken = ipi_count[1];
        while (ipi_count[1] == taken) {
            sti_hlt();
            cli();
        }
        switch (task) {
            case Task::halt: break;
            case Task::count: count_together(); break;
            case Task::send:  // without send()'s look at the PIT, which the first CPU reads
                write32(apic + icr_high, 0);
                write32(apic + icr_low, 0x4000u | ipi_vector);
                break;
            case Task::run_on:
                for (;;) asm volatile("lock incl 0x600" ::: "memory");
            case Task::clear_halt:
                cli();
                tasks_done = tasks_done + 1;
                for (;;) asm volatile("hlt");
        }
        tasks_done = tasks_done + 1;
    }
}

extern "C" void guest_main() {
    if (read_cmos(cmos_magic) == magic) {
        test_after_reset();
        finish();
    }
    test_local_apic();
    test_ioapic();
    test_second_cpu();
    reset_while_it_runs();
    finish();
}
