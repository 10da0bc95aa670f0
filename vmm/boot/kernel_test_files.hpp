#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "vmm/core/catch.hpp"

namespace viv::boot {

/// A file that goes with the test.
struct TemporaryFile {
    explicit TemporaryFile(std::span<const std::byte> content) {
        path = std::filesystem::temp_directory_path() / "viv-kernel-XXXXXX";
        const int file = mkstemp(path.data());
        REQUIRE(file >= 0);
        close(file);
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    }
    ~TemporaryFile() { unlink(path.c_str()); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    std::string path;
};

/// A file put together field by field.
struct FileBytes {
    std::vector<std::byte> bytes;

    template <class T>
    void set(size_t offset, std::type_identity_t<T> value) {
        if (bytes.size() < offset + sizeof(T)) bytes.resize(offset + sizeof(T));
        std::memcpy(bytes.data() + offset, &value, sizeof(T));
    }
};

}  // namespace viv::boot
