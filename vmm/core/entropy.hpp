#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace viv {

/// Where a machine's devices get random bytes from. Service.
class EntropySource {
  public:
    virtual ~EntropySource() = default;
    /// Fills `out`. `position` says how many bytes the caller has had before: a source that repeats itself, for runs
    /// that do, answers the same at the same position.
    virtual void fill(uint64_t position, std::span<std::byte> out) = 0;
};

/// Bytes of the host's kernel, which nobody can foretell.
class HostEntropy final : public EntropySource {
  public:
    void fill(uint64_t position, std::span<std::byte> out) override;
};

/// Bytes that follow from a seed: for runs that can be repeated. No secrets come of these.
class SeededEntropy final : public EntropySource {
  public:
    explicit SeededEntropy(uint64_t seed) : seed_(seed) {}
    void fill(uint64_t position, std::span<std::byte> out) override;

  private:
    uint64_t seed_;
};

}  // namespace viv
