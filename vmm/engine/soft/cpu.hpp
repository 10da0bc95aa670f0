#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "vmm/engine/cpu_state.hpp"
#include "vmm/engine/soft/insn.hpp"
#include "vmm/engine/soft/relaxed.hpp"

namespace viv {
class VcpuHost;
}

namespace viv::soft {

class BlockCache;
class SoftEngine;
class LocalApic;
struct Features;

/// Segment registers in encoding order, then the system ones.
enum Seg : uint8_t { ES, CS, SS, DS, FS, GS, LDTR, TR };

enum Vector : uint8_t {
    vector_de = 0,
    vector_db = 1,
    vector_nmi = 2,
    vector_bp = 3,
    vector_of = 4,
    vector_br = 5,
    vector_ud = 6,
    vector_nm = 7,
    vector_df = 8,
    vector_ts = 10,
    vector_np = 11,
    vector_ss = 12,
    vector_gp = 13,
    vector_pf = 14,
    vector_mf = 16,
    vector_ac = 17,
    vector_xm = 19,
    vector_none = 255  // no exception: the instruction is to be executed again, after what it waits for
};

/// A guest's exception on its way to the guest. Thrown by handlers before they changed anything.
struct Fault {
    uint8_t vector = 0;
    bool has_error = false;
    uint32_t error = 0;
    uint64_t address = 0;  // for #PF
};

/// RFLAGS outside the six arithmetic flags.
constexpr uint32_t flag_cf = 1, flag_pf = 4, flag_af = 0x10, flag_zf = 0x40, flag_sf = 0x80, flag_tf = 0x100,
                   flag_if = 0x200, flag_df = 0x400, flag_of = 0x800, flag_iopl = 0x3000, flag_nt = 0x4000,
                   flag_rf = 0x10000, flag_vm = 0x20000, flag_ac = 0x40000, flag_vif = 0x80000, flag_vip = 0x100000,
                   flag_id = 0x200000;
constexpr uint32_t flags_arithmetic = flag_cf | flag_pf | flag_af | flag_zf | flag_sf | flag_of;

constexpr uint64_t cr0_pe = 1, cr0_mp = 2, cr0_em = 4, cr0_ts = 8, cr0_et = 0x10, cr0_ne = 0x20, cr0_wp = 0x10000,
                   cr0_am = 0x40000, cr0_nw = 1u << 29, cr0_cd = 1u << 30, cr0_pg = 1u << 31;
constexpr uint64_t cr4_vme = 1, cr4_pvi = 2, cr4_tsd = 4, cr4_de = 8, cr4_pse = 0x10, cr4_pae = 0x20, cr4_mce = 0x40,
                   cr4_pge = 0x80, cr4_pce = 0x100, cr4_osfxsr = 0x200, cr4_osxmmexcpt = 0x400, cr4_umip = 0x800,
                   cr4_fsgsbase = 0x10000, cr4_pcide = 0x20000, cr4_osxsave = 0x40000, cr4_smep = 0x100000,
                   cr4_smap = 0x200000, cr4_pke = 0x400000, cr4_pks = 0x1000000;
constexpr uint64_t efer_sce = 1, efer_lme = 0x100, efer_lma = 0x400, efer_nxe = 0x800;

/// One page translation, in a cache line of the host. A tag is the linear page when the access may go straight to host
/// memory, else `no_tag`.
struct alignas(64) TlbEntry {
    static constexpr uint64_t no_tag = 1;
    uint64_t read = no_tag;
    uint64_t write = no_tag;
    uint64_t addend = 0;     // host address minus linear address
    uint64_t page = no_tag;  // the linear page this entry translates
    uint64_t physical = 0;
    bool may_read = false;
    bool may_write = false;  // by the page tables, with the dirty bit set
    bool may_execute = false;
    bool global = false;
    bool listed = false;  // in Tlb::used
    bool user = false;    // a user page
    uint8_t key = 0;      // its protection key
    std::byte* host = nullptr;
};

/// Translations for one kind of access.
struct Tlb {
    static constexpr unsigned size = 4096;
    std::array<TlbEntry, size> entries;
    std::array<uint16_t, size> used;  // the entries that hold something
    unsigned used_count = 0;

