// Round trips of a port write, a port read and an MMIO read: a bare KVM_RUN loop against the same guest code through
// Vivarium's engine, buses and machine lock. Runs both in many short turns and prints the ratio of the medians. All
// work is on one thread and nothing sleeps, so the time is that thread's CPU time: other programs disturb it less.
// Then instructions that some hosts' KVM cannot execute, which are rescued there, and the two ways to send a message
// interrupt from a thread of the same process.
//
//   bench_exits [ROUNDS]

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <string>
#include <vector>

#include "vmm/core/bus.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"
#include "vmm/engine/kvm/kvm_engine.hpp"
#include "vmm/engine/soft/soft_rescuer.hpp"

namespace {

using namespace viv;

constexpr uint64_t code_address = 0x1000;
constexpr uint16_t data_port = 0x300;
constexpr uint16_t end_port = 0x301;
constexpr uint32_t iterations = 1000;
constexpr size_t usual_rounds = 101;

struct Case {
    std::string name;
    std::vector<uint8_t> body;  // one exit
};

/// mov ecx, iterations; again: BODY; dec ecx; jnz again; mov dx, end_port; out dx, al; hlt - in real mode, DS = A000h.
std::vector<uint8_t> program(const Case& which) {
    std::vector<uint8_t> code = {0xBA, data_port & 0xFF, data_port >> 8, 0x66, 0xB9};
    for (unsigned shift = 0; shift < 32; shift += 8) code.push_back(static_cast<uint8_t>(iterations >> shift));
    const size_t again = code.size();
    code.insert(code.end(), which.body.begin(), which.body.end());
    code.insert(code.end(), {0x66, 0x49, 0x75});
    code.push_back(static_cast<uint8_t>(again - (code.size() + 1)));
    code.insert(code.end(), {0xBA, end_port & 0xFF, end_port >> 8, 0xEE, 0xF4});
    return code;
}

double thread_microseconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

/// The least that any VMM must do: KVM_RUN, look at the reason, KVM_RUN again.
class BareLoop {
  public:
    bool open() {
        kvm_ = kvm::FileDescriptor(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
        if (!kvm_.valid()) return false;
        vm_ = kvm::FileDescriptor(ioctl(kvm_.get(), KVM_CREATE_VM, 0));
        ram_ = mmap(nullptr, ram_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        kvm_userspace_memory_region region{0, 0, 0, ram_size, reinterpret_cast<uint64_t>(ram_)};
        if (ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) return false;
        vcpu_ = kvm::FileDescriptor(ioctl(vm_.get(), KVM_CREATE_VCPU, 0));
        const auto size = static_cast<size_t>(ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0));
        run_ = static_cast<kvm_run*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_.get(), 0));
        return run_ != MAP_FAILED;
    }
    double measure(const std::vector<uint8_t>& code) {
        std::memcpy(static_cast<uint8_t*>(ram_) + code_address, code.data(), code.size());
        kvm_sregs sregs{};
        ioctl(vcpu_.get(), KVM_GET_SREGS, &sregs);
        sregs.cs.selector = 0;
        sregs.cs.base = 0;
        sregs.ds.selector = 0xA000;
        sregs.ds.base = 0xA0000;
        ioctl(vcpu_.get(), KVM_SET_SREGS, &sregs);
        kvm_regs regs{};
        regs.rip = code_address;
        regs.rflags = 2;
        ioctl(vcpu_.get(), KVM_SET_REGS, &regs);
        const double start = thread_microseconds();
        while (true) {
            if (ioctl(vcpu_.get(), KVM_RUN, 0) != 0 && errno != EINTR && errno != EAGAIN) return 0;
            if (run_->exit_reason == KVM_EXIT_IO) {
                if (run_->io.port == end_port) break;
                if (run_->io.direction == KVM_EXIT_IO_IN) {
                    *(reinterpret_cast<uint8_t*>(run_) + run_->io.data_offset) = 0;
                }
            } else if (run_->exit_reason == KVM_EXIT_MMIO) {
                if (!run_->mmio.is_write) std::memset(run_->mmio.data, 0, sizeof(run_->mmio.data));
            } else {
                return 0;
            }
        }
        return (thread_microseconds() - start) / iterations;
    }

  private:
    static constexpr size_t ram_size = 0x10000;
    kvm::FileDescriptor kvm_, vm_, vcpu_;
    void* ram_ = nullptr;
    kvm_run* run_ = nullptr;
};

struct Sink final : BusDevice {
    uint64_t read(Access) override { return 0; }
    void write(Access, uint64_t) override {}
};

