#include "vmm/engine/kvm/host_limits.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>

#include "vmm/engine/kvm/kick.hpp"

namespace viv::kvm {
namespace {

constexpr size_t probe_memory = 0x6000;
constexpr uint16_t code_at = 0x1000;
constexpr uint16_t handler_at = 0x2000;
constexpr uint16_t tables_at = 0x3000;
/// Instructions a second. A processor runs a loop fifty times as fast, and no interpreter comes near; the way into the
/// guest and out of it is in the time.
constexpr uint64_t fast_kernel_code = 20'000'000;

struct Unmap {
    size_t size;
    void operator()(void* address) const { munmap(address, size); }
};
using Mapping = std::unique_ptr<void, Unmap>;

Result<Mapping> map(int fd, size_t size) {
    void* address =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return fail_errno("cannot map memory for KVM's probe", errno);
    return Mapping(address, Unmap{size});
}

/// A guest of some pages and one CPU, without an interrupt controller.
class ProbeGuest {
  public:
    static Result<ProbeGuest> create(int kvm) {
        FileDescriptor vm(call(kvm, KVM_CREATE_VM, 0));
        if (!vm.valid()) return fail_errno("cannot create a virtual machine", errno);
        Mapping memory = TRY(map(-1, probe_memory));
        const kvm_userspace_memory_region region{.slot = 0,
                                                 .flags = 0,
                                                 .guest_phys_addr = 0,
                                                 .memory_size = probe_memory,
                                                 .userspace_addr = reinterpret_cast<uint64_t>(memory.get())};
        if (call(vm.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0) return fail_errno("cannot set KVM memory", errno);
        const uint64_t identity_map = 0xFEFFC000;
        call(vm.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
        call(vm.get(), KVM_SET_TSS_ADDR, identity_map + 0x1000);
        FileDescriptor vcpu(call(vm.get(), KVM_CREATE_VCPU, 0));
        if (!vcpu.valid()) return fail_errno("cannot create a CPU", errno);
        const int run_size = call(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (run_size < static_cast<int>(sizeof(kvm_run))) return fail_errno("cannot size KVM's run page", errno);
        Mapping run = TRY(map(vcpu.get(), static_cast<size_t>(run_size)));
        return ProbeGuest(std::move(vm), std::move(memory), std::move(vcpu), std::move(run));
    }

    enum class Mode { real, protected_flat };

    /// Puts `code` at 1000h and the CPU in front of it.
    void load(std::initializer_list<uint8_t> code, Mode mode) {
        std::memcpy(static_cast<uint8_t*>(memory_.get()) + code_at, code.begin(), code.size());
        kvm_sregs sregs{};
        call(vcpu_.get(), KVM_GET_SREGS, &sregs);
        sregs.cs.selector = 0;
        sregs.cs.base = 0;
        if (mode == Mode::protected_flat) {
            sregs.cr0 |= 1;
            for (kvm_segment* segment : {&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss}) {
                *segment = {
                    .base = 0, .limit = 0xFFFFFFFF, .selector = 8, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
            }
            sregs.cs.type = 11;
        }
        call(vcpu_.get(), KVM_SET_SREGS, &sregs);
        kvm_regs regs{};
        regs.rip = code_at;
        regs.rsp = code_at - 0x100;
        regs.rflags = 2;
        call(vcpu_.get(), KVM_SET_REGS, &regs);
    }
    /// The same in 64-bit mode at CPL 3, with the first 2 MiB open to it. SYSCALL goes to handler_at.
    bool load_user_code(std::initializer_list<uint8_t> code) {
        load(code, Mode::protected_flat);
        const std::array<uint64_t, 3> entries = {tables_at + 0x1007, tables_at + 0x2007, 0x87};
        for (size_t level = 0; level < entries.size(); ++level) {
            std::memcpy(static_cast<uint8_t*>(memory_.get()) + tables_at + level * 0x1000, &entries[level], 8);
        }
        MsrTable msrs;
        msrs.count = 3;
        msrs.entries[0] = {0xC0000081, 0, uint64_t{0x23} << 48 | uint64_t{0x10} << 32};  // STAR
        msrs.entries[1] = {0xC0000082, 0, handler_at};                                   // LSTAR
        msrs.entries[2] = {0xC0000084, 0, 0};                                            // SFMASK
        kvm_sregs sregs{};
        call(vcpu_.get(), KVM_GET_SREGS, &sregs);
        sregs.cr3 = tables_at;
        sregs.cr4 |= 0x20;  // PAE
        sregs.cr0 |= 0x80000001;
        sregs.efer |= 0x501;  // LMA, LME, SCE
        for (kvm_segment* segment : {&sregs.ds, &sregs.es, &sregs.ss}) {
            segment->dpl = 3;
            segment->selector = 0x2B;
        }
        sregs.cs.dpl = 3;
        sregs.cs.selector = 0x33;
        sregs.cs.l = 1;
        sregs.cs.db = 0;
        return call(vcpu_.get(), KVM_SET_SREGS, &sregs) == 0 && call(vcpu_.get(), KVM_SET_MSRS, &msrs) == 3;
    }
    /// The exit reason, or nothing when a signal came first.
    std::optional<uint32_t> step() {
        if (ioctl(vcpu_.get(), KVM_RUN, 0) < 0) return std::nullopt;
        return run().exit_reason;
    }
    [[nodiscard]] kvm_run& run() { return *static_cast<kvm_run*>(run_.get()); }
    [[nodiscard]] int vcpu() const { return vcpu_.get(); }
    void set_vector(uint8_t vector, uint16_t offset) {
        const uint32_t far_pointer = offset;
        std::memcpy(static_cast<uint8_t*>(memory_.get()) + vector * 4, &far_pointer, sizeof far_pointer);
    }
    void put(uint16_t address, std::initializer_list<uint8_t> bytes) {
        std::memcpy(static_cast<uint8_t*>(memory_.get()) + address, bytes.begin(), bytes.size());
    }

  private:
    ProbeGuest(FileDescriptor vm, Mapping memory, FileDescriptor vcpu, Mapping run)
        : memory_(std::move(memory)), vm_(std::move(vm)), vcpu_(std::move(vcpu)), run_(std::move(run)) {}
    Mapping memory_;
    FileDescriptor vm_, vcpu_;
    Mapping run_;
};

/// popcnt is on every x86-64-v2 processor and in no kernel's emulator.
bool emulates_kernel_code(ProbeGuest& guest) {
    guest.load({0xF3, 0x0F, 0xB8, 0xC3, 0xE6, 0x10}, ProbeGuest::Mode::protected_flat);  // popcnt eax,ebx; out 10h,al
    return guest.step() == KVM_EXIT_INTERNAL_ERROR;
}

/// Instructions a second of a loop at CPL 0. A host that is busy can interrupt it, so the best of some tries counts,
/// and the first good one ends them.
uint64_t kernel_code_speed(ProbeGuest& guest, unsigned tries) {
    constexpr uint64_t instructions = 3000;
    uint64_t best = 1;
    for (unsigned i = 0; i < tries && best < fast_kernel_code; ++i) {
        // mov ecx,1500; dec ecx; jnz; out 10h,al
        guest.load({0xB9, 0xDC, 0x05, 0x00, 0x00, 0x49, 0x75, 0xFD, 0xE6, 0x10}, ProbeGuest::Mode::protected_flat);
        const auto begin = std::chrono::steady_clock::now();
        const auto exit = guest.step();
        const auto taken = std::chrono::steady_clock::now() - begin;
        if (exit != KVM_EXIT_IO) continue;
        const auto ns = std::max<int64_t>(1, std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count());
        best = std::max(best, instructions * 1'000'000'000 / static_cast<uint64_t>(ns));
    }
    return best;
}

/// A limited KVM accepts CR0.PG without EFER.LME and then does not keep it.
bool no_legacy_paging(ProbeGuest& guest) {
    guest.load({0xF4}, ProbeGuest::Mode::protected_flat);
    kvm_sregs sregs{};
    call(guest.vcpu(), KVM_GET_SREGS, &sregs);
    const kvm_sregs before = sregs;
    sregs.cr0 |= 0x80000000;
    const bool refused = call(guest.vcpu(), KVM_SET_SREGS, &sregs) < 0;
    call(guest.vcpu(), KVM_GET_SREGS, &sregs);
    call(guest.vcpu(), KVM_SET_SREGS, &before);
    return refused || (sregs.cr0 & 0x80000000) == 0;
}

/// Two instructions with interrupts enabled, then a port write: which exit comes first?
bool late_interrupt_windows(ProbeGuest& guest) {
    guest.load({0xFB, 0x90, 0x90, 0xFA, 0xE6, 0x10}, ProbeGuest::Mode::real);  // sti; nop; nop; cli; out 10h,al
    guest.run().request_interrupt_window = 1;
    const bool late = guest.step() == KVM_EXIT_IO;
    guest.run().request_interrupt_window = 0;
    return late;
}

/// Only for hosts that emulate: it takes a timer signal to get out.
bool hangs_on_high_interrupts(ProbeGuest& guest) {
    auto timer = KickTimer::create();
    if (!timer) return true;
    guest.set_vector(0x80, handler_at);
    guest.put(handler_at, {0xE6, 0x10});  // out 10h,al
    guest.load({0xCD, 0x80}, ProbeGuest::Mode::real);
    bind_kick(&guest.run());
    timer->set_period(std::chrono::microseconds(500));
    const bool hangs = !guest.step().has_value();
    timer->set_period(std::chrono::microseconds(0));
    unbind_kick();
    return hangs;
}

/// The handler's OUT ends it, whether KVM carries it out or not: which CPL is it at?
bool syscall_stays(ProbeGuest& guest, int kvm) {
    CpuidTable cpuid;
    cpuid.count = static_cast<uint32_t>(cpuid.entries.size());
    if (call(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0) call(guest.vcpu(), KVM_SET_CPUID2, &cpuid);
    guest.put(handler_at, {0xE6, 0x10});                    // out 10h,al
    if (!guest.load_user_code({0x0F, 0x05})) return false;  // syscall
    guest.step();
    kvm_sregs sregs{};
    call(guest.vcpu(), KVM_GET_SREGS, &sregs);
    return (sregs.cs.selector & 3) == 3;
}

/// RDTSC of a guest whose counter was set far ahead.
bool fixed_tsc(ProbeGuest& guest) {
    constexpr uint64_t ahead = uint64_t{1} << 50;
    MsrTable table;
    table.count = 1;
    table.entries[0] = {0x10, 0, __rdtsc() + 2 * ahead};
    if (call(guest.vcpu(), KVM_SET_MSRS, &table) != 1) return true;
    guest.load({0x0F, 0x31, 0xE6, 0x10}, ProbeGuest::Mode::protected_flat);  // rdtsc; out 10h,al
    if (guest.step() != KVM_EXIT_IO) return true;
    kvm_regs regs{};
    call(guest.vcpu(), KVM_GET_REGS, &regs);
    return (regs.rdx << 32 | (regs.rax & 0xFFFFFFFF)) < __rdtsc() + ahead;
}

Result<HostLimits> probe(int kvm) {
    HostLimits limits;
    {
        auto guest = TRY(ProbeGuest::create(kvm));
        limits.late_interrupt_windows = late_interrupt_windows(guest);
    }
    auto guest = TRY(ProbeGuest::create(kvm));
    limits.tsc_hertz = static_cast<uint64_t>(std::max(0, call(guest.vcpu(), KVM_GET_TSC_KHZ, 0))) * 1000;
    limits.fixed_tsc = fixed_tsc(guest);
    limits.emulates_kernel_code = emulates_kernel_code(guest);
    // Where the answer is known already, the speed is only for the person.
    limits.kernel_speed = kernel_code_speed(guest, limits.emulates_kernel_code ? 1 : 4);
    limits.slow_kernel_code = limits.kernel_speed < fast_kernel_code;
    limits.no_legacy_paging = no_legacy_paging(guest);  // last: the guest cannot run afterwards
    if (limits.emulates_kernel_code) {
        auto another = TRY(ProbeGuest::create(kvm));
        limits.hangs_on_high_interrupts = hangs_on_high_interrupts(another);
    }
    auto user = TRY(ProbeGuest::create(kvm));
    limits.syscall_stays = syscall_stays(user, kvm);
    return limits;
}

}  // namespace

std::vector<std::string> HostLimits::lines() const {
    std::vector<std::string> lines;
    const uint64_t millions = std::max<uint64_t>(1, kernel_speed / 1'000'000);
    if (emulates_kernel_code) {
        lines.push_back(
            fmt::format("this host's KVM interprets all but 64-bit user code: about {} million instructions a second, "
                        "and some instructions are missing",
                        millions));
    } else if (slow_kernel_code) {
        lines.push_back(
            fmt::format("this host's KVM runs kernel code at about {} million instructions a second only", millions));
    }
    if (no_legacy_paging)
        lines.emplace_back("this host's KVM has no 32-bit paging: 32-bit operating systems move to the software CPU");
    if (late_interrupt_windows) {
        lines.emplace_back("this host's KVM misses short interrupt windows: viv steps while an interrupt waits");
    }
    if (hangs_on_high_interrupts) {
        lines.emplace_back("this host's KVM hangs on INT 80h to FFh in real mode: the software CPU executes them");
    }
    if (syscall_stays) {
        lines.emplace_back("this host's KVM has no SYSCALL: operating systems that set it up move to the software CPU");
    }
    if (fixed_tsc) lines.emplace_back("this host's KVM cannot set the time stamp counter: guests see the host's");
    return lines;
}

Result<HostLimits> probe_host_limits(int kvm) {
    static std::mutex mutex;
    static std::optional<HostLimits> known;
    const std::lock_guard lock(mutex);
    if (!known) known = TRY(probe(kvm));
    return *known;
}

}  // namespace viv::kvm
