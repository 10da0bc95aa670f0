#include <algorithm>
#include <cstdint>
#include <cstring>

#include "devices/storage/image/image_chain.hpp"
#include "devices/storage/image/image_file_test.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/image/qcow2_check.hpp"

using namespace viv;
using namespace viv::qcow2;

namespace {

struct Input {
    const uint8_t* at;
    const uint8_t* end;
    uint32_t take(unsigned bytes) {
        uint32_t value = 0;
        for (unsigned i = 0; i < bytes && at < end; ++i) value |= uint32_t{*at++} << (8 * i);
        return value;
    }
    [[nodiscard]] bool empty() const { return at >= end; }
};

std::vector<std::byte> start_image(uint32_t form, bool backed) {
    Header header;
    header.size = 1 << 20;
    header.cluster_bits = (form & 1) != 0 ? 9 : 14;
    header.version = (form & 2) != 0 ? 2 : 3;
    header.refcount_order = (form & 4) != 0 && header.version == 3 ? 6 : 4;
    if ((form & 8) != 0 && header.cluster_bits == 14 && header.version == 3)
        header.incompatible |= incompatible_extended_l2;
    if ((form & 16) != 0 && header.version == 3) header.compatible |= compatible_lazy_refcounts;
    if (backed) header.backing_file = "b";
    auto content = std::make_shared<FileContent>();
    MemoryFile file(content);
    VIV_ASSERT(format_qcow2(file, header));
    auto image = Qcow2Image::open(std::make_unique<MemoryFile>(content), "f", *read_qcow2_header(file, "f"), nullptr,
                                  ImageAccess::writable);
    VIV_ASSERT(image);
    const std::vector<std::byte> data(40000, std::byte{1});
    VIV_ASSERT((*image)->write(5000, data) == DiskStatus::ok);
    VIV_ASSERT((*image)->write_compressed(7 << 14, std::span(data).first((*image)->header().cluster_size())) ==
               DiskStatus::ok);
    image->reset();
    return content->bytes;
}

}  // namespace

// The input changes words of a sound image, and then is a guest's work on it; or it is the image itself. Whatever the
// image is, work on it ends, and within memory.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input{data, data + size};
    const uint32_t form = input.take(1);
    const bool backed = (form & 32) != 0;
    auto content = std::make_shared<FileContent>();
    if ((form & 128) != 0) {
        const auto rest = std::as_bytes(std::span(input.at, input.end));
        content->bytes.assign(rest.begin(), rest.end());
    } else {
        static std::vector<std::byte> images[64];
        auto& made = images[form & 63];
        if (made.empty()) made = start_image(form, backed);
        content->bytes = made;
        for (uint32_t changes = input.take(1) % 12; changes > 0; --changes) {
            // Mostly where tables are; whole words, since most of theirs are large.
            const uint32_t where = input.take(3);
            const size_t at = where % (content->bytes.size() - 8);
            const size_t in_tables = where % 0x8000 % (content->bytes.size() - 8);
            for (unsigned i = 0, length = 1 + input.take(1) % 8; i < length; ++i) {
                content->bytes[((where & 0x80'0000) != 0 ? at : in_tables) + i] = static_cast<std::byte>(input.take(1));
            }
        }
    }
    set_log_sink([](std::string_view) {});
    const auto open = [&](ImageAccess access) -> std::unique_ptr<Qcow2Image> {
        auto file = std::make_unique<MemoryFile>(content);
        const auto header = read_qcow2_header(*file, "f");
        if (!header) return nullptr;
        std::unique_ptr<DiskImage> below;
        if (backed)
            below =
                std::make_unique<MemoryImage>(std::vector<std::byte>(300'000, std::byte{2}), ImageAccess::read_only);
        auto image = Qcow2Image::open(std::move(file), "f", *header, std::move(below), access);
        return image ? std::move(*image) : nullptr;
    };
    if (auto image = open(ImageAccess::read_only)) {
        static_cast<void>(Qcow2Checker::check(*image, (form & 64) != 0 ? Repair::all : Repair::none));
    }
    auto image = open(ImageAccess::writable);
    if (!image) image = open(ImageAccess::read_only);
    if (!image) return 0;
    std::vector<std::byte> buffer(70000);
    for (unsigned i = 0; i < 64 && !input.empty(); ++i) {
        const uint32_t what = input.take(1);
        const uint64_t offset = uint64_t{input.take(2)} * 512 % (image->sectors() * 512 + 1);
        const auto piece = std::span(buffer).first(input.take(1) * 512 % buffer.size());
        switch (what % 7) {
            case 0:
            case 1: static_cast<void>(image->read(offset, piece)); break;
            case 2: std::ranges::fill(piece, static_cast<std::byte>(i)); [[fallthrough]];
            case 3: static_cast<void>(image->write(offset, piece)); break;
            case 4: static_cast<void>(image->write_zeros(offset, piece.size())); break;
            case 5: static_cast<void>(image->discard(offset, piece.size())); break;
            case 6: static_cast<void>(image->flush()); break;
        }
    }
    return 0;
}
