#include "devices/storage/image/qcow2_codec.hpp"

#include <zlib.h>
#include <zstd.h>

namespace viv::qcow2 {
namespace {

// Raw deflate data with a window of 4 KiB, as the format wants it; a reader takes any window.
constexpr int window_bits = -12;

bool inflate_all(std::span<const std::byte> in, std::span<std::byte> out) {
    z_stream stream{};
    if (inflateInit2(&stream, -15) != Z_OK) return false;
    // zlib reads through this pointer only.
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int result = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    // Data for more than a cluster end in Z_BUF_ERROR with the cluster full, which the format's readers accept.
    return (result == Z_STREAM_END || result == Z_BUF_ERROR) && stream.avail_out == 0;
}

bool unpack_frames(std::span<const std::byte> in, std::span<std::byte> out) {
    // Frame by frame, since what is behind the last one is no frame. Whole frames need no window of their own, however
    // large a one they ask for.
    while (!out.empty()) {
        const size_t frame = ZSTD_findFrameCompressedSize(in.data(), in.size());
        if (ZSTD_isError(frame) || frame == 0) return false;
        const size_t got = ZSTD_decompress(out.data(), out.size(), in.data(), frame);
        if (ZSTD_isError(got) || got == 0) return false;
        in = in.subspan(frame);
        out = out.subspan(got);
    }
    return true;
}

}  // namespace

bool decompress(Compression method, std::span<const std::byte> in, std::span<std::byte> out) {
    return method == Compression::zstd ? unpack_frames(in, out) : inflate_all(in, out);
}

std::vector<std::byte> compress(Compression method, std::span<const std::byte> in) {
    std::vector<std::byte> out(in.size() - 1);
    if (method == Compression::zstd) {
        const size_t packed = ZSTD_compress(out.data(), out.size(), in.data(), in.size(), ZSTD_CLEVEL_DEFAULT);
        out.resize(ZSTD_isError(packed) ? 0 : packed);
        return out;
    }
    z_stream stream{};
    constexpr int memory_level = 9;
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits, memory_level, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        return {};
    }
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int result = deflate(&stream, Z_FINISH);
    out.resize(result == Z_STREAM_END ? stream.total_out : 0);
    deflateEnd(&stream);
    return out;
}

}  // namespace viv::qcow2
