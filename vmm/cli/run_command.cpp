#include "vmm/cli/run_command.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>

#include "devices/input/keyboard_port.hpp"
#include "devices/pci/power_button.hpp"
#include "devices/video/screen.hpp"
#include "devices/virtio/virtio_balloon.hpp"
#include "vmm/cli/display/terminal_display.hpp"
#include "vmm/cli/machine_setup.hpp"
#include "vmm/cli/media_changer.hpp"
#include "vmm/cli/screenshot.hpp"
#include "vmm/cli/script.hpp"
#include "vmm/core/log.hpp"
#include "vmm/machine/engine_choice.hpp"
#include "vmm/machine/machine.hpp"
#include "vmm/machine/screen_reader.hpp"

namespace viv::cli {
namespace {

/// SIGINT, SIGTERM and SIGHUP as events of the loop. Made before any thread, so that every thread blocks them.
class SignalWatch {
  public:
    static Result<SignalWatch> create() {
        sigset_t set;
        sigemptyset(&set);
        for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
        pthread_sigmask(SIG_BLOCK, &set, nullptr);
        // A reader that went away and a file that may not grow are seen by the write that fails, not by a signal.
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);
        SignalWatch watch;
        watch.fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
        if (watch.fd_ < 0) return fail_errno("cannot watch for signals", errno);
        return watch;
    }
    SignalWatch(SignalWatch&& other) noexcept : fd_(std::exchange(other.fd_, -1)), watch_(std::move(other.watch_)) {}
    SignalWatch& operator=(SignalWatch&&) = delete;
    ~SignalWatch() {
        watch_.reset();
        if (fd_ >= 0) close(fd_);
    }
    /// `handler` is called with the signal's number.
    void start(EventLoop& loop, std::move_only_function<void(int)> handler) {
        watch_ = loop.watch(fd_, EventLoop::Ready::read, [this, call = std::move(handler)]() mutable {
            signalfd_siginfo info{};
            if (read(fd_, &info, sizeof(info)) == sizeof(info)) call(static_cast<int>(info.ssi_signo));
        });
    }
    void end() { watch_.reset(); }

  private:
    SignalWatch() = default;
    int fd_ = -1;
    std::unique_ptr<EventLoop::Watch> watch_;
};

/// The date of power-on when time is virtual: 2026-01-01 00:00 UTC.
constexpr int64_t virtual_epoch = 1'767'225'600;

EngineKind engine_kind(EngineChoice choice) {
    switch (choice) {
        case EngineChoice::automatic: return EngineKind::automatic;
        case EngineChoice::kvm: return EngineKind::kvm;
        case EngineChoice::soft: return EngineKind::soft;
    }
    return EngineKind::automatic;
}

enum class Ending {
    script_done,
    medium_failed,
    guest_exit,
    powered_off,
    died,
    time_out,
    interrupted,
    output_failed,
    move_failed
};

/// What is told about a run, on stderr for people and on stdout as JSON.
struct Report {
    Ending ending = Ending::interrupted;
    int exit_code = 0;
    std::string message;  // empty when there is nothing to say
    std::string screen;   // as text
};

/// fmt::print throws when a file is closed or full; main() looks at stdout at the end.
void print_to(FILE* file, const std::string& text) {
    std::fputs(text.c_str(), file);
}

const char* name_of(Ending ending) {
    switch (ending) {
        case Ending::script_done: return "done";
        case Ending::medium_failed: return "medium-failed";
        case Ending::guest_exit: return "guest-exit";
        case Ending::powered_off: return "powered-off";
        case Ending::died: return "died";
        case Ending::time_out: return "time-out";
        case Ending::interrupted: return "interrupted";
        case Ending::output_failed: return "output-failed";
        case Ending::move_failed: return "move-failed";
    }
    return "";
}

/// A run in progress: the machine, its script and what ends it.
class Run {
  public:
    Run(const RunOptions& options, SignalWatch signals) : options_(options), signals_(std::move(signals)) {}