    [[nodiscard]] TlbEntry& at(uint64_t linear) { return entries[(linear >> 12) % size]; }
    [[nodiscard]] const TlbEntry& at(uint64_t linear) const { return entries[(linear >> 12) % size]; }
};

/// Which translations an access uses: SMAP hides user pages from the supervisor, alignment checks make all slow.
enum TlbKind : uint8_t { tlb_supervisor_smap, tlb_supervisor, tlb_user, tlb_user_aligned, tlb_kinds };

/// Which pages' code may be linked to: a bit each by page number, apart for the two halves of the address space. Pages
/// that share a bit answer alike.
class PageNotes {
  public:
    void note(uint64_t linear) { bits_[word(linear)] |= bit(linear); }
    [[nodiscard]] bool may_have(uint64_t linear) const { return bits_[word(linear)] & bit(linear); }

  private:
    static size_t word(uint64_t linear) { return (linear >> 18) % 64 + (linear >> 63) * 64; }
    static uint64_t bit(uint64_t linear) { return uint64_t{1} << ((linear >> 12) % 64); }
    std::array<uint64_t, 128> bits_{};
};

/// The TLBs of a CPU: one for each kind of access, but several for the user's, each bound to the PCID whose
/// translations it holds (SDM 3A, 4.10.1). A loop over a TlbSet sees all of them.
class TlbSet {
  public:
    static constexpr unsigned spaces_at_most = 8;

    /// Those of the current PCID.
    [[nodiscard]] Tlb& operator[](TlbKind kind) {
        return kind == tlb_user ? *spaces_[current_].tlb : rest_[index(kind)];
    }
    [[nodiscard]] const Tlb& operator[](TlbKind kind) const { return const_cast<TlbSet&>(*this)[kind]; }
    [[nodiscard]] auto begin() { return Iterator{this, 0}; }
    [[nodiscard]] auto end() { return Iterator{this, count_ + rest}; }

    /// Makes the user translations of `pcid` the current ones, and `user_epoch` that of the links between their code, 0
    /// if there is none. False when they are those of another PCID, to be forgotten by the caller.
    bool select(uint16_t pcid, uint32_t& user_epoch);
    /// All are empty: the current ones are those of `pcid` from now on, the others nobody's.
    void rebind(uint16_t pcid);
    /// The user translations of another PCID than the current one; null when there are none.
    [[nodiscard]] Tlb* other(uint16_t pcid);
    /// The pages with code that the user of the current PCID ran in its epoch.
    [[nodiscard]] PageNotes& user_code() { return spaces_[current_].code; }
    /// Voids the links between code of all PCIDs but the current one, of those with code on a page, or of one.
    void void_epochs();
    void void_epochs_on(uint64_t linear);
    void void_epoch(uint16_t pcid);
    [[nodiscard]] uint16_t current() const { return static_cast<uint16_t>(spaces_[current_].pcid); }

  private:
    static constexpr int nobody = -1;
    struct Space {
        int pcid = nobody;
        uint32_t user_epoch = 0;
        uint64_t used = 0;  // when it was selected last
        PageNotes code;
        std::unique_ptr<Tlb> tlb;
    };
    struct Iterator {
        TlbSet* set;
        unsigned at;
        Tlb& operator*() const { return at < rest ? set->rest_[at] : *set->spaces_[at - rest].tlb; }
        Iterator& operator++() {
            ++at;
            return *this;
        }
        bool operator==(const Iterator& other) const { return at == other.at; }
    };
    [[nodiscard]] Space* find(int pcid);

