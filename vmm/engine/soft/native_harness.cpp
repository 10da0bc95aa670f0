#include "vmm/engine/soft/native_harness.hpp"

#include <Zydis/Zydis.h>
#include <elf.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "vmm/engine/soft/soft_engine.hpp"

namespace viv::soft_test {
namespace {

constexpr size_t code_size = 0x1000;
/// What the software CPU's guest calls ring 3: as Linux.
constexpr uint16_t user_cs64 = 0x33, user_cs32 = 0x23, user_ss = 0x2B;

void* map_shared(uint64_t address, size_t size) {
    void* at = mmap(reinterpret_cast<void*>(address), size, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

int signal_class(int signal) {
    switch (signal) {
        case SIGSEGV: return 'S';
        case SIGBUS: return 'S';
        case SIGILL: return 'I';
        case SIGFPE: return 'F';
        default: return signal;
    }
}

}  // namespace

std::unique_ptr<NativeCpu> NativeCpu::start() {
    auto cpu = std::make_unique<NativeCpu>();
    cpu->code_ = static_cast<uint8_t*>(map_shared(CaseState::code_address, code_size));
    cpu->data_ = static_cast<uint8_t*>(map_shared(CaseState::data_address, CaseState::data_size));
    if (!cpu->code_ || !cpu->data_) return nullptr;
    cpu->child_ = fork();
    if (cpu->child_ < 0) return nullptr;
    if (cpu->child_ == 0) {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
        raise(SIGSTOP);
        _exit(0);
    }
    int status = 0;
    if (waitpid(cpu->child_, &status, 0) != cpu->child_ || !WIFSTOPPED(status)) {
        cpu->child_ = -1;
        return nullptr;
    }
    std::array<uint8_t, 8192> buffer{};
    iovec io{buffer.data(), buffer.size()};
    if (ptrace(PTRACE_GETREGSET, cpu->child_, NT_X86_XSTATE, &io) != 0 || io.iov_len < 832) return nullptr;
    cpu->xstate_size_ = io.iov_len;
    return cpu;
}

NativeCpu::~NativeCpu() {
    if (child_ > 0) {
        kill(child_, SIGKILL);
        waitpid(child_, nullptr, 0);
    }
    if (code_) munmap(code_, code_size);
    if (data_) munmap(data_, CaseState::data_size);
}

CaseState NativeCpu::execute(const std::vector<uint8_t>& code, CodeSize size, const CaseState& in) {
    std::memset(code_, 0xCC, 64);
    std::memcpy(code_, code.data(), code.size());
    std::memcpy(data_, in.data.data(), in.data.size());
    user_regs_struct regs{};
    ptrace(PTRACE_GETREGS, child_, nullptr, &regs);
    const auto& g = in.gpr;
    regs.rax = g[RAX];
    regs.rcx = g[RCX];
    regs.rdx = g[RDX];
    regs.rbx = g[RBX];
    regs.rsp = g[RSP];
    regs.rbp = g[RBP];
    regs.rsi = g[RSI];
    regs.rdi = g[RDI];
    regs.r8 = g[R8];
    regs.r9 = g[R9];
    regs.r10 = g[R10];
    regs.r11 = g[R11];
    regs.r12 = g[R12];
    regs.r13 = g[R13];
    regs.r14 = g[R14];
    regs.r15 = g[R15];
    regs.rip = in.rip;
    regs.eflags = in.rflags;
    regs.orig_rax = ~0ull;
    regs.cs = size == CodeSize::bits64 ? user_cs64 : user_cs32;
    regs.ss = user_ss;
    regs.ds = regs.es = size == CodeSize::bits64 ? 0 : user_ss;
    regs.fs_base = regs.gs_base = 0;
    ptrace(PTRACE_SETREGS, child_, nullptr, &regs);
    std::vector<uint8_t> area(xstate_size_);
    std::memcpy(area.data(), in.xsave.data(), in.xsave.size());
    iovec io{area.data(), area.size()};
    ptrace(PTRACE_SETREGSET, child_, NT_X86_XSTATE, &io);
    ptrace(PTRACE_SINGLESTEP, child_, nullptr, nullptr);
    int status = 0;
    waitpid(child_, &status, 0);

    CaseState out;
    const int signal = WIFSTOPPED(status) ? WSTOPSIG(status) : -2;
    if (signal != SIGTRAP) out.fault = signal_class(signal);
    ptrace(PTRACE_GETREGS, child_, nullptr, &regs);
    out.gpr = {regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi,
               regs.r8,  regs.r9,  regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15};
    out.rip = regs.rip;
    out.rflags = static_cast<uint32_t>(regs.eflags);
    io = {area.data(), area.size()};
    ptrace(PTRACE_GETREGSET, child_, NT_X86_XSTATE, &io);
    std::memcpy(out.xsave.data(), area.data(), out.xsave.size());
    // Components in their initial state may be left out of the area.
    uint64_t present = 0;
    std::memcpy(&present, area.data() + 512, 8);
    if (!(present & 2)) std::memset(out.xsave.data() + 160, 0, 256);
    if (!(present & 4)) std::memset(out.xsave.data() + 576, 0, 256);
    std::memcpy(out.data.data(), data_, out.data.size());
    return out;
}

/// A machine in long mode whose ring 3 sees the same two stretches of memory.
class SoftSide final : public VcpuHost {
  public:
    SoftSide() {
        VIV_ASSERT(memory_.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "system"));
        VIV_ASSERT(memory_.add(Gpa{CaseState::code_address}, code_size, GuestMemory::Kind::ram, "code"));
        VIV_ASSERT(memory_.add(Gpa{CaseState::data_address}, CaseState::data_size, GuestMemory::Kind::ram, "data"));
        auto engine = make_soft_engine(EngineConfig{memory_, 1, "max"}, clock_);
        VIV_ASSERT(engine);
        engine_ = std::move(*engine);
        auto vcpu = engine_->create_vcpu(VcpuId{0});
        VIV_ASSERT(vcpu);
        vcpu_ = std::move(*vcpu);
        build_tables();
    }

    CaseState execute(const std::vector<uint8_t>& code, CodeSize size, const CaseState& in) {
        std::array<uint8_t, 64> bytes;
        bytes.fill(0xCC);
        std::copy(code.begin(), code.end(), bytes.begin());
        memory_.write(Gpa{CaseState::code_address}, std::as_bytes(std::span(bytes)));
        memory_.write(Gpa{CaseState::data_address}, std::as_bytes(std::span(in.data)));
        CpuState s = base_;
        s.gpr = in.gpr;
        s.rip = in.rip;
        s.rflags = in.rflags;
        s.cs = {.selector = size == CodeSize::bits64 ? user_cs64 : user_cs32,
                .base = 0,
                .limit = 0xFFFFFFFF,
                .type = 11,
                .dpl = 3,
                .long_mode = size == CodeSize::bits64,
                .default_big = size == CodeSize::bits32,
                .granularity = true};
        s.ss = {.selector = user_ss,
                .base = 0,
                .limit = 0xFFFFFFFF,
                .type = 3,
                .dpl = 3,
                .default_big = true,
                .granularity = true};
        s.ds = s.es = s.ss;
        s.fs = s.gs = {
            .selector = 0, .base = 0, .limit = 0, .type = 0, .code_or_data = false, .present = false, .unusable = true};
        s.xsave.assign(in.xsave.begin(), in.xsave.end());
        VIV_ASSERT(vcpu_->set_state(s));
        vcpu_->run(*this, 1);
        auto after = vcpu_->state();
        CaseState out;
        out.gpr = after->gpr;
        out.rip = after->rip;
        out.rflags = static_cast<uint32_t>(after->rflags);
        if (after->cs.dpl == 0) {
            // In a handler: which one tells the vector, its stack the state.
            const uint64_t vector = (after->rip - handlers) / 16;
            const bool has_error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
            const uint64_t frame = after->gpr[RSP] + (has_error ? 8 : 0);
            out.rip = memory_.load<uint64_t>(Gpa{frame});
            out.rflags = memory_.load<uint32_t>(Gpa{frame + 16}) & ~0x10000u;
            out.gpr[RSP] = memory_.load<uint64_t>(Gpa{frame + 24});
            switch (vector) {
                case 0:
                case 16:
                case 19: out.fault = 'F'; break;
                case 6: out.fault = 'I'; break;
                case 3:
                case 1: out.fault = -1; break;
                default: out.fault = 'S';
            }
        }
        std::copy_n(after->xsave.begin(), out.xsave.size(), out.xsave.begin());
        memory_.read(Gpa{CaseState::data_address}, std::as_writable_bytes(std::span(out.data)));
        return out;
    }

    uint64_t port_read(uint16_t, uint8_t) override { return 0; }
    void port_write(uint16_t, uint8_t, uint64_t) override {}
    void port_read_block(uint16_t, uint8_t, std::span<std::byte>) override {}
    void port_write_block(uint16_t, uint8_t, std::span<const std::byte>) override {}
    uint64_t memory_read(Gpa, uint8_t) override { return 0; }
    void memory_write(Gpa, uint8_t, uint64_t) override {}
    uint8_t acknowledge_interrupt() override { return 0; }
    void end_of_interrupt(uint8_t) override {}

  private:
    static constexpr uint64_t pml4 = 0x1000, pdpt = 0x2000, pd = 0x3000, pt_system = 0x4000, pt_code = 0x5000,
                              pt_data = 0x6000, gdt = 0x7000, idt = 0x8000, tss = 0x9000, handlers = 0xA000,
                              stack_top = 0x10000;

    void build_tables() {
        memory_.store(Gpa{pml4}, pdpt | 7);
        memory_.store(Gpa{pdpt}, pd | 7);
        memory_.store(Gpa{pd}, pt_system | 7);
        memory_.store(Gpa{pd + 8 * (CaseState::code_address >> 21)}, pt_code | 7);
        memory_.store(Gpa{pd + 8 * (CaseState::data_address >> 21)}, pt_data | 7);
        for (uint64_t page = 0; page < 256; ++page) memory_.store(Gpa{pt_system + 8 * page}, page << 12 | 3);
        memory_.store(Gpa{pt_code}, CaseState::code_address | 7);
        for (uint64_t page = 0; page < CaseState::data_size >> 12; ++page) {
            memory_.store(Gpa{pt_data + 8 * page}, (CaseState::data_address + (page << 12)) | 7);
        }
        // As Linux has them: 10h kernel code, 18h kernel data, 23h and 33h user code, 2Bh user data.
        memory_.store(Gpa{gdt + 0x10}, uint64_t{0x00AF9B000000FFFF});
        memory_.store(Gpa{gdt + 0x18}, uint64_t{0x00CF93000000FFFF});
        memory_.store(Gpa{gdt + 0x20}, uint64_t{0x00CFFB000000FFFF});
        memory_.store(Gpa{gdt + 0x28}, uint64_t{0x00CFF3000000FFFF});
        memory_.store(Gpa{gdt + 0x30}, uint64_t{0x00AFFB000000FFFF});
        for (uint64_t vector = 0; vector < 256; ++vector) {
            const uint64_t at = handlers + vector * 16;
            const uint64_t dpl = vector == 3 || vector == 4 ? 3 : 0;
            memory_.store(Gpa{idt + vector * 16},
                          (at & 0xFFFF) | 0x10ull << 16 | (0x8E00ull | dpl << 13) << 32 | (at >> 16 & 0xFFFF) << 48);
            memory_.store(Gpa{idt + vector * 16 + 8}, uint64_t{0});
            memory_.store(Gpa{at}, uint8_t{0xF4});
        }
        memory_.store(Gpa{tss + 4}, stack_top);
        base_ = reset_state(true);
        base_.cr0 = 0x80050033;
        base_.cr3 = pml4;
        base_.cr4 = 0x406A0 | 0x10000 | 0x40000;
        base_.efer = 0xD01;
        base_.xcr0 = 7;
        base_.gdtr = {gdt, 0x3F};
        base_.idtr = {idt, 0xFFF};
        base_.tr = {.selector = 0x40, .base = tss, .limit = 0x67, .type = 11, .code_or_data = false};
        base_.ldtr = {.type = 2, .code_or_data = false, .present = false, .unusable = true};
    }

    GuestMemory memory_;
    ManualClock clock_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Vcpu> vcpu_;
    CpuState base_;
};

Comparison::Comparison(uint64_t seed)
    : random_(seed), native_(NativeCpu::start()), soft_(std::make_unique<SoftSide>()) {}
Comparison::~Comparison() = default;

uint64_t Comparison::random_value() {
    const uint64_t r = random_();
    switch (r % 8) {
        case 0: return random_() % 256;
        case 1: return ~(random_() % 256);
        case 2: return uint64_t{1} << (random_() % 64);
        case 3: return (uint64_t{1} << (random_() % 64)) - 1;
        case 4: return static_cast<uint32_t>(random_());
        default: return random_();
    }
}

CaseState Comparison::random_state(CodeSize size) {
    CaseState s;
    for (unsigned n = 0; n < 16; ++n) {
        const bool pointer = random_() % 2;
        s.gpr[n] = pointer ? CaseState::data_address + 0x1000 + random_() % 0x2000 : random_value();
        if (size == CodeSize::bits32) s.gpr[n] = n < 8 ? static_cast<uint32_t>(s.gpr[n]) : 0;
    }
    s.gpr[RSP] = CaseState::data_address + 0x2000 + (random_() % 256) * 8;
    if (random_() % 2) s.gpr[RCX] = random_() % 40;
    s.rip = CaseState::code_address;
    s.rflags = 0x202 | (static_cast<uint32_t>(random_()) & 0x8D5) | (random_() % 8 == 0 ? 0x400 : 0);
    for (auto& byte : s.data) byte = static_cast<uint8_t>(random_());
    // Floating point registers with a good share of numbers, zeros, infinities and NaNs.
    auto put = [&](size_t at, auto value) { std::memcpy(s.xsave.data() + at, &value, sizeof value); };
    put(0, static_cast<uint16_t>(0x37F));
    if (random_() % 4 == 0) put(0, static_cast<uint16_t>(0x7F | (random_() & 0xF00)));
    const auto top = static_cast<uint16_t>((random_() % 8) << 11);
    put(2, top);
    put(4, static_cast<uint8_t>(random_() % 4 == 0 ? random_() : 0xFF));
    put(24, static_cast<uint32_t>(0x1F80 | (random_() % 4 == 0 ? random_() & 0xE040 : 0)));
    put(28, static_cast<uint32_t>(0xFFFF));
    for (unsigned n = 0; n < 8; ++n) {
        const bool real = random_() % 4 != 0;
        put(32 + 16 * n, real ? random_() | uint64_t{1} << 63 : random_value());
        put(40 + 16 * n, static_cast<uint16_t>(real ? 0x3FF0 + random_() % 32 + (random_() % 2) * 0x8000 : random_()));
    }
    for (unsigned n = 0; n < (size == CodeSize::bits64 ? 16 : 8); ++n) {
        for (const size_t base : {size_t{160}, size_t{576}}) {
            for (unsigned half = 0; half < 2; ++half) {
                uint64_t value = random_value();
                if (random_() % 2) {
                    const double number = static_cast<double>(static_cast<int64_t>(random_() % 2000)) - 1000;
                    const double scaled = number / 16;
                    const auto single = static_cast<float>(scaled);
                    if (random_() % 2) {
                        std::memcpy(&value, &scaled, 8);
                    } else {
                        std::memcpy(&value, &single, 4);
                        std::memcpy(reinterpret_cast<char*>(&value) + 4, &single, 4);
                    }
                }
                put(base + 16 * n + 8 * half, value);
            }
        }
    }
    put(512, uint64_t{7});
    return s;
}

namespace {

/// What ring 3 may execute but a comparison cannot: answers differ from machine to machine, or the traced child would
/// be lost.
bool comparable(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands) {
    switch (z.meta.category) {
        case ZYDIS_CATEGORY_SYSCALL:
        case ZYDIS_CATEGORY_SYSRET:
        case ZYDIS_CATEGORY_INTERRUPT:
        case ZYDIS_CATEGORY_IO:
        case ZYDIS_CATEGORY_IOSTRINGOP:
        case ZYDIS_CATEGORY_SYSTEM:
        case ZYDIS_CATEGORY_RDRAND:
        case ZYDIS_CATEGORY_RDSEED:
        case ZYDIS_CATEGORY_RDWRFSGS:
        case ZYDIS_CATEGORY_SEGOP:
        case ZYDIS_CATEGORY_XSAVE:
        case ZYDIS_CATEGORY_XSAVEOPT:
        case ZYDIS_CATEGORY_AVX2GATHER:  // their order, and so what a fault leaves behind, is the processor's own
        case ZYDIS_CATEGORY_VTX:
        case ZYDIS_CATEGORY_SGX:
        case ZYDIS_CATEGORY_MPX:
        case ZYDIS_CATEGORY_CET:
        case ZYDIS_CATEGORY_UINTR:
        case ZYDIS_CATEGORY_WAITPKG: return false;
        default: break;
    }
    switch (z.mnemonic) {
        case ZYDIS_MNEMONIC_RDTSC:
        case ZYDIS_MNEMONIC_RDTSCP:
        case ZYDIS_MNEMONIC_RDPID:
        case ZYDIS_MNEMONIC_CPUID:
        case ZYDIS_MNEMONIC_LAR:
        case ZYDIS_MNEMONIC_LSL:
        case ZYDIS_MNEMONIC_VERR:
        case ZYDIS_MNEMONIC_VERW:
        case ZYDIS_MNEMONIC_POPF:
        case ZYDIS_MNEMONIC_POPFD:
        case ZYDIS_MNEMONIC_POPFQ:
        case ZYDIS_MNEMONIC_PUSHF:
        case ZYDIS_MNEMONIC_PUSHFD:
        case ZYDIS_MNEMONIC_PUSHFQ:
        case ZYDIS_MNEMONIC_UD0:
        case ZYDIS_MNEMONIC_UD1:
        case ZYDIS_MNEMONIC_FNSTENV:
        case ZYDIS_MNEMONIC_FNSAVE:
        case ZYDIS_MNEMONIC_FXSAVE:
        case ZYDIS_MNEMONIC_FXSAVE64:
        case ZYDIS_MNEMONIC_FLDENV:
        case ZYDIS_MNEMONIC_FRSTOR:
        case ZYDIS_MNEMONIC_FXRSTOR:
        case ZYDIS_MNEMONIC_FXRSTOR64:
        case ZYDIS_MNEMONIC_FLDCW:
        case ZYDIS_MNEMONIC_LDMXCSR:
        case ZYDIS_MNEMONIC_VLDMXCSR:
        case ZYDIS_MNEMONIC_XGETBV: return false;
        default: break;
    }
    if (z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return false;
    for (unsigned n = 0; n < z.operand_count; ++n) {
        if (operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER) {
            const auto c = ZydisRegisterGetClass(operands[n].reg.value);
            if (c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG ||
                c == ZYDIS_REGCLASS_TEST) {
                return false;
            }
        }
        if (operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (operands[n].mem.segment == ZYDIS_REGISTER_FS || operands[n].mem.segment == ZYDIS_REGISTER_GS ||
             operands[n].mem.segment == ZYDIS_REGISTER_CS)) {
            return false;
        }
    }
    return true;
}

std::string text_of(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands) {
    ZydisFormatter formatter;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    char buffer[128];
    ZydisFormatterFormatInstruction(&formatter, &z, operands, z.operand_count_visible, buffer, sizeof buffer,
                                    CaseState::code_address, nullptr);
    return buffer;
}

bool decode(const std::vector<uint8_t>& code, CodeSize size, ZydisDecodedInstruction& z,
            ZydisDecodedOperand* operands) {
    ZydisDecoder decoder;
    if (size == CodeSize::bits64) {
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    } else {
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    }
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code.data(), code.size(), &z, operands));
}

/// What the manual leaves undefined beyond the flags that Zydis lists, or processors do differently.
uint32_t undefined_flags(const ZydisDecodedInstruction& z) {
    uint32_t mask = z.cpu_flags ? z.cpu_flags->undefined : 0;
    switch (z.mnemonic) {
        // A count of zero, or above the operand size: SDM 2B, "flags affected".
        case ZYDIS_MNEMONIC_SHLD:
        case ZYDIS_MNEMONIC_SHRD: mask |= 0x8D5; break;
        case ZYDIS_MNEMONIC_MUL:
        case ZYDIS_MNEMONIC_IMUL: mask |= 0xD4; break;
        case ZYDIS_MNEMONIC_DIV:
        case ZYDIS_MNEMONIC_IDIV: mask |= 0x8D5; break;
        default: break;
    }
    return mask;
}

}  // namespace

std::vector<uint8_t> Comparison::random_instruction(CodeSize size) {
    while (true) {
        std::vector<uint8_t> code;
        const auto byte = [&] { return static_cast<uint8_t>(random_()); };
        if (random_() % 6 == 0) code.push_back(0x66);
        if (random_() % 16 == 0) code.push_back(random_() % 2 ? 0xF2 : 0xF3);
        if (random_() % 40 == 0) code.push_back(0xF0);
        if (random_() % 40 == 0) code.push_back(0x67);
        switch (random_() % 10) {
            case 0:
            case 1:
            case 2:  // one byte
                if (size == CodeSize::bits64 && random_() % 2) code.push_back(0x40 | (byte() & 15));
                code.push_back(byte());
                break;
            case 3:  // x87
                code.push_back(0xD8 | (byte() & 7));
                break;
            case 4:
            case 5:  // 0F
                if (random_() % 4 == 0) code.push_back(random_() % 2 ? 0xF2 : 0xF3);
                if (size == CodeSize::bits64 && random_() % 2) code.push_back(0x40 | (byte() & 15));
                code.push_back(0x0F);
                code.push_back(byte());
                break;
            case 6:  // 0F 38, 0F 3A
                if (random_() % 2) code.push_back(0x66);
                if (random_() % 8 == 0) code.push_back(random_() % 2 ? 0xF2 : 0xF3);
                if (size == CodeSize::bits64 && random_() % 4 == 0) code.push_back(0x40 | (byte() & 15));
                code.push_back(0x0F);
                code.push_back(random_() % 2 ? 0x38 : 0x3A);
                code.push_back(byte());
                break;
            case 7:  // two-byte VEX
                code.assign({0xC5, static_cast<uint8_t>(byte() | (size == CodeSize::bits32 ? 0xC0 : 0)), byte()});
                break;
            default:  // three-byte VEX
                code.assign(
                    {0xC4,
                     static_cast<uint8_t>((size == CodeSize::bits32 ? 0xE0 : byte() & 0xE0) | (1 + random_() % 3)),
                     static_cast<uint8_t>(byte() | (random_() % 2 ? 0x78 : 0)), byte()});
                break;
        }
        // ModRM with short displacements, so that most accesses are to memory that is there.
        uint8_t modrm = byte();
        if ((modrm & 0xC0) == 0x80) modrm = static_cast<uint8_t>(modrm & 0x7F);
        code.push_back(modrm);
        while (code.size() < 15) code.push_back(random_() % 4 ? byte() : 0);
        ZydisDecodedInstruction z;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        if (!decode(code, size, z, operands)) {
            if (random_() % 64 == 0) return {};
            continue;
        }
        if (!comparable(z, operands)) continue;
        code.resize(z.length);
        return code;
    }
}

std::optional<Difference> Comparison::next(CodeSize size) {
    std::vector<uint8_t> code = random_instruction(size);
    if (code.empty()) return std::nullopt;
    return compare(code, size);
}

std::optional<Difference> Comparison::compare(const std::vector<uint8_t>& code, CodeSize size) {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!decode(code, size, z, operands)) return std::nullopt;
    // What the models here do not have is #UD on one side only.
    switch (z.meta.isa_ext) {
        case ZYDIS_ISA_EXT_AMD3DNOW:
        case ZYDIS_ISA_EXT_CLZERO:
        case ZYDIS_ISA_EXT_MCOMMIT:
        case ZYDIS_ISA_EXT_SSE4A:
        case ZYDIS_ISA_EXT_XOP:
        case ZYDIS_ISA_EXT_FMA4:
        case ZYDIS_ISA_EXT_TBM:
        case ZYDIS_ISA_EXT_GFNI:
        case ZYDIS_ISA_EXT_VAES:
        case ZYDIS_ISA_EXT_VPCLMULQDQ:
        case ZYDIS_ISA_EXT_AVX512EVEX:
        case ZYDIS_ISA_EXT_AVX512VEX:
        case ZYDIS_ISA_EXT_RDPRU:
        case ZYDIS_ISA_EXT_CLWB:
        case ZYDIS_ISA_EXT_MONITORX:
        case ZYDIS_ISA_EXT_PKU: return std::nullopt;
        default: break;
    }
    // A 66h prefix before a near branch in 64-bit code: AMD takes it as an operand size of 16 bits, Intel (and this
    // CPU) ignores it.
    const bool near_branch = z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || z.meta.category == ZYDIS_CATEGORY_RET ||
                             z.meta.category == ZYDIS_CATEGORY_CALL;
    if (size == CodeSize::bits64 && near_branch && (z.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE)) return std::nullopt;
    // The register form of the prefetches is a NOP for Intel and undefined for AMD; where a masked move with nothing
    // selected faults is left to the processor (SDM 2B, MASKMOVQ).
    if (z.opcode_map == ZYDIS_OPCODE_MAP_0F && z.opcode == 0x0D && z.raw.modrm.mod == 3) return std::nullopt;
    if (z.opcode_map == ZYDIS_OPCODE_MAP_0F && z.opcode == 0xF7) return std::nullopt;
    // The host does not ask for the alignment that the manual asks for.
    if (z.meta.isa_ext == ZYDIS_ISA_EXT_SHA) return std::nullopt;
    const CaseState in = random_state(size);
    const CaseState native = native_->execute(code, size, in);
    const CaseState soft = soft_->execute(code, size, in);
    std::string what;
    const auto differ = [&](const std::string& name, uint64_t a, uint64_t b) {
        if (a != b) what += fmt::format(" {}: host {:x} soft {:x};", name, a, b);
    };
    const auto signal = [](int fault) { return static_cast<uint64_t>(fault < 0 ? '-' : fault); };
    differ("fault", signal(native.fault), signal(soft.fault));
    static constexpr const char* names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                            "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    if (what.empty()) {
        for (unsigned n = 0; n < (size == CodeSize::bits64 ? 16 : 8); ++n) {
            const uint64_t mask = size == CodeSize::bits64 ? ~uint64_t{0} : 0xFFFFFFFF;
            differ(names[n], native.gpr[n] & mask, soft.gpr[n] & mask);
        }
        differ("rip", native.rip, soft.rip);
        const uint32_t flag_mask = 0xCD5 & ~undefined_flags(z);
        differ("flags", native.rflags & flag_mask, soft.rflags & flag_mask);
        differ("fcw", native.xsave[0] | native.xsave[1] << 8, soft.xsave[0] | soft.xsave[1] << 8);
        differ("fsw", native.xsave[2] | native.xsave[3] << 8, soft.xsave[2] | soft.xsave[3] << 8);
        differ("ftw", native.xsave[4], soft.xsave[4]);
        for (unsigned n = 0; n < 8; ++n) {
            if (std::memcmp(&native.xsave[32 + 16 * n], &soft.xsave[32 + 16 * n], 10) != 0)
                what += fmt::format(" st{};", n);
        }
        uint32_t a = 0, b = 0;
        std::memcpy(&a, &native.xsave[24], 4);
        std::memcpy(&b, &soft.xsave[24], 4);
        differ("mxcsr", a, b);
        for (unsigned n = 0; n < (size == CodeSize::bits64 ? 16 : 8); ++n) {
            if (std::memcmp(&native.xsave[160 + 16 * n], &soft.xsave[160 + 16 * n], 16) != 0)
                what += fmt::format(" xmm{};", n);
            if (std::memcmp(&native.xsave[576 + 16 * n], &soft.xsave[576 + 16 * n], 16) != 0)
                what += fmt::format(" ymm{}h;", n);
        }
        if (native.data != soft.data) {
            size_t at = 0;
            while (native.data[at] == soft.data[at]) ++at;
            what += fmt::format(" memory +{:x};", at);
        }
    }
    if (what.empty()) return std::nullopt;
    return Difference{code, size, text_of(z, operands), what};
}

}  // namespace viv::soft_test
