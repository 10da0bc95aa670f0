// CPUs that each have a thread: guest code in 64-bit mode that does to memory what x86 promises about it.
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "vmm/core/catch.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/engine/soft/soft_engine.hpp"

using namespace viv;

// The programs, for a page of their own at `code`. RDI is the number of the CPU, RSI the count of rounds, RBP a page of
// shared data. They end with OUT.
asm(R"(
    .macro program name
    .pushsection .rodata
    .globl program_\name, program_\name\()_end
program_\name:
    .endm
    .macro done name
    outb %al, $0xF4
1:  hlt
    jmp 1b
program_\name\()_end:
    .popsection
    .endm
    # All four meet here; uses RAX and the counter at `offset`.
    .macro meet offset
    lock incl \offset(%rbp)
8:  pause
    movl \offset(%rbp), %eax
    testl $3, %eax
    jnz 8b
    .endm

    # Each kind of locked instruction, aligned and across a cache line, a page.
    program counters
1:  lock incl (%rbp)
    movl $2, %eax
    lock xaddl %eax, 4(%rbp)
    lock addw $1, 9(%rbp)
    lock addq $1, 0x7C(%rbp)
    lock incq 0xFFD(%rbp)
    lock btcl $0, 16(%rbp)
    adcl $0, %ebx
    movl 20(%rbp), %eax
2:  leal 3(%rax), %ecx
    lock cmpxchgl %ecx, 20(%rbp)
    jne 2b
    decq %rsi
    jnz 1b
    lock addl %ebx, 24(%rbp)
    done counters

    # A counter of 128 bits, whose halves must never be seen apart; and one of 64 by CMPXCHG8B.
    program wide
    xorl %r9d, %r9d
1:  xorl %eax, %eax
    xorl %edx, %edx
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    lock cmpxchg16b (%rbp)
2:  leaq 1(%rax), %rbx
    leaq 1(%rdx), %rcx
    movq %rax, %r8
    subq %rdx, %r8
    orq %r8, %r9
    lock cmpxchg16b (%rbp)
    jne 2b
    movl 32(%rbp), %eax
    movl 36(%rbp), %edx
3:  leal 1(%rax), %ebx
    leal 1(%rdx), %ecx
    lock cmpxchg8b 32(%rbp)
    jne 3b
    decq %rsi
    jnz 1b
    orq %r9, 48(%rbp)
    done wide

    # A lock taken by XCHG and given back by a plain store around a plain increment.
    program spinlock
1:  movl $1, %eax
    xchgl %eax, (%rbp)
    testl %eax, %eax
    jz 3f
2:  pause
    cmpl $0, (%rbp)
    jne 2b
    jmp 1b
3:  incq 64(%rbp)
    movl $0, (%rbp)
    decq %rsi
    jnz 1b
    done spinlock

    # Store buffering with CPUs 0 and 1: each stores and loads what the other stores. Both may load 0 without a fence
    # between, and never with one: R8 says which (0 none, 1 MFENCE, 2 a locked instruction, 3 XCHG, 4 CPUID).
    program buffering
    movq %rdi, %r9
    xorq $1, %r9
1:  movl $1, %ecx
    cmpl $3, %r8d
    je 4f
    movl %ecx, 64(%rbp,%rdi,4)
    cmpl $1, %r8d
    jb 5f
    je 2f
    cmpl $2, %r8d
    je 3f
    xorl %eax, %eax
    cpuid
    jmp 5f
2:  mfence
    jmp 5f
3:  lock orl $0, (%rsp)
    jmp 5f
4:  xchgl %ecx, 64(%rbp,%rdi,4)
5:  movl 64(%rbp,%r9,4), %r10d
    movl %r10d, 128(%rbp,%rdi,4)
    # Meet, let CPU 0 count and clear, meet again.
    lock incl (%rbp)
6:  movl (%rbp), %eax
    testl $1, %eax
    jnz 6b
    testl %edi, %edi
    jnz 7f
    movl 128(%rbp), %eax
    orl 132(%rbp), %eax
    cmpl $1, %eax
    adcl $0, 192(%rbp)
    movl $0, 64(%rbp)
    movl $0, 68(%rbp)
7:  lock incl 4(%rbp)
8:  movl 4(%rbp), %eax
    testl $1, %eax
    jnz 8b
    decq %rsi
    jnz 1b
    done buffering

    # Message passing: CPU 0 writes a value and then its number; the others must find the value behind the number.
    program messages
    xorl %r9d, %r9d
    testl %edi, %edi
    jnz 2f
1:  incl %r9d
    movq %r9, 64(%rbp)
    movl %r9d, (%rbp)
    decq %rsi
    jnz 1b
    jmp 4f
2:  movl (%rbp), %eax
    movq 64(%rbp), %rcx
    cmpq %rax, %rcx
    adcl $0, %r9d
    cmpl %esi, %eax
    jb 2b
    lock addl %r9d, 192(%rbp)
4:  done messages

    # CPU 0 rewrites an instruction of a function and says so; the others wait, serialize and call it. The function is at
    # 2048 of the page of code, and returns the number.
    program patching
    xorl %r12d, %r12d
    leaq program_patching(%rip), %r13
    addq $2048, %r13
    testl %edi, %edi
    jnz 3f
1:  incl %r12d
    movl %r12d, 1(%r13)
    movl %r12d, (%rbp)
2:  pause
    movl %r12d, %eax
    leal (%rax,%rax,2), %eax
    cmpl %eax, 4(%rbp)
    jne 2b
    cmpl %esi, %r12d
    jb 1b
    jmp 6f
3:  incl %r12d
4:  pause
    cmpl %r12d, (%rbp)
    jne 4b
    xorl %eax, %eax
    cpuid
    call *%r13
    cmpl %r12d, %eax
    je 5f
    lock incl 192(%rbp)
5:  lock incl 4(%rbp)
    cmpl %esi, %r12d
    jb 3b
6:  done patching

    # Each CPU interrupts the next one when it has been interrupted, waiting in HLT. The handler counts in R15.
    program interrupts
    movl $0x80F, %ecx
    movl $0x1FF, %eax
    xorl %edx, %edx
    wrmsr
    xorl %r15d, %r15d
    xorl %r12d, %r12d
    meet 0
1:  incl %r12d
    testl %edi, %edi
    jnz 2f
    call 5f
2:  cli
    cmpl %r12d, %r15d
    jae 3f
    sti
    hlt
    jmp 2b
3:  sti
    testl %edi, %edi
    jz 4f
    call 5f
4:  decq %rsi
    jnz 1b
    meet 4
    lock addl %r15d, 64(%rbp)
    jmp 6f
5:  leal 1(%rdi), %edx
    andl $3, %edx
    movl $0x830, %ecx
    movl $0x4040, %eax
    wrmsr
    ret
6:  done interrupts
    .pushsection .rodata
    .globl program_handler, program_handler_end
program_handler:
    incl %r15d
    pushq %rax
    pushq %rcx
    pushq %rdx
    xorl %eax, %eax
    xorl %edx, %edx
    movl $0x80B, %ecx
    wrmsr
    popq %rdx
    popq %rcx
    popq %rax
    iretq
program_handler_end:
    .popsection

    # The local APIC's timer, which the machine runs, wakes each CPU from HLT.
    program timers
    movl $0x80F, %ecx
    movl $0x1FF, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x83E, %ecx
    movl $0xB, %eax
    wrmsr
    movl $0x832, %ecx
    movl $0x40, %eax
    wrmsr
    xorl %r15d, %r15d
1:  movl %r15d, %r12d
    movl $0x838, %ecx
    movl $20000, %eax
    xorl %edx, %edx
    wrmsr
2:  cli
    cmpl %r12d, %r15d
    jne 3f
    sti
    hlt
    jmp 2b
3:  sti
    decq %rsi
    jnz 1b
    lock addl %r15d, 64(%rbp)
    done timers

    # All CPUs set bits of page table entries that the walks of the others write, too: 64 pages, again and again.
    program tables
1:  movl $63, %ecx
2:  movl %ecx, %eax
    shll $12, %eax
    addl $0x200000, %eax
    lock andq $~0x60, 0x6000(,%rcx,8)
    invlpg (%rax)
    lock incl (%rax)
    decl %ecx
    jns 2b
    decq %rsi
    jnz 1b
    done tables

    # CPUs 0 and 1 load a segment whose accessed bit they clear, CPUs 2 and 3 change other bits of that byte. Then all ask
    # for one TSS, which is given to one at a time; #GP sets R9.
    program descriptors
    movl %edi, %ecx
    movl $8, %r10d
    shll %cl, %r10d
    xorl %r11d, %r11d
1:  testl $2, %edi
    jnz 2f
    lock andb $0xFE, 0x801D
    movl $24, %eax
    movl %eax, %es
    jmp 3f
2:  lock xorb %r10b, 0x801D
    xorb %r10b, %r11b
    movb 0x801D, %al
    xorb %r11b, %al
    testb %r10b, %al
    jz 3f
    lock incl 192(%rbp)
3:  xorl %r9d, %r9d
    movl $32, %eax
    ltr %ax
    testl %r9d, %r9d
    jnz 5f
    movl $1, %eax
    lock xaddl %eax, 64(%rbp)
    testl %eax, %eax
    jz 4f
    lock incl 196(%rbp)
4:  lock incl 128(%rbp)
    lock decl 64(%rbp)
    lock andb $0xFD, 0x8025
5:  decq %rsi
    jnz 1b
    done descriptors

    # #GP of a LTR.
    program refused
    addq $8, %rsp
    addq $3, (%rsp)
    movl $1, %r9d
    iretq
    done refused
)");

