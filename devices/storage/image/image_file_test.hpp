#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "devices/storage/image/image_file.hpp"

namespace viv {

/// What happened to a file, in order.
struct FileEvent {
    enum class Kind { write, resize, punch, flush } kind = Kind::flush;
    uint64_t offset = 0;  // of resize: the new size
    uint64_t length = 0;
    std::vector<std::byte> bytes;
};

/// What a host keeps of a file when its machine stops.
struct FileContent {
    std::vector<std::byte> bytes;
    std::vector<FileEvent> log;
    bool logs = false;
    uint64_t writes_left = ~uint64_t{0};  // then the host's disk is full

    void apply(const FileEvent& event) {
        const auto at = static_cast<ptrdiff_t>(event.offset);
        switch (event.kind) {
            case FileEvent::Kind::write:
                bytes.resize(std::max<size_t>(bytes.size(), event.offset + event.bytes.size()));
                std::ranges::copy(event.bytes, bytes.begin() + at);
                break;
            case FileEvent::Kind::resize: bytes.resize(event.offset); break;
            case FileEvent::Kind::punch: {
                // The worst that may be there.
                const size_t end = std::min<size_t>(bytes.size(), event.offset + event.length);
                if (event.offset < end)
                    std::fill(bytes.begin() + at, bytes.begin() + static_cast<ptrdiff_t>(end), std::byte{0xDE});
                break;
            }
            case FileEvent::Kind::flush: break;
        }
    }
};

/// A file in memory; its content outlives it.
class MemoryFile final : public ImageFile {
  public:
    explicit MemoryFile(std::shared_ptr<FileContent> content) : content_(std::move(content)) {}

    [[nodiscard]] uint64_t size() const override { return content_->bytes.size(); }
    DiskStatus read(uint64_t offset, std::span<std::byte> out) override {
        const auto& bytes = content_->bytes;
        const size_t there = offset < bytes.size() ? std::min<size_t>(out.size(), bytes.size() - offset) : 0;
        std::fill(std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(std::min<size_t>(offset, bytes.size())), there,
                              out.begin()),
                  out.end(), std::byte{0});
        return DiskStatus::ok;
    }
    DiskStatus write(uint64_t offset, std::span<const std::byte> in) override {
        // A hostile image may send us anywhere.
        if (offset + in.size() > max_size || content_->writes_left == 0) return DiskStatus::no_space;
        --content_->writes_left;
        return note({FileEvent::Kind::write, offset, in.size(), {in.begin(), in.end()}});
    }
    DiskStatus resize(uint64_t size) override {
        return size > max_size ? DiskStatus::no_space : note({FileEvent::Kind::resize, size, 0, {}});
    }
    void punch(uint64_t offset, uint64_t length) override {
        static_cast<void>(note({FileEvent::Kind::punch, offset, length, {}}));
    }
    DiskStatus reserve(uint64_t offset, uint64_t length) override {
        return offset + length > size() ? resize(offset + length) : DiskStatus::ok;
    }
    DiskStatus flush() override { return note({}); }
    [[nodiscard]] uint64_t allocated() const override { return size(); }

  private:
    static constexpr uint64_t max_size = 64 << 20;

    DiskStatus note(FileEvent event) {
        content_->apply(event);
        if (content_->logs) content_->log.push_back(std::move(event));
        return DiskStatus::ok;
    }

    std::shared_ptr<FileContent> content_;
};

}  // namespace viv
