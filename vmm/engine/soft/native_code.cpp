#include "vmm/engine/soft/native_code.hpp"

#include <array>
#include <cstring>

#include "vmm/engine/soft/code_memory.hpp"
#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {
namespace {

constexpr size_t chunk_size = size_t{1} << 20;
constexpr uint32_t mxcsr_masks = 0x1F80, mxcsr_flags = 0x3F;

uint32_t read_mxcsr() {
    uint32_t value = 0;
    asm volatile("stmxcsr %0" : "=m"(value));
    return value;
}
void write_mxcsr(uint32_t value) {
    asm volatile("ldmxcsr %0" : : "m"(value));
}

/// Emits x86 code. rdi is the Cpu, rsi the memory operand.
class Emitter {
  public:
    std::string code;

    void bytes(std::initializer_list<int> list) {
        for (const int byte : list) code.push_back(static_cast<char>(byte));
    }
    void word32(size_t value) {
        for (int n = 0; n < 4; ++n) code.push_back(static_cast<char>(value >> (8 * n)));
    }
    void xmm(bool store, unsigned n) {
        if (n >= 8) bytes({0x44});
        bytes({0x0F, store ? 0x11 : 0x10, static_cast<int>(0x87 | (n & 7) << 3)});
        word32(vector_offset(n));
    }
    void ymm(bool store, unsigned n) {
        bytes({0xC4, (n < 8 ? 0x80 : 0) | 0x61, 0x7C, store ? 0x11 : 0x10, static_cast<int>(0x87 | (n & 7) << 3)});
        word32(vector_offset(n));
    }
    /// Host register `host` from or to the guest's slot.
    void load_gpr(unsigned host, uint8_t slot) {
        bytes({host >= 8 ? 0x4C : 0x48, 0x8B, static_cast<int>(0x87 | (host & 7) << 3)});
        word32(offsetof(Cpu, gpr) + slot);
    }
    void store_gpr(unsigned host, uint8_t slot, unsigned size) {
        if (size == 2) bytes({0x66});
        const int rex = (host >= 8 ? 0x44 : 0x40) | (size >= 4 ? 8 : 0);
        bytes({rex, size == 1 ? 0x88 : 0x89, static_cast<int>(0x87 | (host & 7) << 3)});
        word32(offsetof(Cpu, gpr) + slot);
    }
    void load_flags() {
        bytes({0x0F, 0xB7, 0x87});
        word32(offsetof(Cpu, arith));
        bytes({0x04, 0x7F, 0x9E});  // add al, 7Fh; sahf
    }
    void store_flags() {
        bytes({0x9F, 0x0F, 0x90, 0xC0, 0x66, 0x89, 0x87});  // lahf; seto al; mov [], ax
        word32(offsetof(Cpu, arith));
    }

  private:
    static size_t vector_offset(unsigned n) { return offsetof(Cpu, vector_registers) + n * sizeof(Xmm); }
};

bool is_vector(ZydisRegister reg) {
    const auto c = ZydisRegisterGetClass(reg);
    return c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM;
}
bool is_general(ZydisRegister reg) {
    const auto c = ZydisRegisterGetClass(reg);
    return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
           c == ZYDIS_REGCLASS_GPR64;
}
unsigned register_size(ZydisRegister reg) {
    switch (ZydisRegisterGetClass(reg)) {
        case ZYDIS_REGCLASS_GPR8: return 1;
        case ZYDIS_REGCLASS_GPR16: return 2;
        case ZYDIS_REGCLASS_GPR32: return 4;
        default: return 8;
    }
}
/// R8 and up in the size of `like`.
ZydisRegister host_register(unsigned n, ZydisRegister like) {
    switch (ZydisRegisterGetClass(like)) {
        case ZYDIS_REGCLASS_GPR8: return static_cast<ZydisRegister>(ZYDIS_REGISTER_R8B + n - 8);
        case ZYDIS_REGCLASS_GPR16: return static_cast<ZydisRegister>(ZYDIS_REGISTER_AX + n);
        case ZYDIS_REGCLASS_GPR32: return static_cast<ZydisRegister>(ZYDIS_REGISTER_EAX + n);
        default: return static_cast<ZydisRegister>(ZYDIS_REGISTER_RAX + n);
    }
}

uint8_t vector_number(ZydisRegister reg) {
    const bool is_ymm = ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_YMM;
    return static_cast<uint8_t>(reg - (is_ymm ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0));
}

uint8_t masked_element_size(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_VMASKMOVPS:
        case ZYDIS_MNEMONIC_VPMASKMOVD: return 4;
        case ZYDIS_MNEMONIC_VMASKMOVPD:
        case ZYDIS_MNEMONIC_VPMASKMOVQ: return 8;
        default: return 0;
    }
}

