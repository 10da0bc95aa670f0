#include "vmm/boards/board.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <vector>

#include "vmm/core/result.hpp"

extern char** environ;

namespace viv {
namespace {

constexpr size_t largest_board = 16u << 20;  // far above any real board; a bound on what a wrong file can cost

Result<std::vector<std::byte>> read_all(int fd, const std::string& name) {
    std::vector<std::byte> content;
    std::array<std::byte, 65536> chunk;
    while (true) {
        const ssize_t got = ::read(fd, chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(fmt::format("cannot read board '{}'", name), errno);
        if (got == 0) return content;
        content.insert(content.end(), chunk.begin(), chunk.begin() + got);
        if (content.size() > largest_board) return fail_usage(fmt::format("board '{}' is larger than 16 MiB", name));
    }
}

/// Runs dtc on a source file and returns the flattened tree it prints.
Result<std::vector<std::byte>> compile(const std::string& path) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno("cannot make a pipe to dtc", errno);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::string arguments[] = {"dtc", "-q", "-I", "dts", "-O", "dtb", "--", path};
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t child = 0;
    const int status = posix_spawnp(&child, "dtc", &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (status != 0) {
        close(ends[0]);
        if (status == ENOENT) {
            return fail(fmt::format(
                "board '{}' is source text, and dtc is not installed: install device-tree-compiler or give a .dtb",
                path));
        }
        return fail_errno("cannot run dtc", status);
    }
    auto blob = read_all(ends[0], path);
    close(ends[0]);
    int exit_status = 0;
    while (waitpid(child, &exit_status, 0) < 0 && errno == EINTR) {
    }
    if (!blob) return blob;
    if (!WIFEXITED(exit_status) || WEXITSTATUS(exit_status) != 0) {
        return fail_usage(fmt::format("board '{}': dtc does not accept it (its message is above)", path));
    }
    return blob;
}

}  // namespace

Result<TreeNode> load_board(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(fmt::format("cannot open board '{}'", path), errno);
    auto content = read_all(fd, path);
    close(fd);
    if (!content) return std::unexpected(content.error());
    const auto starts_with = [&](std::string_view text) {
        return content->size() >= text.size() &&
               std::string_view(reinterpret_cast<const char*>(content->data()), text.size()) == text;
    };
    if (!starts_with("\xD0\x0D\xFE\xED")) {
        const std::string_view text(reinterpret_cast<const char*>(content->data()), content->size());
        if (text.find("/dts-v1/") == std::string_view::npos) {
            return fail_usage(
                fmt::format("'{}' is not a board: neither a flattened device tree nor device tree source (try 'viv "
                            "board > my.dts')",
                            path));
        }
        content = compile(path);
        if (!content) return std::unexpected(content.error());
    }
    auto tree = from_fdt(*content);
    if (!tree) return add_context(tree.error(), fmt::format("board '{}'", path));
    return tree;
}

TreeNode default_board() {
    auto tree = from_fdt(pc_board());
    VIV_ASSERT(tree.has_value());
    return std::move(*tree);
}

}  // namespace viv
