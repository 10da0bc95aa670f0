#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// A record of frames for tcpdump and Wireshark (pcap with nanoseconds): each with the machine's time, counted from
/// power-on. Every frame is in the file as soon as it is recorded.
class PcapFile {
  public:
    /// A file that is as long takes no more frames, which is told once.
    static constexpr uint64_t size_limit = uint64_t{1} << 30;

    /// Makes the file, or empties it.
    static Result<std::unique_ptr<PcapFile>> open(const std::string& path, const Clock& clock,
                                                  uint64_t limit = size_limit);
    ~PcapFile();
    PcapFile(const PcapFile&) = delete;
    PcapFile& operator=(const PcapFile&) = delete;
    void record(std::span<const uint8_t> frame);

  private:
    PcapFile(int fd, std::string path, const Clock& clock, uint64_t limit)
        : fd_(fd), path_(std::move(path)), clock_(clock), limit_(limit) {}
    Result<void> append(std::span<const uint8_t> head, std::span<const uint8_t> body);
    void end(const std::string& why);

    int fd_;  // -1 once it is at its end
    std::string path_;
    const Clock& clock_;
    uint64_t limit_;
    uint64_t size_ = 0;
};

}  // namespace viv