/// Legacy SSE instructions whose 16-byte operand may lie anywhere though their class says otherwise.
bool is_unaligned(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_MOVUPS:
        case ZYDIS_MNEMONIC_MOVUPD:
        case ZYDIS_MNEMONIC_MOVDQU:
        case ZYDIS_MNEMONIC_LDDQU:
        case ZYDIS_MNEMONIC_PCMPESTRI:
        case ZYDIS_MNEMONIC_PCMPESTRM:
        case ZYDIS_MNEMONIC_PCMPISTRI:
        case ZYDIS_MNEMONIC_PCMPISTRM: return true;
        default: return false;
    }
}

uint16_t alignment_of(const Decoded& d, unsigned size) {
    if (d.z.mnemonic == ZYDIS_MNEMONIC_CVTPD2PI || d.z.mnemonic == ZYDIS_MNEMONIC_CVTTPD2PI) return 16;
    switch (d.z.meta.exception_class) {
        case ZYDIS_EXCEPTION_CLASS_SSE1:
        case ZYDIS_EXCEPTION_CLASS_SSE2:
        case ZYDIS_EXCEPTION_CLASS_SSE4: return size == 16 && !is_unaligned(d.z.mnemonic) ? 16 : 1;
        case ZYDIS_EXCEPTION_CLASS_AVX1: return static_cast<uint16_t>(size);
        default: return 1;
    }
}

/// Classes with floating point exceptions (SDM 2A, 2.4).
bool raises_fp_exceptions(const Decoded& d) {
    switch (d.z.mnemonic) {  // their classes are those of MMX
        case ZYDIS_MNEMONIC_CVTPI2PS:
        case ZYDIS_MNEMONIC_CVTPS2PI:
        case ZYDIS_MNEMONIC_CVTTPS2PI:
        case ZYDIS_MNEMONIC_CVTPD2PI:
        case ZYDIS_MNEMONIC_CVTTPD2PI: return true;
        default: break;
    }
    switch (d.z.meta.exception_class) {
        case ZYDIS_EXCEPTION_CLASS_SSE2:
        case ZYDIS_EXCEPTION_CLASS_SSE3:
        case ZYDIS_EXCEPTION_CLASS_AVX2:
        case ZYDIS_EXCEPTION_CLASS_AVX3:
        case ZYDIS_EXCEPTION_CLASS_AVX11: return true;
        default: return false;
    }
}

}  // namespace

struct NativeCode::Chunk {
    CodeMemory memory{chunk_size};
    size_t used = 0;
};

NativeCode::NativeCode() = default;
NativeCode::~NativeCode() = default;

const NativeOp* NativeCode::install(const std::string& code, std::unique_ptr<NativeOp> op) {
    const std::lock_guard hold(lock_);
    op->code = function_of(code);
    ops_.push_back(std::move(op));
    return ops_.back().get();
}

NativeCode::Function NativeCode::function_of(const std::string& code) {
    if (const auto known = functions_.find(code); known != functions_.end()) return known->second;
    if (chunks_.empty() || chunk_size - chunks_.back()->used < code.size() + 16) {
        chunks_.push_back(std::make_unique<Chunk>());
    }
    Chunk& chunk = *chunks_.back();
    std::memcpy(chunk.memory.writable() + chunk.used, code.data(), code.size());
    const auto function =
        reinterpret_cast<Function>(reinterpret_cast<uintptr_t>(chunk.memory.executable() + chunk.used));
    chunk.used += (code.size() + 15) & ~size_t{15};
    functions_.emplace(code, function);
    return function;
}