#define VIV_PROGRAM(name)                                              \
    extern "C" const uint8_t program_##name[], program_##name##_end[]; \
    const std::span<const uint8_t> name##_program {                    \
        program_##name, program_##name##_end                           \
    }
VIV_PROGRAM(counters);
VIV_PROGRAM(wide);
VIV_PROGRAM(spinlock);
VIV_PROGRAM(buffering);
VIV_PROGRAM(messages);
VIV_PROGRAM(patching);
VIV_PROGRAM(interrupts);
VIV_PROGRAM(handler);
VIV_PROGRAM(timers);
VIV_PROGRAM(tables);
VIV_PROGRAM(descriptors);
VIV_PROGRAM(refused);

namespace {

constexpr uint64_t tables_at = 0x1000, gdt_at = 0x8000, idt_at = 0x9000, handler_at = 0xA000, stacks_at = 0x10000,
                   code_at = 0x20000, data_at = 0x30000;

/// Four CPUs in 64-bit mode, memory, and a clock whose timers a thread runs.
class ThreadedMachine {
  public:
    explicit ThreadedMachine(unsigned cpus = 4) : hosts_(cpus) {
        REQUIRE(memory.add(Gpa{0}, 0x400000, GuestMemory::Kind::ram, "ram"));
        auto made = make_soft_engine(EngineConfig{memory, cpus, "max"}, clock);
        REQUIRE(made);
        engine = std::move(*made);
        for (unsigned n = 0; n < cpus; ++n) {
            auto vcpu = engine->create_vcpu(VcpuId{n});
            REQUIRE(vcpu);
            hosts_[n].machine = this;
            hosts_[n].vcpu = std::move(*vcpu);
        }
        // The first 2 MiB as they are, the next through pages of 4 KiB.
        memory.store(Gpa{tables_at}, uint64_t{0x2003});
        memory.store(Gpa{0x2000}, uint64_t{0x3003});
        memory.store(Gpa{0x3000}, uint64_t{0x83});
        memory.store(Gpa{0x3008}, uint64_t{0x6003});
        for (uint64_t n = 0; n < 512; ++n) memory.store(Gpa{0x6000 + 8 * n}, (0x200000 + n * 0x1000) | 3);
        memory.store(Gpa{gdt_at + 8}, uint64_t{0x00209B0000000000});
        memory.store(Gpa{gdt_at + 16}, uint64_t{0x00CF93000000FFFF});
        memory.store(Gpa{idt_at + 0x40 * 16}, uint64_t{handler_at | 8u << 16 | uint64_t{0x8E00} << 32});
        put(handler_at, handler_program);
    }

