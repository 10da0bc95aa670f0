#include "vmm/engine/soft/compare/instruction_forms.hpp"

#include <fmt/format.h>

#include <set>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/feature_table.hpp"
#include "vmm/engine/soft/handlers.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft_test {
namespace {

constexpr uint8_t modrm_memory = 0x43;  // [rbx + disp8]

bool uses(const soft::Decoded& d, ZydisOperandEncoding encoding) {
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        if (d.op(n).encoding == encoding) return true;
    }
    return false;
}

/// Whether the engine has a handler for it.
bool is_translated(soft::SoftEngine& engine, const soft::Decoded& d, CodeSize size) {
    if (!soft::has_instruction(engine.features.set, d.z)) return false;
    const uint8_t flavour =
        soft::Flavour::user | soft::Flavour::flat | static_cast<uint8_t>(size == CodeSize::bits64 ? 2 : 1);
    soft::Insn insn;
    soft::translate_instruction(engine, d, flavour, 0, insn);
    return insn.handler != soft::Handler{soft::ending<soft::undefined>};
}

class Finder {
  public:
    Finder(soft::SoftEngine& engine, CodeSize size) : engine_(engine), size_(size) {}

    Forms run() {
        static const std::vector<std::vector<uint8_t>> prefix_sets = {{},     {0x66},       {0xF2},
                                                                      {0xF3}, {0x66, 0xF2}, {0x66, 0xF3}};
        for (const auto& prefixes : prefix_sets) {
            for (unsigned wide = 0; wide < (size_ == CodeSize::bits64 ? 2u : 1u); ++wide) {
                for (uint8_t map = 0; map < 4; ++map) legacy_map(prefixes, wide != 0, map);
            }
        }
        for (uint8_t map = 1; map < 4; ++map) {
            for (unsigned rest = 0; rest < 16; ++rest) vex_map(map, rest & 8, static_cast<uint8_t>(rest & 7));
        }
        return std::move(forms_);
    }

  private:
    void legacy_map(const std::vector<uint8_t>& prefixes, bool wide, uint8_t map) {
        for (unsigned opcode = 0; opcode < 256; ++opcode) {
            Form form{.prefixes = prefixes, .wide = wide, .map = map, .opcode = static_cast<uint8_t>(opcode)};
            each_modrm(form);
        }
    }
    void vex_map(uint8_t map, bool wide, uint8_t rest) {
        for (unsigned opcode = 0; opcode < 256; ++opcode) {
            Form form{.vex = true, .wide = wide, .vex_rest = rest, .map = map, .opcode = static_cast<uint8_t>(opcode)};
            each_modrm(form);
        }
    }
    void each_modrm(Form form) {
        for (unsigned reg = 0; reg < 8; ++reg) {
            for (unsigned rm = 0; rm < 9; ++rm) {
                Form one = form;
                one.memory = rm == 8;
                one.reg = static_cast<int>(reg);
                one.rm = static_cast<int>(rm % 8);
                if (!consider(one)) return;
            }
        }
    }
    /// False when ModRM makes no difference.
    bool consider(Form& form) {
        std::vector<uint8_t> bytes = form.prefixes;
        if (form.vex) {
            const bool second = form.vex_rest & 4;
            bytes = {0xC4, static_cast<uint8_t>(0xE0 | form.map),
                     static_cast<uint8_t>((form.wide ? 0x80 : 0) | 0x78 | (second ? 4 : 0) | (form.vex_rest & 3))};
        } else {
            if (form.wide) bytes.push_back(0x48);
            if (form.map > 0) bytes.push_back(0x0F);
            if (form.map == 2) bytes.push_back(0x38);
            if (form.map == 3) bytes.push_back(0x3A);
        }
        bytes.push_back(form.opcode);
        bytes.push_back(static_cast<uint8_t>(form.memory ? 0x44 | form.reg << 3 : 0xC0 | form.reg << 3 | form.rm));
        if (form.memory) bytes.push_back(0x0B);  // rbx + rcx, or the vector register 1
        bytes.resize(15, 0x01);
        soft::Decoded d;
        if (!decode_for(size_, bytes, d)) return true;
        const bool expected = form.vex == (d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX);
        if (!expected || !is_translated(engine_, d, size_)) return d.z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
        form.mnemonic = d.z.mnemonic;
        form.has_modrm = d.z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
        form.free_vvvv = uses(d, ZYDIS_OPERAND_ENCODING_NDSNDD);
        if (!form.has_modrm || uses(d, ZYDIS_OPERAND_ENCODING_MODRM_REG)) form.reg = -1;
        if (!form.has_modrm || form.memory || uses(d, ZYDIS_OPERAND_ENCODING_MODRM_RM)) form.rm = -1;
        if (!form.has_modrm) form.memory = false;
        std::string key = fmt::format("{} {} {} {} {} {} {} {} {}", static_cast<int>(form.mnemonic), form.vex,
                                      form.wide, form.vex_rest, form.map, form.opcode, form.memory, form.reg, form.rm);
        for (const uint8_t prefix : form.prefixes) key += fmt::format(" {:x}", prefix);
        if (seen_.insert(key).second) forms_[form.mnemonic].push_back(form);
        return form.has_modrm;
    }

