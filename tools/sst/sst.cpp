// sst [--list N] [--first N] FILE.MOO...: runs the real-mode vectors of SingleStepTests for the 80286 on the software
// CPU and prints, a line each file, how many agree, how many differ for a reason that docs/engines.md names, and how
// many for none. Fails when there is one of the last.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>

#include "tools/sst/differences.hpp"
#include "tools/sst/moo.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/engine/soft/soft_engine.hpp"

namespace viv::sst {
namespace {

/// One CPU, 16 MiB of RAM, and ports that read all ones.
class Processor final : public VcpuHost {
  public:
    Processor() {
        VIV_ASSERT(memory_.add(Gpa{0}, 16 << 20, GuestMemory::Kind::ram, "RAM").has_value());
        engine_ = std::move(make_soft_engine(EngineConfig{memory_, 1, "486"}, clock_).value());
        cpu_ = std::move(engine_->create_vcpu(VcpuId{0}).value());
    }

    Outcome run(const Vector& vector) {
        lay_out(vector);
        CpuState state = reset_state(true);
        const auto& from = vector.initial;
        constexpr std::array order{AX, CX, DX, BX, SP, BP, SI, DI};
        for (size_t i = 0; i < order.size(); ++i) state.gpr[i] = from[order[i]];
        const auto set = [](SegmentRegister& segment, uint16_t selector) {
            segment.selector = selector;
            segment.base = uint64_t{selector} << 4;
        };
        set(state.cs, from[CS]);
        set(state.ss, from[SS]);
        set(state.ds, from[DS]);
        set(state.es, from[ES]);
        state.rip = from[IP];
        // What LOADALL is given there above bit 11 does not get into FLAGS.
        state.rflags = (from[FLAGS] & 0x0FFF) | 2;
        VIV_ASSERT(cpu_->set_state(state).has_value());

        // A string instruction is done when it leaves its place.
        constexpr unsigned most_repetitions = 300;
        Outcome outcome;
        for (unsigned i = 0; i < most_repetitions; ++i) {
            const Stop stop = cpu_->run(*this, 1);
            state = cpu_->state().value();
            outcome.shutdown = stop == Stop::shutdown;
            const bool repeats = state.rip == from[IP] && state.cs.selector == from[CS] && is_repeated(vector);
            if (!repeats || outcome.shutdown) break;
        }
        for (size_t i = 0; i < order.size(); ++i) outcome.registers[order[i]] = static_cast<uint16_t>(state.gpr[i]);
        outcome.registers[CS] = state.cs.selector;
        outcome.registers[SS] = state.ss.selector;
        outcome.registers[DS] = state.ds.selector;
        outcome.registers[ES] = state.es.selector;
        outcome.registers[IP] = static_cast<uint16_t>(state.rip);
        outcome.registers[FLAGS] = static_cast<uint16_t>(state.rflags);

        // A fault does not count as an instruction, so the HLT of its handler was executed, too.
        outcome.halted = state.activity == Activity::halted;
        if (outcome.halted) --outcome.registers[IP];
        if (outcome.halted && state.cs.selector == handlers_ && outcome.registers[IP] < vectors)
            outcome.unexpected_exception = static_cast<uint8_t>(outcome.registers[IP]);

        std::map<uint32_t, uint8_t> expected;
        for (const MemoryByte& byte : vector.initial_memory) expected[byte.address] = byte.value;
        for (const MemoryByte& byte : vector.expected_memory) expected[byte.address] = byte.value;
        for (const auto& [address, value] : expected) {
            const auto found = memory_.load<uint8_t>(Gpa{address});
            if (found != value) outcome.memory.push_back({address, found, value});
        }
        return outcome;
    }

    uint64_t port_read(uint16_t, uint8_t) override { return ~uint64_t{0}; }
    void port_write(uint16_t, uint8_t, uint64_t) override {}
    void port_read_block(uint16_t, uint8_t, std::span<std::byte> data) override {
        std::ranges::fill(data, std::byte{0xFF});
    }
    void port_write_block(uint16_t, uint8_t, std::span<const std::byte>) override {}
    uint64_t memory_read(Gpa, uint8_t) override { return ~uint64_t{0}; }
    void memory_write(Gpa, uint8_t, uint64_t) override {}
    uint8_t acknowledge_interrupt() override { return 0; }
    void end_of_interrupt(uint8_t) override {}

  private:
    static constexpr uint16_t vectors = 32;
    static constexpr uint8_t hlt = 0xF4;