    void put(uint64_t address, std::span<const uint8_t> bytes) { memory.write(Gpa{address}, std::as_bytes(bytes)); }
    template <class T = uint32_t>
    T data(uint64_t offset) {
        return memory.load<T>(Gpa{data_at + offset});
    }

    /// Runs a program on the first `cpus` CPUs, each in a thread, until all have ended it.
    void run(std::span<const uint8_t> program, uint64_t rounds, unsigned cpus = 4, uint64_t r8 = 0) {
        put(code_at, program);
        std::vector<std::thread> threads;
        for (unsigned n = 0; n < cpus; ++n) {
            hosts_[n].done = false;
            REQUIRE(hosts_[n].vcpu->set_state(entry(n, rounds, r8)));
        }
        std::atomic<unsigned> running{cpus};
        for (unsigned n = 0; n < cpus; ++n) {
            threads.emplace_back([&, n] {
                Host& host = hosts_[n];
                while (!host.done) static_cast<void>(host.vcpu->run(host, ~uint64_t{0}));
                --running;
            });
        }
        do {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
            const std::lock_guard hold(lock);
            clock.run_due();
            if (meanwhile) meanwhile();
        } while (running != 0);
        for (std::thread& thread : threads) thread.join();
    }

    std::mutex lock;
    GuestMemory memory;
    HostClock clock;
    std::unique_ptr<Engine> engine;
    std::function<void()> meanwhile;  // under the lock, while they run

