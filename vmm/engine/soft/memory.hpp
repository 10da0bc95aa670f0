#pragma once

#include <cstdint>
#include <cstring>

#include "vmm/engine/soft/cpu.hpp"

/// Guest memory as instructions see it: linear addresses through a software TLB, segments on top. Everything here may
/// throw Fault.
namespace viv::soft {

constexpr uint64_t page_mask = ~uint64_t{0xFFF};

/// The parts of an access that the TLB does not answer at once: page walks, page crossings, MMIO, code pages, ROM.
/// `seg` decides between #SS and #GP for a non-canonical address.
uint64_t load_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg);
void store_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint64_t value, uint8_t seg);
/// Faults exactly as a write of these bytes would.
void probe_write(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg);
void probe_read(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg);
/// Copies of any size (FXSAVE images, vectors), page by page; the store probes all before it writes.
void load_bytes(Cpu& cpu, const Insn* insn, uint64_t linear, void* out, unsigned size, uint8_t seg);
void store_bytes(Cpu& cpu, const Insn* insn, uint64_t linear, const void* in, unsigned size, uint8_t seg);

/// Accesses of the processor itself, with supervisor rights at any CPL: descriptor tables, TSS.
uint64_t system_load(Cpu& cpu, uint64_t linear, unsigned size);
void system_store(Cpu& cpu, uint64_t linear, unsigned size, uint64_t value);
enum class BitChange : uint8_t { set, clear };
/// Changes bits of a byte by a locked access; what the byte was before.
uint8_t system_change_bits(Cpu& cpu, uint64_t linear, uint8_t bits, BitChange change);
void system_probe_write(Cpu& cpu, uint64_t linear, unsigned size);

/// Guest-physical accesses: RAM, ROM, the local APIC's page, MMIO. 1 to 8 bytes within a page.
uint64_t physical_load(Cpu& cpu, uint64_t address, unsigned size);
void physical_store(Cpu& cpu, uint64_t address, unsigned size, uint64_t value);
/// Sets bits in an entry of 4 or 8 bytes that was `expected`, as one access; false: it is another one by now.
bool physical_set_bits(Cpu& cpu, uint64_t address, unsigned size, uint64_t expected, uint64_t bits);

/// The page walk (paging.cpp): fills and returns the TLB entry for an access, or throws the page fault.
TlbEntry& translate(Cpu& cpu, Tlb& tlb, uint64_t linear, Access access, bool user);
/// The same; null with Cpu::fault set instead of the throw.
TlbEntry* try_translate(Cpu& cpu, Tlb& tlb, uint64_t linear, Access access, bool user);
/// Gives a writable page without code its direct way for writes.
void open_for_writing(Cpu& cpu, const Tlb& tlb, TlbEntry& entry);
/// Forgets translations: all, all but global ones, or those of one page, as INVLPG does or (of the current PCID) as a
/// page fault does (SDM 3A, 4.10.4.1).
void flush_tlb(Cpu& cpu);
void flush_tlb_non_global(Cpu& cpu);
void flush_tlb_page(Cpu& cpu, uint64_t linear);
void forget_page(Cpu& cpu, uint64_t linear);
/// MOV to CR3 with PCIDs: the translations of `pcid` from now on, with what is known of them if `keep`. And INVPCID's
/// parts: a page or all that is not global of one PCID.
void switch_address_space(Cpu& cpu, uint16_t pcid, bool keep);
void flush_tlb_page_of(Cpu& cpu, uint16_t pcid, uint64_t linear);
void flush_tlb_of(Cpu& cpu, uint16_t pcid);
/// The rights of protection keys for user pages, or for the others, changed: two bits a key (SDM 3A, 4.6.2).
void flush_tlb_keys(Cpu& cpu, uint32_t changed, bool user_pages);
/// Takes the direct way to write `host_page` out of the TLB, so that writes to code are seen.
void protect_code_page(Cpu& cpu, const std::byte* host_page);

/// Debug registers (debug.cpp): whether a data breakpoint lies in the page, so that no access to it goes the direct
/// way; and the traps that an access or a port leave pending.
bool watches_data(const Cpu& cpu, uint64_t page);
void check_data_breakpoint(Cpu& cpu, uint64_t linear, unsigned size, Access access);
void check_io_breakpoint(Cpu& cpu, uint16_t port, unsigned size);

/// The host address of `size` bytes, when the TLB has them in one page; else null.
template <Access A>
inline std::byte* direct(const Cpu& cpu, uint64_t linear, unsigned size) {
    const TlbEntry& entry = cpu.tlb->at(linear);
    const uint64_t tag = A == Access::write ? entry.write : entry.read;
    if (((linear + size - 1) & page_mask) != tag) [[unlikely]]
        return nullptr;
    return reinterpret_cast<std::byte*>(linear + entry.addend);
}

