#pragma once

/// The only place that includes <linux/kvm.h>. Some releases of it spell flexible arrays with an empty struct, whose
/// size is 1 in C++: that shifts the arrays and gives several ioctls wrong numbers. The macro is replaced, and the
/// static assertions prove it.
#include <linux/stddef.h>
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#include <linux/kvm.h>
#pragma GCC diagnostic pop
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

static_assert(KVM_GET_SUPPORTED_CPUID == 0xC008AE05);
static_assert(sizeof(kvm_msrs) == 8 && sizeof(kvm_irq_routing) == 8 && sizeof(kvm_xsave) == 4096);

namespace viv::kvm {

/// A file descriptor that closes itself.
class FileDescriptor {
  public:
    FileDescriptor() = default;
    explicit FileDescriptor(int fd) : fd_(fd) {}
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~FileDescriptor() {
        if (fd_ >= 0) close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool valid() const { return fd_ >= 0; }

  private:
    int fd_ = -1;
};

/// ioctl(2), again while a signal interrupts it. Not for KVM_RUN, where an interruption means something.
template <class Argument>
int call(int fd, unsigned long request, Argument argument) {
    int result = 0;
    do {
        result = ioctl(fd, request, argument);
    } while (result < 0 && errno == EINTR);
    return result;
}

/// KVM's "count, padding, then an array" structures (kvm_cpuid2, kvm_msrs, kvm_irq_routing) with room for `capacity`
/// elements.
template <class Element, size_t capacity>
struct Counted {
    uint32_t count = 0;
    uint32_t padding = 0;
    std::array<Element, capacity> entries{};
};
using CpuidTable = Counted<kvm_cpuid_entry2, 256>;
using MsrTable = Counted<kvm_msr_entry, 512>;
/// kvm_msr_list, which has no padding.
struct MsrIndexTable {
    uint32_t count = 0;
    std::array<uint32_t, 1024> entries{};
};
static_assert(offsetof(CpuidTable, entries) == sizeof(kvm_cpuid2) && offsetof(MsrTable, entries) == sizeof(kvm_msrs) &&
              offsetof(MsrIndexTable, entries) == sizeof(kvm_msr_list));

}  // namespace viv::kvm