  private:
    struct Host final : VcpuHost {
        uint64_t port_read(uint16_t, uint8_t) override { return 0; }
        void port_write(uint16_t, uint8_t, uint64_t) override {
            done = true;
            vcpu->kick();
        }
        void port_read_block(uint16_t, uint8_t, std::span<std::byte>) override {}
        void port_write_block(uint16_t, uint8_t, std::span<const std::byte>) override {}
        uint64_t memory_read(Gpa, uint8_t) override { return ~uint64_t{0}; }
        void memory_write(Gpa, uint8_t, uint64_t) override {}
        uint8_t acknowledge_interrupt() override { return 0; }
        void end_of_interrupt(uint8_t) override {}
        void hold_memory() override { machine->lock.lock(); }
        void release_memory() override { machine->lock.unlock(); }

        ThreadedMachine* machine = nullptr;
        std::unique_ptr<Vcpu> vcpu;
        std::atomic<bool> done{false};
    };

    static CpuState entry(unsigned cpu, uint64_t rounds, uint64_t r8) {
        CpuState s = reset_state(cpu == 0);
        s.cr0 = 0x80000033;
        s.cr3 = tables_at;
        s.cr4 = 0x620;
        s.efer = 0x500;
        s.cs = {.selector = 8, .limit = 0xFFFFFFFF, .type = 11, .long_mode = true};
        s.ss = {.selector = 16, .limit = 0xFFFFFFFF, .type = 3, .default_big = true};
        s.ds = s.es = s.ss;
        s.gdtr = {.base = gdt_at, .limit = 47};
        s.idtr = {.base = idt_at, .limit = 0xFFF};
        s.apic_base = 0xFEE00C00 | (cpu == 0 ? 0x100 : 0);
        s.activity = Activity::running;
        s.rip = code_at;
        s.gpr[RSP] = stacks_at + 0x1000 * (cpu + 1);
        s.gpr[RDI] = cpu;
        s.gpr[RSI] = rounds;
        s.gpr[RBP] = data_at;
        s.gpr[R8] = r8;
        return s;
    }

    std::vector<Host> hosts_;
};

constexpr uint32_t rounds = 2000;

}  // namespace

TEST_CASE("Locked instructions of four CPUs lose nothing, wherever the operand lies") {
    ThreadedMachine m;
    m.run(counters_program, rounds);
    CHECK(m.data(0) == 4 * rounds);
    CHECK(m.data(4) == 8 * rounds);
    CHECK(m.data<uint16_t>(9) == 4 * rounds);
    CHECK(m.data<uint64_t>(0x7C) == 4 * rounds);
    CHECK(m.data<uint64_t>(0xFFD) == 4 * rounds);
    CHECK(m.data(20) == 12 * rounds);
    // Every second complement finds the bit set.
    CHECK(m.data(24) == 2 * rounds);
    CHECK(m.data(16) == 0);
}

TEST_CASE("CMPXCHG16B and CMPXCHG8B see and change both halves at once") {
    ThreadedMachine m;
    m.run(wide_program, rounds);
    CHECK(m.data<uint64_t>(0) == 4 * rounds);
    CHECK(m.data<uint64_t>(8) == 4 * rounds);
    CHECK(m.data(32) == 4 * rounds);
    CHECK(m.data(36) == 4 * rounds);
}

