#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "vmm/core/result.hpp"

namespace viv {

/// A folder for tests, gone with the object and all that is in it.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        // Short, since the name of a Unix socket has 107 bytes at most.
        std::string made = std::filesystem::temp_directory_path() / "viv-XXXXXX";
        VIV_ASSERT(mkdtemp(made.data()) != nullptr);
        path_ = made;
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    [[nodiscard]] std::string of(std::string_view name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

}  // namespace viv
