#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "vmm/engine/soft/compare/native_case.hpp"

namespace viv::soft_test {

/// The host's processor: a child process that executes the cases of a batch.
class NativeCpu {
  public:
    /// Null where it cannot be had; `reason` says why.
    static std::unique_ptr<NativeCpu> start(std::string& reason);
    ~NativeCpu();
    NativeCpu(const NativeCpu&) = delete;
    NativeCpu& operator=(const NativeCpu&) = delete;

    /// The batch under construction; `out` is valid after run().
    SharedBatch& batch() { return *shared_; }
    std::span<uint8_t> code() { return {bytes_ + SharedBatch::code_offset(), Layout::code_size}; }
    std::span<uint8_t> read_only() { return {bytes_ + SharedBatch::read_only_offset(), Layout::page}; }
    std::span<uint8_t> data(unsigned n) { return {bytes_ + SharedBatch::data_offset(n), Layout::data_size}; }

    /// Executes the cases from `first` up to `end`. False when the child was lost in the case batch().at; there is a
    /// new one then.
    bool run(unsigned first, unsigned end);

  private:
    NativeCpu() = default;
    bool spawn();
    void end_child();

    int fd_ = -1;
    pid_t child_ = -1;
    uint8_t* bytes_ = nullptr;
    SharedBatch* shared_ = nullptr;
};

}  // namespace viv::soft_test
