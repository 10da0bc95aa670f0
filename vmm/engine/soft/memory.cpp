#include "vmm/engine/soft/memory.hpp"

#include <algorithm>
#include <bit>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/host_call.hpp"
#include "vmm/engine/soft/lapic.hpp"

namespace viv::soft {
namespace {

/// APIC_BASE: enabled, and not in x2APIC mode (SDM 3A, 11.12.1).
bool is_apic_page(const Cpu& cpu, uint64_t physical) {
    return cpu.apic && (cpu.apic_base & 0xC00) == 0x800 && (physical & page_mask) == (cpu.apic_base & 0xFFFFFF000);
}

bool is_canonical(uint64_t linear) {
    return static_cast<int64_t>(linear << 16) >> 16 == static_cast<int64_t>(linear);
}

void check_canonical(Cpu& cpu, uint64_t linear, uint8_t seg) {
    if (!cpu.code64 || is_canonical(linear)) return;
    raise(seg == SS ? vector_ss : vector_gp, 0);
}

/// What the alignment check asks for (SDM 3A, table 6-7): x87 environments that of their elements, XSAVE areas nothing.
unsigned checked_alignment(unsigned size) {
    switch (size) {
        case 14:
        case 94: return 2;
        case 28:
        case 108: return 4;
        default: return size > 64 ? 1 : std::min(std::bit_floor(size), 16u);
    }
}

void check_alignment(Cpu& cpu, uint64_t linear, unsigned size) {
    if (cpu.tlb != &cpu.tlbs[tlb_user_aligned]) return;
    if (linear & (checked_alignment(size) - 1)) raise(vector_ac, 0);
}

void note_access(Cpu& cpu, uint64_t linear, unsigned size, Access access) {
    if (cpu.dr7 & 0xFF) check_data_breakpoint(cpu, linear, size, access);
}

bool allows(const TlbEntry& entry, Access access) {
    switch (access) {
        case Access::read: return entry.may_read;
        case Access::write: return entry.may_write;
        default: return entry.may_execute;
    }
}

/// The TLB entry for `access`, from the TLB when it allows it.
TlbEntry& entry_for(Cpu& cpu, Tlb& tlb, uint64_t linear, Access access, bool user) {
    ++cpu.counters.slow_accesses;
    TlbEntry& entry = tlb.at(linear);
    if (entry.page == (linear & page_mask) && allows(entry, access)) {
        if (access == Access::write) open_for_writing(cpu, tlb, entry);
        return entry;
    }
    return translate(cpu, tlb, linear, access, user);
}

/// The same; null with Cpu::fault set for a page fault.
TlbEntry* try_entry_for(Cpu& cpu, Tlb& tlb, uint64_t linear, Access access, bool user) {
    ++cpu.counters.slow_accesses;
    TlbEntry& entry = tlb.at(linear);
    if (entry.page == (linear & page_mask) && allows(entry, access)) {
        if (access == Access::write) open_for_writing(cpu, tlb, entry);
        return &entry;
    }
    return try_translate(cpu, tlb, linear, access, user);
}

/// Loads and stores of 1, 2, 4 and 8 bytes are one access of the host.
uint64_t load_host(const std::byte* at, unsigned size) {
    switch (size) {
        case 1: return peek<uint8_t>(at);
        case 2: return peek<uint16_t>(at);
        case 4: return peek<uint32_t>(at);
        case 8: return peek<uint64_t>(at);
        default: break;
    }
    uint64_t value = 0;
    std::memcpy(&value, at, size);
    return value;
}
void store_host(std::byte* at, unsigned size, uint64_t value) {
    switch (size) {
        case 1: return poke(at, static_cast<uint8_t>(value));
        case 2: return poke(at, static_cast<uint16_t>(value));
        case 4: return poke(at, static_cast<uint32_t>(value));
        case 8: return poke(at, value);
        default: std::memcpy(at, &value, size);
    }
}

uint64_t load_entry(Cpu& cpu, const TlbEntry& entry, uint64_t linear, unsigned size) {
    if (entry.host) {
        return load_host(entry.host + (linear & 0xFFF), size);
    }
    return physical_load(cpu, entry.physical | (linear & 0xFFF), size);
}

/// A write to a page without a direct way: ROM and MMIO go to the bus, code pages tell the block cache.
void store_entry(Cpu& cpu, const TlbEntry& entry, uint64_t linear, unsigned size, uint64_t value) {
    if (entry.host && entry.write == entry.page) {
        return store_host(entry.host + (linear & 0xFFF), size, value);
    }
    physical_store(cpu, entry.physical | (linear & 0xFFF), size, value);
}

unsigned bytes_in_page(uint64_t linear) {
    return static_cast<unsigned>(0x1000 - (linear & 0xFFF));
}

/// What the processor itself reads and writes has 64-bit addresses in compatibility mode too.
uint64_t system_address(const Cpu& cpu, uint64_t linear) {
    return cpu.long_active ? linear : linear & cpu.linear_mask;
}
/// The page behind `linear`, `first` bytes on.
uint64_t next_page(const Cpu& cpu, uint64_t linear, unsigned first) {
    return linear > cpu.linear_mask ? linear + first : (linear + first) & cpu.linear_mask;
}

uint64_t load_with(Cpu& cpu, Tlb& tlb, bool user, uint64_t linear, unsigned size) {
    const unsigned first = bytes_in_page(linear);
    if (size <= first) return load_entry(cpu, entry_for(cpu, tlb, linear, Access::read, user), linear, size);
    const uint64_t second_page = next_page(cpu, linear, first);
    entry_for(cpu, tlb, linear, Access::read, user);
    const uint64_t high =
        load_entry(cpu, entry_for(cpu, tlb, second_page, Access::read, user), second_page, size - first);
    const uint64_t low = load_entry(cpu, entry_for(cpu, tlb, linear, Access::read, user), linear, first);
    return low | high << (8 * first);
}

void probe_with(Cpu& cpu, Tlb& tlb, bool user, Access access, uint64_t linear, unsigned size) {
    entry_for(cpu, tlb, linear, access, user);
    const unsigned first = bytes_in_page(linear);
    if (size > first) entry_for(cpu, tlb, next_page(cpu, linear, first), access, user);
}

void store_with(Cpu& cpu, Tlb& tlb, bool user, uint64_t linear, unsigned size, uint64_t value) {
    const unsigned first = bytes_in_page(linear);
    if (size <= first) return store_entry(cpu, entry_for(cpu, tlb, linear, Access::write, user), linear, size, value);
    probe_with(cpu, tlb, user, Access::write, linear, size);
    const uint64_t second_page = next_page(cpu, linear, first);
    const uint64_t low = value & ((uint64_t{1} << (8 * first)) - 1);
    store_entry(cpu, entry_for(cpu, tlb, linear, Access::write, user), linear, first, low);
    store_entry(cpu, entry_for(cpu, tlb, second_page, Access::write, user), second_page, size - first,
                value >> (8 * first));
}

bool is_user(const Cpu& cpu) {
    return cpu.cpl == 3;
}

Tlb& system_tlb(Cpu& cpu) {
    return cpu.tlbs[cpu.cr4 & cr4_smap ? tlb_supervisor_smap : tlb_supervisor];
}

}  // namespace

HostCall::HostCall(Cpu& cpu) : cpu_(cpu) {
    cpu.engine->account_time(cpu);
    cpu.engine->native.release_fpu(cpu);
    if (cpu.engine->has_threads()) cpu.engine->standstill.leave(cpu);
}

HostCall::~HostCall() {
    if (cpu_.engine->has_threads()) cpu_.engine->standstill.enter(cpu_);
    cpu_.engine->native.resume(cpu_);
    const bool changed = cpu_.regions_changed.load(std::memory_order_relaxed) ||
                         cpu_.engine->memory_changed->load(std::memory_order_relaxed);
    // The rest of the block sees the new map at once; the other CPUs, and what code there is, come with attention.
    if (changed) flush_tlb(cpu_);
    if (cpu_.blocks->memory_moved() || changed) {
        cpu_.attention.store(true, std::memory_order_relaxed);
    }
}

uint64_t load_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg) {
    cpu.at = insn;
    check_canonical(cpu, linear, seg);
    if (size > 1) check_canonical(cpu, linear + size - 1, seg);
    check_alignment(cpu, linear, size);
    const uint64_t value = load_with(cpu, *cpu.tlb, is_user(cpu), linear, size);
    note_access(cpu, linear, size, Access::read);
    return value;
}