/// One access of the host, of 1, 2, 4 or 8 bytes, wherever it lies: the compiler neither splits it nor moves it past
/// another one. The host is an x86, too: its loads and stores have the order and the atomicity that the guest's have to
/// have (SDM 3A, 9.1.1 and 9.2.2), so this is all that plain accesses need when each CPU has a thread.
template <class T>
inline T peek(const void* at) {
    using Shared [[gnu::may_alias]] = T;
    return static_cast<T>(__atomic_load_n(static_cast<const Shared*>(at), __ATOMIC_RELAXED));
}
template <class T>
inline void poke(void* at, T value) {
    using Shared [[gnu::may_alias]] = T;
    __atomic_store_n(static_cast<Shared*>(at), value, __ATOMIC_RELAXED);
}

/// What MFENCE and serializing instructions do for memory.
inline void host_fence() {
    asm volatile("mfence" ::: "memory");
}

template <class T>
inline T load(Cpu& cpu, const Insn* insn, uint64_t linear, uint8_t seg) {
    if (const std::byte* at = direct<Access::read>(cpu, linear, sizeof(T))) [[likely]]
        return peek<T>(at);
    return static_cast<T>(load_slow(cpu, insn, linear, sizeof(T), seg));
}

template <class T>
inline void store(Cpu& cpu, const Insn* insn, uint64_t linear, T value, uint8_t seg) {
    if (std::byte* at = direct<Access::write>(cpu, linear, sizeof(T))) [[likely]]
        return poke(at, value);
    store_slow(cpu, insn, linear, sizeof(T), static_cast<uint64_t>(value), seg);
}

/// Read-modify-write: `change` gets the old value and returns the new one; flags it sets stay, since no fault can
/// follow it.
template <class T, class Change>
inline void modify(Cpu& cpu, const Insn* insn, uint64_t linear, uint8_t seg, Change change) {
    if (std::byte* at = direct<Access::write>(cpu, linear, sizeof(T))) [[likely]]
        return poke<T>(at, change(peek<T>(at)));
    probe_write(cpu, insn, linear, sizeof(T), seg);
    const T old = static_cast<T>(load_slow(cpu, insn, linear, sizeof(T), seg));
    store_slow(cpu, insn, linear, sizeof(T), static_cast<uint64_t>(change(old)), seg);
}

/// Accesses for handlers that end by themselves when a page fault comes (faulted() in handlers.hpp), which is much
/// faster than a throw. Other faults are still thrown.
template <class T>
struct Loaded {
    T value;
    bool good;
};
Loaded<uint64_t> try_load_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg);
bool try_store_slow(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint64_t value, uint8_t seg);
/// Whether a write of these bytes does not fault.
bool try_probe_write(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg);

template <class T>
inline Loaded<T> try_load(Cpu& cpu, const Insn* insn, uint64_t linear, uint8_t seg) {
    if (const std::byte* at = direct<Access::read>(cpu, linear, sizeof(T))) [[likely]]
        return {peek<T>(at), true};
    const Loaded<uint64_t> slow = try_load_slow(cpu, insn, linear, sizeof(T), seg);
    return {static_cast<T>(slow.value), slow.good};
}
template <class T>
inline bool try_store(Cpu& cpu, const Insn* insn, uint64_t linear, T value, uint8_t seg) {
    if (std::byte* at = direct<Access::write>(cpu, linear, sizeof(T))) [[likely]] {
        poke(at, value);
        return true;
    }
    return try_store_slow(cpu, insn, linear, sizeof(T), static_cast<uint64_t>(value), seg);
}
template <class T, class Change>
inline bool try_modify(Cpu& cpu, const Insn* insn, uint64_t linear, uint8_t seg, Change change) {
    if (std::byte* at = direct<Access::write>(cpu, linear, sizeof(T))) [[likely]] {
        poke<T>(at, change(peek<T>(at)));
        return true;
    }
    if (!try_probe_write(cpu, insn, linear, sizeof(T), seg)) return false;
    const T old = static_cast<T>(load_slow(cpu, insn, linear, sizeof(T), seg));
    store_slow(cpu, insn, linear, sizeof(T), static_cast<uint64_t>(change(old)), seg);
    return true;
}

/// Where the host can make a locked access of its own for the guest: within one page of RAM and one cache line, since
/// processors make a poor job of others. Null for all else. Faults as a write does.
std::byte* locked_place(Cpu& cpu, const Insn* insn, uint64_t linear, unsigned size, uint8_t seg);
/// Comes after a locked access there.
void locked_done(Cpu& cpu, uint64_t linear, unsigned size, std::byte* at);
/// Whether all these bytes, which may be written, are in RAM, so that an access does not call the host.
bool is_ram(Cpu& cpu, uint64_t linear, unsigned size);

/// #GP or #SS when the segment does not allow the access.
[[noreturn]] void raise_segment(Cpu& cpu, const Insn* insn, uint8_t seg);

