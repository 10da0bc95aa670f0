// One instruction at a time, on the registers of a CPU that runs elsewhere.
#include "vmm/engine/soft/soft_rescuer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "vmm/core/clock.hpp"
#include "vmm/engine/soft/decode.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/run.hpp"
#include "vmm/engine/soft/soft_vcpu.hpp"

namespace viv::soft {
namespace {

constexpr unsigned max_length = 15;
constexpr size_t components_at = 512;  // XSTATE_BV in an XSAVE image
constexpr uint64_t avx512_components = 0xE0;
/// A stretch ends after so many instructions in a row that the other engine surely knows.
constexpr unsigned ordinary_at_most = 8;

/// Thrown out of an access to the local APIC, which is the other engine's.
struct LocalApicAccess {};

/// The host of the machine, for a CPU that holds the memory map still while it runs.
class HoldingHost final : public VcpuHost {
  public:
    HoldingHost(VcpuHost& host, uint64_t apic_base) : host_(host) {
        constexpr uint64_t modes = 0xC00, xapic = 0x800, page = 0xFFFFFF000;
        if ((apic_base & modes) == xapic) local_apic_ = apic_base & page;
        host_.hold_memory();
    }
    ~HoldingHost() override { host_.release_memory(); }
    HoldingHost(const HoldingHost&) = delete;
    HoldingHost& operator=(const HoldingHost&) = delete;

    uint64_t port_read(uint16_t port, uint8_t size) override {
        const Released released(host_);
        return host_.port_read(port, size);
    }
    void port_write(uint16_t port, uint8_t size, uint64_t value) override {
        const Released released(host_);
        host_.port_write(port, size, value);
    }
    void port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) override {
        const Released released(host_);
        host_.port_read_block(port, size, data);
    }
    void port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) override {
        const Released released(host_);
        host_.port_write_block(port, size, data);
    }
    uint64_t memory_read(Gpa address, uint8_t size) override {
        look_for_local_apic(address);
        const Released released(host_);
        return host_.memory_read(address, size);
    }
    void memory_write(Gpa address, uint8_t size, uint64_t value) override {
        look_for_local_apic(address);
        const Released released(host_);
        host_.memory_write(address, size, value);
    }
    uint8_t acknowledge_interrupt() override {
        const Released released(host_);
        return host_.acknowledge_interrupt();
    }
    void end_of_interrupt(uint8_t vector) override {
        const Released released(host_);
        host_.end_of_interrupt(vector);
    }

  private:
    struct Released {
        explicit Released(VcpuHost& held) : host(held) { host.release_memory(); }
        ~Released() { host.hold_memory(); }
        Released(const Released&) = delete;
        Released& operator=(const Released&) = delete;
        VcpuHost& host;
    };
    void look_for_local_apic(Gpa address) const {
        if (local_apic_ && (address.value & ~uint64_t{0xFFF}) == *local_apic_) throw LocalApicAccess{};
    }
    VcpuHost& host_;
    std::optional<uint64_t> local_apic_;
};

/// What an instruction needs besides registers, and how it stands to a stretch.
struct Kind {
    bool vectors = false;
    bool xcr0 = false;
    bool msrs = false;
    bool ordinary = false;  // any engine executes it, and it only touches registers and memory
    bool refused = false;   // not for a rescuer
};

bool is_system_register(ZydisRegister reg) {
    switch (ZydisRegisterGetClass(reg)) {
        case ZYDIS_REGCLASS_SEGMENT:
        case ZYDIS_REGCLASS_CONTROL:
        case ZYDIS_REGCLASS_DEBUG:
        case ZYDIS_REGCLASS_TEST: return true;
        default: return false;
    }
}

bool is_ordinary(const Decoded& d) {
    for (unsigned n = 0; n < d.z.operand_count_visible; ++n) {
        if (d.is_reg(n) && is_system_register(d.op(n).reg.value)) return false;
    }
    switch (d.z.meta.category) {
        case ZYDIS_CATEGORY_BINARY:
        case ZYDIS_CATEGORY_LOGICAL:
        case ZYDIS_CATEGORY_DATAXFER:
        case ZYDIS_CATEGORY_SHIFT:
        case ZYDIS_CATEGORY_ROTATE:
        case ZYDIS_CATEGORY_BITBYTE:
        case ZYDIS_CATEGORY_CMOV:
        case ZYDIS_CATEGORY_SETCC:
        case ZYDIS_CATEGORY_COND_BR:
        case ZYDIS_CATEGORY_NOP:
        case ZYDIS_CATEGORY_WIDENOP: return true;
        case ZYDIS_CATEGORY_MISC: return d.z.mnemonic == ZYDIS_MNEMONIC_LEA;
        case ZYDIS_CATEGORY_UNCOND_BR: return d.z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
        default: return false;
    }
}

