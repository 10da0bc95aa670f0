#pragma once

#include <optional>
#include <span>
#include <vector>

#include "vmm/engine/soft/compare/instruction_forms.hpp"
#include "vmm/engine/soft/compare/native_case.hpp"

namespace viv::soft_test {

/// A case before it runs.
struct Case {
    std::vector<uint8_t> code;
    CodeSize size = CodeSize::bits64;
    bool known = false;  // the decoder knows it, and `decoded` is valid
    soft::Decoded decoded;
    unsigned slot = 0;
};

/// The linear address of the explicit memory operand.
std::optional<uint64_t> operand_address(const Case& c, const CpuImage& in);

/// Makes the registers and memory that instructions start from: values with many edge cases, and addresses that mostly
/// hit the memory of the case.
class StateMaker {
  public:
    explicit StateMaker(Random& random);
    /// Fills `in` and `data` for a case whose code is at in.rip. May change displacements in the code.
    void make(Case& c, CpuImage& in, std::span<uint8_t> data);
    uint64_t value();
    /// Content for the read-only page.
    void fill(std::span<uint8_t> bytes);

  private:
    void registers(const Case& c, CpuImage& in);
    void floating_point(CpuImage& in, CodeSize size);
    void aim(Case& c, CpuImage& in, std::span<uint8_t> data);
    void aim_implicit(const Case& c, CpuImage& in);
    void aim_gather(const Case& c, CpuImage& in, const ZydisDecodedOperand& operand);
    void set_target(const Case& c, std::span<uint8_t> data, uint64_t address, unsigned size);
    void set_frame(const Case& c, CpuImage& in, std::span<uint8_t> data);
    uint64_t address(unsigned slot, unsigned size, unsigned alignment);
    uint64_t number(unsigned size);
    bool one_in(unsigned n) { return random_() % n == 0; }

    Random& random_;
    std::vector<uint8_t> pool_;
};

}  // namespace viv::soft_test
