// Four CPUs at work on the same memory: what LOCK, the order of accesses, interrupts between CPUs and rewritten code
// promise, whatever runs the CPUs.

#include "guest-tests/runtime/cards.hpp"

using namespace guest;

extern "C" char ap_start[], ap_start_end[];
extern "C" char ipi_entry[];
extern "C" {
volatile uint32_t ipi_count[4];  // by CPU
volatile uint32_t started = 0;
}
extern "C" void ap_main();

asm(R"(
    .text
# Copied to a page of its own. Each CPU takes 512 bytes of stack below 6000h.
    .globl ap_start, ap_start_end
ap_start:
    cli
    cld
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    incl %eax
    lock xaddl %eax, started
    shll $9, %eax
    movl $0x6000, %esp
    subl %eax, %esp
    ljmpw $0, $1f
ap_start_end:
1:  calll ap_main
2:  cli
    hlt
    jmp 2b

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
    andl $3, %ebx
    lock incl ipi_count(,%ebx,4)
    movl $0xFEE000B0, %ebx
    movl %eax, %gs:(%ebx)
    popw %gs
    popw %ds
    popl %ebx
    popl %eax
    iretw
)");

namespace {

constexpr uint32_t apic = 0xFEE00000, apic_id = 0x20, task_priority = 0x80, spurious = 0xF0, icr_low = 0x300,
                   icr_high = 0x310;
constexpr uint32_t all_others = 0xC0000;
constexpr uint8_t ipi_vector = 0x60;
constexpr uint16_t start_page = 0x70;  // 70000h
constexpr uint32_t cpus = 4, rounds = 120;

void relax() {
    asm volatile("pause" ::: "memory");
}
void send(uint32_t to, uint32_t command) {
    write32(apic + icr_high, to << 24);
    write32(apic + icr_low, command);
    while (read32(apic + icr_low) & 0x1000) relax();
}

// All CPUs wait here for the last of them, each time; the count has a line of its own.
alignas(64) volatile uint32_t met = 0;
void meet() {
    uint32_t mine = 1;
    asm volatile("lock xaddl %0, %1" : "+r"(mine), "+m"(met)::"memory");
    const uint32_t all = (mine / cpus + 1) * cpus;
    while (static_cast<int32_t>(met - all) < 0) relax();
}

struct alignas(64) Shared {
    volatile uint32_t counter = 0, sum = 0, carries = 0;
    volatile uint8_t bits = 0;
    alignas(8) volatile uint32_t pair[2] = {};
    alignas(64) volatile uint32_t lock = 0;
    alignas(64) volatile uint32_t guarded = 0;
    alignas(64) volatile uint32_t stored[2] = {};
    alignas(64) volatile uint32_t loaded[2] = {};
    alignas(64) volatile uint32_t broken = 0;
    alignas(64) volatile uint8_t apart[128] = {};
} shared;

void count_with_lock(uint32_t) {
    for (uint32_t i = 0; i < rounds; ++i) {
        uint32_t three = 3;
        asm volatile("lock incl %0" : "+m"(shared.counter));
        asm volatile("lock xaddl %0, %1" : "+r"(three), "+m"(shared.sum));
        asm volatile("lock btcl $0, %0; jnc 1f; lock incl %1; 1:" : "+m"(shared.bits), "+m"(shared.carries));
        // Across a cache line.
        asm volatile("lock incl %0" : "+m"(*reinterpret_cast<volatile uint32_t*>(&shared.apart[62])));
        uint32_t low = shared.pair[0], high = shared.pair[1];
        bool done = false;
        while (!done) {
            asm volatile("lock cmpxchg8b %0; sete %1"
                         : "+m"(shared.pair), "=q"(done), "+a"(low), "+d"(high)
                         : "b"(low + 1), "c"(high + 2)
                         : "memory");
        }
    }
}

void count_in_spinlock(uint32_t) {
    for (uint32_t i = 0; i < rounds; ++i) {
        uint32_t taken = 1;
        while (true) {
            asm volatile("xchgl %0, %1" : "+r"(taken), "+m"(shared.lock)::"memory");
            if (taken == 0) break;
            while (shared.lock) relax();
            taken = 1;
        }
        shared.guarded = shared.guarded + 1;
        asm volatile("movl $0, %0" : "=m"(shared.lock)::"memory");
    }
}

// CPUs 0 and 1 each store and then load what the other stores: with a locked instruction between, one sees the other.
void store_and_load(uint32_t number) {
    for (uint32_t i = 0; i < rounds; ++i) {
        if (number < 2) {
            shared.stored[number] = 1;
            asm volatile("lock orl $0, (%%esp)" ::: "memory");
            shared.loaded[number] = shared.stored[1 - number];
        }
        meet();
        if (number == 0) {
            if (shared.loaded[0] == 0 && shared.loaded[1] == 0) shared.broken = shared.broken + 1;
            shared.stored[0] = 0;
            shared.stored[1] = 0;
        }
        meet();
    }
}

// A function that CPU 0 rewrites, in a page of its own: mov $n, %eax; retl.
constexpr uint32_t function = 0x4000;
volatile uint32_t version = 0;
void call_rewritten(uint32_t number) {
    for (uint32_t i = 1; i <= rounds / 4; ++i) {
        if (number == 0) {
            *reinterpret_cast<volatile uint32_t*>(function + 2) = i;
            version = i;
        }
        while (version != i) relax();
        uint32_t leaf = 0, got = 0;
        asm volatile("cpuid" : "+a"(leaf)::"ebx", "ecx", "edx", "memory");  // serializes
        asm volatile("calll *%1" : "=a"(got) : "r"(function) : "ecx", "edx", "memory");
        if (got != i) asm volatile("lock incl %0" : "+m"(shared.broken));
        meet();
    }
}

// Waits for as many interrupts as CPU 0 sends, half of the time in HLT.
void take_interrupts(uint32_t number) {
    const uint32_t first = ipi_count[number];
    meet();
    for (uint32_t i = 1; i <= rounds; ++i) {
        if (number == 0) {
            send(0, all_others | 0x4000 | ipi_vector);
        } else {
            while (true) {
                cli();
                if (ipi_count[number] - first >= i) break;
                if (i & 1) {
                    sti_hlt();
                } else {
                    sti();
                    relax();
                }
            }
            sti();
        }
        meet();
    }
}

void (*const volatile tasks[])(uint32_t) = {count_with_lock, count_in_spinlock, store_and_load, call_rewritten,
                                            take_interrupts};
volatile uint32_t task = 0;  // how many have begun

void run_all() {
    const uint32_t number = task;
    task = number + 1;
    tasks[number](0);
    meet();
}

}  // namespace

