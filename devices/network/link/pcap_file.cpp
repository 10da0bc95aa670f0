#include "devices/network/link/pcap_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/network/link/link.hpp"
#include "vmm/core/log.hpp"

namespace viv {
namespace {

// In the host's order of bytes, as readers expect from the magic number.
struct FileHeader {
    uint32_t magic = 0xA1B23C4D;  // time stamps have nanoseconds
    uint16_t major = 2;
    uint16_t minor = 4;
    uint32_t zone = 0;
    uint32_t accuracy = 0;
    uint32_t most = NetworkLink::most_frame;
    uint32_t link_type = 1;  // Ethernet
};
struct RecordHeader {
    uint32_t seconds;
    uint32_t nanoseconds;
    uint32_t captured;
    uint32_t length;
};

template <class T>
std::span<const uint8_t> bytes_of(const T& value) {
    return {reinterpret_cast<const uint8_t*>(&value), sizeof(value)};
}

}  // namespace

Result<std::unique_ptr<PcapFile>> PcapFile::open(const std::string& path, const Clock& clock, uint64_t limit) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return fail_errno(fmt::format("--pcap: cannot write '{}'", path), errno);
    std::unique_ptr<PcapFile> file(new PcapFile(fd, path, clock, limit));
    const FileHeader header;
    if (auto done = file->append(bytes_of(header), {}); !done) return std::unexpected(done.error());
    return file;
}

PcapFile::~PcapFile() {
    if (fd_ >= 0) close(fd_);
}

void PcapFile::record(std::span<const uint8_t> frame) {
    if (fd_ < 0) return;
    constexpr int64_t billion = 1'000'000'000;
    const int64_t now = clock_.now().ns;
    const auto size = static_cast<uint32_t>(frame.size());
    const RecordHeader header{static_cast<uint32_t>(now / billion), static_cast<uint32_t>(now % billion), size, size};
    if (size_ + sizeof(header) + size > limit_) return end(fmt::format("it has its {} bytes", limit_));
    if (auto done = append(bytes_of(header), frame); !done) end(done.error().message);
}

/// All of it, or the file ends with the record before.
Result<void> PcapFile::append(std::span<const uint8_t> head, std::span<const uint8_t> body) {
    const std::array<iovec, 2> parts{iovec{const_cast<uint8_t*>(head.data()), head.size()},
                                     iovec{const_cast<uint8_t*>(body.data()), body.size()}};
    const size_t size = head.size() + body.size();
    const ssize_t done = writev(fd_, parts.data(), parts.size());
    if (done == static_cast<ssize_t>(size)) {
        size_ += size;
        return {};
    }
    const int error = done < 0 ? errno : ENOSPC;
    if (done > 0 && ftruncate(fd_, static_cast<off_t>(size_)) != 0) return fail_errno("cannot cut it", errno);
    return fail_errno(fmt::format("cannot write '{}'", path_), error);
}

void PcapFile::end(const std::string& why) {
    log_line(fmt::format("--pcap {}: no more frames are recorded: {}", path_, why));
    close(std::exchange(fd_, -1));
}

}  // namespace viv