const NativeOp* NativeCode::vector_op(const Decoded& d, Unit unit) {
    // W1 of these is for 64-bit registers, which other modes do not have.
    const bool wide_vex = d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && d.z.raw.vex.W;
    const bool moves_element = d.z.opcode_map == ZYDIS_OPCODE_MAP_0F3A && (d.z.opcode == 0x16 || d.z.opcode == 0x22);
    if (wide_vex && moves_element && d.z.machine_mode != ZYDIS_MACHINE_MODE_LONG_64) return nullptr;
    ZydisEncoderRequest request;
    if (!ZYAN_SUCCESS(
            ZydisEncoderDecodedInstructionToEncoderRequest(&d.z, d.operands, d.z.operand_count_visible, &request))) {
        return nullptr;
    }
    const bool vex = d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    request.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
    request.allowed_encodings = vex ? ZYDIS_ENCODABLE_ENCODING_VEX : ZYDIS_ENCODABLE_ENCODING_LEGACY;
    request.prefixes = 0;
    request.address_size_hint = ZYDIS_ADDRESS_SIZE_HINT_NONE;
    request.operand_size_hint = ZYDIS_OPERAND_SIZE_HINT_NONE;
    // REX.W of these concerns only the registers that they do not name.
    const bool compares_strings = d.z.meta.isa_ext == ZYDIS_ISA_EXT_SSE4 || vex;
    const bool by_length = d.z.opcode_map == ZYDIS_OPCODE_MAP_0F3A && (d.z.opcode == 0x60 || d.z.opcode == 0x61);
    const bool wide = vex ? d.z.raw.vex.W : d.z.raw.rex.W;
    if (compares_strings && by_length && wide && d.z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        request.operand_size_hint = ZYDIS_OPERAND_SIZE_HINT_64;

    auto op = std::make_unique<NativeOp>();
    op->unit = unit;
    op->arithmetic = raises_fp_exceptions(d);
    Emitter before, after;
    const auto& flags = *d.z.cpu_flags;
    const bool uses_flags = flags.tested | flags.modified | flags.set_0 | flags.set_1 | flags.undefined;
    if (uses_flags) before.load_flags();
    unsigned next_host = 8;
    std::array<uint8_t, 256> host_of{};
    bool uses_vectors = false;
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        const ZydisDecodedOperand& operand = d.op(n);
        const bool visible = n < request.operand_count && n < d.z.operand_count_visible;
        const bool writes = operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        const bool reads = operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ;
        if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (operand.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN || is_vector(operand.mem.index)) return nullptr;
            auto& mem = request.operands[n].mem;
            mem.base = ZYDIS_REGISTER_RSI;
            mem.index = ZYDIS_REGISTER_NONE;
            mem.scale = 0;
            mem.displacement = 0;
            op->reads_memory = reads;
            op->writes_memory = writes;
            op->memory_size = static_cast<uint16_t>(operand.size / 8);
            op->alignment = alignment_of(d, operand.size / 8);
        } else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && is_vector(operand.reg.value)) {
            const unsigned number = vector_number(operand.reg.value);
            if (number > 15) return nullptr;
            uses_vectors = true;
            // The destination too is loaded: some instructions change only a part of it.
            vex ? before.ymm(false, number) : before.xmm(false, number);
            if (writes) vex ? after.ymm(true, number) : after.xmm(true, number);
        } else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && is_general(operand.reg.value)) {
            const unsigned size = register_size(operand.reg.value);
            const uint8_t slot = slot_of(operand.reg.value);
            unsigned host = slot / 8;
            if (operand.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && visible) {
                // The same guest register is the same host register: of two results the right one stays.
                uint8_t& mapped = host_of[slot];
                if (mapped == 0) mapped = static_cast<uint8_t>(next_host++);
                if (mapped > 11) return nullptr;
                host = mapped;
                request.operands[n].reg.value = host_register(host, operand.reg.value);
            } else if (host > 2) {
                return nullptr;  // only RAX, RCX and RDX appear unnamed in these groups
            }
            before.load_gpr(host, slot);
            if (writes) after.store_gpr(host, slot, size);
        }
    }
    op->element_size = masked_element_size(d.z.mnemonic);
    if (op->element_size != 0) {
        op->mask_register = vector_number(d.op(1).reg.value);
        if (op->writes_memory) op->source_register = vector_number(d.op(2).reg.value);
    }
    uint8_t buffer[ZYDIS_MAX_INSTRUCTION_LENGTH];
    ZyanUSize length = sizeof buffer;
    if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&request, buffer, &length))) return nullptr;
    Emitter all;
    all.code = before.code + std::string(reinterpret_cast<const char*>(buffer), length) + after.code;
    if (uses_flags) all.store_flags();
    if (vex && uses_vectors) all.bytes({0xC5, 0xF8, 0x77});  // vzeroupper
    all.bytes({0xC3});
    return install(all.code, std::move(op));
}