    soft::SoftEngine& engine_;
    CodeSize size_;
    Forms forms_;
    std::set<std::string> seen_;
};

uint8_t byte(Random& random) {
    return static_cast<uint8_t>(random());
}
bool one_in(Random& random, unsigned n) {
    return random() % n == 0;
}

}  // namespace

bool decode_for(CodeSize size, const std::vector<uint8_t>& bytes, soft::Decoded& out) {
    return ZYAN_SUCCESS(soft::decode(bytes, size == CodeSize::bits64 ? 2 : 1, out));
}

Forms find_forms(soft::SoftEngine& engine, CodeSize size) {
    return Finder(engine, size).run();
}

std::vector<uint8_t> make_instance(const Form& form, CodeSize size, Random& random) {
    const bool bits64 = size == CodeSize::bits64;
    std::vector<uint8_t> code;
    if (one_in(random, 24)) code.push_back(0x67);
    if (one_in(random, 24)) {
        static constexpr uint8_t segments[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};
        code.push_back(segments[random() % 6]);
    }
    if (form.memory && !form.vex && form.map < 2 && one_in(random, 8)) code.push_back(0xF0);
    // A repeat prefix that does not belong to it: of meaning to string instructions, and ignored by many.
    const bool string = form.map == 0 && ((form.opcode >= 0xA4 && form.opcode <= 0xAF && (form.opcode & ~1) != 0xA8) ||
                                          (form.opcode >= 0x6C && form.opcode <= 0x6F));
    if (string && form.prefixes.empty() && one_in(random, 2)) code.push_back(random() % 2 ? 0xF2 : 0xF3);
    code.insert(code.end(), form.prefixes.begin(), form.prefixes.end());
    const auto high = static_cast<uint8_t>(bits64 ? byte(random) & 7 : 0);
    if (form.vex) {
        const auto vvvv = static_cast<uint8_t>(form.free_vvvv ? (bits64 ? random() % 16 : 8 + random() % 8) : 15);
        if (form.map == 1 && !form.wide && one_in(random, 3)) {
            code.push_back(0xC5);
            code.push_back(static_cast<uint8_t>((~high & 4) << 5 | vvvv << 3 | (form.vex_rest & 7)));
        } else {
            code.push_back(0xC4);
            code.push_back(static_cast<uint8_t>((~high & 7) << 5 | form.map));
            code.push_back(static_cast<uint8_t>((form.wide ? 0x80 : 0) | vvvv << 3 | (form.vex_rest & 7)));
        }
    } else {
        if (bits64 && (form.wide || one_in(random, 2))) {
            code.push_back(static_cast<uint8_t>(0x40 | (form.wide ? 8 : 0) | high));
        }
        if (form.map > 0) code.push_back(0x0F);
        if (form.map == 2) code.push_back(0x38);
        if (form.map == 3) code.push_back(0x3A);
    }
    code.push_back(form.opcode);
    if (form.has_modrm) {
        const unsigned reg = form.reg >= 0 ? static_cast<unsigned>(form.reg) : byte(random) % 8u;
        const unsigned rm = form.rm >= 0 ? static_cast<unsigned>(form.rm) : byte(random) % 8u;
        const unsigned mod = form.memory ? byte(random) % 3u : 3;
        code.push_back(static_cast<uint8_t>(mod << 6 | reg << 3 | rm));
    }
    while (code.size() < 15) code.push_back(one_in(random, 4) ? 0 : byte(random));
    code.resize(15);
    return code;
}

std::vector<uint8_t> make_random_bytes(CodeSize size, Random& random) {
    const bool bits64 = size == CodeSize::bits64;
    std::vector<uint8_t> code;
    const auto rex = [&](unsigned n) {
        if (bits64 && one_in(random, n)) code.push_back(static_cast<uint8_t>(0x40 | (byte(random) & 15)));
    };
    const auto repeat = [&](unsigned n) {
        if (one_in(random, n)) code.push_back(random() % 2 ? 0xF2 : 0xF3);
    };
    if (one_in(random, 6)) code.push_back(0x66);
    repeat(16);
    if (one_in(random, 40)) code.push_back(0xF0);
    if (one_in(random, 40)) code.push_back(0x67);
    switch (random() % 8) {
        case 0:
        case 1:
        case 2:
            rex(2);
            code.push_back(byte(random));
            break;
        case 3: code.push_back(0xD8 | (byte(random) & 7)); break;
        case 4:
        case 5:
            repeat(4);
            rex(2);
            code.push_back(0x0F);
            code.push_back(byte(random));
            break;
        case 6:
            if (one_in(random, 2)) code.push_back(0x66);
            repeat(8);
            rex(4);
            code.push_back(0x0F);
            code.push_back(one_in(random, 2) ? 0x38 : 0x3A);
            code.push_back(byte(random));
            break;
        default:
            code.assign({0xC4, static_cast<uint8_t>((bits64 ? byte(random) & 0xE0 : 0xE0) | (1 + random() % 3)),
                         static_cast<uint8_t>(byte(random) | (one_in(random, 2) ? 0x78 : 0)), byte(random)});
            break;
    }
    while (code.size() < 15) code.push_back(one_in(random, 4) ? 0 : byte(random));
    code.resize(15);
    return code;
}

}  // namespace viv::soft_test
