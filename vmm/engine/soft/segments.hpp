#pragma once

#include <cstdint>

#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {

/// A segment descriptor or gate as it lies in a table (SDM 3A, 3.4.5 and 5.8.3); `high` only for 16-byte ones.
struct Descriptor {
    uint64_t low = 0;
    uint64_t high = 0;
    uint64_t address = 0;  // linear

    [[nodiscard]] uint8_t type() const { return (low >> 40) & 0xF; }
    [[nodiscard]] bool code_or_data() const { return (low >> 44) & 1; }
    [[nodiscard]] uint8_t dpl() const { return (low >> 45) & 3; }
    [[nodiscard]] bool present() const { return (low >> 47) & 1; }
    [[nodiscard]] bool long_mode() const { return (low >> 53) & 1; }
    [[nodiscard]] bool default_big() const { return (low >> 54) & 1; }
    [[nodiscard]] bool granularity() const { return (low >> 55) & 1; }
    [[nodiscard]] uint64_t base() const { return ((low >> 16) & 0xFFFFFF) | ((low >> 56) & 0xFF) << 24 | high << 32; }
    [[nodiscard]] uint32_t limit() const {
        const auto raw = static_cast<uint32_t>((low & 0xFFFF) | ((low >> 32) & 0xF0000));
        return granularity() ? raw << 12 | 0xFFF : raw;
    }
    [[nodiscard]] bool is_code() const { return code_or_data() && (type() & 8); }
    [[nodiscard]] bool is_conforming() const { return is_code() && (type() & 4); }
    [[nodiscard]] bool is_writable_data() const { return code_or_data() && (type() & 0xA) == 2; }
    [[nodiscard]] bool is_readable() const { return code_or_data() && (type() & 0xA) != 8; }
    /// Of a gate.
    [[nodiscard]] uint16_t gate_selector() const { return static_cast<uint16_t>(low >> 16); }
    [[nodiscard]] uint64_t gate_offset() const { return (low & 0xFFFF) | ((low >> 32) & 0xFFFF0000) | high << 32; }
};

/// System descriptor types (SDM 3A, table 3-2).
constexpr uint8_t tss_busy = 2;  // of a type
constexpr uint8_t type_tss16 = 1, type_ldt = 2, type_tss16_busy = 3, type_call_gate16 = 4, type_task_gate = 5,
                  type_interrupt_gate16 = 6, type_trap_gate16 = 7, type_tss32 = 9, type_tss32_busy = 11,
                  type_call_gate32 = 12, type_interrupt_gate32 = 14, type_trap_gate32 = 15;

/// What a selector names; #vector(selector) when it is beyond its table's limit. `wide`: 16 bytes of it.
Descriptor read_descriptor(Cpu& cpu, uint16_t selector, uint8_t vector, bool wide = false);
/// The same without a fault: false when there is none.
bool try_descriptor(Cpu& cpu, uint16_t selector, Descriptor& out);
void set_accessed(Cpu& cpu, const Descriptor& descriptor);
/// Makes a TSS busy. False: another CPU has done so since the descriptor was read.
bool set_busy(Cpu& cpu, const Descriptor& descriptor);
SegmentRegister segment_from(uint16_t selector, const Descriptor& descriptor);
constexpr uint32_t selector_error(uint16_t selector) {
    return selector & 0xFFFCu;
}
/// With 4-level paging (SDM 1, 3.3.7.1).
constexpr bool is_canonical(uint64_t linear) {
    return static_cast<int64_t>(linear << 16) >> 16 == static_cast<int64_t>(linear);
}
constexpr bool is_null(uint16_t selector) {
    return (selector & 0xFFFC) == 0;
}

/// What SS holds in ring `dpl` after a null selector.
SegmentRegister null_stack(uint16_t selector, unsigned dpl);

/// The stack in units of 2, 4 or 8 bytes; faults name the instruction `cpu.at`.
void push_sized(Cpu& cpu, unsigned size, uint64_t value);
uint64_t peek_sized(Cpu& cpu, unsigned size, uint64_t depth);

/// MOV and POP to a segment register other than CS, with all checks of the mode.
void load_segment(Cpu& cpu, Seg which, uint16_t selector);
/// The real and virtual-8086 way.
void load_real_segment(Cpu& cpu, Seg which, uint16_t selector);
/// Checks a stack segment for privilege level `cpl` and returns it; errors as #vector(selector).
SegmentRegister checked_stack(Cpu& cpu, uint16_t selector, unsigned cpl, uint8_t vector);
/// After a transfer to an outer level: data segments that it may not use become null (SDM 3A, 5.8.6).
void drop_inner_segments(Cpu& cpu);

/// Puts a code segment into CS: RPL becomes `cpl`, which is the CPL from now on.
void load_code_segment(Cpu& cpu, uint16_t selector, const Descriptor& descriptor, unsigned cpl);

/// The code segment that RETF or IRET returns to, checked; its level is the selector's RPL.
Descriptor return_target(Cpu& cpu, uint16_t selector);
/// The SS that they take from the stack on the way to `level`, where `code` runs, checked.
SegmentRegister return_stack(Cpu& cpu, uint16_t selector, const Descriptor& code, unsigned level);

void far_jump(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned size);
void far_call(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned size);
void far_return(Cpu& cpu, unsigned size, unsigned release);

enum class TaskSwitch : uint8_t { jump, call, iret };
/// Switches to the task whose TSS descriptor `selector` names (SDM 3A, 7.3). Pushes the error code there.
void switch_task(Cpu& cpu, uint16_t selector, const Descriptor& descriptor, TaskSwitch reason, bool has_error = false,
                 uint32_t error = 0);
void load_task_gate(Cpu& cpu, const Descriptor& gate, TaskSwitch reason, bool has_error = false, uint32_t error = 0);

/// The stack for privilege level `level` from the current TSS; in long mode only the pointer.
struct InnerStack {
    uint16_t selector = 0;
    uint64_t pointer = 0;
};
InnerStack inner_stack(Cpu& cpu, unsigned level);

}  // namespace viv::soft
