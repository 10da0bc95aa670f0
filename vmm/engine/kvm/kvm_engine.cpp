#include "vmm/engine/kvm/kvm_engine.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "vmm/core/doorbells.hpp"
#include "vmm/engine/kvm/cpuid.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"
#include "vmm/engine/kvm/kvm_vcpu.hpp"

namespace viv {
namespace kvm {
namespace {

constexpr uint32_t max_cpus = 16;
constexpr uint32_t ioapic_pins = 24;
// Four pages that Intel hosts without unrestricted guests need; below the firmware's part of the address space and
// above the local APIC, where a PC has nothing.
constexpr uint64_t identity_map_address = 0xFEFFC000;
constexpr uint64_t tss_address = identity_map_address + 0x1000;

Result<FileDescriptor> open_kvm() {
    FileDescriptor kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm.valid()) {
        switch (errno) {
            case ENOENT:
            case ENXIO:
            case ENODEV:
                return fail(
                    "this host has no /dev/kvm: enable virtualization in the firmware setup and load kvm_intel or "
                    "kvm_amd");
            case EACCES:
            case EPERM: return fail("no permission to open /dev/kvm: add yourself to the group kvm and log in again");
            case EBUSY:
                return fail("/dev/kvm is busy: another hypervisor uses the processor's virtualization; stop it");
            default: return fail_errno("cannot open /dev/kvm", errno);
        }
    }
    const int version = ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        return fail(fmt::format("/dev/kvm speaks API version {}, viv needs {}: use a current kernel", version,
                                KVM_API_VERSION));
    }
    return kvm;
}

Result<void> need_capabilities(int kvm) {
    struct Need {
        int capability;
        const char* name;
    };
    constexpr Need needs[] = {
        {KVM_CAP_USER_MEMORY, "user memory"},
        {KVM_CAP_SPLIT_IRQCHIP, "split irqchip"},
        {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
        {KVM_CAP_READONLY_MEM, "read-only memory"},
        {KVM_CAP_SYNC_REGS, "shared registers"},
        {KVM_CAP_XSAVE, "XSAVE state"},
        {KVM_CAP_VCPU_EVENTS, "CPU events"},
        {KVM_CAP_MP_STATE, "CPU activity"},
        {KVM_CAP_SIGNAL_MSI, "MSI"},
        {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
    };
    for (const Need& need : needs) {
        if (ioctl(kvm, KVM_CHECK_EXTENSION, need.capability) <= 0) {
            return fail(fmt::format("this host's KVM lacks '{}': use a kernel from 5.0 on", need.name));
        }
    }
    return {};
}

void enable(int vm, uint32_t capability, uint64_t argument) {
    kvm_enable_cap enable{};
    enable.cap = capability;
    enable.args[0] = argument;
    call(vm, KVM_ENABLE_CAP, &enable);
}

/// Writes of LSTAR and EFER come to us.
void watch_syscall_registers(int vm) {
    std::array<uint8_t, 4> none{};
    kvm_msr_filter filter{};
    filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
    filter.ranges[0] = {.flags = KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = msr_lstar, .bitmap = none.data()};
    filter.ranges[1] = {.flags = KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = msr_efer, .bitmap = none.data()};
    call(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

class KvmEngine final : public Engine, public Doorbells {
  public:
    KvmEngine(GuestMemory& memory, FileDescriptor kvm, FileDescriptor vm, RescuerFactory make_rescuer)
        : kvm_(std::move(kvm)), vm_(std::make_shared<Vm>(memory, std::move(vm))) {
        vm_->make_rescuer = std::move(make_rescuer);
    }

    Result<void> start(const EngineConfig& config);

    [[nodiscard]] std::string_view name() const override { return "kvm"; }
    [[nodiscard]] std::vector<std::string> limits() const override;
    [[nodiscard]] std::string drawback() const override;
    [[nodiscard]] TimeStampCounter time_stamp_counter() const override;
    [[nodiscard]] std::optional<CpuidBase> processor() const override { return processor_; }
    Result<std::unique_ptr<Vcpu>> create_vcpu(VcpuId id) override;
    void set_a20(bool enabled) override { vm_->note(vm_->slots.set_a20(enabled)); }
    void sync_dirty(Gpa base) override { vm_->note(vm_->slots.sync_dirty(base)); }
    void send(uint64_t address, uint32_t data) override;
    void set_ioapic_routes(std::span<const IoApicRoute> routes) override;
    [[nodiscard]] EngineCounters counters() const override;
    bool add_doorbell(uint64_t address, uint8_t size, int event) override {
        return set_doorbell(address, size, event, 0);
    }
    void remove_doorbell(uint64_t address, uint8_t size, int event) override {
        set_doorbell(address, size, event, KVM_IOEVENTFD_FLAG_DEASSIGN);
    }

  private:
    bool set_doorbell(uint64_t address, uint8_t size, int event, uint32_t flags);
    Result<void> make_irqchip();
    [[nodiscard]] Result<void> set_tsc_rate(int vcpu) const;

    FileDescriptor kvm_;
    // The memory's change listener holds on to it too: a GuestMemory outlives its engine.
    std::shared_ptr<Vm> vm_;
    uint32_t cpus_ = 1;
    CpuSelection cpu_;
    CpuidBase cpuid_base_;
    std::vector<std::string> cpuid_limits_;
    std::optional<CpuidBase> processor_;
    bool has_irqchip_ = false;
    std::vector<uint32_t> msr_indices_;
    std::vector<kvm_irq_routing_entry> routes_;
};

Result<void> KvmEngine::start(const EngineConfig& config) {
    if (config.cpus < 1 || config.cpus > max_cpus) {
        return fail_usage(fmt::format("{} CPUs asked for; a machine has 1 to {}", config.cpus, max_cpus));
    }
    cpus_ = config.cpus;
    cpu_ = TRY(parse_cpu(config.cpu_model));
    cpuid_base_ = TRY(read_cpuid_base(kvm_.get()));
    TRY(check_selection(cpu_, cpuid_base_));
    vm_->limits = TRY(probe_host_limits(kvm_.get()));
    if (config.processor) {
        cpuid_base_.supported = cpuid_base_.supported & config.processor->supported;
        cpuid_base_.identity = config.processor->identity;
        cpuid_base_.physical_address_bits = config.processor->physical_address_bits;
        cpuid_base_.linear_address_bits = config.processor->linear_address_bits;
        cpuid_base_.shown_hertz = config.processor->shown_hertz;
    } else if (vm_->limits.hands_off()) {
        cpuid_base_.supported = cpuid_base_.supported & (config.successor | cpu_.required);
    }
    vm_->rules = vendor_rules(shown_identity(cpu_, cpuid_base_));
    const int vm = vm_->fd.get();
    const auto extension = [vm](int capability) { return std::max(0, ioctl(vm, KVM_CHECK_EXTENSION, capability)); };
    const int run_size = ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < static_cast<int>(sizeof(kvm_run)))
        return fail_errno("cannot learn the size of KVM's run page", errno);
    vm_->run_size = static_cast<size_t>(run_size);
    vm_->layout.xsave_size = std::max<size_t>(static_cast<size_t>(extension(KVM_CAP_XSAVE2)), sizeof(kvm_xsave));
    vm_->layout.has_xcrs = extension(KVM_CAP_XCRS) > 0;
    vm_->layout.has_debug_registers = extension(KVM_CAP_DEBUGREGS) > 0;
    vm_->layout.has_local_apic = true;
    vm_->layout.has_legacy_paging = !vm_->limits.no_legacy_paging;
    vm_->layout.fixed_tsc = vm_->limits.fixed_tsc;
    vm_->layout.tsc_hertz = config.tsc.hertz != 0 ? config.tsc.hertz : vm_->limits.tsc_hertz;

    // Only Intel hosts know these two; where they are needed and fail, creating a CPU fails.
    const uint64_t identity_map = identity_map_address;
    call(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    call(vm, KVM_SET_TSS_ADDR, tss_address);
    if (extension(KVM_CAP_X86_USER_SPACE_MSR)) {
        enable(vm, KVM_CAP_X86_USER_SPACE_MSR,
               KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER);
        if (vm_->limits.syscall_stays) watch_syscall_registers(vm);
    }

    MsrIndexTable table;
    table.count = static_cast<uint32_t>(table.entries.size());
    if (call(kvm_.get(), KVM_GET_MSR_INDEX_LIST, &table) < 0) return fail_errno("cannot list KVM's MSRs", errno);
    msr_indices_.assign(table.entries.begin(), table.entries.begin() + table.count);
    // KVM keeps memory types, but does not list them.
    for (uint32_t index = 0x200; index < 0x210; ++index) msr_indices_.push_back(index);
    for (const uint32_t index : {0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F, 0x2FF}) {
        msr_indices_.push_back(index);
    }
    std::ranges::sort(msr_indices_);
    msr_indices_.erase(std::ranges::unique(msr_indices_).begin(), msr_indices_.end());

    TRY(vm_->slots.update());
    config.memory.on_change([weak = std::weak_ptr(vm_)] {
        if (const auto shared = weak.lock()) {
            shared->note(shared->slots.update());
        }
    });
    return {};
}

std::vector<std::string> KvmEngine::limits() const {
    std::vector<std::string> lines = vm_->limits.lines();
    lines.insert(lines.end(), cpuid_limits_.begin(), cpuid_limits_.end());
    return lines;
}

std::string KvmEngine::drawback() const {
    const HostLimits& limits = vm_->limits;
    const bool serves_all_guests = !limits.emulates_kernel_code && !limits.no_legacy_paging;
    return serves_all_guests && !limits.slow_kernel_code ? std::string() : limits.lines().front();
}

/// Made with the first CPU: on some hosts the first memory slot after the irqchip costs 10 ms.
Result<void> KvmEngine::make_irqchip() {
    if (has_irqchip_) return {};
    kvm_enable_cap split{};
    split.cap = KVM_CAP_SPLIT_IRQCHIP;
    split.args[0] = ioapic_pins;
    if (call(vm_->fd.get(), KVM_ENABLE_CAP, &split) < 0) return fail_errno("cannot create KVM's local APICs", errno);
    has_irqchip_ = true;
    return {};
}

Result<void> KvmEngine::set_tsc_rate(int vcpu) const {
    const uint64_t kilohertz = vm_->layout.tsc_hertz / 1000;
    const int own = call(vcpu, KVM_GET_TSC_KHZ, 0);
    if (own <= 0 || kilohertz == 0 || kilohertz == static_cast<uint64_t>(own)) return {};
    // Without the capability KVM takes higher rates, and only now and then makes the counter catch up.
    const bool scales = ioctl(vm_->fd.get(), KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
    if (scales && call(vcpu, KVM_SET_TSC_KHZ, kilohertz) == 0) return {};
    return fail(fmt::format(
        "this host's KVM cannot have a time stamp counter of {} MHz, which this machine has shown; it has {} MHz",
        kilohertz / 1000, own / 1000));
}

TimeStampCounter KvmEngine::time_stamp_counter() const {
    TimeStampCounter counter{vm_->layout.tsc_hertz, std::nullopt};
    if (vm_->limits.fixed_tsc) counter.shows = __rdtsc();
    return counter;
}

Result<std::unique_ptr<Vcpu>> KvmEngine::create_vcpu(VcpuId id) {
    VIV_ASSERT(id.value < cpus_);
    TRY(make_irqchip());
    FileDescriptor fd(ioctl(vm_->fd.get(), KVM_CREATE_VCPU, id.value));
    if (!fd.valid()) return fail_errno(fmt::format("cannot create CPU {}", id.value), errno);
    TRY(set_tsc_rate(fd.get()));
    const auto wanted = make_cpuid(cpu_, cpuid_base_, id.value, cpus_);
    const auto got = TRY(set_cpuid(fd.get(), wanted));
    if (id.value == 0) {
        cpuid_limits_ = cpuid_limits(cpu_, wanted, got);
        processor_ = base_of(got);
    }
    if (vm_->layout.msrs.empty()) vm_->layout.msrs = readable_msrs(fd.get(), msr_indices_);
    auto vcpu = TRY(KvmVcpu::create(vm_, id, std::move(fd)));
    TRY(vcpu->set_state(reset_state(id.value == 0)));
    return vcpu;
}

void KvmEngine::send(uint64_t address, uint32_t data) {
    kvm_msi msi{};
    msi.address_lo = static_cast<uint32_t>(address);
    msi.address_hi = static_cast<uint32_t>(address >> 32);
    msi.data = data;
    // 0 means that no CPU took it, as a message to an absent CPU on a real bus.
    call(vm_->fd.get(), KVM_SIGNAL_MSI, &msi);
}

/// KVM only needs to know which vectors are level-triggered, so that their EOI exits; masked pins stay, because an
/// interrupt may be in service while its pin is masked.
void KvmEngine::set_ioapic_routes(std::span<const IoApicRoute> routes) {
    constexpr uint32_t level_triggered = 1u << 15;
    std::vector<kvm_irq_routing_entry> entries;
    for (size_t pin = 0; pin < routes.size() && pin < ioapic_pins; ++pin) {
        const IoApicRoute& route = routes[pin];
        if (!route.level_triggered) continue;
        kvm_irq_routing_entry entry{};
        entry.gsi = static_cast<uint32_t>(pin);
        entry.type = KVM_IRQ_ROUTING_MSI;
        entry.u.msi.address_lo = static_cast<uint32_t>(route.address);
        entry.u.msi.address_hi = static_cast<uint32_t>(route.address >> 32);
        entry.u.msi.data = route.data | level_triggered;
        entries.push_back(entry);
    }
    const auto same = [](const kvm_irq_routing_entry& a, const kvm_irq_routing_entry& b) {
        return std::memcmp(&a, &b, sizeof a) == 0;
    };
    if (std::ranges::equal(entries, routes_, same)) return;
    routes_ = std::move(entries);
    Counted<kvm_irq_routing_entry, ioapic_pins> table;
    table.count = static_cast<uint32_t>(routes_.size());
    std::ranges::copy(routes_, table.entries.begin());
    if (call(vm_->fd.get(), KVM_SET_GSI_ROUTING, &table) < 0) {
        vm_->note(fail_errno("cannot set KVM's interrupt routes", errno));
    }
}

/// Hosts without the capability refuse.
bool KvmEngine::set_doorbell(uint64_t address, uint8_t size, int event, uint32_t flags) {
    kvm_ioeventfd bell{};
    bell.addr = address;
    bell.len = size;
    bell.fd = event;
    bell.flags = flags;
    return call(vm_->fd.get(), KVM_IOEVENTFD, &bell) == 0;
}

EngineCounters KvmEngine::counters() const {
    EngineCounters all;
    for (size_t i = 0; i < exit_reasons; ++i) {
        uint64_t sum = 0;
        for (const ExitCounters& one : vm_->counters) sum += one.by_reason[i].get();
        if (sum) all.emplace_back(fmt::format("exits.{}", name_of(static_cast<ExitReason>(i))), sum);
    }
    const auto add = [&](const char* label, Counter ExitCounters::*member) {
        uint64_t sum = 0;
        for (const ExitCounters& one : vm_->counters) sum += (one.*member).get();
        if (sum) all.emplace_back(label, sum);
    };
    add("kicks", &ExitCounters::kicks);
    add("interrupts", &ExitCounters::interrupts);
    add("unknown-msrs", &ExitCounters::unknown_msrs);
    add("memory-races", &ExitCounters::memory_races);
    add("steps", &ExitCounters::steps);
    vm_->rescues.add_to(all);
    return all;
}

}  // namespace
}  // namespace kvm

Result<std::unique_ptr<Engine>> make_kvm_engine(const EngineConfig& config, RescuerFactory make_rescuer) {
    auto kvm = TRY(kvm::open_kvm());
    TRY(kvm::need_capabilities(kvm.get()));
    kvm::FileDescriptor vm(kvm::call(kvm.get(), KVM_CREATE_VM, 0));
    if (!vm.valid()) {
        if (errno == EBUSY) {
            return fail("KVM is busy: another hypervisor uses the processor's virtualization; stop it");
        }
        return fail_errno("cannot create a virtual machine", errno);
    }
    auto engine =
        std::make_unique<kvm::KvmEngine>(config.memory, std::move(kvm), std::move(vm), std::move(make_rescuer));
    TRY(engine->start(config));
    return engine;
}

}  // namespace viv
