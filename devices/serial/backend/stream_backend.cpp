#include "devices/serial/backend/stream_backend.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace viv {

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
}

int OwnedFd::release() {
    return std::exchange(fd_, -1);
}

void OwnedFd::reset(int fd) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
}

StreamBackend::~StreamBackend() {
    *self_ = nullptr;
}

// ---- Output

bool StreamBackend::write(uint8_t byte) {
    if (output_fd_ < 0) return true;  // nobody reads
    if (output_.size() - output_at_ >= output_limit && !output_waits_) flush();
    if (output_fd_ < 0) return true;
    if (output_.size() - output_at_ >= output_limit) {
        refused_ = true;
        return false;
    }
    output_.push_back(static_cast<char>(byte));
    if (!output_waits_) flush_soon();
    return true;
}

void StreamBackend::flush_soon() {
    if (std::exchange(flush_posted_, true)) return;
    loop_.post([self = self_] {
        if (!*self) return;
        (*self)->flush_posted_ = false;
        (*self)->flush();
    });
}

void StreamBackend::flush() {
    while (output_fd_ >= 0 && output_at_ < output_.size()) {
        const ssize_t written = ::write(output_fd_, output_.data() + output_at_, output_.size() - output_at_);
        if (written > 0) {
            output_at_ += static_cast<size_t>(written);
        } else if (written < 0 && errno == EINTR) {
            continue;
        } else if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!output_watch_) {
                output_watch_fd_.reset(::fcntl(output_fd_, F_DUPFD_CLOEXEC, 0));
                if (!output_watch_fd_) return peer_gone(Side::output, errno);
                output_watch_ = loop_.watch(output_watch_fd_.get(), EventLoop::Ready::write, [this] { flush(); });
            } else {
                output_watch_->enable(true);
            }
            output_waits_ = true;
            break;
        } else {
            return peer_gone(Side::output, written < 0 ? errno : EIO);
        }
    }
    if (output_at_ == output_.size()) {
        output_.clear();
        output_at_ = 0;
        if (std::exchange(output_waits_, false)) output_watch_->enable(false);
    } else if (output_at_ >= output_limit / 2) {
        output_.erase(0, output_at_);
        output_at_ = 0;
    }
    if (output_.size() - output_at_ < output_limit) wake_writer();
}

void StreamBackend::wake_writer() {
    if (!std::exchange(refused_, false)) return;
    if (on_writable_) on_writable_();
}

// ---- Input

std::optional<uint8_t> StreamBackend::read() {
    if (!readable()) return std::nullopt;
    const auto byte = static_cast<uint8_t>(input_[input_at_++]);
    if (!readable()) {
        input_.clear();
        input_at_ = 0;
        if (input_fd_ >= 0 && input_kind_ == Kind::file) {
            fill();
        } else if (input_watch_) {
            input_watch_->enable(true);
        }
    }
    return byte;
}

// Reads only into an empty buffer: while the guest is behind, the peer waits.
void StreamBackend::fill() {
    if (readable()) {
        if (input_watch_) input_watch_->enable(false);
        return;
    }
    std::array<char, input_limit> bytes;
    ssize_t got = 0;
    do {
        got = ::read(input_fd_, bytes.data(), bytes.size());
    } while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got <= 0) return peer_gone(Side::input, got < 0 ? errno : 0);
    input_.assign(bytes.data(), static_cast<size_t>(got));
    input_at_ = 0;
    if (input_watch_) input_watch_->enable(false);
    if (on_readable_) on_readable_();
}

// ---- The peer

void StreamBackend::attach(int input, Kind input_kind, int output, Kind output_kind) {
    detach();
    input_fd_ = input;
    input_kind_ = input_kind;
    output_fd_ = output;
    output_kind_ = output_kind;
    if (input_fd_ < 0) return;
    if (input_kind_ == Kind::file) {
        fill();
    } else {
        input_watch_ = loop_.watch(input_fd_, EventLoop::Ready::read, [this] { fill(); });
        if (readable()) input_watch_->enable(false);  // left over from the last peer
    }
}

void StreamBackend::close_input() {
    input_watch_.reset();
    input_fd_ = -1;
}

void StreamBackend::close_output() {
    output_watch_.reset();
    output_watch_fd_.reset();
    output_waits_ = false;
    output_fd_ = -1;
    output_.clear();
    output_at_ = 0;
    wake_writer();
}

void StreamBackend::close_quietly() {
    on_writable_ = nullptr;
    on_readable_ = nullptr;
    flush();
    detach();
}

void StreamBackend::detach() {
    close_input();
    close_output();
}

}  // namespace viv