    /// Memory as the vector has it; and a HLT at every exception's handler, the vector's or one of ours.
    void lay_out(const Vector& vector) {
        constexpr uint16_t step = 0x1000;
        handlers_ = 0xF000;
        while (std::ranges::any_of(vector.initial_memory, [this](auto& byte) { return is_handler(byte.address); }))
            handlers_ = static_cast<uint16_t>(handlers_ - step);
        for (uint32_t i = 0; i < vectors; ++i) {
            memory_.store(Gpa{i * 4}, uint32_t{handlers_} << 16 | i);
            memory_.store(Gpa{(uint32_t{handlers_} << 4) + i}, hlt);
        }
        for (const MemoryByte& byte : vector.initial_memory) memory_.store(Gpa{byte.address}, byte.value);
        if (!vector.exception) return;
        const auto at = memory_.load<uint32_t>(Gpa{vector.exception->number * uint64_t{4}});
        memory_.store(Gpa{((at >> 16) << 4) + (at & 0xFFFF)}, hlt);
    }

    [[nodiscard]] bool is_handler(uint32_t address) const { return address - (uint32_t{handlers_} << 4) < vectors; }

    static bool is_repeated(const Vector& vector) {
        for (const uint8_t byte : vector.bytes) {
            if (byte == 0xF2 || byte == 0xF3) return true;
            const bool prefix = byte == 0x26 || byte == 0x2E || byte == 0x36 || byte == 0x3E || byte == 0xF0;
            if (!prefix) return false;
        }
        return false;
    }

    GuestMemory memory_;
    VirtualClock clock_{100};
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Vcpu> cpu_;
    uint16_t handlers_ = 0;  // the segment of our handlers: the offset of each is its vector
};

std::string describe(const Vector& vector, const Outcome& outcome) {
    constexpr std::array<std::string_view, register_count> names{"ax", "bx", "cx", "dx", "cs", "ss", "ds",
                                                                 "es", "sp", "bp", "si", "di", "ip", "flags"};
    std::string text = fmt::format("    {} {} [", vector.index, vector.name);
    for (const uint8_t byte : vector.bytes) text += fmt::format("{:02x}", byte);
    text += "]";
    if (vector.exception) text += fmt::format(" #{}", vector.exception->number);
    for (unsigned i = 0; i < register_count; ++i) {
        const uint16_t wanted = expected_register(vector, static_cast<Register>(i));
        if (wanted == outcome.registers[i]) continue;
        text += fmt::format(" {}: {:04x} (286: {:04x}, before {:04x})", names[i], outcome.registers[i], wanted,
                            vector.initial[i]);
    }
    for (const auto& byte : outcome.memory)
        text += fmt::format(" [{:x}]: {:02x} (286: {:02x})", byte.address, byte.found, byte.expected);
    if (outcome.unexpected_exception) text += fmt::format(" took #{}", *outcome.unexpected_exception);
    if (outcome.shutdown) text += " shutdown";
    return text + "\n";
}

int compare_files(const std::vector<std::string>& paths, unsigned listed, size_t most) {
    Processor processor;
    std::map<std::string_view, uint64_t> total;
    uint64_t count = 0, unexplained = 0;
    for (const std::string& path : paths) {
        auto vectors = read_moo(path);
        if (!vectors) {
            fmt::print(stderr, "sst: {}\n", vectors.error().message);
            return 1;
        }
        if (vectors->size() > most) vectors->resize(most);
        const Opcode opcode = opcode_of(path);
        std::map<std::string_view, uint64_t> classes;
        std::string examples;
        unsigned shown = 0;
        for (const Vector& vector : *vectors) {
            const Outcome outcome = processor.run(vector);
            const std::string_view difference = classify(opcode, vector, outcome);
            ++classes[difference];
            if (difference == unexplained_difference && shown++ < listed) examples += describe(vector, outcome);
        }
        std::string line = fmt::format("{:<12}", path.substr(path.find_last_of('/') + 1));
        for (const auto& [name, n] : classes) {
            line += fmt::format("  {} {}", n, name);
            total[name] += n;
        }
        fmt::print("{}\n{}", line, examples);
        count += vectors->size();
        unexplained += classes[unexplained_difference];
    }
    fmt::print("{} vectors in {} files:\n", count, paths.size());
    for (const auto& [name, n] : total) fmt::print("  {:>8}  {}\n", n, name);
    return unexplained ? 1 : 0;
}

}  // namespace
}  // namespace viv::sst

int main(int argc, char** argv) {
    std::vector<std::string> paths;
    unsigned listed = 3;
    size_t most = ~size_t{0};
    for (int i = 1; i < argc; ++i) {
        if (std::string_view(argv[i]) == "--list" && i + 1 < argc) {
            listed = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
        } else if (std::string_view(argv[i]) == "--first" && i + 1 < argc) {
            most = std::strtoul(argv[++i], nullptr, 10);
        } else {
            paths.emplace_back(argv[i]);
        }
    }
    return viv::sst::compare_files(paths, listed, most);
}