void store_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint64_t value, uint8_t seg) {
    cpu.at = insn;
    check_canonical(cpu, linear, seg);
    if (size > 1) check_canonical(cpu, linear + size - 1, seg);
    check_alignment(cpu, linear, size);
    store_with(cpu, *cpu.tlb, is_user(cpu), linear, size, value);
    note_access(cpu, linear, size, Access::write);
}

void probe_write(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg) {
    cpu.at = insn;
    check_canonical(cpu, linear, seg);
    if (size > 1) check_canonical(cpu, linear + size - 1, seg);
    check_alignment(cpu, linear, size);
    probe_with(cpu, *cpu.tlb, is_user(cpu), Access::write, linear, size);
}

void probe_read(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg) {
    cpu.at = insn;
    check_canonical(cpu, linear, seg);
    if (size > 1) check_canonical(cpu, linear + size - 1, seg);
    check_alignment(cpu, linear, size);
    probe_with(cpu, *cpu.tlb, is_user(cpu), Access::read, linear, size);
}

namespace {
/// Whether an access has to go the way with all checks, whose faults are thrown.
bool is_special(const Cpu& cpu, uint64_t linear, unsigned size) {
    return size > bytes_in_page(linear) || (cpu.code64 && !is_canonical(linear)) ||
           cpu.tlb == &cpu.tlbs[tlb_user_aligned] || (cpu.dr7 & 0xFF);
}
}  // namespace

