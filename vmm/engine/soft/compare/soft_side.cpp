#include "vmm/engine/soft/compare/soft_side.hpp"

#include <cstring>

#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/soft_engine.hpp"

namespace viv::soft_test {
namespace {

constexpr uint64_t page = Layout::page;
constexpr uint64_t pml4 = 0x1000, pdpt = 0x2000, pd = 0x3000, pt_system = 0x4000, pt_code = 0x5000, gdt = 0x7000,
                   idt = 0x8000, tss = 0x9000, handlers = 0xA000, stack_top = 0x10000, pt_data = 0x11000;
constexpr uint64_t code_base = 0x100000, read_only_base = 0x110000, data_base = 0x200000;
/// Where ring 0 sees its memory: in the half of the kernel.
constexpr uint64_t kernel = 0xFFFF800000000000, pdpt_kernel = 0x13000, pd_kernel = 0x14000;
constexpr uint64_t not_executable = uint64_t{1} << 63;

SegmentRegister user_code(bool bits64) {
    return {.selector = bits64 ? user_cs64 : user_cs32,
            .base = 0,
            .limit = 0xFFFFFFFF,
            .type = 11,
            .dpl = 3,
            .long_mode = bits64,
            .default_big = !bits64,
            .granularity = true};
}
SegmentRegister user_data() {
    return {.selector = user_ss,
            .base = 0,
            .limit = 0xFFFFFFFF,
            .type = 3,
            .dpl = 3,
            .default_big = true,
            .granularity = true};
}
SegmentRegister no_segment(uint64_t base) {
    return {
        .selector = 0, .base = base, .limit = 0, .type = 0, .code_or_data = false, .present = false, .unusable = true};
}

}  // namespace

SoftSide::SoftSide() {
    VIV_ASSERT(memory_.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "system"));
    VIV_ASSERT(memory_.add(Gpa{code_base}, 0x100000, GuestMemory::Kind::ram, "code"));
    VIV_ASSERT(memory_.add(Gpa{data_base}, Layout::cases * Layout::data_size, GuestMemory::Kind::ram, "data"));
    auto engine = make_soft_engine(EngineConfig{memory_, 1, "max"}, clock_);
    VIV_ASSERT(engine);
    engine_.reset(static_cast<soft::SoftEngine*>(engine->release()));
    auto vcpu = engine_->create_vcpu(VcpuId{0});
    VIV_ASSERT(vcpu);
    vcpu_.reset(static_cast<soft::SoftVcpu*>(vcpu->release()));
    engine_->blocks.jit.shortest_row = 1;
    build_tables();
}
SoftSide::~SoftSide() = default;

void SoftSide::set_code(std::span<const uint8_t> code) {
    memory_.write(Gpa{code_base}, std::as_bytes(code));
}
void SoftSide::set_read_only(std::span<const uint8_t> bytes) {
    memory_.write(Gpa{read_only_base}, std::as_bytes(bytes));
}
std::span<uint8_t> SoftSide::data(unsigned n) {
    const auto window =
        memory_.window(Gpa{data_base + n * Layout::data_size}, Layout::data_size, GuestMemory::Intent::write);
    return {reinterpret_cast<uint8_t*>(window.data()), window.size()};
}

void SoftSide::build_tables() {
    memory_.store(Gpa{pml4}, pdpt | 7);
    memory_.store(Gpa{pdpt}, pd | 7);
    memory_.store(Gpa{pml4 + 8 * 256}, pdpt_kernel | 3);
    memory_.store(Gpa{pdpt_kernel}, pd_kernel | 3);
    memory_.store(Gpa{pd_kernel}, pt_system | 3);
    memory_.store(Gpa{pd + 8 * (Layout::code_address >> 21)}, pt_code | 7);
    for (uint64_t n = 0; n < 256; ++n) memory_.store(Gpa{pt_system + 8 * n}, n << 12 | 3);
    for (uint64_t n = 0; n < Layout::code_size / page; ++n) {
        memory_.store(Gpa{pt_code + 8 * n}, (code_base + n * page) | 5);
    }
    for (unsigned n = 0; n < Layout::cases; ++n) {
        const auto map = [](GuestMemory& memory, uint64_t linear, uint64_t entry) {
            const uint64_t table = pt_data + ((linear - Layout::data_address) >> 21) * page;
            memory.store(Gpa{pd + 8 * (linear >> 21)}, table | 7);
            memory.store(Gpa{table + 8 * ((linear >> 12) & 0x1FF)}, entry | not_executable);
        };
        const uint64_t slot = Layout::data_of(n), physical = data_base + n * Layout::data_size;
        for (uint64_t at = 0; at < Layout::data_size; at += page) {
            map(memory_, slot + Layout::data_offset + at, (physical + at) | 7);
        }
        map(memory_, slot + Layout::read_only_offset, read_only_base | 5);
    }
    // As Linux has them: 08h, 10h and 18h for the kernel, 23h and 33h user code, 2Bh user data.
    memory_.store(Gpa{gdt + 0x08}, uint64_t{0x00CF9B000000FFFF});
    memory_.store(Gpa{gdt + 0x10}, uint64_t{0x00AF9B000000FFFF});
    memory_.store(Gpa{gdt + 0x18}, uint64_t{0x00CF93000000FFFF});
    memory_.store(Gpa{gdt + 0x20}, uint64_t{0x00CFFB000000FFFF});
    memory_.store(Gpa{gdt + 0x28}, uint64_t{0x00CFF3000000FFFF});
    memory_.store(Gpa{gdt + 0x30}, uint64_t{0x00AFFB000000FFFF});
    memory_.store(Gpa{gdt + 0x40}, uint64_t{0x00008B0000000067} | tss << 16);
    for (uint64_t vector = 0; vector < 256; ++vector) {
        const uint64_t at = kernel + handlers + vector * 16;
        const uint64_t dpl = vector == 3 || vector == 4 || vector == 0x80 ? 3 : 0;
        memory_.store(Gpa{idt + vector * 16},
                      (at & 0xFFFF) | 0x10ull << 16 | (0x8E00ull | dpl << 13) << 32 | (at >> 16 & 0xFFFF) << 48);
        memory_.store(Gpa{idt + vector * 16 + 8}, at >> 32);
        memory_.store(Gpa{handlers + vector * 16}, uint8_t{0xF4});
    }
    memory_.store(Gpa{tss + 4}, kernel + stack_top);
    memory_.store(Gpa{tss + 0x66}, uint16_t{0x8000});  // no I/O permission map
    CpuState base = reset_state(true);
    base.cr0 = 0x80050033;
    base.cr3 = pml4;
    base.cr4 = 0x406A0 | 0x10000;
    base.efer = 0xD01;
    base.xcr0 = 7;
    base.gdtr = {kernel + gdt, 0x7F};
    base.idtr = {kernel + idt, 0xFFF};
    base.tr = {.selector = 0x40, .base = kernel + tss, .limit = 0x67, .type = 11, .code_or_data = false};
    base.ldtr = {.type = 2, .code_or_data = false, .present = false, .unusable = true};
    base.cs = user_code(true);
    base.ss = base.ds = base.es = user_data();
    base.fs = base.gs = no_segment(0);
    VIV_ASSERT(vcpu_->set_state(base));
}

