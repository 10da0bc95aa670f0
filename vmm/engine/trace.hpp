#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "vmm/core/result.hpp"
#include "vmm/engine/engine.hpp"

namespace viv {

/// What is traced. Addresses are linear ones of code, rings are CPLs; both choose among instructions and interrupts,
/// not among exits.
struct TraceChoice {
    bool instructions = true, exits = true, interrupts = true;
    uint64_t first = 0, last = ~uint64_t{0};
    std::array<bool, 4> rings{true, true, true, true};

    [[nodiscard]] bool covers(uint64_t address, unsigned ring) const {
        return address >= first && address <= last && rings[ring & 3];
    }
    bool operator==(const TraceChoice&) const = default;
};

/// "instructions", "exits", "interrupts" (of which those that are named are traced, all when none is), "ring=N" (the
/// same) and "range=FROM-TO" (hexadecimal, both included), with commas between. Errors are of kind usage.
Result<TraceChoice> parse_trace_choice(std::string_view text);

/// The file of `viv run --trace`: a line for each thing that happens in the guest, in order. From any thread.
class Trace {
  public:
    static Result<std::unique_ptr<Trace>> open(const std::string& path, TraceChoice choice);
    ~Trace();
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;

    [[nodiscard]] const TraceChoice& choice() const { return choice_; }
    /// `count`: the instructions that the CPU had retired by then. A file that takes no more ends the trace, with a
    /// line on stderr.
    void line(VcpuId cpu, uint64_t count, std::string_view text);

  private:
    Trace(std::FILE* file, std::string path, TraceChoice choice);

    TraceChoice choice_;
    std::string path_;
    std::mutex lock_;
    std::FILE* file_;  // null once it failed
};

/// Stands between a CPU and its machine, and traces what passes. `count` gives the CPU's retired instructions.
class TracingHost final : public VcpuHost {
  public:
    TracingHost(VcpuHost& inner, Trace& trace, VcpuId cpu, std::function<uint64_t()> count)
        : inner_(inner), trace_(trace), cpu_(cpu), count_(std::move(count)) {}

    uint64_t port_read(uint16_t port, uint8_t size) override;
    void port_write(uint16_t port, uint8_t size, uint64_t value) override;
    void port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) override;
    void port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) override;
    uint64_t memory_read(Gpa address, uint8_t size) override;
    void memory_write(Gpa address, uint8_t size, uint64_t value) override;
    uint8_t acknowledge_interrupt() override;
    void end_of_interrupt(uint8_t vector) override;
    void hold_memory() override { inner_.hold_memory(); }
    void release_memory() override { inner_.release_memory(); }

  private:
    void say(std::string_view text);

    VcpuHost& inner_;
    Trace& trace_;
    VcpuId cpu_;
    std::function<uint64_t()> count_;
};

}  // namespace viv