    static constexpr unsigned rest = tlb_kinds - 1;
    static constexpr unsigned index(TlbKind kind) { return kind - (kind > tlb_user ? 1u : 0u); }
    std::array<Tlb, rest> rest_;  // of the other kinds
    std::array<Space, spaces_at_most> spaces_{Space{.pcid = 0, .tlb = std::make_unique<Tlb>()}};
    unsigned count_ = 1, current_ = 0;
    uint64_t selections_ = 0;
};

/// What offsets an access through a segment may have: low <= offset and offset + size - 1 <= high.
struct SegmentBounds {
    uint64_t low = 0;
    uint64_t write_low = 0;
    uint64_t read_high = 0xFFFF;
    uint64_t write_high = 0xFFFF;
};

enum class Access : uint8_t { read, write, execute };

struct Xmm {
    alignas(32) std::array<uint8_t, 32> bytes{};  // the YMM register; XMM is its low half
};

/// A deferred jump for handlers that look up code by RIP.
struct JumpCacheEntry {
    uint64_t rip = 0;
    uint64_t tag = 0;
    Block* block = nullptr;
    uint8_t flavour = 0xFF;
};
constexpr unsigned jump_cache_size = 16384;
/// Where the jump to `rip` is in the jump cache.
inline unsigned jump_cache_slot(uint64_t rip) {
    return static_cast<unsigned>((rip ^ (rip >> 12)) % jump_cache_size);
}

/// The registers of the x87, outside of the host's FPU: an FXSAVE image (SDM 1, 10.5.1).
struct alignas(16) FxImage {
    uint16_t fcw = 0x37F;
    uint16_t fsw = 0;
    uint8_t ftw = 0;  // abridged: 1 = not empty
    uint8_t reserved = 0;
    uint16_t fop = 0;
    uint64_t fip = 0;
    uint64_t fdp = 0;
    uint32_t mxcsr = 0x1F80;
    uint32_t mxcsr_mask = 0xFFFF;
    std::array<std::array<uint8_t, 16>, 8> st{};
    std::array<uint8_t, 256> xmm{};
    std::array<uint8_t, 96> unused{};
};
static_assert(sizeof(FxImage) == 512);

/// What MONITOR looks at (monitor.cpp).
struct Monitor {
    static constexpr unsigned line = 64;
    bool armed = false;
    bool waits = false;  // the CPU is halted by MWAIT
    uint64_t physical = 0;
    std::array<uint8_t, line> seen{};
};

/// What SoftEngine::counters() adds up.
struct CpuCounters {
    Relaxed<uint64_t> faults, interrupts;
    Relaxed<uint64_t> slow_accesses, walks, flushes;  // of the TLB
    Relaxed<uint64_t> block_lookups;
    CpuCounters& operator+=(const CpuCounters& other) {
        faults += other.faults;
        interrupts += other.interrupts;
        slow_accesses += other.slow_accesses;
        walks += other.walks;
        flushes += other.flushes;
        block_lookups += other.block_lookups;
        return *this;
    }
};

/// One CPU as the handlers see it; hot fields first: what host code names in each block is within the 127 bytes that an
/// instruction of the host needs one byte for.
struct Cpu {
    alignas(64) int64_t remaining = 0;  // instructions left of the slice
    uint64_t code_tag = 0;              // epoch << 32 | CS base: links made under another are void
    Tlb* tlb = nullptr;
    Block* block = nullptr;
    uint32_t eflags = 2;                 // the flags that are not in `arith`
    uint16_t arith = 0x0200;             // arithmetic flags as LAHF (high byte) and SETO (low byte) give them
    std::atomic<bool> attention{false};  // something waits at the next block boundary
    std::array<uint64_t, 18> gpr{};      // 16: zero, 17: RIP of the current block
    const Insn* at = nullptr;            // the instruction that faults, for those that may
    Fault fault;                         // the page fault that a function said it found
    uint64_t linear_mask = 0xFFFFFFFF;
    uint64_t stack_mask = 0xFFFF;
    std::array<uint64_t, 8> seg_base{};  // as addresses use it: 0 for most in 64-bit code
    std::array<SegmentBounds, 8> bounds{};