Kind kind_of(const Decoded& d) {
    Kind kind;
    switch (d.z.mnemonic) {
        // General registers and flags only, though their extension's name says otherwise.
        case ZYDIS_MNEMONIC_POPCNT:
        case ZYDIS_MNEMONIC_CRC32:
        case ZYDIS_MNEMONIC_MOVNTI:
        case ZYDIS_MNEMONIC_MFENCE:
        case ZYDIS_MNEMONIC_LFENCE:
        case ZYDIS_MNEMONIC_SFENCE:
        case ZYDIS_MNEMONIC_PAUSE:
        case ZYDIS_MNEMONIC_CLFLUSH:
        case ZYDIS_MNEMONIC_CLWB: return kind;
        case ZYDIS_MNEMONIC_RDPKRU:
        case ZYDIS_MNEMONIC_WRPKRU: kind.vectors = true; return kind;
        case ZYDIS_MNEMONIC_XGETBV: kind.xcr0 = true; return kind;
        case ZYDIS_MNEMONIC_RDTSC:
        case ZYDIS_MNEMONIC_RDTSCP:
        case ZYDIS_MNEMONIC_RDPID:
        case ZYDIS_MNEMONIC_SYSENTER:
        case ZYDIS_MNEMONIC_SYSEXIT:
        case ZYDIS_MNEMONIC_SYSCALL:
        case ZYDIS_MNEMONIC_SYSRET:
        case ZYDIS_MNEMONIC_RDMSR: kind.msrs = true; return kind;
        // They change parts that are not written back, or are promised by a CPUID bit that this CPU does not have.
        case ZYDIS_MNEMONIC_WRMSR:
        case ZYDIS_MNEMONIC_SWAPGS:
        case ZYDIS_MNEMONIC_XSETBV:
        case ZYDIS_MNEMONIC_INVPCID:
        case ZYDIS_MNEMONIC_CPUID:
        case ZYDIS_MNEMONIC_XSAVEOPT:
        case ZYDIS_MNEMONIC_XSAVEOPT64:
        case ZYDIS_MNEMONIC_XSAVEC:
        case ZYDIS_MNEMONIC_XSAVEC64:
        case ZYDIS_MNEMONIC_XSAVES:
        case ZYDIS_MNEMONIC_XSAVES64:
        case ZYDIS_MNEMONIC_XRSTORS:
        case ZYDIS_MNEMONIC_XRSTORS64: kind.refused = true; return kind;
        default: break;
    }
    if (d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX) {
        kind.refused = true;
        return kind;
    }
    for (unsigned n = 0; n < d.z.operand_count_visible; ++n) {
        if (d.is_reg(n) && ZydisRegisterGetClass(d.op(n).reg.value) == ZYDIS_REGCLASS_DEBUG) kind.refused = true;
    }
    switch (d.z.meta.isa_ext) {
        case ZYDIS_ISA_EXT_BASE:
        case ZYDIS_ISA_EXT_LONGMODE: kind.ordinary = is_ordinary(d); break;
        case ZYDIS_ISA_EXT_X87:
        case ZYDIS_ISA_EXT_MMX:
        case ZYDIS_ISA_EXT_SSE:
        case ZYDIS_ISA_EXT_SSE2:
        case ZYDIS_ISA_EXT_SSE3:
        case ZYDIS_ISA_EXT_SSSE3:
        case ZYDIS_ISA_EXT_SSE4:
        case ZYDIS_ISA_EXT_AES:
        case ZYDIS_ISA_EXT_PCLMULQDQ:
        case ZYDIS_ISA_EXT_SHA: kind.vectors = true; break;
        case ZYDIS_ISA_EXT_AVX:
        case ZYDIS_ISA_EXT_AVX2:
        case ZYDIS_ISA_EXT_AVX2GATHER:
        case ZYDIS_ISA_EXT_AVXAES:
        case ZYDIS_ISA_EXT_F16C:
        case ZYDIS_ISA_EXT_FMA:
        case ZYDIS_ISA_EXT_XSAVE: kind.vectors = kind.xcr0 = true; break;
        default: break;
    }
    return kind;
}