Loaded<uint64_t> try_load_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg) {
    if (is_special(cpu, linear, size)) return {load_slow(cpu, insn, linear, size, seg), true};
    cpu.at = insn;
    const TlbEntry* const entry = try_entry_for(cpu, *cpu.tlb, linear, Access::read, is_user(cpu));
    if (!entry) return {0, false};
    return {load_entry(cpu, *entry, linear, size), true};
}

bool try_store_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint64_t value, uint8_t seg) {
    if (is_special(cpu, linear, size)) {
        store_slow(cpu, insn, linear, size, value, seg);
        return true;
    }
    cpu.at = insn;
    const TlbEntry* const entry = try_entry_for(cpu, *cpu.tlb, linear, Access::write, is_user(cpu));
    if (!entry) return false;
    store_entry(cpu, *entry, linear, size, value);
    return true;
}

bool try_probe_write(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg) {
    if (is_special(cpu, linear, size)) {
        probe_write(cpu, insn, linear, size, seg);
        return true;
    }
    cpu.at = insn;
    return try_entry_for(cpu, *cpu.tlb, linear, Access::write, is_user(cpu)) != nullptr;
}

std::byte* locked_place(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg) {
    constexpr unsigned line = 64;
    if (linear % line + size > line) {
        probe_write(cpu, insn, linear, size, seg);
        return nullptr;
    }
    if (std::byte* at = direct<Access::write>(cpu, linear, size)) return at;
    probe_write(cpu, insn, linear, size, seg);
    const TlbEntry& entry = cpu.tlb->at(linear);
    if (!entry.host) return nullptr;
    const auto place =
        cpu.engine->memory.window(Gpa{entry.physical | (linear & 0xFFF)}, size, GuestMemory::Intent::write);
    return place.empty() ? nullptr : place.data();
}

void locked_done(Cpu& cpu, uint64_t linear, unsigned size, std::byte* at) {
    if (direct<Access::write>(cpu, linear, size)) return;
    cpu.blocks->written(Gpa{cpu.tlb->at(linear).physical | (linear & 0xFFF)}, at, size);
    note_access(cpu, linear, size, Access::read);
    note_access(cpu, linear, size, Access::write);
}

bool is_ram(Cpu& cpu, uint64_t linear, unsigned size) {
    const auto one_is = [&cpu](uint64_t page) {
        const TlbEntry& entry = cpu.tlb->at(page);
        return entry.page == (page & page_mask) && entry.host &&
               !cpu.engine->memory.window(Gpa{entry.physical}, 0x1000, GuestMemory::Intent::write).empty();
    };
    const unsigned first = bytes_in_page(linear);
    return one_is(linear) && (size <= first || one_is(next_page(cpu, linear, first)));
}

void load_bytes(Cpu& cpu, const Insn* insn, uint64_t linear, void* out, unsigned size, uint8_t seg) {
    auto* to = static_cast<std::byte*>(out);
    if (const std::byte* at = direct<Access::read>(cpu, linear, size)) {
        std::memcpy(to, at, size);
        return;
    }
    cpu.at = insn;
    check_canonical(cpu, linear, seg);
    check_canonical(cpu, linear + size - 1, seg);
    check_alignment(cpu, linear, size);
    while (size > 0) {
        const unsigned piece = std::min({size, 8u, bytes_in_page(linear)});
        const uint64_t value = load_with(cpu, *cpu.tlb, is_user(cpu), linear, piece);
        note_access(cpu, linear, piece, Access::read);
        std::memcpy(to, &value, piece);
        to += piece;
        linear = (linear + piece) & cpu.linear_mask;
        size -= piece;
    }
}

void store_bytes(Cpu& cpu, const Insn* insn, uint64_t linear, const void* in, unsigned size, uint8_t seg) {
    const auto* from = static_cast<const std::byte*>(in);
    if (std::byte* at = direct<Access::write>(cpu, linear, size)) {
        std::memcpy(at, from, size);
        return;
    }
    cpu.at = insn;
    check_canonical(cpu, linear, seg);
    check_canonical(cpu, linear + size - 1, seg);
    check_alignment(cpu, linear, size);
    probe_with(cpu, *cpu.tlb, is_user(cpu), Access::write, linear, size);
    while (size > 0) {
        const unsigned piece = std::min({size, 8u, bytes_in_page(linear)});
        uint64_t value = 0;
        std::memcpy(&value, from, piece);
        store_with(cpu, *cpu.tlb, is_user(cpu), linear, piece, value);
        note_access(cpu, linear, piece, Access::write);
        from += piece;
        linear = (linear + piece) & cpu.linear_mask;
        size -= piece;
    }
}

