#include "vmm/cli/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <map>
#include <ranges>

#include "vmm/cli/help.hpp"

namespace viv::cli {
namespace {

template <class Choice>
using Choices = std::map<std::string, Choice>;
const Choices<EngineChoice> engines{
    {"auto", EngineChoice::automatic}, {"kvm", EngineChoice::kvm}, {"soft", EngineChoice::soft}};
const Choices<bool> clocks{{"host", false}, {"virtual", true}};
const Choices<DisplayChoice> displays{
    {"auto", DisplayChoice::automatic}, {"terminal", DisplayChoice::terminal}, {"none", DisplayChoice::none}};

[[noreturn]] void refuse(const char* option, const std::string& why) {
    throw CLI::ValidationError(option, why);
}

template <class Choice>
void choice_option(CLI::App& app, const char* name, const Choices<Choice>& choices, Choice& value) {
    app.add_option_function<std::string>(name, [name, &choices, &value](const std::string& text) {
        const auto at = choices.find(text);
        if (at == choices.end()) {
            refuse(name, fmt::format("there is no '{}'; use {}", text, fmt::join(std::views::keys(choices), ", ")));
        }
        value = at->second;
    });
}

void cpus_option(CLI::App& app, std::optional<uint32_t>& value) {
    app.add_option_function<std::string>("--cpus", [&value](const std::string& text) {
        uint32_t number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (error != std::errc() || end != text.data() + text.size()) {
            refuse("--cpus", fmt::format("'{}' is not a number of CPUs (try 2)", text));
        }
        value = number;
    });
}

void timeout_option(CLI::App& app, std::optional<double>& value) {
    app.add_option_function<std::string>("--timeout", [&value](const std::string& text) {
        value = parse_seconds(text);
        if (!value) refuse("--timeout", fmt::format("'{}' is not a time in seconds above 0 (try 60 or 0.5)", text));
    });
}

void size_option(CLI::App& app, std::optional<uint64_t>& value) {
    app.add_option_function<std::string>("--memory,-m", [&value](const std::string& text) {
        auto size = parse_size(text);
        if (!size) refuse("--memory", size.error().message);
        value = *size;
    });
}

void trace_option(CLI::App& app, TraceChoice& value) {
    app.add_option_function<std::string>("--trace-only", [&value](const std::string& text) {
        const auto choice = parse_trace_choice(text);
        if (!choice) refuse("--trace-only", choice.error().message);
        value = *choice;
    });
}

/// A number, hexadecimal with 0x before it. `kind` is what to call it, `example` one that is right.
template <class T>
void number_option(CLI::App& app, const char* name, std::optional<T>& value, const char* kind, const char* example) {
    app.add_option_function<std::string>(name, [=, &value](const std::string& text) {
        const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
        const char* first = text.data() + (hexadecimal ? 2 : 0);
        const char* last = text.data() + text.size();
        T number = 0;
        const auto [end, error] = std::from_chars(first, last, number, hexadecimal ? 16 : 10);
        if (error != std::errc() || end != last || first == last) {
            refuse(name, fmt::format("'{}' is not {} (try {})", text, kind, example));
        }
        value = number;
    });
}

void add_machine_options(CLI::App& app, MachineOptions& options) {
    app.add_option("images", options.images);
    app.add_option("--floppy", options.floppies)->allow_extra_args(false);
    app.add_option("--disk", options.disks)->allow_extra_args(false);
    app.add_option("--cdrom", options.cdroms)->allow_extra_args(false);
    app.add_option("--serial", options.serials)->allow_extra_args(false);
    app.add_option("--virtio", options.virtio)->allow_extra_args(false);
    app.add_option("--usb", options.usb)->allow_extra_args(false);
    app.add_option("--share", options.shares)->allow_extra_args(false);
    app.add_option("--vsock", options.vsock);
    app.add_option("--net", options.network.nics)->allow_extra_args(false);
    app.add_option("--publish", options.network.published)->allow_extra_args(false);
    app.add_option("--pcap", options.network.records)->allow_extra_args(false);
    app.add_flag("--ssh", options.network.ssh);
    app.add_option("--board", options.board);
    size_option(app, options.memory);
    cpus_option(app, options.cpus);
    app.add_option("--cpu", options.cpu_model);
    app.add_option("--boot", options.boot)->delimiter(',')->allow_extra_args(false);
    app.add_option("--smbios", options.smbios)->allow_extra_args(false);
    app.add_option("--firmware", options.firmware);
    app.add_option("--firmware-vars", options.firmware_variables);
    app.add_option("--option-rom", options.option_roms)->allow_extra_args(false);
    app.add_option("--kernel", options.kernel);
    app.add_option("--initrd", options.initrds)->allow_extra_args(false);
    app.add_option("--append", options.kernel_command_line);
    number_option(app, "--load-address", options.load_address, "an address below 4 GiB", "0x7c00");
    app.add_option("--kernel-entry", options.kernel_entry)->transform([](const std::string& text) -> std::string {
        if (text != "16" && text != "32" && text != "64")
            refuse("--kernel-entry", fmt::format("'{}': Linux is entered in 16, 32 or 64 bits", text));
        return text;
    });
    number_option(app, "--exit-port", options.exit_port, "an I/O port", "0x501");
    app.add_flag("--read-only", options.read_only);
    app.add_flag("--snapshot", options.snapshot);
    app.add_flag("--test-device", options.test_device);
}

void add_step(CLI::App& app, const char* name, Step::Kind kind, std::vector<Step>& steps) {
    // CLI11 calls this once per option in the order of the command line: trigger_on_parse keeps the steps
    // interleaved.
    app.add_option_function<std::string>(name,
                                         [kind, &steps](const std::string& text) {
                                             steps.push_back({kind, text});
                                         })
        ->trigger_on_parse()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
}

void add_plain_step(CLI::App& app, const char* name, Step::Kind kind, std::vector<Step>& steps) {
    app.add_flag_callback(name,
                          [kind, &steps] {
                              steps.push_back({kind, {}});
                          })
        ->trigger_on_parse()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void add_run_options(CLI::App& app, RunOptions& options) {
    add_machine_options(app, options.machine);
    choice_option(app, "--engine", engines, options.engine);
    choice_option(app, "--clock", clocks, options.virtual_time);
    app.add_option("--mips", options.mips)->check(CLI::Range(1, 100'000));
    choice_option(app, "--display", displays, options.display);
    add_step(app, "--until", Step::Kind::until, options.steps);
    add_step(app, "--type", Step::Kind::type, options.steps);
    add_step(app, "--wait", Step::Kind::wait, options.steps);
    add_step(app, "--click", Step::Kind::click, options.steps);
    add_step(app, "--insert", Step::Kind::insert, options.steps);
    add_step(app, "--eject", Step::Kind::eject, options.steps);
    add_step(app, "--grow", Step::Kind::grow, options.steps);
    add_step(app, "--link", Step::Kind::link, options.steps);
    add_step(app, "--move", Step::Kind::move, options.steps);
    add_plain_step(app, "--power-button", Step::Kind::power_button, options.steps);
    timeout_option(app, options.timeout);
    app.add_option("--screenshot", options.screenshot);
    app.add_flag("--no-reboot", options.no_reboot);
    app.add_flag("--json", options.json);
    app.add_flag("--digest", options.digest);
    app.add_flag("--stats", options.stats);
    app.add_option("--trace", options.trace);
    trace_option(app, options.trace_choice);
}

/// In how many places two words differ: letters changed, added, left out, or two swapped.
size_t distance(std::string_view one, std::string_view other) {
    std::vector<std::vector<size_t>> rows(one.size() + 1, std::vector<size_t>(other.size() + 1));
    for (size_t i = 0; i <= one.size(); ++i) {
        for (size_t j = 0; j <= other.size(); ++j) {
            size_t& here = rows[i][j];
            if (i == 0 || j == 0) {
                here = i + j;
                continue;
            }
            const bool same = one[i - 1] == other[j - 1];
            here = std::min({rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (same ? 0 : 1)});
            const bool swapped = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
            if (swapped) here = std::min(here, rows[i - 2][j - 2] + 1);
        }
    }
    return rows[one.size()][other.size()];
}

/// " (did you mean --memory?)", or nothing when no name is near.
std::string suggestion(std::string_view word, const std::vector<std::string>& names) {
    constexpr size_t near = 2;
    const auto distance_to_word = [word](const std::string& name) { return distance(word, name); };
    const auto best = std::ranges::min_element(names, {}, distance_to_word);
    if (best == names.end() || distance_to_word(*best) > near) return {};
    return fmt::format(" (did you mean {}?)", *best);
}

std::string unknown_option(const CLI::App& app, const std::string& word) {
    const std::string option = word.substr(0, word.find('='));
    std::vector<std::string> names;
    for (const CLI::Option* known : app.get_options()) {
        for (const std::string& name : known->get_lnames()) names.push_back("--" + name);
    }
    // What was cut short has one good reading, or it is a guess.
    if (option.size() > 3) {
        const auto longer = [&option](const std::string& name) { return name.starts_with(option); };
        if (std::ranges::count_if(names, longer) == 1) {
            return fmt::format("unknown option {} (did you mean {}?)", option, *std::ranges::find_if(names, longer));
        }
    }
    return fmt::format("unknown option {}{}", option, suggestion(option, names));
}

std::string describe(const CLI::ParseError& error, const CLI::App& app) {
    const std::string message = error.what();
    if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
        for (const std::string& word : app.remaining()) {
            if (word.starts_with('-')) return unknown_option(app, word);
        }
    }
    if (dynamic_cast<const CLI::ArgumentMismatch*>(&error)) {
        const std::string option = message.substr(0, message.find(':'));
        if (const CLI::Option* known = app.get_option_no_throw(option)) {
            return fmt::format("{} {}", option, known->count() > 1 ? "is given more than once" : "needs a value");
        }
    }
    return message;
}

/// "viv bord": a word that is no file, but nearly a command.
std::string mistaken_command(const std::string& word) {
    const std::string meant = suggestion(word, {"run", "board", "image", "help"});
    if (meant.empty() || access(word.c_str(), F_OK) == 0) return {};
    return fmt::format("there is no command and no image '{}'{}; see viv --help", word, meant);
}

}  // namespace

std::optional<double> parse_seconds(std::string_view text) {
    constexpr double longest = 1e9;  // what is longer does not fit the clock in nanoseconds
    double seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    if (!(seconds > 0 && seconds <= longest)) return std::nullopt;
    return seconds;
}

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
    if (words[0] != "run" && words[0] != "board") {
        if (const std::string mistake = mistaken_command(words[0]); !mistake.empty()) return fail_usage(mistake);
        words.insert(words.begin(), "run");
    }
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
        // CLI11 takes the words from the back.
        app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
    } catch (const CLI::ParseError& error) {
        CLI::App& sub = run.parsed() ? run : board;
        return fail_usage(fmt::format("{}; see viv {} --help", describe(error, sub), sub.get_name()));
    }
    command.kind = run.parsed() ? Command::Kind::run : Command::Kind::board;
    MachineOptions& machine = run.parsed() ? command.run.machine : command.board.machine;
    // A board says itself what it has, and what a run on virtual time depends on was all asked for.
    machine.network.by_default = !machine.board && !command.run.virtual_time;
    if (machine.read_only && machine.snapshot) {
        return fail_usage(
            "--read-only and --snapshot exclude each other: one refuses writes, the other throws them away");
    }
    if (run.count("--trace-only") && !command.run.trace)
        return fail_usage("--trace-only is of no use without --trace FILE");
    return command;
}

}  // namespace viv::cli
