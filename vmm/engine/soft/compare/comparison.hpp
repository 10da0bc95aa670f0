#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vmm/engine/soft/compare/native_cpu.hpp"
#include "vmm/engine/soft/compare/random_state.hpp"
#include "vmm/engine/soft/compare/soft_side.hpp"

/// Runs random instructions on the host's processor and on the software CPU from the same state, and says where they
/// differ.
namespace viv::soft_test {

struct Difference {
    std::vector<uint8_t> code;
    CodeSize size = CodeSize::bits64;
    std::string mnemonic;
    std::string text;
    std::string what;
};

class Comparison {
  public:
    explicit Comparison(uint64_t seed);
    ~Comparison();
    /// Empty, or why the comparison cannot be had on this host.
    [[nodiscard]] const std::string& unavailable() const { return unavailable_; }

    /// Only instructions of this mnemonic.
    void restrict_to(const std::string& mnemonic);
    /// Compares a batch of Layout::cases cases of this size and appends what differs.
    void run_batch(CodeSize size, std::vector<Difference>& differences);

    struct Count {
        uint64_t cases = 0;
        uint64_t completed = 0;  // without an exception
    };
    /// By mnemonic, in its 32- and 64-bit form.
    [[nodiscard]] const std::map<ZydisMnemonic, Count>& counts(CodeSize size) const {
        return counts_[static_cast<size_t>(size)];
    }
    /// Mnemonics that the engine executes and no case had, or none that the engine got through without an exception
    /// though it may at ring 3.
    [[nodiscard]] std::vector<std::string> uncovered(CodeSize size) const;
    [[nodiscard]] uint64_t compared() const { return compared_; }
    /// How many of them ran as host code, in whole or in part.
    [[nodiscard]] uint64_t compiled() const { return compiled_before_ + soft_->engine().blocks.jit.blocks; }

  private:
    void make_case(Case& c, CodeSize size, unsigned slot);
    std::optional<Difference> compare(const Case& c, unsigned slot);

    Random random_;
    StateMaker states_;
    std::string unavailable_;
    std::unique_ptr<NativeCpu> native_;
    std::unique_ptr<SoftSide> soft_;
    std::vector<uint8_t> read_only_;
    std::vector<uint8_t> initial_;  // the memory that the batch began with
    Forms forms_[2];
    std::vector<ZydisMnemonic> mnemonics_[2];
    size_t turn_[2] = {};
    std::map<ZydisMnemonic, Count> counts_[2];
    uint64_t compared_ = 0, since_fresh_ = 0, compiled_before_ = 0;
};

}  // namespace viv::soft_test