    uint64_t rip = 0xFFF0;  // between blocks
    uint8_t flavour = 0;
    uint8_t cpl = 0;
    bool long_active = false;  // EFER.LMA
    bool code64 = false;       // 64-bit mode
    bool interrupt_shadow = false;
    bool nmi_blocked = false;
    uint8_t nmis_pending = 0;      // 1, and one more while none is in service
    bool trap_suppressed = false;  // no single-step trap after this instruction: INT n
    bool interrupt_held = false;   // one waits for IF
    bool event_pending = false;    // from CpuState
    bool event_is_exception = false;
    Fault event;
    uint32_t debug_pending = 0;  // DR6 bits of a trap that is due after this instruction

    std::array<SegmentRegister, 8> seg;
    DescriptorTableRegister gdtr, idtr;
    uint64_t cr0 = 0x60000010, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0;
    uint64_t xcr0 = 1;
    uint32_t pkru = 0, pkrs = 0;  // access and write disable bits of each protection key
    Relaxed<uint64_t> apic_base = 0xFEE00900;
    std::array<uint64_t, 4> dr{};
    uint64_t dr6 = 0xFFFF0FF0, dr7 = 0x400;
    /// The causes of a #DB: B0 to B3 tell of this one alone, the others stay until software clears them.
    void report_debug(uint32_t causes) { dr6 = (dr6 & ~uint64_t{0xF}) | causes; }
    std::array<uint64_t, 4> pdpte{};  // PAE paging loads these with CR3
    Activity activity = Activity::running;
    bool shutdown = false;

    // MSRs with storage of their own
    uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
    uint64_t star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0, tsc_aux = 0;
    uint64_t pat = 0x0007040600070406, misc_enable = 0, tsc_adjust = 0, tsc_offset = 0;
    uint64_t mtrr_def_type = 0, speculation_control = 0;
    std::array<uint64_t, 11> mtrr_fixed{};
    std::array<uint64_t, 16> mtrr_variable{};
    uint64_t tsc_deadline = 0;
    uint64_t microcode = 0x100;  // newer than any revision with an erratum that a guest looks for

    FxImage fx;
    std::array<uint8_t, 6> unit_faults{};  // by Unit: 0, or the exception its instructions raise
    bool ferr = false;                     // FERR# is asserted
    bool fpu_live = false;                 // the x87 registers are in the host's FPU, not in fx
    alignas(32) std::array<Xmm, 16> vector_registers{};
    alignas(64) std::array<uint8_t, 64> scratch{};

    uint32_t supervisor_epoch = 0, user_epoch = 0;  // what code_tag is made of
    bool ran_local_supervisor_code = false;         // in this epoch, from pages that are not global
    PageNotes supervisor_code;                      // in its epoch

    uint64_t physical_mask = ~uint64_t{0};  // A20
    uint32_t id = 0;
    int64_t slice_start = 0;  // `remaining` at the last time account
    Relaxed<uint64_t> retired;
    VcpuHost* host = nullptr;
    SoftEngine* engine = nullptr;
    BlockCache* blocks = nullptr;
    std::atomic<bool> inside{false};           // Standstill's
    std::atomic<bool> regions_changed{false};  // of memory, and not looked at yet
    unsigned pauses = 0;                       // PAUSE instructions since the last yield
    bool yields = false;                       // the rest of the slice is for other CPUs
    CpuCounters counters;
    uint32_t host_mxcsr = 0x1F80;  // NativeCode's, of the thread that runs the CPU
    bool in_guest = false;
    LocalApic* apic = nullptr;
    const Features* features = nullptr;
    uint64_t random = 0x9E3779B97F4A7C15;
    Monitor monitor;

    std::array<JumpCacheEntry, jump_cache_size> jump_cache{};
    TlbSet tlbs;

