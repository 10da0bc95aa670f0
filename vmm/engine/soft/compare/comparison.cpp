#include "vmm/engine/soft/compare/comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "vmm/engine/soft/compare/exemptions.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/feature_table.hpp"

namespace viv::soft_test {
namespace {

/// Host code that the engine made is kept for ever; a fresh engine now and then keeps memory in bounds.
constexpr uint64_t cases_per_engine = 150'000;

std::string text_of(const Case& c, uint64_t rip) {
    if (!c.known) return "(undecodable)";
    ZydisFormatter formatter;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    char buffer[128];
    ZydisFormatterFormatInstruction(&formatter, &c.decoded.z, c.decoded.operands, c.decoded.z.operand_count_visible,
                                    buffer, sizeof buffer, rip, nullptr);
    return buffer;
}

/// Trap flag: one step, then stop. Branches go anywhere; what falls through stops at the INT3 behind it.
bool is_branch(const soft::Decoded& d) {
    return d.z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || d.z.meta.category == ZYDIS_CATEGORY_RET ||
           d.z.meta.category == ZYDIS_CATEGORY_CALL || d.z.meta.category == ZYDIS_CATEGORY_INTERRUPT;
}

long data_at(unsigned slot) {
    return static_cast<long>(slot * Layout::data_size);
}

template <class T>
T get(const std::array<uint8_t, 832>& area, size_t at) {
    T value;
    std::memcpy(&value, area.data() + at, sizeof value);
    return value;
}

}  // namespace

Comparison::Comparison(uint64_t seed)
    : random_(seed), states_(random_), read_only_(Layout::page), initial_(Layout::cases * Layout::data_size) {
    native_ = NativeCpu::start(unavailable_);
    soft_ = std::make_unique<SoftSide>();
    for (const CodeSize size : {CodeSize::bits32, CodeSize::bits64}) {
        const auto n = static_cast<size_t>(size);
        forms_[n] = find_forms(soft_->engine(), size);
        for (const auto& [mnemonic, forms] : forms_[n]) mnemonics_[n].push_back(mnemonic);
    }
    states_.fill(read_only_);
    soft_->set_read_only(read_only_);
    if (native_) std::copy(read_only_.begin(), read_only_.end(), native_->read_only().begin());
}
Comparison::~Comparison() = default;

void Comparison::restrict_to(const std::string& mnemonic) {
    for (auto& list : mnemonics_) {
        std::erase_if(list, [&](ZydisMnemonic m) { return ZydisMnemonicGetString(m) != mnemonic; });
    }
}

void Comparison::make_case(Case& c, CodeSize size, unsigned slot) {
    const auto n = static_cast<size_t>(size);
    c.size = size;
    c.slot = slot;
    const auto& list = mnemonics_[n];
    // First all of them in turn, then at random.
    constexpr size_t rounds = 2;
    const bool in_turn = turn_[n] < rounds * list.size();
    ZydisMnemonic wanted = in_turn ? list[turn_[n]++ % list.size()] : list[random_() % list.size()];
    const bool free = !in_turn && list.size() > 100 && random_() % 8 == 0;
    for (unsigned tries = 0;; ++tries) {
        if (tries > 100) wanted = list[random_() % list.size()];
        if (free) {
            c.code = make_random_bytes(size, random_);
        } else {
            const auto& forms = forms_[n].at(wanted);
            c.code = make_instance(forms[random_() % forms.size()], size, random_);
        }
        c.known = decode_for(size, c.code, c.decoded);
        // What the decoder does not know, the host may.
        if (!c.known || (in_turn && tries < 100 && c.decoded.z.mnemonic != wanted)) continue;
        // What the model lacks, the host may have.
        if (!soft::has_instruction(soft_->engine().features.set, c.decoded.z)) continue;
        if (left_out(c, size)) continue;
        c.code.resize(c.decoded.z.length);
        return;
    }
}

void Comparison::run_batch(CodeSize size, std::vector<Difference>& differences) {
    if (since_fresh_ > cases_per_engine) {
        compiled_before_ += soft_->engine().blocks.jit.blocks;
        soft_ = std::make_unique<SoftSide>();
        soft_->set_read_only(read_only_);
        since_fresh_ = 0;
    }
    std::vector<Case> cases(Layout::cases);
    SharedBatch& batch = native_->batch();
    const auto code = native_->code();
    std::ranges::fill(code, uint8_t{0xCC});
    for (unsigned n = 0; n < Layout::cases; ++n) {
        Case& c = cases[n];
        CpuImage& in = batch.in[n];
        make_case(c, size, n);
        in.rip = Layout::code_of(n);
        // Some lie over the edge of a page: the last ones, over that of the code.
        const uint64_t slots_per_page = Layout::page / Layout::code_slot;
        if (n % slots_per_page == slots_per_page - 1) {
            const uint64_t end = Layout::code_address + (n + 1) * Layout::code_slot;
            in.rip = end - 1 - random_() % c.code.size();
        }
        states_.make(c, in, native_->data(n));
        if (is_branch(c.decoded) || random_() % 3 == 0) in.rflags |= 0x100;
        const size_t at = in.rip - Layout::code_address;
        std::copy_n(c.code.begin(), std::min(c.code.size(), code.size() - at), code.begin() + static_cast<long>(at));
        std::ranges::copy(native_->data(n), soft_->data(n).begin());
    }
    soft_->set_code(code);
    for (unsigned n = 0; n < Layout::cases; ++n) std::ranges::copy(native_->data(n), initial_.begin() + data_at(n));
    if (!native_->run(0, Layout::cases)) {
        const Case& c = cases[batch.at % Layout::cases];
        differences.push_back({c.code, size, "(child)", text_of(c, 0), " the child was lost;"});
        return;
    }
    for (unsigned n = 0; n < Layout::cases; ++n) {
        ++compared_;
        ++counts_[static_cast<size_t>(size)][cases[n].decoded.z.mnemonic].cases;
        auto difference = compare(cases[n], n);
        if (!difference) continue;
        // Other cases may have written to its memory: again, alone.
        for (const auto data : {native_->data(n), soft_->data(n)}) {
            std::copy_n(initial_.begin() + data_at(n), data.size(), data.begin());
        }
        if (native_->run(n, n + 1)) difference = compare(cases[n], n);
        if (difference) differences.push_back(std::move(*difference));
    }
    since_fresh_ += Layout::cases;
}

std::optional<Difference> Comparison::compare(const Case& c, unsigned slot) {
    const CpuImage& in = native_->batch().in[slot];
    const CpuImage& host = native_->batch().out[slot];
    CpuImage soft;
    std::string what;
    const auto differ = [&](std::string_view name, uint64_t a, uint64_t b) {
        if (a != b) what += fmt::format(" {}: host {:x} soft {:x};", name, a, b);
    };
    const auto result = [&]() -> std::optional<Difference> {
        if (what.empty()) return std::nullopt;
        if (const auto at = operand_address(c, in)) what += fmt::format(" operand at {:x};", *at);
        return Difference{c.code, c.size, c.known ? ZydisMnemonicGetString(c.decoded.z.mnemonic) : "(undecodable)",
                          text_of(c, in.rip), what};
    };
    // Every other one as host code, where the compiler knows the instruction and the TLB has what it accesses.
    soft_->engine().blocks.jit.threshold = slot % 2;
    if (!soft_->execute(in, soft)) {
        what = " does not end;";
        return result();
    }
    if (soft.vector == 1 || soft.vector == 3) {
        ++counts_[static_cast<size_t>(c.size)][c.decoded.z.mnemonic].completed;
    }
    const Exempt e = exempt(c, in, host, soft);
    if (e.all) return std::nullopt;
    if (host.vector != soft.vector) {
        what = fmt::format(
            " exception: host {} ({:x}, {:x}) at {:x}, soft {} ({:x}, {:x}) at {:x}; in: rip {:x} flags {:x}",
            host.vector, host.error, host.cr2, host.rip, soft.vector, soft.error, soft.cr2, soft.rip, in.rip,
            in.rflags);
        return result();
    }
    // Linux does not tell programs what is mapped in its own half.
    constexpr uint64_t user_end = 0x7FFFFFFFF000;
    if (host.vector == 14 && soft.cr2 >= user_end) soft.error |= 1;
    if (host.vector >= 8 && host.vector <= 14 && !e.cr2) differ("error", host.error, soft.error);
    if (host.vector == 14 && !e.cr2) differ("cr2", host.cr2, soft.cr2);
    static constexpr const char* names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                            "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const bool bits64 = c.size == CodeSize::bits64;
    for (unsigned n = 0; n < (bits64 ? 16u : 8u); ++n) {
        // What stays of the upper halves after a far jump out of 64-bit code is undefined.
        const uint64_t mask = host.selectors[1] == user_cs64 ? ~uint64_t{0} : 0xFFFFFFFF;
        if (!((e.registers >> n) & 1)) differ(names[n], host.gpr[n] & mask, soft.gpr[n] & mask);
    }
    if (!e.rip) differ("rip", host.rip, soft.rip);
    const uint64_t flag_mask = 0x244FD5 & ~e.flags;
    differ("flags", host.rflags & flag_mask, soft.rflags & flag_mask);
    static constexpr const char* segments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    // The way back from the host's kernel makes 0 of all null selectors (SDM 2A, IRET).
    for (unsigned n = 0; n < 6; ++n) {
        differ(segments[n], host.selectors[n], soft.selectors[n] < 4 ? 0 : soft.selectors[n]);
    }
    const auto& a = host.xsave;
    const auto& b = soft.xsave;
    differ("fcw", get<uint16_t>(a, 0), get<uint16_t>(b, 0));
    differ("fsw", get<uint16_t>(a, 2), get<uint16_t>(b, 2));
    differ("ftw", a[4], b[4]);
    if (!e.x87_pointers) {
        differ("fop", get<uint16_t>(a, 6), get<uint16_t>(b, 6));
        differ("fip", get<uint64_t>(a, 8), get<uint64_t>(b, 8));
        differ("fdp", get<uint64_t>(a, 16), get<uint64_t>(b, 16));
    }
    differ("mxcsr", get<uint32_t>(a, 24) & ~e.mxcsr, get<uint32_t>(b, 24) & ~e.mxcsr);
    const auto differ_bytes = [&](std::string_view name, unsigned n, size_t at, size_t size) {
        if (std::memcmp(&a[at], &b[at], size) == 0) return;
        what += fmt::format(" {}{}: host {:016x}{:016x} soft {:016x}{:016x};", name, n, get<uint64_t>(a, at + 8),
                            get<uint64_t>(a, at), get<uint64_t>(b, at + 8), get<uint64_t>(b, at));
    };
    for (unsigned n = 0; n < 8; ++n) differ_bytes("st", n, 32 + 16 * n, 10);
    for (unsigned n = 0; n < (bits64 ? 16u : 8u); ++n) {
        if ((e.vectors >> n) & 1) continue;
        differ_bytes("xmm", n, 160 + 16 * n, 16);
        differ_bytes("ymmh", n, 576 + 16 * n, 16);
    }
    const auto host_data = native_->data(slot);
    const auto soft_data = soft_->data(slot);
    for (const Exempt::Bytes& bytes : e.bytes) {
        const uint64_t start = Layout::data_of(slot) + Layout::data_offset;
        for (uint64_t at = bytes.address; at < bytes.address + bytes.size; ++at) {
            if (at >= start && at < start + host_data.size()) host_data[at - start] = soft_data[at - start];
        }
    }
    if (!e.memory && std::memcmp(host_data.data(), soft_data.data(), host_data.size()) != 0) {
        size_t at = 0, printed = 0;
        for (; at < host_data.size() && printed < 4; at += 8) {
            if (std::memcmp(&host_data[at], &soft_data[at], 8) == 0) continue;
            uint64_t left = 0, right = 0;
            std::memcpy(&left, &host_data[at], 8);
            std::memcpy(&right, &soft_data[at], 8);
            differ(fmt::format("memory {:x}", Layout::data_of(slot) + Layout::data_offset + at), left, right);
            ++printed;
        }
    }
    return result();
}

std::vector<std::string> Comparison::uncovered(CodeSize size) const {
    std::vector<std::string> list;
    const auto& counts = counts_[static_cast<size_t>(size)];
    for (const ZydisMnemonic mnemonic : mnemonics_[static_cast<size_t>(size)]) {
        const auto found = counts.find(mnemonic);
        if (found == counts.end() && !is_left_out(mnemonic)) list.emplace_back(ZydisMnemonicGetString(mnemonic));
    }
    return list;
}

}  // namespace viv::soft_test