template <Access A>
inline void check_segment(Cpu& cpu, const Insn* insn, uint8_t seg, uint64_t offset, unsigned size) {
    const SegmentBounds& bounds = cpu.bounds[seg];
    const uint64_t high = A == Access::write ? bounds.write_high : bounds.read_high;
    const uint64_t low = A == Access::write ? bounds.write_low : bounds.low;
    if (offset < low || offset + (size - 1) > high) [[unlikely]]
        raise_segment(cpu, insn, seg);
}

inline uint64_t effective_address(const Cpu& cpu, const Insn* i) {
    return (cpu.reg<uint64_t>(i->base) + (cpu.reg<uint64_t>(i->index) << i->scale) + static_cast<uint64_t>(i->disp)) &
           i->mask;
}

/// The linear address of the memory operand, checked for `size` bytes of access A.
template <Access A>
inline uint64_t operand_address(Cpu& cpu, const Insn* i, unsigned size) {
    const uint64_t offset = effective_address(cpu, i);
    if (i->has(insn_checked)) check_segment<A>(cpu, i, i->seg, offset, size);
    return (offset + cpu.seg_base[i->seg]) & cpu.linear_mask;
}

/// The linear address of seg:offset, always checked.
template <Access A>
inline uint64_t segment_address(Cpu& cpu, const Insn* insn, uint8_t seg, uint64_t offset, unsigned size) {
    if (!cpu.code64) check_segment<A>(cpu, insn, seg, offset, size);
    return (offset + cpu.seg_base[seg]) & cpu.linear_mask;
}

template <class T>
inline T load_operand(Cpu& cpu, const Insn* i) {
    return load<T>(cpu, i, operand_address<Access::read>(cpu, i, sizeof(T)), i->seg);
}
template <class T>
inline void store_operand(Cpu& cpu, const Insn* i, T value) {
    store<T>(cpu, i, operand_address<Access::write>(cpu, i, sizeof(T)), value, i->seg);
}
template <class T, class Change>
inline void modify_operand(Cpu& cpu, const Insn* i, Change change) {
    modify<T>(cpu, i, operand_address<Access::write>(cpu, i, sizeof(T)), i->seg, change);
}

template <class T>
inline Loaded<T> try_load_operand(Cpu& cpu, const Insn* i) {
    return try_load<T>(cpu, i, operand_address<Access::read>(cpu, i, sizeof(T)), i->seg);
}
template <class T>
inline bool try_store_operand(Cpu& cpu, const Insn* i, T value) {
    return try_store<T>(cpu, i, operand_address<Access::write>(cpu, i, sizeof(T)), value, i->seg);
}
template <class T, class Change>
inline bool try_modify_operand(Cpu& cpu, const Insn* i, Change change) {
    return try_modify<T>(cpu, i, operand_address<Access::write>(cpu, i, sizeof(T)), i->seg, change);
}

/// The stack. push() changes RSP only after the store; peek_stack() reads `depth` bytes above the top.
template <class T>
inline void push(Cpu& cpu, const Insn* insn, T value) {
    const uint64_t rsp = cpu.gpr[RSP];
    const uint64_t top = (rsp - sizeof(T)) & cpu.stack_mask;
    store<T>(cpu, insn, segment_address<Access::write>(cpu, insn, SS, top, sizeof(T)), value, SS);
    cpu.gpr[RSP] = (rsp & ~cpu.stack_mask) | top;
}
template <class T>
inline T peek_stack(Cpu& cpu, const Insn* insn, uint64_t depth = 0) {
    const uint64_t top = (cpu.gpr[RSP] + depth) & cpu.stack_mask;
    return load<T>(cpu, insn, segment_address<Access::read>(cpu, insn, SS, top, sizeof(T)), SS);
}
inline void drop_stack(Cpu& cpu, uint64_t bytes) {
    const uint64_t rsp = cpu.gpr[RSP];
    cpu.gpr[RSP] = (rsp & ~cpu.stack_mask) | ((rsp + bytes) & cpu.stack_mask);
}
template <class T>
inline T pop(Cpu& cpu, const Insn* insn) {
    const T value = peek_stack<T>(cpu, insn);
    drop_stack(cpu, sizeof(T));
    return value;
}

template <class T>
inline bool try_push(Cpu& cpu, const Insn* insn, T value) {
    const uint64_t rsp = cpu.gpr[RSP];
    const uint64_t top = (rsp - sizeof(T)) & cpu.stack_mask;
    if (!try_store<T>(cpu, insn, segment_address<Access::write>(cpu, insn, SS, top, sizeof(T)), value, SS))
        return false;
    cpu.gpr[RSP] = (rsp & ~cpu.stack_mask) | top;
    return true;
}
template <class T>
inline Loaded<T> try_peek_stack(Cpu& cpu, const Insn* insn) {
    const uint64_t top = cpu.gpr[RSP] & cpu.stack_mask;
    return try_load<T>(cpu, insn, segment_address<Access::read>(cpu, insn, SS, top, sizeof(T)), SS);
}

}  // namespace viv::soft
