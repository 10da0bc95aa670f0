#include "vmm/engine/kvm/exits.hpp"

#include <fmt/format.h>

#include <cstring>
#include <span>

namespace viv::kvm {
namespace {

Next serve_io(kvm_run& run, VcpuHost& host) {
    std::byte* data = reinterpret_cast<std::byte*>(&run) + run.io.data_offset;
    const uint8_t size = run.io.size;
    const std::span block(data, size_t{size} * run.io.count);
    const bool out = run.io.direction == KVM_EXIT_IO_OUT;
    if (run.io.count != 1) {
        out ? host.port_write_block(run.io.port, size, block) : host.port_read_block(run.io.port, size, block);
        return Next::resume;
    }
    uint64_t value = 0;
    if (out) {
        std::memcpy(&value, data, size);
        host.port_write(run.io.port, size, value);
    } else {
        value = host.port_read(run.io.port, size);
        std::memcpy(data, &value, size);
    }
    return Next::resume;
}

Next serve_mmio(kvm_run& run, VcpuHost& host) {
    const auto size = static_cast<uint8_t>(run.mmio.len);
    uint64_t value = 0;
    if (run.mmio.is_write) {
        std::memcpy(&value, run.mmio.data, size);
        host.memory_write(Gpa{run.mmio.phys_addr}, size, value);
    } else {
        value = host.memory_read(Gpa{run.mmio.phys_addr}, size);
        std::memcpy(run.mmio.data, &value, size);
    }
    return Next::resume;
}

/// An MSR that KVM does not know: #GP, as on a processor without it.
Next refuse_msr(kvm_run& run, ExitCounters& counters) {
    run.msr.error = 1;
    counters.unknown_msrs.add();
    return Next::resume;
}

std::string_view suberror_text(uint32_t suberror) {
    switch (suberror) {
        case KVM_INTERNAL_ERROR_EMULATION: return "the host's KVM cannot emulate the instruction";
        case KVM_INTERNAL_ERROR_SIMUL_EX: return "two exceptions at once";
        case KVM_INTERNAL_ERROR_DELIVERY_EV: return "an exit while an event was being delivered";
        case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: return "a hardware exit that the host's KVM does not know";
        default: return "an error that this version does not know";
    }
}

}  // namespace

ExitReason classify(uint32_t exit_reason) {
    switch (exit_reason) {
        case KVM_EXIT_IO: return ExitReason::io;
        case KVM_EXIT_MMIO: return ExitReason::mmio;
        case KVM_EXIT_HLT: return ExitReason::halt;
        case KVM_EXIT_IRQ_WINDOW_OPEN: return ExitReason::interrupt_window;
        case KVM_EXIT_INTR: return ExitReason::interrupted;
        case KVM_EXIT_SHUTDOWN: return ExitReason::shutdown;
        case KVM_EXIT_FAIL_ENTRY: return ExitReason::fail_entry;
        case KVM_EXIT_INTERNAL_ERROR: return ExitReason::internal_error;
        case KVM_EXIT_SET_TPR: return ExitReason::set_tpr;
        case KVM_EXIT_TPR_ACCESS: return ExitReason::tpr_access;
        case KVM_EXIT_IOAPIC_EOI: return ExitReason::ioapic_eoi;
        case KVM_EXIT_SYSTEM_EVENT: return ExitReason::system_event;
        case KVM_EXIT_X86_RDMSR: return ExitReason::read_msr;
        case KVM_EXIT_X86_WRMSR: return ExitReason::write_msr;
        case KVM_EXIT_DEBUG: return ExitReason::debug;
        case KVM_EXIT_EXCEPTION: return ExitReason::exception;
        case KVM_EXIT_HYPERCALL: return ExitReason::hypercall;
        case KVM_EXIT_NMI: return ExitReason::nmi;
        case KVM_EXIT_DIRTY_RING_FULL: return ExitReason::dirty_ring_full;
        case KVM_EXIT_X86_BUS_LOCK: return ExitReason::bus_lock;
        case KVM_EXIT_NOTIFY: return ExitReason::notify;
        case KVM_EXIT_HYPERV: return ExitReason::hyperv;
        case KVM_EXIT_XEN: return ExitReason::xen;
        default: return ExitReason::unknown;
    }
}

std::string_view name_of(ExitReason reason) {
    constexpr std::array<std::string_view, exit_reasons> names = {"io",
                                                                  "mmio",
                                                                  "halt",
                                                                  "interrupt-window",
                                                                  "interrupted",
                                                                  "shutdown",
                                                                  "fail-entry",
                                                                  "internal-error",
                                                                  "set-tpr",
                                                                  "tpr-access",
                                                                  "ioapic-eoi",
                                                                  "system-event",
                                                                  "read-msr",
                                                                  "write-msr",
                                                                  "debug",
                                                                  "exception",
                                                                  "hypercall",
                                                                  "nmi",
                                                                  "dirty-ring-full",
                                                                  "bus-lock",
                                                                  "notify",
                                                                  "hyperv",
                                                                  "xen",
                                                                  "unknown"};
    return names[static_cast<size_t>(reason)];
}

Next serve_exit(kvm_run& run, VcpuHost& host, ExitCounters& counters) {
    const ExitReason reason = classify(run.exit_reason);
    counters.by_reason[static_cast<size_t>(reason)].add();
    switch (reason) {
        case ExitReason::io: return serve_io(run, host);
        case ExitReason::mmio: return serve_mmio(run, host);
        case ExitReason::halt: return Next::halted;
        case ExitReason::ioapic_eoi: host.end_of_interrupt(run.eoi.vector); return Next::resume;
        case ExitReason::read_msr:
        case ExitReason::write_msr: return refuse_msr(run, counters);
        case ExitReason::interrupt_window:
        case ExitReason::interrupted:
        case ExitReason::set_tpr:
        case ExitReason::tpr_access:
        case ExitReason::bus_lock:
        case ExitReason::nmi: return Next::resume;
        case ExitReason::debug: return Next::debug;
        case ExitReason::hypercall:
            run.hypercall.ret = static_cast<uint64_t>(-1000);  // KVM_ENOSYS: no paravirtual calls are offered
            return Next::resume;
        case ExitReason::shutdown: return Next::shutdown;
        case ExitReason::system_event:
            return run.system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN || run.system_event.type == KVM_SYSTEM_EVENT_RESET
                       ? Next::shutdown
                       : Next::failed;
        case ExitReason::internal_error:
            return run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION ? Next::emulate : Next::failed;
        case ExitReason::fail_entry:
        case ExitReason::exception:
        case ExitReason::dirty_ring_full:
        case ExitReason::notify:
        case ExitReason::hyperv:
        case ExitReason::xen:
        case ExitReason::unknown: return Next::failed;
    }
    return Next::failed;
}

std::string describe_exit(const kvm_run& run) {
    switch (classify(run.exit_reason)) {
        case ExitReason::internal_error: {
            std::string text =
                fmt::format("KVM internal error {}: {}", run.internal.suberror, suberror_text(run.internal.suberror));
            if (run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run.emulation_failure.ndata >= 3 &&
                run.emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
                text += "; instruction bytes";
                for (size_t i = 0; i < run.emulation_failure.insn_size && i < 15; ++i) {
                    text += fmt::format(" {:02x}", run.emulation_failure.insn_bytes[i]);
                }
            } else {
                for (size_t i = 0; i < run.internal.ndata && i < 16; ++i) {
                    text += fmt::format("{}{:#x}", i ? ", " : "; data ", uint64_t{run.internal.data[i]});
                }
            }
            return text;
        }
        case ExitReason::fail_entry:
            return fmt::format("the processor refused the guest's state (hardware reason {:#x}); please report this",
                               uint64_t{run.fail_entry.hardware_entry_failure_reason});
        case ExitReason::system_event: return fmt::format("KVM system event {}", run.system_event.type);
        case ExitReason::exception:
            return fmt::format("KVM could not deliver exception {} (error code {:#x})", run.ex.exception,
                               run.ex.error_code);
        case ExitReason::notify: return "the guest stopped the processor from taking events (KVM notify exit)";
        case ExitReason::unknown:
            return fmt::format("KVM exit reason {}, which this version does not know (hardware reason {:#x})",
                               run.exit_reason, uint64_t{run.hw.hardware_exit_reason});
        case ExitReason::shutdown: return "triple fault";
        case ExitReason::io:
        case ExitReason::mmio:
        case ExitReason::halt:
        case ExitReason::interrupt_window:
        case ExitReason::interrupted:
        case ExitReason::set_tpr:
        case ExitReason::tpr_access:
        case ExitReason::ioapic_eoi:
        case ExitReason::read_msr:
        case ExitReason::write_msr:
        case ExitReason::debug:
        case ExitReason::hypercall:
        case ExitReason::nmi:
        case ExitReason::dirty_ring_full:
        case ExitReason::bus_lock:
        case ExitReason::hyperv:
        case ExitReason::xen: break;
    }
    return fmt::format("KVM exit '{}'", name_of(classify(run.exit_reason)));
}

void ExitLog::add(const kvm_run& run) {
    Entry& entry = entries_[count_++ % entries_.size()];
    entry = {classify(run.exit_reason), 0, false, run.s.regs.regs.rip, 0};
    switch (entry.reason) {
        case ExitReason::io:
            entry.detail = run.io.port;
            entry.size = run.io.size;
            entry.is_write = run.io.direction == KVM_EXIT_IO_OUT;
            break;
        case ExitReason::mmio:
            entry.detail = run.mmio.phys_addr;
            entry.size = static_cast<uint8_t>(run.mmio.len);
            entry.is_write = run.mmio.is_write != 0;
            break;
        case ExitReason::ioapic_eoi: entry.detail = run.eoi.vector; break;
        case ExitReason::read_msr:
        case ExitReason::write_msr:
            entry.detail = run.msr.index;
            entry.is_write = entry.reason == ExitReason::write_msr;
            break;
        case ExitReason::internal_error: entry.detail = run.internal.suberror; break;
        case ExitReason::fail_entry: entry.detail = run.fail_entry.hardware_entry_failure_reason; break;
        case ExitReason::system_event: entry.detail = run.system_event.type; break;
        case ExitReason::debug: entry.detail = run.debug.arch.dr6; break;
        case ExitReason::exception: entry.detail = run.ex.exception; break;
        case ExitReason::hypercall: entry.detail = run.hypercall.nr; break;
        case ExitReason::halt:
        case ExitReason::interrupt_window:
        case ExitReason::interrupted:
        case ExitReason::shutdown:
        case ExitReason::set_tpr:
        case ExitReason::tpr_access:
        case ExitReason::nmi:
        case ExitReason::dirty_ring_full:
        case ExitReason::bus_lock:
        case ExitReason::notify:
        case ExitReason::hyperv:
        case ExitReason::xen: break;
        case ExitReason::unknown: entry.detail = run.hw.hardware_exit_reason; break;
    }
}

std::string ExitLog::text() const {
    std::string text;
    const size_t first = count_ > entries_.size() ? count_ - entries_.size() : 0;
    for (size_t i = first; i < count_; ++i) {
        const Entry& entry = entries_[i % entries_.size()];
        text += fmt::format("{:>8} rip {:012x} {}", i, entry.rip, name_of(entry.reason));
        if (entry.size) {
            text += fmt::format(" {} {:#x}, {} byte{}", entry.is_write ? "write" : "read", entry.detail, entry.size,
                                entry.size == 1 ? "" : "s");
        } else if (entry.detail) {
            text += fmt::format(" {:#x}", entry.detail);
        }
        text += '\n';
    }
    return text;
}

}  // namespace viv::kvm