const NativeOp* NativeCode::x87_op(const Decoded& d) {
    auto op = std::make_unique<NativeOp>();
    op->unit = Unit::x87;
    op->waits = true;
    op->arithmetic = true;
    Emitter all;
    const auto& flags = *d.z.cpu_flags;
    const bool uses_flags = flags.tested | flags.modified | flags.set_0 | flags.set_1 | flags.undefined;
    if (uses_flags) all.load_flags();
    const auto& modrm = d.z.raw.modrm;
    if (modrm.mod == 3) {
        all.bytes({d.z.opcode, 0xC0 | modrm.reg << 3 | modrm.rm});
    } else {
        all.bytes({d.z.opcode, modrm.reg << 3 | 6});  // [rsi]
        for (unsigned n = 0; n < d.z.operand_count; ++n) {
            if (!d.is_mem(n)) continue;
            op->memory_size = static_cast<uint16_t>(d.op(n).size / 8);
            op->reads_memory = d.op(n).actions & ZYDIS_OPERAND_ACTION_MASK_READ;
            op->writes_memory = d.op(n).actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        }
    }
    if (uses_flags) all.store_flags();
    all.bytes({0xC3});
    return install(all.code, std::move(op));
}

void NativeCode::enter_guest(Cpu& cpu) {
    cpu.host_mxcsr = read_mxcsr();
    cpu.in_guest = true;
    load_mxcsr(cpu, cpu.fx.mxcsr);
}

void NativeCode::leave_guest(Cpu& cpu) {
    release_fpu(cpu);
    cpu.in_guest = false;
}

void NativeCode::release_fpu(Cpu& cpu) {
    if (!cpu.in_guest) return;
    if (cpu.fpu_live) unload_fpu(cpu);
    sync_mxcsr(cpu);
    write_mxcsr(cpu.host_mxcsr);
}

void NativeCode::resume(Cpu& cpu) {
    if (cpu.in_guest) load_mxcsr(cpu, cpu.fx.mxcsr);
}

void sync_mxcsr(Cpu& cpu) {
    cpu.fx.mxcsr = (cpu.fx.mxcsr & ~mxcsr_flags) | (read_mxcsr() & mxcsr_flags);
}

void load_mxcsr(Cpu& cpu, uint32_t value) {
    cpu.fx.mxcsr = value;
    write_mxcsr(value | mxcsr_masks);
}

namespace {
void load_image(Cpu& cpu, FxImage& image) {
    image.fsw &= 0x7F7F;  // ES and B follow from the flags; the host must not see an exception pending
    image.mxcsr = read_mxcsr();
    image.fip = image.fdp = 0;
    asm volatile("fxrstor64 %0"
                 :
                 : "m"(image)
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                   "xmm12", "xmm13", "xmm14", "xmm15");
    cpu.fpu_live = true;
}
}  // namespace

void load_fpu(Cpu& cpu) {
    if (cpu.fpu_live) return;
    FxImage image = cpu.fx;
    image.fcw |= 0x3F;
    load_image(cpu, image);
}

void load_fpu_unmasked(Cpu& cpu) {
    FxImage image = cpu.fx;
    load_image(cpu, image);
}

void unload_fpu(Cpu& cpu) {
    if (!cpu.fpu_live) return;
    FxImage image;
    asm volatile("fxsave64 %0\n\tfninit" : "=m"(image));
    cpu.fx.fsw = image.fsw;
    cpu.fx.ftw = image.ftw;
    cpu.fx.st = image.st;
    cpu.fpu_live = false;
}

}  // namespace viv::soft