void SoftSide::load(const CpuImage& in) {
    using namespace soft;
    Cpu& cpu = vcpu_->cpu();
    std::copy(in.gpr.begin(), in.gpr.end(), cpu.gpr.begin());
    cpu.rip = in.rip;
    cpu.set_flags(static_cast<uint32_t>(in.rflags));
    cpu.seg[CS] = user_code(in.selectors[CS] == user_cs64);
    cpu.seg[SS] = cpu.seg[DS] = cpu.seg[ES] = user_data();
    cpu.seg[FS] = no_segment(in.fs_base);
    cpu.seg[GS] = no_segment(in.gs_base);
    cpu.cpl = 3;
    cpu.cr2 = 0;
    cpu.activity = Activity::running;
    cpu.interrupt_shadow = false;
    cpu.debug_pending = 0;
    std::memcpy(&cpu.fx, in.xsave.data(), sizeof cpu.fx);
    cpu.fx.xmm = {};
    for (unsigned n = 0; n < 16; ++n) {
        std::memcpy(cpu.vector_registers[n].bytes.data(), in.xsave.data() + 160 + 16 * n, 16);
        std::memcpy(cpu.vector_registers[n].bytes.data() + 16, in.xsave.data() + 576 + 16 * n, 16);
    }
    update_mode(cpu);
}

bool SoftSide::execute(const CpuImage& in, CpuImage& out) {
    using namespace soft;
    load(in);
    constexpr uint64_t budget = 1'000'000;
    if (vcpu_->run(*this, budget) != Stop::halted) return false;
    Cpu& cpu = vcpu_->cpu();
    // In a handler: which one tells the vector, its stack the state.
    const uint64_t vector = (cpu.rip - kernel - handlers) / 16;
    const bool has_error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
    const uint64_t top = cpu.gpr[RSP] - kernel, frame = top + (has_error ? 8 : 0);
    out.vector = static_cast<uint32_t>(vector);
    out.error = has_error ? memory_.load<uint32_t>(Gpa{top}) : 0;
    std::copy_n(cpu.gpr.begin(), 16, out.gpr.begin());
    out.rip = memory_.load<uint64_t>(Gpa{frame});
    out.rflags = memory_.load<uint64_t>(Gpa{frame + 16});
    out.gpr[RSP] = memory_.load<uint64_t>(Gpa{frame + 24});
    out.selectors = {cpu.seg[ES].selector,
                     memory_.load<uint16_t>(Gpa{frame + 8}),
                     memory_.load<uint16_t>(Gpa{frame + 32}),
                     cpu.seg[DS].selector,
                     cpu.seg[FS].selector,
                     cpu.seg[GS].selector};
    out.fs_base = cpu.seg[FS].base;
    out.gs_base = cpu.seg[GS].base;
    out.cr2 = cpu.cr2;
    std::memcpy(out.xsave.data(), &cpu.fx, 512);
    std::memset(out.xsave.data() + 416, 0, 96);
    uint16_t status = cpu.fx.fsw & 0x7F7F;
    if (status & ~cpu.fx.fcw & 0x3F) status |= 0x8080;
    std::memcpy(out.xsave.data() + 2, &status, 2);
    for (unsigned n = 0; n < 16; ++n) {
        std::memcpy(out.xsave.data() + 160 + 16 * n, cpu.vector_registers[n].bytes.data(), 16);
        std::memcpy(out.xsave.data() + 576 + 16 * n, cpu.vector_registers[n].bytes.data() + 16, 16);
    }
    return true;
}

}  // namespace viv::soft_test
