#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "vmm/core/clock.hpp"
#include "vmm/engine/engine.hpp"

/// Runs one instruction on the host's processor (in a child that is traced) and on the software CPU from the same
/// state, and says where they differ.
namespace viv::soft_test {

enum class CodeSize : uint8_t { bits32, bits64 };

/// Everything an instruction of ring 3 can read or change.
struct CaseState {
    static constexpr uint64_t code_address = 0x10000000;
    static constexpr uint64_t data_address = 0x20000000;
    static constexpr size_t data_size = 0x4000;

    std::array<uint64_t, 16> gpr{};
    uint64_t rip = 0;
    uint32_t rflags = 0x202;
    std::array<uint8_t, 832> xsave{};  // x87, SSE, AVX; the header is not compared
    std::vector<uint8_t> data = std::vector<uint8_t>(data_size);
    int fault = -1;  // the signal class: 'S'egv, 'I'll, 'F'pe, 'B'us; -1: none
};

/// The host's side.
class NativeCpu {
  public:
    ~NativeCpu();
    /// Nothing where tracing a child is not allowed.
    static std::unique_ptr<NativeCpu> start();
    /// Executes the instruction in `code` from `in`.
    CaseState execute(const std::vector<uint8_t>& code, CodeSize size, const CaseState& in);

  private:
    pid_t child_ = -1;
    uint8_t* code_ = nullptr;
    uint8_t* data_ = nullptr;
    size_t xstate_size_ = 0;
};

/// The software CPU's side.
class SoftSide;

struct Difference {
    std::vector<uint8_t> code;
    CodeSize size = CodeSize::bits64;
    std::string instruction;
    std::string what;
};

class Comparison {
  public:
    explicit Comparison(uint64_t seed);
    ~Comparison();
    [[nodiscard]] bool available() const { return native_ != nullptr; }
    /// One random instruction from one random state. Nothing when both agree.
    std::optional<Difference> next(CodeSize size);
    /// One given instruction from a random state.
    std::optional<Difference> compare(const std::vector<uint8_t>& code, CodeSize size);

  private:
    std::vector<uint8_t> random_instruction(CodeSize size);
    CaseState random_state(CodeSize size);
    uint64_t random_value();

    std::mt19937_64 random_;
    std::unique_ptr<NativeCpu> native_;
    std::unique_ptr<SoftSide> soft_;
};

}  // namespace viv::soft_test
