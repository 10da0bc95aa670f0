#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "devices/serial/char_backend.hpp"
#include "vmm/core/event_loop.hpp"
#include "vmm/core/log.hpp"

namespace viv {

/// A file descriptor that closes itself.
class OwnedFd {
  public:
    OwnedFd() = default;
    explicit OwnedFd(int fd) : fd_(fd) {}
    OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
    OwnedFd& operator=(OwnedFd&& other) noexcept;
    ~OwnedFd() { reset(); }
    [[nodiscard]] int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release();
    void reset(int fd = -1);

  private:
    int fd_ = -1;
};

/// The common part of backends on descriptors: a bounded queue each way, and the peer's coming and going. Output is
/// gathered and written once the loop runs, or when the queue fills; the rest waits for the descriptor.
class StreamBackend : public CharBackend {
  public:
    static constexpr size_t output_limit = 64 * 1024;
    static constexpr size_t input_limit = 4 * 1024;

    explicit StreamBackend(EventLoop& loop) : loop_(loop) {}
    ~StreamBackend() override;

    [[nodiscard]] bool write(uint8_t byte) final;
    void on_writable(std::move_only_function<void()> callback) final { on_writable_ = std::move(callback); }
    [[nodiscard]] bool readable() const final { return input_at_ < input_.size(); }
    [[nodiscard]] std::optional<uint8_t> read() final;
    void on_readable(std::move_only_function<void()> callback) final { on_readable_ = std::move(callback); }

  protected:
    /// What a descriptor is: `waits` may be full or empty for a while; `file` is always ready, and not for epoll.
    enum class Kind { waits, file };

    /// From now on a peer reads from `output` and writes to `input` (either may be absent). Both are non-blocking
    /// descriptors and stay the caller's until detach().
    void attach(int input, Kind input_kind, int output, Kind output_kind);
    /// There is no peer from now on: what it has not read is dropped, and so is what the guest sends.
    void detach();
    [[nodiscard]] bool attached() const { return output_fd_ >= 0 || input_fd_ >= 0; }
    /// The peer has closed its end, or an error of the host ended it (`error` is its errno, 0 for an orderly end).
    enum class Side { input, output };
    virtual void peer_gone(Side side, int error) = 0;
    /// Ends one direction and keeps the other.
    void close_input();
    void close_output();
    /// Writes what can be written at once.
    void flush();
    /// For destructors: writes what can be written at once, and calls nobody back.
    void close_quietly();
    EventLoop& loop() { return loop_; }

  private:
    void flush_soon();
    void fill();
    void wake_writer();

    EventLoop& loop_;
    std::move_only_function<void()> on_writable_;
    std::move_only_function<void()> on_readable_;
    std::string output_;
    size_t output_at_ = 0;  // what is before it has been written
    std::string input_;
    size_t input_at_ = 0;  // what is before it has been read
    bool refused_ = false;
    bool flush_posted_ = false;
    int input_fd_ = -1;
    int output_fd_ = -1;
    Kind input_kind_ = Kind::waits;
    Kind output_kind_ = Kind::waits;
    OwnedFd output_watch_fd_;  // epoll takes a descriptor once, so the second watch has a duplicate
    std::unique_ptr<EventLoop::Watch> input_watch_;
    std::unique_ptr<EventLoop::Watch> output_watch_;
    bool output_waits_ = false;
    std::shared_ptr<StreamBackend*> self_ = std::make_shared<StreamBackend*>(this);  // outlived by posted work
};

}  // namespace viv
