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

  private:
    size_t size_;
    std::byte* writable_ = nullptr;
    std::byte* executable_ = nullptr;
};

}  // namespace viv::soft
