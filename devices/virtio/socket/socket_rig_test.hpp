#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "devices/virtio/socket/host_socket.hpp"

namespace viv {

/// A program of the host at its end of a connection: takes `room` bytes, then no more.
struct TestProgram {
    std::string given;  // to the guest, not read yet
    std::string got;
    size_t room = 1u << 30;
    bool closed_sending = false;  // no more will be given
    bool closed = false;          // nobody reads
    bool end_seen = false;        // of the guest's bytes
    bool dropped = false;         // by the device
    uint32_t accepted = 0;
    std::move_only_function<void()> readable, writable;

    void call_readable() {
        if (auto now = std::exchange(readable, nullptr)) now();
    }
    void call_writable() {
        if (auto now = std::exchange(writable, nullptr)) now();
    }
    void give(std::string_view text) {
        given += text;
        call_readable();
    }
};

class TestSocket final : public HostSocket {
  public:
    explicit TestSocket(std::shared_ptr<TestProgram> program) : program_(std::move(program)) {}
    ~TestSocket() override {
        program_->dropped = true;
        program_->readable = nullptr;
        program_->writable = nullptr;
    }
    [[nodiscard]] Moved write(std::span<const std::byte> bytes) override {
        if (program_->closed) return {0, true};
        const size_t size = std::min(bytes.size(), program_->room);
        program_->got.append(reinterpret_cast<const char*>(bytes.data()), size);
        program_->room -= size;
        return {size, false};
    }
    [[nodiscard]] Moved read(std::span<std::byte> bytes) override {
        const size_t size = std::min(bytes.size(), program_->given.size());
        std::memcpy(bytes.data(), program_->given.data(), size);
        program_->given.erase(0, size);
        return {size, size == 0 && program_->closed_sending};
    }
    void end_writing() override { program_->end_seen = true; }
    [[nodiscard]] bool gone() const override { return program_->closed; }
    void accepted(uint32_t port) override { program_->accepted = port; }
    void when_readable(std::move_only_function<void()> callback) override { program_->readable = std::move(callback); }
    void when_writable(std::move_only_function<void()> callback) override { program_->writable = std::move(callback); }

  private:
    std::shared_ptr<TestProgram> program_;
};

/// Programs by the ports that they wait at.
class TestHost final : public SocketHost {
  public:
    [[nodiscard]] std::unique_ptr<HostSocket> connect(uint32_t port) override {
        const auto at = programs.find(port);
        if (at == programs.end()) return nullptr;
        return std::make_unique<TestSocket>(at->second);
    }
    void on_call(Caller callback) override { call_ = std::move(callback); }
    /// A program that wants to reach a port of the guest.
    std::shared_ptr<TestProgram> call(uint32_t port) {
        auto program = std::make_shared<TestProgram>();
        call_(port, std::make_unique<TestSocket>(program));
        return program;
    }
    std::map<uint32_t, std::shared_ptr<TestProgram>> programs;

  private:
    Caller call_;
};

}  // namespace viv