    template <class T>
    [[nodiscard]] T reg(uint8_t slot) const {
        T value;
        std::memcpy(&value, reinterpret_cast<const char*>(gpr.data()) + slot, sizeof(T));
        return value;
    }
    /// Writes of 4 bytes clear the upper half (SDM 1, 3.4.1.1); what legacy modes keep there is undefined.
    template <class T>
    void set_reg(uint8_t slot, T value) {
        char* at_slot = reinterpret_cast<char*>(gpr.data()) + slot;
        if constexpr (sizeof(T) == 4) {
            const uint64_t wide = static_cast<uint32_t>(value);
            std::memcpy(at_slot, &wide, 8);
        } else {
            std::memcpy(at_slot, &value, sizeof(T));
        }
    }
    [[nodiscard]] uint32_t arithmetic_flags() const {
        return (static_cast<uint32_t>(arith >> 8) & 0xD5u) | (static_cast<uint32_t>(arith & 1) << 11);
    }
    void set_arithmetic_flags(uint32_t value) {
        arith = static_cast<uint16_t>(((value & 0xD5u) | 2u) << 8 | ((value >> 11) & 1u));
    }
    [[nodiscard]] uint32_t flags() const { return eflags | arithmetic_flags(); }
    void set_flags(uint32_t value) {
        set_arithmetic_flags(value);
        eflags = (value & ~flags_arithmetic) | 2;
    }
    [[nodiscard]] bool carry() const { return arith & 0x100; }
    [[nodiscard]] bool protected_mode() const { return cr0 & cr0_pe; }
    [[nodiscard]] bool vm86() const { return eflags & flag_vm; }
    [[nodiscard]] bool real_or_vm86() const { return !protected_mode() || vm86(); }
    [[nodiscard]] unsigned iopl() const { return (eflags >> 12) & 3; }
    [[nodiscard]] uint64_t rip_mask() const {
        return code64 ? ~uint64_t{0} : (seg[CS].default_big ? 0xFFFFFFFFu : 0xFFFFu);
    }
    /// RIP of the instruction `at`, while it runs.
    [[nodiscard]] uint64_t current_rip() const { return (gpr[17] + at->offset) & rip_space(); }
    [[nodiscard]] uint64_t next_rip() const { return (gpr[17] + at->offset + at->length) & rip_space(); }
    [[nodiscard]] uint64_t rip_space() const { return code64 ? ~uint64_t{0} : 0xFFFFFFFFu; }
};

[[noreturn]] void raise(uint8_t vector);
[[noreturn]] void raise(uint8_t vector, uint32_t error);
[[noreturn]] inline void raise_ud() {
    raise(vector_ud);
}
[[noreturn]] inline void raise_gp(uint32_t error = 0) {
    raise(vector_gp, error);
}

/// Works out everything that follows from control registers, CPL and segments: flavour, masks, TLB, bases.
void update_mode(Cpu& cpu);
/// After a change of one segment register.
void update_segment(Cpu& cpu, Seg which);
/// Works out Cpu::unit_faults (vector.cpp); part of update_mode().
void update_units(Cpu& cpu);
/// Voids all links between blocks and the jump cache.
void new_code_epoch(Cpu& cpu);
/// The same for code that is not in global pages.
void new_local_code_epoch(Cpu& cpu);
/// The same for the user's code, of the current PCID.
void new_user_code_epoch(Cpu& cpu);

/// All registers that a far transfer may have changed before it faults; puts them back unless commit() was called.
class Transaction {
  public:
    explicit Transaction(Cpu& cpu)
        : cpu_(cpu),
          gpr_(cpu.gpr),
          seg_(cpu.seg),
          rip_(cpu.rip),
          eflags_(cpu.eflags),
          arith_(cpu.arith),
          cpl_(cpu.cpl) {}
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    ~Transaction() {
        if (!committed_) roll_back();
    }
    void commit() { committed_ = true; }

  private:
    void roll_back() {
        cpu_.gpr = gpr_;
        cpu_.seg = seg_;
        cpu_.rip = rip_;
        cpu_.eflags = eflags_;
        cpu_.arith = arith_;
        cpu_.cpl = cpl_;
        update_mode(cpu_);
    }
    Cpu& cpu_;
    std::array<uint64_t, 18> gpr_;
    std::array<SegmentRegister, 8> seg_;
    uint64_t rip_;
    uint32_t eflags_;
    uint16_t arith_;
    uint8_t cpl_;
    bool committed_ = false;
};

}  // namespace viv::soft
