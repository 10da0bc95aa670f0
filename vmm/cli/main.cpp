#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "vmm/cli/image_command.hpp"
#include "vmm/cli/machine_setup.hpp"
#include "vmm/cli/options.hpp"
#include "vmm/cli/run_command.hpp"

namespace {

using namespace viv;
using namespace viv::cli;

int report(const Error& error) {
    std::fputs(fmt::format("viv: {}\n", error.message).c_str(), stderr);
    return error.kind == ErrorKind::usage ? 2 : 1;
}

Result<int> execute(const std::vector<std::string>& words) {
    if (!words.empty() && words[0] == "image") return image_command({words.begin() + 1, words.end()});
    const Command command = TRY(parse_command_line(words));
    switch (command.kind) {
        case Command::Kind::help:
        case Command::Kind::version: std::fputs(command.text.c_str(), stdout); return 0;
        case Command::Kind::board: std::fputs(to_dts(TRY(make_board(command.board.machine))).c_str(), stdout); return 0;
        case Command::Kind::run: return run_command(command.run);
    }
    return 0;
}

/// A shell may start us with standard files closed (`2>&-`). The next file that is opened would take such a number, and
/// messages would go into a disk image: let them fail instead.
void reserve_standard_files() {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        // Open takes the lowest free number. For reading only, so that a write is an error.
        [[maybe_unused]] const int opened = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
}

}  // namespace

int main(int argc, char** argv) {
    reserve_standard_files();
    const std::vector<std::string> words(argv + 1, argv + argc);
    const auto code = execute(words);
    if (!code) return report(code.error());
    // A full disk or a closed pipe must not pass for success.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        std::perror("viv: cannot write to standard output");
        return 1;
    }
    return *code;
}