/// The same through the engine and the buses, as in a machine.
class ThroughViv final : VcpuHost {
  public:
    Result<void> open() {
        TRY(memory_.add(Gpa{0}, 0x10000, GuestMemory::Kind::ram, "RAM"));
        engine_ = TRY(make_kvm_engine({.memory = memory_, .cpus = 1, .cpu_model = "max"},
                                      [this] { return make_soft_rescuer(memory_); }));
        vcpu_ = TRY(engine_->create_vcpu(VcpuId{0}));
        TRY(ports_.map(data_port, 1, sink_, "data"));
        TRY(ports_.map(end_port, 1, end_, "end"));
        TRY(memory_bus_.map(0xA0000, 0x1000, sink_, "mmio"));
        end_.vcpu = vcpu_.get();
        memory_.store(Gpa{0x80 * 4}, uint32_t{0x500});
        memory_.store(Gpa{0x500}, uint8_t{0xCF});  // iret
        return {};
    }
    double measure(const std::vector<uint8_t>& code) {
        memory_.write(Gpa{code_address}, std::as_bytes(std::span(code)));
        CpuState state = reset_state(true);
        state.cs.selector = 0;
        state.cs.base = 0;
        state.ds.selector = 0xA000;
        state.ds.base = 0xA0000;
        state.rip = code_address;
        if (!vcpu_->set_state(state)) return 0;
        end_.reached = false;
        const double start = thread_microseconds();
        while (!end_.reached) {
            if (vcpu_->run(*this, ~uint64_t{0}) == Stop::failed) return 0;
        }
        return (thread_microseconds() - start) / iterations;
    }

  private:
    struct End final : BusDevice {
        uint64_t read(Access) override { return 0; }
        void write(Access, uint64_t) override {
            reached = true;
            vcpu->kick();
        }
        Vcpu* vcpu = nullptr;
        bool reached = false;
    };
    uint64_t port_read(uint16_t port, uint8_t size) override { return ports_.read(port, size); }
    void port_write(uint16_t port, uint8_t size, uint64_t value) override { ports_.write(port, size, value); }
    void port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) override {
        ports_.read_block(port, size, data);
    }
    void port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) override {
        ports_.write_block(port, size, data);
    }
    uint64_t memory_read(Gpa address, uint8_t size) override { return memory_bus_.read(address.value, size); }
    void memory_write(Gpa address, uint8_t size, uint64_t value) override {
        memory_bus_.write(address.value, size, value);
    }
    uint8_t acknowledge_interrupt() override { return 0; }
    void end_of_interrupt(uint8_t) override {}

    std::mutex lock_;
    GuestMemory memory_;
    Bus ports_{Bus::Kind::ports, &lock_};
    Bus memory_bus_{Bus::Kind::memory, &lock_};
    Sink sink_;
    End end_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Vcpu> vcpu_;
};

