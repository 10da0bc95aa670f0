#include "vmm/engine/soft/code_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "vmm/core/result.hpp"

namespace viv::soft {

CodeMemory::CodeMemory(size_t bytes) : size_(bytes) {
    const int fd = memfd_create("viv-code", MFD_CLOEXEC);
    if (fd < 0) panic("cannot create memory for host code");
    if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) panic("cannot size memory for host code");
    void* rw = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void* rx = mmap(nullptr, bytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
    if (rw == MAP_FAILED || rx == MAP_FAILED) panic("cannot map memory for host code");
    writable_ = static_cast<std::byte*>(rw);
    executable_ = static_cast<std::byte*>(rx);
}

void CodeMemory::aim(size_t offset, const std::byte* target) {
    const auto distance = static_cast<int32_t>(target - (executable_ + offset + sizeof(int32_t)));
    std::memcpy(writable_ + offset, &distance, sizeof distance);
}

const std::byte* CodeMemory::aimed_at(size_t offset) const {
    int32_t distance = 0;
    std::memcpy(&distance, writable_ + offset, sizeof distance);
    return executable_ + offset + sizeof distance + distance;
}

CodeMemory::~CodeMemory() {
    munmap(writable_, size_);
    munmap(executable_, size_);
}

}  // namespace viv::soft
