#include "vmm/firmware/acpi/aml.hpp"

#include "vmm/core/result.hpp"

namespace viv::firmware::aml {
namespace {

constexpr uint8_t NameOp = 0x08, BytePrefix = 0x0A, WordPrefix = 0x0B, DWordPrefix = 0x0C, ScopeOp = 0x10,
                  BufferOp = 0x11, DualNamePrefix = 0x2E, ExtOpPrefix = 0x5B, DeviceOp = 0x82, ProcessorOp = 0x83;

Code bytes(uint64_t value, unsigned count) {
    Code code;
    for (unsigned i = 0; i < count; ++i) code.push_back(static_cast<char>(value >> (8 * i)));
    return code;
}

Code segment(std::string_view name) {
    VIV_ASSERT(!name.empty() && name.size() <= 4);
    Code code(name);
    code.resize(4, '_');
    return code;
}

/// PkgLength (20.2.4) and what it counts; it counts itself, too.
Code package(const Code& content) {
    const size_t size = content.size();
    Code length;
    if (size + 1 < 0x40) {
        length = bytes(size + 1, 1);
    } else {
        const unsigned more = size + 2 < 0x1000 ? 1 : 2;
        const size_t total = size + 1 + more;
        VIV_ASSERT(total < 0x100000);
        length = bytes(more << 6 | (total & 15), 1) + bytes(total >> 4, more);
    }
    return length + content;
}

Code integer(uint32_t value) {
    if (value < 2) return bytes(value, 1);  // ZeroOp, OneOp
    if (value < 0x100) return bytes(BytePrefix, 1) + bytes(value, 1);
    if (value < 0x10000) return bytes(WordPrefix, 1) + bytes(value, 2);
    return bytes(DWordPrefix, 1) + bytes(value, 4);
}

Code name(std::string_view object, const Code& value) {
    return bytes(NameOp, 1) + segment(object) + value;
}

}  // namespace

Code scope(std::string_view path, std::string_view inner_path, const Code& body) {
    Code where = "\\";
    if (!inner_path.empty()) where += bytes(DualNamePrefix, 1);
    where += segment(path);
    if (!inner_path.empty()) where += segment(inner_path);
    return bytes(ScopeOp, 1) + package(where + body);
}

Code device(std::string_view name, const Code& body) {
    return bytes(ExtOpPrefix, 1) + bytes(DeviceOp, 1) + package(segment(name) + body);
}

Code processor(std::string_view name, uint8_t number) {
    // No processor block: C1 is all there is.
    return bytes(ExtOpPrefix, 1) + bytes(ProcessorOp, 1) + package(segment(name) + bytes(number, 1) + bytes(0, 5));
}

Code name_integer(std::string_view object, uint32_t value) {
    return name(object, integer(value));
}

Code name_eisa_id(std::string_view object, std::string_view id) {
    VIV_ASSERT(id.size() == 7);
    uint32_t letters = 0, product = 0;
    for (const char c : id.substr(0, 3)) letters = letters << 5 | static_cast<uint32_t>(c - '@');
    for (const char c : id.substr(3)) product = product << 4 | static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'A' + 10);
    // Big-endian, in an integer that is little-endian.
    const uint32_t value = letters << 16 | product;
    return name(object, bytes(DWordPrefix, 1) + bytes(__builtin_bswap32(value), 4));
}

Code name_resources(std::string_view object, const Code& resources) {
    const Code end_tag = bytes(0x79, 1) + bytes(0, 1);  // a checksum of 0: none
    const Code content = resources + end_tag;
    return name(object, bytes(BufferOp, 1) + package(integer(static_cast<uint32_t>(content.size())) + content));
}

Code io_ports(uint16_t base, uint8_t count) {
    constexpr uint8_t descriptor = 0x47, decodes_16_bits = 1, alignment = 1;
    return bytes(descriptor, 1) + bytes(decodes_16_bits, 1) + bytes(base, 2) + bytes(base, 2) + bytes(alignment, 1) +
           bytes(count, 1);
}

Code irq(uint8_t number) {
    constexpr uint8_t descriptor = 0x22;  // edge triggered, active high
    return bytes(descriptor, 1) + bytes(uint64_t{1} << number, 2);
}

Code dma(uint8_t channel) {
    constexpr uint8_t descriptor = 0x2A;
    return bytes(descriptor, 1) + bytes(uint64_t{1} << channel, 1) + bytes(0, 1);
}

}  // namespace viv::firmware::aml