    Result<void> prepare() {
        TreeNode board = TRY(make_board(options_.machine));
        const EngineKind kind = engine_kind(options_.engine);
        MachineConfig config;
        config.board = std::move(board);
        config.make_engine = [kind](const EngineConfig& engine, EngineClock clock) {
            return make_engine(kind, engine, clock);
        };
        config.clock = {options_.virtual_time, options_.mips};
        // A run on virtual time depends on nothing but its inputs: the date is one of them.
        config.wall_time = options_.virtual_time ? virtual_epoch : static_cast<int64_t>(std::time(nullptr));
        config.on_triple_fault = options_.no_reboot || !options_.steps.empty() ? TripleFault::stop : TripleFault::reset;
        if (options_.trace) config.trace = TRY(Trace::open(*options_.trace, options_.trace_choice));
        machine_ = TRY(Machine::create(std::move(config)));
        if (!machine_->engine_reason().empty()) {
            log_line(fmt::format("running on the {} engine: {}", machine_->engine().name(), machine_->engine_reason()));
        }
        if (options_.virtual_time && !options_.machine.shares.empty())
            log_line("virtual time: with --share, the run repeats itself only while the folder stays as it is");
        if (const Screen* screen = machine_->services().find<Screen>()) {
            reader_ = std::make_unique<ScreenReader>(*screen, machine_->memory());
            machine_->services().provide<ScreenReader>(*reader_);
        }
        script_ = TRY(Script::create(machine_->clock(), machine_->services(), media(), options_.steps));
        script_->on_move([this](const std::string& engine) {
            machine_->request_engine(engine == "kvm" ? EngineKind::kvm : EngineKind::soft,
                                     [this](const Result<void>& moved) { step_moved(moved); });
        });
        return {};
    }