uint64_t components_of(const std::vector<uint8_t>& image) {
    uint64_t components = 0;
    std::memcpy(&components, image.data() + components_at, sizeof components);
    return components;
}

/// An instruction that was met before.
struct Prepared {
    std::array<uint8_t, max_length> code{};
    uint8_t flavour = 0xFF;
    uint8_t length = 0;
    Block* block = nullptr;
    Kind kind;
    const char* mnemonic = "";
};

class SoftRescuer final : public Rescuer {
  public:
    explicit SoftRescuer(GuestMemory& memory)
        : engine_(EngineConfig{.memory = memory}, clock_, nullptr, Turns::taken), vcpu_(engine_, VcpuId{0}) {
        engine_.locks = true;  // the other engine's CPUs go on
    }
    ~SoftRescuer() override {
        for (const Prepared& entry : prepared_) {
            if (entry.block) BlockPool::destroy(entry.block);
        }
    }

    Result<void> start() {
        engine_.features = TRY(make_features("max", 1));
        engine_.vcpus.push_back(&vcpu_);
        vcpu_.cpu().apic = nullptr;
        return {};
    }
    Result<Report> rescue(StrandedCpu& stranded, VcpuHost& host, uint64_t limit) override;

  private:
    const Prepared* prepare(std::span<const uint8_t> code);
    Result<void> load_parts(StrandedCpu& stranded, const Kind& kind);
    void take_vectors(StrandedCpu& stranded);

    HostClock clock_;
    SoftEngine engine_;
    SoftVcpu vcpu_;
    std::array<Prepared, 256> prepared_;
    FxImage fx_before_;  // as loaded
    std::array<Xmm, 16> registers_before_;
    uint32_t pkru_before_ = 0;
    bool has_vectors_ = false, has_xcr0_ = false, has_msrs_ = false;  // in this rescue
};

/// The instruction at the start of `code`, from the last times or decoded; null when it does not end there.
const Prepared* SoftRescuer::prepare(std::span<const uint8_t> code) {
    if (code.empty()) return nullptr;
    const uint8_t flavour = vcpu_.cpu().flavour | Flavour::single;
    unsigned hash = flavour;
    for (size_t n = 0; n < std::min<size_t>(code.size(), 3); ++n) hash = hash * 31 + code[n];
    Prepared& entry = prepared_[hash % prepared_.size()];
    if (entry.block && entry.flavour == flavour && entry.length <= code.size() &&
        std::memcmp(entry.code.data(), code.data(), entry.length) == 0)
        return &entry;
    Decoded decoded;
    Block* block = make_single_block(engine_, code, flavour, decoded);
    if (!block) return nullptr;
    if (entry.block) BlockPool::destroy(entry.block);
    entry.block = block;
    entry.flavour = flavour;
    entry.length = static_cast<uint8_t>(block->bytes);
    std::copy_n(code.begin(), entry.length, entry.code.begin());
    const bool known = decoded.z.length != 0;
    entry.kind = known ? kind_of(decoded) : Kind{};
    entry.mnemonic = known ? ZydisMnemonicGetString(decoded.z.mnemonic) : "undefined";
    return &entry;
}

Result<void> SoftRescuer::load_parts(StrandedCpu& stranded, const Kind& kind) {
    Cpu& cpu = vcpu_.cpu();
    if (kind.xcr0 && !std::exchange(has_xcr0_, true)) {
        TRY(stranded.load(StrandedCpu::Part::xcr0));
        cpu.xcr0 = stranded.state.xcr0;
        update_mode(cpu);
    }
    const bool vectors = kind.vectors || (cpu.cr4 & cr4_pke);  // PKRU is among them
    if (vectors && !std::exchange(has_vectors_, true)) {
        TRY(stranded.load(StrandedCpu::Part::vectors));
        load_vectors(cpu, stranded.state.xsave);
        fx_before_ = cpu.fx;
        registers_before_ = cpu.vector_registers;
        pkru_before_ = cpu.pkru;
    }
    if (has_vectors_ && has_xcr0_ && components_of(stranded.state.xsave) & avx512_components) {
        return fail("AVX-512 registers are in use");
    }
    if (kind.msrs && !std::exchange(has_msrs_, true)) {
        TRY(stranded.load(StrandedCpu::Part::msrs));
        load_msrs(cpu, stranded.state.msrs);
    }
    return {};
}

