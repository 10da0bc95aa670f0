#include "tools/sst/moo.hpp"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>

namespace viv::sst {
namespace {

/// Reads forward; what is not there reads as zeros and shows in `short_of`.
class Reader {
  public:
    explicit Reader(std::span<const char> bytes) : bytes_(bytes) {}
    template <class T>
    T take() {
        T value{};
        if (sizeof(T) > bytes_.size()) {
            short_of = true;
            bytes_ = {};
            return value;
        }
        std::memcpy(&value, bytes_.data(), sizeof(T));
        bytes_ = bytes_.subspan(sizeof(T));
        return value;
    }
    Reader part(size_t size) {
        if (size > bytes_.size()) short_of = true;
        const auto front = bytes_.first(std::min(size, bytes_.size()));
        bytes_ = bytes_.subspan(front.size());
        return Reader(front);
    }
    struct Chunk;
    Chunk chunk();
    [[nodiscard]] bool empty() const { return bytes_.empty(); }
    [[nodiscard]] std::string text() const { return {bytes_.begin(), bytes_.end()}; }
    bool short_of = false;

  private:
    std::span<const char> bytes_;
};

struct Reader::Chunk {
    std::string tag;
    Reader content;
};

Reader::Chunk Reader::chunk() {
    const auto tag = take<std::array<char, 4>>();
    const auto size = take<uint32_t>();
    return {std::string(tag.begin(), tag.end()), part(size)};
}

void read_state(Reader content, std::array<uint16_t, register_count>& registers, std::vector<MemoryByte>& memory) {
    while (!content.empty()) {
        Reader::Chunk chunk = content.chunk();
        if (chunk.tag == "REGS") {
            const auto present = chunk.content.take<uint16_t>();
            for (unsigned i = 0; i < register_count; ++i) {
                if (present >> i & 1) registers[i] = chunk.content.take<uint16_t>();
            }
        } else if (chunk.tag == "RAM ") {
            for (auto count = chunk.content.take<uint32_t>(); count && !chunk.content.empty(); --count) {
                const auto address = chunk.content.take<uint32_t>();
                memory.push_back({address, chunk.content.take<uint8_t>()});
            }
        }
    }
}

Vector read_vector(Reader content) {
    Vector vector;
    vector.index = content.take<uint32_t>();
    while (!content.empty()) {
        Reader::Chunk chunk = content.chunk();
        if (chunk.tag == "NAME") {
            vector.name = chunk.content.part(chunk.content.take<uint32_t>()).text();
        } else if (chunk.tag == "BYTS") {
            const std::string bytes = chunk.content.part(chunk.content.take<uint32_t>()).text();
            vector.bytes.assign(bytes.begin(), bytes.end());
        } else if (chunk.tag == "INIT") {
            read_state(chunk.content, vector.initial, vector.initial_memory);
            vector.expected = vector.initial;
        } else if (chunk.tag == "FINA") {
            read_state(chunk.content, vector.expected, vector.expected_memory);
        } else if (chunk.tag == "EXCP") {
            vector.exception = {chunk.content.take<uint8_t>()};
        }
    }
    return vector;
}

}  // namespace

Result<std::vector<Vector>> read_moo(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(fmt::format("cannot open '{}'", path), errno);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    if (content.starts_with("\x1F\x8B")) return fail_usage(fmt::format("'{}' is compressed: gunzip it first", path));
    Reader reader(content);
    if (reader.chunk().tag != "MOO ") return fail_usage(fmt::format("'{}' is no MOO file", path));
    std::vector<Vector> vectors;
    while (!reader.empty()) {
        const Reader::Chunk chunk = reader.chunk();
        if (chunk.tag == "TEST") vectors.push_back(read_vector(chunk.content));
    }
    if (reader.short_of) return fail(fmt::format("'{}' is cut short", path));
    return vectors;
}

}  // namespace viv::sst
