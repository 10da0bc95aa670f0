#include "vmm/engine/soft/compare/native_cpu.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <new>

namespace viv::soft_test {
namespace {

/// The child's program stands beside this one.
std::string child_path() {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    return (self.parent_path() / "fuzz-cpu-child").string();
}

void wake(std::atomic<uint32_t>& word) {
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}
/// Waits for a change from `value`, for a while.
void wait_for_change(std::atomic<uint32_t>& word, uint32_t value) {
    const timespec pause{.tv_sec = 0, .tv_nsec = 200'000'000};
    syscall(SYS_futex, &word, FUTEX_WAIT, value, &pause, nullptr, 0);
}

}  // namespace

std::unique_ptr<NativeCpu> NativeCpu::start(std::string& reason) {
    std::unique_ptr<NativeCpu> cpu(new NativeCpu);
    cpu->fd_ = memfd_create("viv-cases", 0);
    if (cpu->fd_ < 0 || ftruncate(cpu->fd_, static_cast<off_t>(SharedBatch::size())) != 0) {
        reason = "no shared memory";
        return nullptr;
    }
    void* at = mmap(nullptr, SharedBatch::size(), PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd_, 0);
    if (at == MAP_FAILED) {
        reason = "no shared memory";
        return nullptr;
    }
    cpu->bytes_ = static_cast<uint8_t*>(at);
    cpu->shared_ = new (at) SharedBatch;
    if (!cpu->spawn() || !cpu->run(0, 0)) {
        reason = "the child does not start (it needs FSGSBASE from the kernel)";
        return nullptr;
    }
    return cpu;
}

NativeCpu::~NativeCpu() {
    end_child();
    if (bytes_) munmap(bytes_, SharedBatch::size());
    if (fd_ >= 0) close(fd_);
}

bool NativeCpu::spawn() {
    shared_->wanted = 0;
    shared_->done = 0;
    const std::string path = child_path(), fd = std::to_string(fd_);
    child_ = fork();
    if (child_ == 0) {
        execl(path.c_str(), path.c_str(), fd.c_str(), nullptr);
        _exit(127);
    }
    return child_ > 0;
}

void NativeCpu::end_child() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
}

bool NativeCpu::run(unsigned first, unsigned end) {
    // A batch of none is only a sign of life.
    const uint32_t number = shared_->wanted + 1;
    shared_->first = first;
    shared_->count = end;
    shared_->wanted = number;
    wake(shared_->wanted);
    constexpr unsigned patience = 100;  // 20 seconds
    for (unsigned tries = 0; tries < patience && shared_->done != number; ++tries) {
        wait_for_change(shared_->done, number - 1);
        if (waitpid(child_, nullptr, WNOHANG) == child_) {
            child_ = -1;
            break;
        }
    }
    if (shared_->done == number) return true;
    end_child();
    if (end > 0) spawn();
    return false;
}

}  // namespace viv::soft_test