uint64_t system_load(Cpu& cpu, uint64_t linear, unsigned size) {
    check_canonical(cpu, linear, DS);
    return load_with(cpu, system_tlb(cpu), false, system_address(cpu, linear), size);
}

void system_store(Cpu& cpu, uint64_t linear, unsigned size, uint64_t value) {
    check_canonical(cpu, linear, DS);
    store_with(cpu, system_tlb(cpu), false, system_address(cpu, linear), size, value);
}

uint8_t system_change_bits(Cpu& cpu, uint64_t linear, uint8_t bits, BitChange change) {
    check_canonical(cpu, linear, DS);
    const uint64_t at = system_address(cpu, linear);
    const TlbEntry& entry = entry_for(cpu, system_tlb(cpu), at, Access::write, false);
    const uint64_t physical = entry.physical | (at & 0xFFF);
    const auto window = cpu.engine->memory.window(Gpa{physical}, 1, GuestMemory::Intent::write);
    if (window.empty() || is_apic_page(cpu, physical)) {
        const uint64_t old = physical_load(cpu, physical, 1);
        physical_store(cpu, physical, 1, change == BitChange::set ? old | bits : old & ~uint64_t{bits});
        return static_cast<uint8_t>(old);
    }
    auto* byte = reinterpret_cast<uint8_t*>(window.data());
    const uint8_t old = change == BitChange::set
                            ? __atomic_fetch_or(byte, bits, __ATOMIC_SEQ_CST)
                            : __atomic_fetch_and(byte, static_cast<uint8_t>(~bits), __ATOMIC_SEQ_CST);
    cpu.blocks->written(Gpa{physical}, window.data(), 1);
    return old;
}

void system_probe_write(Cpu& cpu, uint64_t linear, unsigned size) {
    check_canonical(cpu, linear, DS);
    probe_with(cpu, system_tlb(cpu), false, Access::write, system_address(cpu, linear), size);
}

uint64_t physical_load(Cpu& cpu, uint64_t address, unsigned size) {
    if (is_apic_page(cpu, address)) return cpu.apic->read_memory(cpu, static_cast<uint32_t>(address & 0xFFF), size);
    const auto window = cpu.engine->memory.window(Gpa{address}, size, GuestMemory::Intent::read);
    if (!window.empty()) return load_host(window.data(), size);
    const HostCall call(cpu);
    return cpu.host->memory_read(Gpa{address}, static_cast<uint8_t>(size));
}

void physical_store(Cpu& cpu, uint64_t address, unsigned size, uint64_t value) {
    if (is_apic_page(cpu, address)) {
        return cpu.apic->write_memory(cpu, static_cast<uint32_t>(address & 0xFFF), size, value);
    }
    const auto window = cpu.engine->memory.window(Gpa{address}, size, GuestMemory::Intent::write);
    if (!window.empty()) {
        store_host(window.data(), size, value);
        cpu.blocks->written(Gpa{address}, window.data(), size);
        return;
    }
    const HostCall call(cpu);
    cpu.host->memory_write(Gpa{address}, static_cast<uint8_t>(size), value);
}

namespace {
template <class T>
bool set_bits(std::byte* at, uint64_t expected, uint64_t bits) {
    using Shared [[gnu::may_alias]] = T;
    auto old = static_cast<T>(expected);
    const auto value = static_cast<T>(expected | bits);
    return __atomic_compare_exchange_n(reinterpret_cast<Shared*>(at), &old, value, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}
}  // namespace

bool physical_set_bits(Cpu& cpu, uint64_t address, unsigned size, uint64_t expected, uint64_t bits) {
    const auto window = cpu.engine->memory.window(Gpa{address}, size, GuestMemory::Intent::write);
    if (window.empty() || is_apic_page(cpu, address)) {
        physical_store(cpu, address, size, expected | bits);
        return true;
    }
    const bool done = size == 8 ? set_bits<uint64_t>(window.data(), expected, bits)
                                : set_bits<uint32_t>(window.data(), expected, bits);
    if (done) cpu.blocks->written(Gpa{address}, window.data(), size);
    return done;
}

void raise_segment(Cpu& cpu, const Insn* insn, uint8_t seg) {
    cpu.at = insn;
    raise(seg == SS ? vector_ss : vector_gp, 0);
}

}  // namespace viv::soft