TEST_CASE("A spinlock lets one CPU in at a time") {
    ThreadedMachine m;
    m.run(spinlock_program, rounds);
    CHECK(m.data<uint64_t>(64) == 4 * rounds);
}

TEST_CASE("Loads never pass stores over MFENCE, LOCK, XCHG and CPUID") {
    for (uint64_t fence = 0; fence <= 4; ++fence) {
        ThreadedMachine m;
        m.run(buffering_program, rounds, 2, fence);
        CAPTURE(fence);
        CHECK((fence == 0 || m.data(192) == 0));
    }
}

TEST_CASE("Stores are seen in their order") {
    ThreadedMachine m;
    m.run(messages_program, 20 * rounds);
    CHECK(m.data(192) == 0);
}

TEST_CASE("Code that another CPU has rewritten is new after a serializing instruction") {
    ThreadedMachine m;
    // mov eax, imm32; ret
    m.put(code_at + 2048, std::array<uint8_t, 6>{0xB8, 0, 0, 0, 0, 0xC3});
    m.run(patching_program, rounds / 4);
    CHECK(m.data(192) == 0);
    CHECK(m.data(4) == 3 * (rounds / 4));
}

TEST_CASE("Interrupts that CPUs send to each other all arrive, and wake from HLT") {
    ThreadedMachine m;
    m.run(interrupts_program, rounds);
    CHECK(m.data(64) == 4 * rounds);
}

TEST_CASE("Each CPU is woken by its local APIC's timer") {
    ThreadedMachine m;
    m.run(timers_program, 50);
    CHECK(m.data(64) == 4 * 50);
}

TEST_CASE("Page table entries that several CPUs write keep all their bits") {
    ThreadedMachine m;
    m.run(tables_program, rounds / 20);
    for (uint64_t n = 0; n < 64; ++n) {
        CHECK(m.memory.load<uint32_t>(Gpa{0x200000 + n * 0x1000}) == 4 * (rounds / 20));
        CHECK((m.memory.load<uint64_t>(Gpa{0x6000 + 8 * n}) & ~uint64_t{0x60}) == (0x200003 + n * 0x1000));
    }
}

TEST_CASE("Accessed bits of descriptors and the busy bit of a TSS are set by locked accesses") {
    ThreadedMachine m;
    constexpr uint64_t refused_at = 0xB000;
    m.memory.store(Gpa{gdt_at + 24}, uint64_t{0x00CF92000000FFFF});
    m.memory.store(Gpa{gdt_at + 32}, uint64_t{0x0000890000000067});
    m.memory.store(Gpa{idt_at + 13 * 16}, uint64_t{refused_at | 8u << 16 | uint64_t{0x8E00} << 32});
    m.put(refused_at, refused_program);
    m.run(descriptors_program, 10 * rounds);
    CHECK(m.data(192) == 0);
    CHECK(m.data(196) == 0);
    CHECK(m.data(128) > 0);
    CHECK(m.data(64) == 0);
    CHECK(m.memory.load<uint8_t>(Gpa{gdt_at + 37}) == 0x89);
}

TEST_CASE("Memory changes and devices write while CPUs run") {
    ThreadedMachine m;
    const auto store = m.memory.add_store(0x1000, "window");
    REQUIRE(store);
    uint32_t turns = 0;
    m.meanwhile = [&] {
        if (turns++ % 2 == 0) {
            REQUIRE(m.memory.show(Gpa{0x500000}, 0x1000, *store, 0, GuestMemory::Kind::ram, "window"));
        } else {
            m.memory.remove(Gpa{0x500000});
        }
        // The program as it is: its blocks are made anew.
        m.put(code_at, spinlock_program);
        static_cast<void>(m.memory.take_dirty(Gpa{0}));
    };
    m.run(spinlock_program, 10 * rounds);
    CHECK(m.data<uint64_t>(64) == 40 * rounds);
    CHECK(turns > 0);
    m.meanwhile = nullptr;
    static_cast<void>(m.memory.take_dirty(Gpa{0}));
    m.run(spinlock_program, rounds);
    CHECK(m.memory.take_dirty(Gpa{0})[data_at / 0x1000]);
}