    Result<int> execute() {
        if (options_.screenshot) TRY(check_png_path(*options_.screenshot));
        TRY(open_display());
        {
            // Before the guest runs, so that a script sees all of it.
            const std::lock_guard hold(machine_->lock());
            signals_.start(machine_->loop(), [this](int) {
                end_ = Ending::interrupted;
                machine_->stop({});
            });
            if (!options_.steps.empty()) {
                script_->start(
                    [this] {
                        end_ = Ending::script_done;
                        machine_->stop({});
                    },
                    [this](const Error& error) {
                        end_ = Ending::medium_failed;
                        medium_error_ = error.message;
                        machine_->stop({});
                    });
            }
        }
        machine_->start();
        std::optional<Duration> at_most;
        if (options_.timeout)
            at_most = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*options_.timeout));
        const auto outcome = machine_->wait(at_most);
        if (!outcome) {
            const std::lock_guard hold(machine_->lock());
            end_ = Ending::time_out;
            machine_->stop({});
        }
        // From here on the terminal is the person's again. Not under the lock: the display has a thread that may want
        // it.
        display_.reset();
        // What is reported is the end, and what the machine calls (the script) may go.
        machine_->finish();
        const std::lock_guard hold(machine_->lock());
        signals_.end();
        const Report report = make_report(outcome);
        if (options_.screenshot) TRY(take_screenshot(*options_.screenshot));
        if (options_.digest) digest_ = TRY(machine_->digest());
        if (options_.json) {
            print_json(report);
        } else if (!report.message.empty()) {
            log_line(report.message);
        }
        if (!options_.json) print_details();
        return report.exit_code;
    }

  private:
    void step_moved(const Result<void>& moved) {
        if (moved) return script_->moved();
        end_ = Ending::move_failed;
        move_error_ = moved.error().message;
        machine_->stop({});
    }

    void move_to_other_engine() {
        const EngineKind other = machine_->engine().name() == "kvm" ? EngineKind::soft : EngineKind::kvm;
        machine_->request_engine(other, [this](const Result<void>& moved) {
            const std::string engine(machine_->engine().name());
            log_line(moved ? fmt::format("running on the {} engine now", engine)
                           : fmt::format("staying on the {} engine: {}", engine, moved.error().message));
        });
    }

    [[nodiscard]] MediaChanger media() const {
        const MachineOptions& machine = options_.machine;
        const ImageAccess access = machine.snapshot    ? ImageAccess::snapshot
                                   : machine.read_only ? ImageAccess::read_only
                                                       : ImageAccess::writable;
        return {*machine_->services().find<DriveRegistry>(), access};
    }

    [[nodiscard]] bool wants_display() const {
        if (options_.display != DisplayChoice::automatic) return options_.display == DisplayChoice::terminal;
        const auto& serials = options_.machine.serials;
        const bool stdout_taken = options_.json || std::ranges::count(serials, "stdio") > 0;
        // A script in a pipe answers with its exit code; without one, the screen is what the pipe is for.
        return !stdout_taken && (isatty(STDOUT_FILENO) || options_.steps.empty());
    }

    Result<void> open_display() {
        if (!wants_display()) return {};
        if (std::ranges::count(options_.machine.serials, "stdio")) {
            return fail_usage(
                "--serial stdio and --display terminal both want the terminal: use --display none or --serial pty");
        }
        Services& services = machine_->services();
        Screen* screen = services.find<Screen>();
        if (!screen) return fail_usage("--display terminal: this board has no display adapter");
        DisplayActions actions;
        actions.reset = [this] { machine_->reset("the display's menu"); };
        actions.toggle_pause = [this] {
            machine_->phase() == Phase::paused ? machine_->resume() : machine_->pause();
            return machine_->phase() == Phase::paused;
        };
        actions.move = [this] { move_to_other_engine(); };
        actions.press_power_button = [button = services.find<PowerButton>()]() -> Result<std::string> {
            if (!button) return fail_usage("This board has no power button");
            button->press();
            return std::string("Pressed the power button");
        };
        actions.quit = [this] { machine_->stop({}); };
        actions.output_failed = [this](int errno_value) {
            output_errno_ = errno_value;
            if (machine_->phase() == Phase::stopped) return;
            end_ = Ending::output_failed;
            machine_->stop({});
        };
        actions.insert = [this](const std::string& what) { return media().insert(what); };
        actions.change_cable = [this](const std::string& what) {
            return machine_->services().find<Cables>()->change(what);
        };
        actions.grow = [this](const std::string& what) { return media().grow(what); };
        actions.eject = [this](const std::string& drive) { return media().eject(drive); };
        actions.type = [this](std::string_view typing) { return script_->type(typing); };
        actions.save_screenshot = [this](const Image& picture) { return save_numbered_screenshot(picture); };
        display_ =
            TRY(open_terminal_display({*screen, services.find<KeyboardPort>(), machine_->loop(), std::move(actions)}));
        return {};
    }

    /// "viv-1.png" and so on: the first name that is free in the current folder.
    static Result<std::string> save_numbered_screenshot(const Image& picture) {
        std::string name;
        for (unsigned number = 1; name.empty() || access(name.c_str(), F_OK) == 0; ++number)
            name = fmt::format("viv-{}.png", number);
        TRY(write_png(picture, name));
        return name;
    }

    [[nodiscard]] std::string screen_text() const { return reader_ ? reader_->read().plain() : std::string(); }

    Report make_report(const std::optional<Outcome>& outcome) const {
        Report report;
        report.screen = screen_text();
        report.ending = end_;
        const bool unfinished = !options_.steps.empty() && !script_->done();
        const std::string waiting = unfinished ? fmt::format(" while waiting for {}", script_->waiting_for()) : "";
        if (outcome && outcome->kind != Outcome::Kind::stopped) {
            switch (outcome->kind) {
                case Outcome::Kind::guest_exit:
                    report.ending = Ending::guest_exit;
                    report.exit_code = outcome->exit_code;
                    return report;
                case Outcome::Kind::powered_off:
                    report.ending = Ending::powered_off;
                    if (unfinished && !script_->awaits_power_off()) {
                        report.exit_code = exit_guest_died;
                        report.message = "the guest powered off" + waiting;
                    }
                    return report;
                case Outcome::Kind::died:
                    report.ending = Ending::died;
                    report.exit_code = exit_guest_died;
                    report.message = outcome->text;
                    return report;
                case Outcome::Kind::stopped: break;
            }
        }
        if (end_ == Ending::time_out) {
            report.exit_code = exit_time_out;
            report.message =
                fmt::format("time-out after {} s{}; the screen shows:\n{}", *options_.timeout, waiting, report.screen);
        } else if (end_ == Ending::move_failed) {
            report.exit_code = 1;
            report.message = fmt::format("cannot do {}: {}", script_->waiting_for(), move_error_);
        } else if (output_errno_ != 0) {
            report.ending = Ending::output_failed;
            report.exit_code = 1;
            report.message = fmt::format("cannot write to standard output: {}", std::strerror(output_errno_));
        } else if (end_ == Ending::medium_failed) {
            report.exit_code = 1;
            report.message = medium_error_;
        } else if (end_ == Ending::interrupted && unfinished) {
            report.exit_code = 1;
            report.message = "interrupted" + waiting;
        }
        return report;
    }

    Result<void> take_screenshot(const std::string& path) {
        const Screen* screen = machine_->services().find<Screen>();
        if (!screen) return fail_usage("--screenshot: this board has no display adapter");
        return write_png(screen->pixels(), path);
    }

    [[nodiscard]] EngineCounters counters() const {
        EngineCounters all = machine_->engine_counters();
        if (machine_->engine_moves() != 0) all.emplace_back("engine-moves", machine_->engine_moves());
        for (const auto& region : machine_->ports().regions()) {
            if (region.accesses) all.emplace_back("ports." + region.name, region.accesses);
        }
        for (const auto& region : machine_->memory_bus().regions()) {
            if (region.accesses) all.emplace_back("memory." + region.name, region.accesses);
        }
        if (const VirtioBalloon* balloon = machine_->services().find<VirtioBalloon>()) {
            for (const auto& [name, value] : balloon->statistics())
                all.emplace_back(fmt::format("balloon.{}", name), value);
        }
        return all;
    }

    /// What follows from the counters, where the engine counts what it needs.
    [[nodiscard]] std::vector<std::pair<std::string, double>> rates(const EngineCounters& all) const {
        const auto count = [&all](std::string_view name) {
            const auto found = std::ranges::find(all, name, &EngineCounters::value_type::first);
            return found == all.end() ? 0.0 : static_cast<double>(found->second);
        };
        timespec used{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        const double seconds = static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
        const auto instructions = static_cast<double>(machine_->instructions());
        std::vector<std::pair<std::string, double>> out{{"host CPU seconds", seconds}};
        if (instructions > 0) {
            out.emplace_back("million instructions per CPU second", instructions / seconds / 1e6);
            out.emplace_back("TLB misses per 1000 instructions", count("tlb.slow-accesses") * 1000 / instructions);
            out.emplace_back("page walks per 1000 instructions", count("tlb.walks") * 1000 / instructions);
        }
        if (count("blocks.lookups") > 0) {
            out.emplace_back("block cache hits, %", 100 - count("blocks.decoded") * 100 / count("blocks.lookups"));
        }
        return out;
    }

    /// What --digest and --stats ask for, as text.
    void print_details() const {
        if (options_.digest)
            print_to(stdout, fmt::format("sha256 {}  instructions {}\n", digest_, machine_->instructions()));
        if (!options_.stats) return;
        const EngineCounters all = counters();
        for (const auto& [name, value] : all) print_to(stderr, fmt::format("{:<40} {:>16}\n", name, value));
        for (const auto& [name, value] : rates(all)) print_to(stderr, fmt::format("{:<40} {:>16.2f}\n", name, value));
    }

    void print_json(const Report& report) const {
        boost::json::object out;
        out["outcome"] = name_of(report.ending);
        out["exit_code"] = report.exit_code;
        out["message"] = report.message;
        out["engine"] = std::string(machine_->engine().name());
        boost::json::array limits;
        for (const std::string& limit : machine_->engine().limits()) limits.emplace_back(limit);
        out["engine_limits"] = std::move(limits);
        out["guest_seconds"] = static_cast<double>(machine_->clock().now().ns) / 1e9;
        out["engine_reason"] = machine_->engine_reason();
        out["instructions"] = machine_->instructions();
        out["resets"] = machine_->resets();
        out["screen"] = report.screen;
        boost::json::object counts;
        for (const auto& [name, value] : counters()) counts[name] = value;
        out["counters"] = std::move(counts);
        if (options_.digest) out["digest"] = digest_;
        print_to(stdout, boost::json::serialize(out) + "\n");
    }

    const RunOptions& options_;
    std::unique_ptr<Machine> machine_;
    SignalWatch signals_;  // goes before the loop that it watches on
    std::unique_ptr<ScreenReader> reader_;
    std::unique_ptr<Script> script_;
    std::unique_ptr<TerminalDisplay> display_;
    Ending end_ = Ending::interrupted;
    std::string medium_error_;
    int output_errno_ = 0;  // why stdout takes nothing any more
    std::string digest_;
    std::string move_error_;
};

}  // namespace

Result<int> run_command(const RunOptions& options) {
    Run run(options, TRY(SignalWatch::create()));
    TRY(run.prepare());
    return run.execute();
}

}  // namespace viv::cli
