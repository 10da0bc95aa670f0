#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "vmm/core/temporary_folder_test.hpp"

namespace viv {

/// A folder of the host that is there as long as the object, with another one beside it that is not shared:
/// "inside" has file "a" with "alpha", folder "d" with file "b", and links that lead out; "outside" has "secret".
struct FolderRig {
    FolderRig() {
        std::filesystem::create_directories(top / "inside/d");
        std::filesystem::create_directory(top / "outside");
        put_file("inside/a", "alpha");
        put_file("inside/d/b", "beta");
        put_file("outside/secret", "secret");
        std::filesystem::create_symlink(top / "outside", top / "inside/out");
        std::filesystem::create_symlink("../outside/secret", top / "inside/up");
        std::filesystem::create_symlink("a", top / "inside/near");
        std::filesystem::create_symlink("/etc", top / "inside/d/etc");
    }

    void put_file(const std::string& name, const std::string& text) const { std::ofstream(top / name) << text; }
    [[nodiscard]] std::string file(const std::string& name) const {
        std::ifstream in(top / name);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    [[nodiscard]] std::string inside() const { return top / "inside"; }
    TemporaryFolder whole;
    std::filesystem::path top = whole.path();
};

}  // namespace viv
