#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace viv {

/// Takes the fields of a 9P message, little-endian; after the first that is not whole all are empty.
class P9Reader {
  public:
    explicit P9Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
    /// Whether all fields so far were there.
    [[nodiscard]] bool good() const { return good_; }
    [[nodiscard]] size_t left() const { return bytes_.size(); }
    uint8_t u8() { return static_cast<uint8_t>(number(1)); }
    uint16_t u16() { return static_cast<uint16_t>(number(2)); }
    uint32_t u32() { return static_cast<uint32_t>(number(4)); }
    uint64_t u64() { return number(8); }
    std::string string() {
        const auto text = bytes(u16());
        return {text.begin(), text.end()};
    }
    std::span<const uint8_t> bytes(size_t size) {
        if (size > bytes_.size()) {
            good_ = false;
            bytes_ = {};
            return {};
        }
        const auto taken = bytes_.first(size);
        bytes_ = bytes_.subspan(size);
        return taken;
    }

  private:
    uint64_t number(size_t size) {
        uint64_t value = 0;
        const auto taken = bytes(size);
        for (size_t i = 0; i < taken.size(); ++i) value |= uint64_t{taken[i]} << (8 * i);
        return value;
    }
    std::span<const uint8_t> bytes_;
    bool good_ = true;
};

/// What the server knows a file by.
struct P9Qid {
    uint8_t type = 0;
    uint32_t version = 0;
    uint64_t path = 0;
};

/// Makes a 9P message.
class P9Writer {
  public:
    static constexpr size_t header = 7;

    /// An empty message of a type, with a tag.
    void begin(uint8_t type, uint16_t tag) {
        bytes_.clear();
        u32(0);
        u8(type);
        u16(tag);
    }
    void u8(uint8_t value) { bytes_.push_back(value); }
    void u16(uint16_t value) { number(value, 2); }
    void u32(uint32_t value) { number(value, 4); }
    void u64(uint64_t value) { number(value, 8); }
    void string(std::string_view text) {
        u16(static_cast<uint16_t>(text.size()));
        bytes_.insert(bytes_.end(), text.begin(), text.end());
    }
    void qid(const P9Qid& qid) {
        u8(qid.type);
        u32(qid.version);
        u64(qid.path);
    }
    /// Room for so many bytes at the end, until the next of any call.
    std::span<uint8_t> room(size_t size) {
        bytes_.resize(bytes_.size() + size);
        return std::span(bytes_).last(size);
    }
    /// Cuts off what is behind the first `size` bytes.
    void cut(size_t size) { bytes_.resize(size); }
    [[nodiscard]] size_t size() const { return bytes_.size(); }
    /// Overwrites the number at a place.
    void put(size_t at, uint32_t value) {
        for (size_t i = 0; i < 4; ++i) bytes_[at + i] = static_cast<uint8_t>(value >> (8 * i));
    }
    /// The whole message, with its size in front.
    std::span<const uint8_t> finish() {
        put(0, static_cast<uint32_t>(bytes_.size()));
        return bytes_;
    }

  private:
    void number(uint64_t value, size_t size) {
        for (size_t i = 0; i < size; ++i) bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
    }
    std::vector<uint8_t> bytes_;
};

}  // namespace viv
