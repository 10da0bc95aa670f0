#include "vmm/cli/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <map>

#include "vmm/cli/help.hpp"

namespace viv::cli {
namespace {

const std::map<std::string, EngineChoice> engines{{"auto", EngineChoice::automatic}, {"kvm", EngineChoice::kvm}};
const std::map<std::string, DisplayChoice> displays{
    {"auto", DisplayChoice::automatic}, {"terminal", DisplayChoice::terminal}, {"none", DisplayChoice::none}};

void size_option(CLI::App& app, std::optional<uint64_t>& value) {
    app.add_option_function<std::string>("--memory,-m", [&value](const std::string& text) {
        auto size = parse_size(text);
        if (!size) throw CLI::ValidationError("--memory", size.error().message);
        value = *size;
    });
}

void port_option(CLI::App& app, std::optional<uint16_t>& value) {
    app.add_option_function<std::string>("--exit-port", [&value](const std::string& text) {
        const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
        const char* first = text.data() + (hexadecimal ? 2 : 0);
        const char* last = text.data() + text.size();
        uint16_t port = 0;
        const auto [end, error] = std::from_chars(first, last, port, hexadecimal ? 16 : 10);
        if (error != std::errc() || end != last || first == last) {
            throw CLI::ValidationError("--exit-port", fmt::format("'{}' is not an I/O port (try 0x501)", text));
        }
        value = port;
    });
}

void add_machine_options(CLI::App& app, MachineOptions& options) {
    app.add_option("images", options.images);
    app.add_option("--floppy", options.floppies)->allow_extra_args(false);
    app.add_option("--disk", options.disks)->allow_extra_args(false);
    app.add_option("--cdrom", options.cdroms)->allow_extra_args(false);
    app.add_option("--serial", options.serials)->allow_extra_args(false);
    app.add_option("--board", options.board);
    size_option(app, options.memory);
    app.add_option("--cpus", options.cpus);
    app.add_option("--cpu", options.cpu_model);
    app.add_option("--boot", options.boot)->delimiter(',')->allow_extra_args(false);
    port_option(app, options.exit_port);
    app.add_flag("--read-only", options.read_only);
    app.add_flag("--snapshot", options.snapshot);
}

void add_step(CLI::App& app, const char* name, Step::Kind kind, std::vector<Step>& steps) {
    // CLI11 calls this once per option in the order of the command line: trigger_on_parse keeps --until and --type
    // interleaved.
    app.add_option_function<std::string>(name,
                                         [kind, &steps](const std::string& text) {
                                             steps.push_back({kind, text});
                                         })
        ->trigger_on_parse()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
}

void add_run_options(CLI::App& app, RunOptions& options) {
    add_machine_options(app, options.machine);
    app.add_option("--engine", options.engine)->transform(CLI::CheckedTransformer(engines).description("auto or kvm"));
    app.add_option("--display", options.display)
        ->transform(CLI::CheckedTransformer(displays).description("terminal or none"));
    add_step(app, "--until", Step::Kind::until, options.steps);
    add_step(app, "--type", Step::Kind::type, options.steps);
    app.add_option("--timeout", options.timeout)->check(CLI::PositiveNumber);
    app.add_option("--screenshot", options.screenshot);
    app.add_flag("--no-reboot", options.no_reboot);
    app.add_flag("--json", options.json);
}

}  // namespace

Result<uint64_t> parse_size(const std::string& text) {
    uint64_t number = 0;
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, number);
    const std::string unit(end, last);
    const std::map<std::string, unsigned> shifts{{"", 0},   {"K", 10}, {"k", 10}, {"M", 20}, {"m", 20},
                                                 {"G", 30}, {"g", 30}, {"T", 40}, {"t", 40}};
    const auto shift = shifts.find(unit);
    if (error != std::errc() || shift == shifts.end() || number > (UINT64_MAX >> shift->second)) {
        return fail_usage(fmt::format("'{}' is not a size (try 64M or 2G)", text));
    }
    return number << shift->second;
}

Result<Command> parse_command_line(const std::vector<std::string>& arguments) {
    std::vector<std::string> words = arguments;
    Command command;
    const auto wants = [&](const char* a, const char* b) {
        return std::ranges::any_of(words, [&](const auto& word) { return word == a || word == b; });
    };
    if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
        command.text = main_help;
        return command;
    }
    if (words[0] == "--version" || words[0] == "-V")
        return Command{Command::Kind::version, "viv " VIV_VERSION "\n", {}, {}};
    if (words[0] != "run" && words[0] != "board") words.insert(words.begin(), "run");
    if (wants("--help", "-h")) {
        command.text = words[0] == "run" ? run_help : board_help;
        return command;
    }

    CLI::App app;
    app.set_help_flag();
    app.require_subcommand(1);
    CLI::App& run = *app.add_subcommand("run");
    CLI::App& board = *app.add_subcommand("board");
    for (CLI::App* sub : {&run, &board}) sub->set_help_flag();
    add_run_options(run, command.run);
    add_machine_options(board, command.board.machine);
    try {
        std::ranges::reverse(words);  // CLI11 takes the words from the back
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return fail_usage(fmt::format("{} (see viv {} --help)", error.what(), run.parsed() ? "run" : "board"));
    }
    command.kind = run.parsed() ? Command::Kind::run : Command::Kind::board;
    const MachineOptions& machine = run.parsed() ? command.run.machine : command.board.machine;
    if (machine.read_only && machine.snapshot) {
        return fail_usage(
            "--read-only and --snapshot exclude each other: one refuses writes, the other throws them away");
    }
    return command;
}

}  // namespace viv::cli
