#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "vmm/cli/machine_setup.hpp"
#include "vmm/cli/options.hpp"
#include "vmm/cli/run_command.hpp"

namespace {

using namespace viv;
using namespace viv::cli;

int report(const Error& error) {
    fmt::print(stderr, "viv: {}\n", error.message);
    return error.kind == ErrorKind::usage ? 2 : 1;
}

Result<int> execute(const Command& command) {
    switch (command.kind) {
        case Command::Kind::help:
        case Command::Kind::version: fmt::print("{}", command.text); return 0;
        case Command::Kind::board: fmt::print("{}", to_dts(TRY(make_board(command.board.machine)))); return 0;
        case Command::Kind::run: return run_command(command.run);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const auto command = parse_command_line(std::vector<std::string>(argv + 1, argv + argc));
    if (!command) return report(command.error());
    const auto code = execute(*command);
    if (!code) return report(code.error());
    // A full disk or a closed pipe must not pass for success.
    if (std::fflush(stdout) != 0) {
        std::perror("viv: cannot write to standard output");
        return 1;
    }
    return *code;
}
