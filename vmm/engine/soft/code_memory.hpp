#pragma once

#include <cstddef>

namespace viv::soft {

/// Memory for host code that is written through one mapping and executed through another, so that neither is both.
/// Panics when the host has none.
class CodeMemory {
  public:
    explicit CodeMemory(size_t bytes);
    ~CodeMemory();
    CodeMemory(const CodeMemory&) = delete;
    CodeMemory& operator=(const CodeMemory&) = delete;

    [[nodiscard]] std::byte* writable() const { return writable_; }
    [[nodiscard]] std::byte* executable() const { return executable_; }
    [[nodiscard]] size_t size() const { return size_; }
    /// Whether this is an address where it is executed.
    [[nodiscard]] bool executes(const std::byte* address) const {
        return address >= executable_ && address < executable_ + size_;
    }
    /// Makes the 32-bit distance at `offset`, the end of an instruction, one to `target`, which executes() here.
    void aim(size_t offset, const std::byte* target);
    /// The target of aim() there.
    [[nodiscard]] const std::byte* aimed_at(size_t offset) const;

  private:
    size_t size_;
    std::byte* writable_ = nullptr;
    std::byte* executable_ = nullptr;
};

}  // namespace viv::soft