extern "C" void ap_main() {
    make_segments_flat();
    const uint32_t number = read32(apic + apic_id) >> 24;
    write32(apic + task_priority, 0);
    write32(apic + spurious, 0x17F);
    sti();
    meet();
    for (uint32_t next = 0; next < sizeof tasks / sizeof tasks[0]; ++next) {
        while (task == next) relax();
        tasks[next](number);
        meet();
    }
}

extern "C" void guest_main() {
    make_segments_flat();
    write32(apic + task_priority, 0);
    write32(apic + spurious, 0x17F);
    poke16(0, ipi_vector * 4, static_cast<uint16_t>(reinterpret_cast<uint32_t>(ipi_entry)));
    poke16(0, ipi_vector * 4 + 2, 0);
    for (uint16_t i = 0; i < ap_start_end - ap_start; ++i) {
        poke8(start_page << 8, i, static_cast<uint8_t>(ap_start[i]));
    }
    send(0, all_others | 0x4500);
    delay_milliseconds(10);
    send(0, all_others | 0x4600 | start_page);
    Deadline deadline(20000);
    while (started != cpus - 1 && !deadline.passed()) relax();
    check_equal(started, cpus - 1, "INIT and SIPI to all others start three CPUs");
    if (started != cpus - 1) finish();
    meet();

    run_all();
    check_equal(shared.counter, cpus * rounds, "LOCK INC of four CPUs loses nothing");
    check_equal(shared.sum, 3 * cpus * rounds, "nor does LOCK XADD");
    check_equal(shared.carries, cpus * rounds / 2, "LOCK BTC finds the bit set every second time");
    check_equal(*reinterpret_cast<volatile uint32_t*>(&shared.apart[62]), cpus * rounds,
                "LOCK INC across a cache line loses nothing");
    check_equal(shared.pair[0], cpus * rounds, "CMPXCHG8B counts");
    check_equal(shared.pair[1], 2 * cpus * rounds, "with both halves");
    run_all();
    check_equal(shared.guarded, cpus * rounds, "a spinlock lets one CPU in at a time");
    run_all();
    check_equal(shared.broken, 0, "no load passes a store over a locked instruction");
    const uint8_t code[] = {0x66, 0xB8, 0, 0, 0, 0, 0x66, 0xC3};
    for (uint32_t i = 0; i < sizeof code; ++i) *reinterpret_cast<volatile uint8_t*>(function + i) = code[i];
    run_all();
    check_equal(shared.broken, 0, "rewritten code is new for all CPUs");
    run_all();
    for (uint32_t n = 1; n < cpus; ++n) check_equal(ipi_count[n], rounds, "interrupts to all others arrive at each");
    finish();
}