/// A message interrupt (MSI) to the local APIC of a CPU that does not run: by KVM_SIGNAL_MSI, and by a write to an
/// eventfd that KVM watches (irqfd).
class Messages {
  public:
    bool open() {
        kvm_ = kvm::FileDescriptor(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
        if (!kvm_.valid()) return false;
        vm_ = kvm::FileDescriptor(ioctl(kvm_.get(), KVM_CREATE_VM, 0));
        kvm_enable_cap split{};
        split.cap = KVM_CAP_SPLIT_IRQCHIP;
        split.args[0] = route;
        if (ioctl(vm_.get(), KVM_ENABLE_CAP, &split) != 0) return false;
        vcpu_ = kvm::FileDescriptor(ioctl(vm_.get(), KVM_CREATE_VCPU, 0));
        kvm_lapic_state apic{};
        if (ioctl(vcpu_.get(), KVM_GET_LAPIC, &apic) != 0) return false;
        const uint32_t enabled = 0x1FF;  // SVR
        std::memcpy(apic.regs + 0xF0, &enabled, sizeof(enabled));
        if (ioctl(vcpu_.get(), KVM_SET_LAPIC, &apic) != 0) return false;
        std::array<std::byte, sizeof(kvm_irq_routing) + sizeof(kvm_irq_routing_entry)> table{};
        kvm_irq_routing_entry entry{};
        entry.gsi = route;
        entry.type = KVM_IRQ_ROUTING_MSI;
        entry.u.msi.address_lo = apic_address;
        entry.u.msi.data = vector;
        const uint32_t entries = 1;
        std::memcpy(table.data(), &entries, sizeof(entries));
        std::memcpy(table.data() + sizeof(kvm_irq_routing), &entry, sizeof(entry));
        if (ioctl(vm_.get(), KVM_SET_GSI_ROUTING, table.data()) != 0) return false;
        event_ = kvm::FileDescriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
        kvm_irqfd watched{};
        watched.fd = static_cast<uint32_t>(event_.get());
        watched.gsi = route;
        return ioctl(vm_.get(), KVM_IRQFD, &watched) == 0;
    }
    /// Microseconds a message, 0 if one could not be sent.
    double by_ioctl() {
        kvm_msi message{};
        message.address_lo = apic_address;
        message.data = vector;
        return measure([&] { return ioctl(vm_.get(), KVM_SIGNAL_MSI, &message) >= 0; });
    }
    double by_irqfd() {
        const uint64_t one = 1;
        return measure([&] { return write(event_.get(), &one, sizeof(one)) == sizeof(one); });
    }

  private:
    static constexpr uint32_t route = 24, apic_address = 0xFEE00000, vector = 0x41;
    template <class Send>
    static double measure(Send send) {
        const double start = thread_microseconds();
        for (uint32_t n = 0; n < iterations; ++n) {
            if (!send()) return 0;
        }
        return (thread_microseconds() - start) / iterations;
    }
    kvm::FileDescriptor kvm_, vm_, vcpu_, event_;
};

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
    const size_t rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : usual_rounds;
    const std::array<Case, 3> cases{{
        {"port write", {0xEE}},             // out dx, al
        {"port read", {0xEC}},              // in al, dx
        {"MMIO read", {0xA0, 0x10, 0x00}},  // mov al, [0010h]
    }};
    BareLoop bare;
    ThroughViv through;
    if (!bare.open()) {
        fmt::print(stderr, "bench exits: cannot open /dev/kvm\n");
        return 1;
    }
    if (const auto opened = through.open(); !opened) {
        fmt::print(stderr, "bench exits: {}\n", opened.error().message);
        return 1;
    }
    fmt::print("{:<12}{:>16}{:>16}{:>10}\n", "exit", "bare KVM, us", "through viv, us", "ratio");
    for (const Case& which : cases) {
        const auto code = program(which);
        std::vector<double> bare_times, viv_times;
        for (size_t round = 0; round < std::max<size_t>(rounds, 1); ++round) {
            bare_times.push_back(bare.measure(code));
            viv_times.push_back(through.measure(code));
        }
        const double b = median(bare_times), v = median(viv_times);
        if (b <= 0 || v <= 0) {
            fmt::print(stderr, "bench exits: the guest did not run\n");
            return 1;
        }
        fmt::print("{:<12}{:>16.2f}{:>16.2f}{:>10.3f}\n", which.name, b, v, v / b);
    }
    const std::vector<uint8_t> lone = {0xD9, 0xE8, 0xDD, 0xD8, 0x90, 0x90, 0x90, 0x90,
                                       0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90};
    const std::array<Case, 7> rescued{{
        {"popcnt", {0xF3, 0x0F, 0xB8, 0xC3}},
        {"aaa", {0x37}},
        {"enter 0,1", {0xC8, 0x00, 0x00, 0x01, 0xC9}},  // and leave
        {"int 80h", {0xCD, 0x80}},                      // and iret
        {"fnstsw ax", {0xDF, 0xE0}},
        {"fld1, fstp", {0xD9, 0xE8, 0xDD, 0xD8}},  // one stretch
        {"lone fld1", lone},                       // a stretch of its own, with 12 NOPs
    }};
    for (const Case& which : rescued) {
        std::vector<double> times;
        for (size_t round = 0; round < std::max<size_t>(rounds, 1); ++round)
            times.push_back(through.measure(program(which)));
        fmt::print("{:<12}{:>16}{:>16.2f}\n", which.name, "-", median(times));
    }
    Messages messages;
    if (!messages.open()) {
        fmt::print("no message interrupts: this KVM lacks the split irqchip or irqfd\n");
        return 0;
    }
    std::vector<double> by_ioctl, by_irqfd;
    for (size_t round = 0; round < std::max<size_t>(rounds, 1); ++round) {
        by_ioctl.push_back(messages.by_ioctl());
        by_irqfd.push_back(messages.by_irqfd());
    }
    fmt::print("message interrupt: KVM_SIGNAL_MSI {:.2f} us, irqfd {:.2f} us\n", median(by_ioctl), median(by_irqfd));
    return 0;
}
