#include "vmm/engine/soft/tracing.hpp"

#include <fmt/format.h>

#include <array>

#include "vmm/engine/soft/decode.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/trace.hpp"

namespace viv::soft {
namespace {

uint64_t retired_so_far(const Cpu& cpu) {
    return cpu.retired + static_cast<uint64_t>(cpu.slice_start - cpu.remaining);
}
uint64_t linear_rip(const Cpu& cpu) {
    return (cpu.rip + cpu.seg_base[CS]) & cpu.linear_mask;
}

std::string disassemble(const Decoded& decoded, uint64_t rip) {
    static const ZydisFormatter formatter = [] {
        ZydisFormatter made;
        ZydisFormatterInit(&made, ZYDIS_FORMATTER_STYLE_INTEL);
        return made;
    }();
    char text[128];
    const bool good = ZYAN_SUCCESS(ZydisFormatterFormatInstruction(
        &formatter, &decoded.z, decoded.operands, decoded.z.operand_count_visible, text, sizeof(text), rip, nullptr));
    return good ? text : "";
}

const char* name_of(Source source) {
    switch (source) {
        case Source::software: return "software";
        case Source::exception: return "exception";
        case Source::external: return "external";
    }
    return "";
}

}  // namespace

void trace_instruction(Cpu& cpu) {
    Trace& trace = *cpu.engine->trace;
    const uint64_t linear = linear_rip(cpu);
    if (!trace.choice().covers(linear, cpu.cpl)) return;
    std::array<uint8_t, 15> code{};
    const size_t size = fetch_code(cpu, cpu.rip, code);
    Decoded decoded;
    std::string bytes, text = "?";
    size_t length = std::min<size_t>(size, 1);
    if (ZYAN_SUCCESS(decode({code.data(), size}, cpu.flavour & Flavour::code_size_mask, decoded))) {
        length = decoded.z.length;
        text = disassemble(decoded, cpu.rip);
    }
    for (size_t n = 0; n < length; ++n) bytes += fmt::format("{:02x}", code[n]);
    trace.line(VcpuId{cpu.id}, retired_so_far(cpu),
               fmt::format("insn  r{} {:x} {:<16} {}", cpu.cpl, linear, bytes, text));
}

void trace_interrupt(Cpu& cpu, uint8_t vector, Source source, bool has_error, uint32_t error) {
    Trace& trace = *cpu.engine->trace;
    const uint64_t linear = linear_rip(cpu);
    if (!trace.choice().interrupts || !trace.choice().covers(linear, cpu.cpl)) return;
    std::string text = fmt::format("int   r{} {:x} {:#x} {}", cpu.cpl, linear, vector, name_of(source));
    if (has_error) text += fmt::format(" error {:#x}", error);
    if (vector == vector_pf && source == Source::exception) text += fmt::format(" address {:#x}", cpu.cr2);
    trace.line(VcpuId{cpu.id}, retired_so_far(cpu), text);
}

}  // namespace viv::soft
