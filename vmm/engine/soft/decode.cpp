// Fetching guest code and making blocks of it.
#include "vmm/engine/soft/decode.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/feature_table.hpp"
#include "vmm/engine/soft/handlers.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/run.hpp"

namespace viv::soft {
namespace {

constexpr unsigned max_length = 15;
constexpr unsigned max_block = 64;

struct Decoders {
    ZydisDecoder by_size[3];
    Decoders() {
        ZydisDecoderInit(&by_size[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
        ZydisDecoderInit(&by_size[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
        ZydisDecoderInit(&by_size[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
        for (auto& decoder : by_size) {
            // Encodings of features that no model here has keep their older meaning.
            for (const auto mode : {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_WBNOINVD,
                                    ZYDIS_DECODER_MODE_CLDEMOTE, ZYDIS_DECODER_MODE_KNC}) {
                ZydisDecoderEnableMode(&decoder, mode, ZYAN_FALSE);
            }
        }
    }
};

Gpa physical_of(const TlbEntry& entry) {
    return {entry.physical};
}

/// SMAP does not concern fetches: they use the table without it.
Tlb& fetch_tlb(Cpu& cpu) {
    return cpu.tlb == &cpu.tlbs[tlb_supervisor_smap] ? cpu.tlbs[tlb_supervisor] : *cpu.tlb;
}

/// The translation for fetching at `linear`; throws the fault of the fetch.
const TlbEntry& fetch_entry(Cpu& cpu, uint64_t linear) {
    if (cpu.code64 && static_cast<int64_t>(linear << 16) >> 16 != static_cast<int64_t>(linear)) raise_gp();
    Tlb& tlb = fetch_tlb(cpu);
    TlbEntry& entry = tlb.at(linear);
    if (entry.page == (linear & page_mask) && entry.may_execute) return entry;
    return translate(cpu, tlb, linear, Access::execute, cpu.cpl == 3);
}

/// Up to `wanted` bytes of code at `linear` within one page.
unsigned copy_code(Cpu& cpu, const TlbEntry& entry, uint64_t linear, uint8_t* out, unsigned wanted) {
    const unsigned size = std::min(wanted, static_cast<unsigned>(0x1000 - (linear & 0xFFF)));
    if (entry.host) {
        cpu.blocks->prepare(entry.host, physical_of(entry));
        std::memcpy(out, entry.host + (linear & 0xFFF), size);
        return size;
    }
    const uint64_t physical = entry.physical;
    for (unsigned n = 0; n < size; ++n) {
        out[n] = static_cast<uint8_t>(physical_load(cpu, physical + (linear & 0xFFF) + n, 1));
    }
    return size;
}

/// What an undecodable instruction does.
void fill_undefined(ZyanStatus status, uint16_t offset, Insn& out);

[[noreturn]] void too_long(Cpu&, const Insn&) {
    raise_gp();
}
void too_long_instruction(Cpu& cpu, const Insn& i) {
    too_long(cpu, i);
}
void undefined_instruction(Cpu&, const Insn&) {
    raise_ud();
}

void fill_undefined(ZyanStatus status, uint16_t offset, Insn& out) {
    out = {};
    out.offset = offset;
    out.length = 1;
    out.handler =
        status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? ending<too_long_instruction> : ending<undefined_instruction>;
}

/// Fills `block`, which has room for one instruction more.
Block* fill_block(Block* block, const std::vector<Insn>& insns, uint8_t flavour, uint32_t bytes,
                  const std::byte* host) {
    block->count = static_cast<uint32_t>(insns.size());
    block->bytes = static_cast<uint16_t>(bytes);
    block->host = reinterpret_cast<const uint8_t*>(host);
    block->flavour = flavour;
    std::copy(insns.begin(), insns.end(), block->first());
    Insn& last = block->first()[insns.size()];
    last.handler = end_of_block;
    last.offset = static_cast<uint16_t>(bytes);
    return block;
}

/// Bytes up to the code segment's limit, at most `wanted`; #GP when there is none.
unsigned within_limit(Cpu& cpu, uint64_t rip, unsigned wanted) {
    if (cpu.code64) return wanted;
    const uint64_t limit = cpu.seg[CS].limit;
    if (rip > limit) raise_gp();
    return static_cast<unsigned>(std::min<uint64_t>(wanted, limit - rip + 1));
}

/// An instruction that crosses into the next page, or whose bytes are not in memory of ours: a block of one.
Block* fetch_single(Cpu& cpu, uint64_t rip, uint64_t linear, const TlbEntry& first, uint8_t flavour) {
    uint8_t code[max_length];
    const TlbEntry copy = first;
    const unsigned allowed = within_limit(cpu, rip, max_length);
    unsigned have = copy_code(cpu, copy, linear, code, allowed);
    Decoded decoded;
    ZyanStatus status = decode({code, have}, flavour & Flavour::code_size_mask, decoded);
    const std::byte* second = nullptr;
    Gpa second_address;
    if (status == ZYDIS_STATUS_NO_MORE_DATA && have < allowed) {
        const uint64_t next_linear = (linear + have) & cpu.linear_mask;
        const TlbEntry& next_entry = fetch_entry(cpu, next_linear);
        second = next_entry.host;
        second_address = physical_of(next_entry);
        have += copy_code(cpu, next_entry, next_linear, code + have, allowed - have);
        status = decode({code, have}, flavour & Flavour::code_size_mask, decoded);
    }
    if (status == ZYDIS_STATUS_NO_MORE_DATA) {
        if (have < max_length) raise_gp();  // beyond the limit
        status = ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
    }
    std::vector<Insn> insns(1);
    if (ZYAN_SUCCESS(status)) {
        translate_instruction(*cpu.engine, decoded, flavour, 0, insns[0]);
    } else {
        fill_undefined(status, 0, insns[0]);
    }
    const uint32_t bytes = insns[0].length;
    const bool cacheable = copy.host && (!second_address.value || second);
    Block* block =
        fill_block(cpu.blocks->allocate(2), insns, flavour, bytes, copy.host ? copy.host + (linear & 0xFFF) : nullptr);
    if (cacheable) {
        cpu.blocks->insert(block, {copy.physical | (linear & 0xFFF)}, second, second_address);
    } else {
        cpu.blocks->adopt(block);
    }
    return block;
}

Block* decode_block(Cpu& cpu, uint64_t rip, uint64_t linear, const TlbEntry& entry, uint8_t flavour) {
    const unsigned limit = flavour & Flavour::single ? 1 : max_block;
    const unsigned available = within_limit(cpu, rip, static_cast<unsigned>(0x1000 - (linear & 0xFFF)));
    const std::byte* host = entry.host + (linear & 0xFFF);
    cpu.blocks->prepare(entry.host, physical_of(entry));
    std::vector<Insn> insns;
    uint32_t bytes = 0;
    while (insns.size() < limit && bytes < available) {
        // Other CPUs and devices may be writing here; the decoder gets what keeps still.
        uint8_t code[max_length];
        const unsigned wanted = std::min(available - bytes, max_length);
        std::memcpy(code, host + bytes, wanted);
        Decoded decoded;
        const ZyanStatus status = decode({code, wanted}, flavour & Flavour::code_size_mask, decoded);
        if (!ZYAN_SUCCESS(status)) {
            // At the page's end more bytes may follow; that is for a block of its own. So is what is undefined, unless
            // this block would be empty.
            if (status == ZYDIS_STATUS_NO_MORE_DATA || !insns.empty()) break;
            fill_undefined(status, 0, insns.emplace_back());
            bytes = 1;
            break;
        }
        Insn& insn = insns.emplace_back();
        const Flow flow = translate_instruction(*cpu.engine, decoded, flavour, static_cast<uint16_t>(bytes), insn);
        bytes += insn.length;
        if (flow == Flow::ends) break;
    }
    if (insns.empty()) return fetch_single(cpu, rip, linear, entry, flavour);
    const auto count = static_cast<uint32_t>(insns.size());
    Block* block = fill_block(cpu.blocks->allocate(count + 1), insns, flavour, bytes, host);
    if (!(flavour & Flavour::single)) cpu.blocks->jit.watch(*block);
    cpu.blocks->insert(block, {entry.physical | (linear & 0xFFF)}, nullptr, {});
    return block;
}

/// SIB without a base: Zydis 4.0 finds R13D there under a 67h prefix (SDM 2A, table 2-3: a displacement alone).
void drop_false_base(Decoded& d) {
    const auto& raw = d.z.raw;
    if (d.z.address_width != 32 || raw.modrm.mod != 0 || raw.modrm.rm != 4 || raw.sib.base != 5) return;
    if (!(d.z.attributes & ZYDIS_ATTRIB_HAS_SIB)) return;
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        ZydisDecodedOperand& operand = d.operands[n];
        if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY || operand.mem.base != ZYDIS_REGISTER_R13D) continue;
        operand.mem.base = ZYDIS_REGISTER_NONE;
        operand.mem.disp.has_displacement = ZYAN_TRUE;
        operand.mem.disp.value = raw.disp.value;
    }
}

/// The translation of the page behind that of `linear`, if it is known and code may be there; else null.
const TlbEntry* following_page(Cpu& cpu, uint64_t linear) {
    const uint64_t next_page = ((linear | 0xFFF) + 1) & cpu.linear_mask;
    const TlbEntry& entry = fetch_tlb(cpu).at(next_page);
    return entry.page == next_page && entry.may_execute && entry.host ? &entry : nullptr;
}

/// The block of code that `entry` translates.
Block* block_at(Cpu& cpu, uint64_t rip, uint64_t linear, const TlbEntry& entry, uint8_t flavour) {
    if (!entry.host) return fetch_single(cpu, rip, linear, entry, flavour);
    const std::byte* host = entry.host + (linear & 0xFFF);
    Block* block = cpu.blocks->find(host, flavour, nullptr);
    if (!block && (linear & 0xFFF) > 0x1000 - max_length) {
        // Perhaps one that crosses into the page that follows here; the fetch of that one may fault.
        if (const TlbEntry* next = following_page(cpu, linear)) block = cpu.blocks->find(host, flavour, next->host);
    }
    if (block && (cpu.code64 || rip + block->bytes - 1 <= cpu.seg[CS].limit)) return block;
    if (block) return fetch_single(cpu, rip, linear, entry, flavour);  // the limit cuts it
    return decode_block(cpu, rip, linear, entry, flavour);
}

}  // namespace

ZyanStatus decode(std::span<const uint8_t> bytes, uint8_t code_size, Decoded& out) {
    static const Decoders decoders;
    const ZyanStatus status =
        ZydisDecoderDecodeFull(&decoders.by_size[code_size], bytes.data(), bytes.size(), &out.z, out.operands);
    if (ZYAN_SUCCESS(status)) drop_false_base(out);
    return status;
}

namespace {
void note_code(Cpu& cpu, uint64_t linear, bool is_global) {
    (cpu.cpl == 3 ? cpu.tlbs.user_code() : cpu.supervisor_code).note(linear);
    if (!is_global && cpu.cpl != 3) cpu.ran_local_supervisor_code = true;
}
/// Comes after looking for a block, since that may void others and begin a new epoch.
void note_block(Cpu& cpu, const Block& block, uint64_t linear, const TlbEntry& entry) {
    note_code(cpu, linear, entry.global);
    if (!block.second_page) return;
    const TlbEntry* const next = following_page(cpu, linear);
    note_code(cpu, ((linear | 0xFFF) + 1) & cpu.linear_mask, next && next->global);
}
}  // namespace

Block* fetch_block(Cpu& cpu, uint64_t rip, uint8_t flavour) {
    ++cpu.counters.block_lookups;
    if (!cpu.code64 && rip > cpu.seg[CS].limit) raise_gp();
    const uint64_t linear = (rip + cpu.seg_base[CS]) & cpu.linear_mask;
    const TlbEntry entry = fetch_entry(cpu, linear);
    Block* const block = block_at(cpu, rip, linear, entry, flavour);
    note_block(cpu, *block, linear, entry);
    return block;
}

Block* find_again(Cpu& cpu, Block* known, uint64_t rip) {
    if (!known) return nullptr;
    const uint64_t linear = (rip + cpu.seg_base[CS]) & cpu.linear_mask;
    const TlbEntry entry = fetch_tlb(cpu).at(linear);
    if (entry.page != (linear & page_mask) || !entry.may_execute || !entry.host) return nullptr;
    const TlbEntry* const next = known->second_page ? following_page(cpu, linear) : nullptr;
    if (!cpu.blocks->is_still(*known, entry.host + (linear & 0xFFF), cpu.flavour, next ? next->host : nullptr)) {
        return nullptr;
    }
    if (!cpu.code64 && rip + known->bytes - 1 > cpu.seg[CS].limit) return nullptr;
    ++cpu.counters.block_lookups;
    note_block(cpu, *known, linear, entry);
    return known;
}

Block* make_single_block(SoftEngine& engine, std::span<const uint8_t> bytes, uint8_t flavour, Decoded& decoded) {
    const ZyanStatus status = decode(bytes, flavour & Flavour::code_size_mask, decoded);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && bytes.size() < max_length) return nullptr;
    std::vector<Insn> insns(1);
    if (ZYAN_SUCCESS(status)) {
        translate_instruction(engine, decoded, flavour, 0, insns[0]);
    } else {
        decoded.z.length = 0;
        fill_undefined(status == ZYDIS_STATUS_NO_MORE_DATA ? ZYDIS_STATUS_INSTRUCTION_TOO_LONG : status, 0, insns[0]);
    }
    return fill_block(BlockPool::make(2), insns, flavour, insns[0].length, nullptr);
}

size_t fetch_code(Cpu& cpu, uint64_t rip, std::span<uint8_t> out) {
    size_t have = 0;
    try {
        const unsigned wanted = within_limit(cpu, rip, static_cast<unsigned>(out.size()));
        while (have < wanted) {
            const uint64_t linear = (rip + have + cpu.seg_base[CS]) & cpu.linear_mask;
            const TlbEntry& entry = fetch_entry(cpu, linear);
            if (!entry.host) break;
            have += copy_code(cpu, entry, linear, out.data() + have, static_cast<unsigned>(wanted - have));
        }
    } catch (const Fault&) {
        // The engine fetches again what is missing, and raises this.
    }
    return have;
}

Block* find_block(Cpu& cpu, uint64_t rip) {
    try {
        return fetch_block(cpu, rip, cpu.flavour);
    } catch (const Fault&) {
        return nullptr;
    }
}

}  // namespace viv::soft
