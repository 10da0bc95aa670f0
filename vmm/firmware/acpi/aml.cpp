#include "vmm/firmware/acpi/aml.hpp"

#include <algorithm>

#include "vmm/core/result.hpp"

namespace viv::firmware::aml {
namespace {

constexpr uint8_t NameOp = 0x08, BytePrefix = 0x0A, WordPrefix = 0x0B, DWordPrefix = 0x0C, ScopeOp = 0x10,
                  BufferOp = 0x11, PackageOp = 0x12, DualNamePrefix = 0x2E, MultiNamePrefix = 0x2F, ExtOpPrefix = 0x5B,
                  DeviceOp = 0x82, ProcessorOp = 0x83;

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
Code counted(const Code& content) {
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

/// An address space descriptor (6.4.3.5) of a bridge: minimum and maximum are fixed, what it decodes it passes on.
Code window(uint8_t tag, uint8_t type, uint8_t type_flags, unsigned width, uint64_t first, uint64_t last) {
    constexpr uint8_t fixed = 0x0C;
    const unsigned size = 3 + 5 * width;
    return bytes(tag, 1) + bytes(size, 2) + bytes(type, 1) + bytes(fixed, 1) + bytes(type_flags, 1) + bytes(0, width) +
           bytes(first, width) + bytes(last, width) + bytes(0, width) + bytes(last - first + 1, width);
}
constexpr uint8_t QWordSpace = 0x8A, DWordSpace = 0x87, WordSpace = 0x88;
constexpr uint8_t memory_space = 0, io_space = 1, bus_space = 2;
constexpr uint8_t read_write = 0x01, entire_range = 0x03;

}  // namespace

Code integer(uint32_t value) {
    if (value < 2) return bytes(value, 1);  // ZeroOp, OneOp
    if (value < 0x100) return bytes(BytePrefix, 1) + bytes(value, 1);
    if (value < 0x10000) return bytes(WordPrefix, 1) + bytes(value, 2);
    return bytes(DWordPrefix, 1) + bytes(value, 4);
}

Code name(std::string_view object, const Code& value) {
    return bytes(NameOp, 1) + segment(object) + value;
}

Code path(std::string_view segments) {
    Code names;
    unsigned count = 0;
    while (!segments.empty()) {
        const size_t dot = std::min(segments.find('.'), segments.size());
        names += segment(segments.substr(0, dot));
        segments.remove_prefix(std::min(dot + 1, segments.size()));
        ++count;
    }
    Code code = "\\";
    if (count == 2) code += bytes(DualNamePrefix, 1);
    if (count > 2) code += bytes(MultiNamePrefix, 1) + bytes(count, 1);
    return code + names;
}

Code scope(std::string_view where, const Code& body) {
    return bytes(ScopeOp, 1) + counted(path(where) + body);
}

Code package(const std::vector<Code>& elements) {
    VIV_ASSERT(elements.size() < 256);
    Code content = bytes(elements.size(), 1);
    for (const Code& element : elements) content += element;
    return bytes(PackageOp, 1) + counted(content);
}

Code device(std::string_view name, const Code& body) {
    return bytes(ExtOpPrefix, 1) + bytes(DeviceOp, 1) + counted(segment(name) + body);
}

Code processor(std::string_view name, uint8_t number) {
    // No processor block: C1 is all there is.
    return bytes(ExtOpPrefix, 1) + bytes(ProcessorOp, 1) + counted(segment(name) + bytes(number, 1) + bytes(0, 5));
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

Code name_text(std::string_view object, std::string_view text) {
    constexpr uint8_t string_prefix = 0x0D;
    return name(object, bytes(string_prefix, 1) + Code(text) + bytes(0, 1));
}

Code name_resources(std::string_view object, const Code& resources) {
    const Code end_tag = bytes(0x79, 1) + bytes(0, 1);  // a checksum of 0: none
    const Code content = resources + end_tag;
    return name(object, bytes(BufferOp, 1) + counted(integer(static_cast<uint32_t>(content.size())) + content));
}

Code io_ports(uint16_t base, uint8_t count) {
    constexpr uint8_t descriptor = 0x47, decodes_16_bits = 1, alignment = 1;
    return bytes(descriptor, 1) + bytes(decodes_16_bits, 1) + bytes(base, 2) + bytes(base, 2) + bytes(alignment, 1) +
           bytes(count, 1);
}

Code memory(uint32_t base, uint32_t size) {
    constexpr uint8_t descriptor = 0x86, content = 9, writable = 1;
    return bytes(descriptor, 1) + bytes(content, 2) + bytes(writable, 1) + bytes(base, 4) + bytes(size, 4);
}

Code irq(uint8_t number) {
    constexpr uint8_t descriptor = 0x22;  // edge triggered, active high
    return bytes(descriptor, 1) + bytes(uint64_t{1} << number, 2);
}

Code level_interrupt(uint32_t number) {
    constexpr uint8_t descriptor = 0x89, content = 6, consumer_shared = 0x09, count = 1;  // level, active high
    return bytes(descriptor, 1) + bytes(content, 2) + bytes(consumer_shared, 1) + bytes(count, 1) + bytes(number, 4);
}

Code dma(uint8_t channel) {
    constexpr uint8_t descriptor = 0x2A;
    return bytes(descriptor, 1) + bytes(uint64_t{1} << channel, 1) + bytes(0, 1);
}

Code bus_numbers(uint8_t first, uint8_t last) {
    return window(WordSpace, bus_space, 0, 2, first, last);
}

Code port_window(uint16_t first, uint16_t last) {
    return window(WordSpace, io_space, entire_range, 2, first, last);
}

Code memory_window(uint32_t first, uint32_t last) {
    return window(DWordSpace, memory_space, read_write, 4, first, last);
}

Code high_memory_window(uint64_t first, uint64_t last) {
    return window(QWordSpace, memory_space, read_write, 8, first, last);
}

}  // namespace viv::firmware::aml