/// Puts the vector registers into the image when they have changed; components that this CPU does not have stay.
void SoftRescuer::take_vectors(StrandedCpu& stranded) {
    Cpu& cpu = vcpu_.cpu();
    if (std::memcmp(&cpu.fx, &fx_before_, sizeof cpu.fx) == 0 &&
        std::memcmp(&cpu.vector_registers, &registers_before_, sizeof cpu.vector_registers) == 0 &&
        cpu.pkru == pkru_before_)
        return;
    constexpr size_t legacy_end = 416, avx = 576, avx_end = 832;
    auto& image = stranded.state.xsave;
    const std::vector<uint8_t> now = save_vectors(cpu);
    std::copy_n(now.begin(), legacy_end, image.begin());
    uint64_t components = components_of(image) | 3;
    if (image.size() >= avx_end) {
        std::copy(now.begin() + avx, now.begin() + avx_end, image.begin() + avx);
        if (std::any_of(now.begin() + avx, now.begin() + avx_end, [](uint8_t byte) { return byte != 0; })) {
            components |= 4;
        }
    }
    const size_t pkru_at = engine_.features.pkru_offset;
    if (cpu.pkru != pkru_before_ && image.size() >= pkru_at + sizeof cpu.pkru) {
        std::memcpy(image.data() + pkru_at, &cpu.pkru, sizeof cpu.pkru);
        components |= 0x200;
    }
    std::memcpy(image.data() + components_at, &components, sizeof components);
    stranded.vectors_changed = true;
}

Result<Rescuer::Report> SoftRescuer::rescue(StrandedCpu& stranded, VcpuHost& machine, uint64_t limit) {
    Cpu& cpu = vcpu_.cpu();
    HoldingHost host(machine, stranded.state.apic_base);
    has_vectors_ = has_xcr0_ = has_msrs_ = false;
    engine_.set_a20(stranded.a20);
    engine_.features.rules = stranded.rules;
    cpu.physical_mask = stranded.a20 ? ~uint64_t{0} : ~uint64_t{0x100000};
    load_registers(cpu, stranded.state);

    Report report;
    unsigned ordinary = 0;
    std::array<uint8_t, max_length> fetched;
    std::span<const uint8_t> code = stranded.code;
    while (report.instructions < std::max<uint64_t>(limit, 1)) {
        if (code.empty()) code = {fetched.data(), fetch_code(cpu, cpu.rip, fetched)};
        const Prepared* next = prepare(code);
        code = {};
        const bool first = report.instructions == 0;
        if (first && !next) return fail("its bytes are not in memory");
        if (first && next->kind.refused) return fail(fmt::format("the software CPU has no '{}'", next->mnemonic));
        if (!first) {
            if (!next || next->kind.refused || !(next->kind.vectors || next->kind.ordinary)) break;
            ordinary = next->kind.ordinary ? ordinary + 1 : 0;
            if (ordinary > ordinary_at_most) break;
        }
        if (const auto loaded = load_parts(stranded, next->kind); !loaded) {
            if (first) return std::unexpected(loaded.error());
            break;
        }
        if (first) report.mnemonic = next->mnemonic;
        try {
            report.shutdown = !vcpu_.execute_single(host, *next->block);
        } catch (const LocalApicAccess&) {
            if (first) return fail(fmt::format("'{}' accesses the local APIC", next->mnemonic));
            break;
        }
        ++report.instructions;
        if (report.shutdown) break;
        // Only where floating point is at work do the next instructions cost less here than a rescue of their own.
        if (!has_vectors_ || cpu.interrupt_shadow || (cpu.eflags & flag_tf)) break;
    }
    save_registers(cpu, stranded.state);
    if (has_vectors_) take_vectors(stranded);
    return report;
}

}  // namespace
}  // namespace viv::soft

namespace viv {

Result<std::unique_ptr<Rescuer>> make_soft_rescuer(GuestMemory& memory) {
    auto rescuer = std::make_unique<soft::SoftRescuer>(memory);
    TRY(rescuer->start());
    return std::unique_ptr<Rescuer>(std::move(rescuer));
}

}  // namespace viv
