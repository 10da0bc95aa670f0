// Power-on to boot sector in our own BIOS: how many guest instructions, and how long.
//
//   bench_boot count              TAP: the instructions on each engine, which may be 20,000 at most
//   bench_boot time ENGINE IMAGE  microseconds from power-on until IMAGE's boot sector writes to port 501h

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "devices/system/firmware_disk.hpp"
#include "vmm/boards/board.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/machine/engine_choice.hpp"
#include "vmm/machine/machine.hpp"

namespace {

using namespace viv;

constexpr uint64_t most_instructions = 20'000;
constexpr uint16_t exit_port = 0x501;
constexpr auto patience = std::chrono::seconds(30);

enum class Count { no, yes };

Result<std::unique_ptr<Machine>> make_machine(EngineKind kind, const std::string& image, Count count) {
    MachineConfig config;
    config.board = default_board();
    TRY(attach_disk(config.board, image, DriveAccess::snapshot));
    TRY(add_exit_port(config.board, exit_port));
    config.make_engine = [kind](const EngineConfig& engine, EngineClock clock) {
        return make_engine(kind, engine, clock);
    };
    config.count_instructions = count == Count::yes;
    config.on_triple_fault = TripleFault::stop;
    return Machine::create(std::move(config));
}

/// The instructions up to and without the OUT that reports the start of the boot sector.
Result<uint64_t> count_instructions(EngineKind kind, const std::string& image) {
    const auto machine = TRY(make_machine(kind, image, Count::yes));
    FirmwarePort* firmware = machine->services().find<FirmwarePort>();
    if (!firmware) return fail("the board has no firmware device");
    std::optional<uint64_t> count;
    firmware->on_boot_progress([&](rom::BootProgress progress) {
        if (progress == rom::BootProgress::starting) count = machine->instructions();
        if (progress != rom::BootProgress::loading) machine->stop({});
    });
    machine->start();
    const auto outcome = machine->wait(patience);
    const std::lock_guard hold(machine->lock());
    if (!count) return fail(outcome && !outcome->text.empty() ? outcome->text : "the boot sector was not started");
    return *count;
}

Result<double> microseconds_to_boot_sector(EngineKind kind, const std::string& image) {
    const auto machine = TRY(make_machine(kind, image, Count::no));
    const auto start = std::chrono::steady_clock::now();
    machine->start();
    const auto outcome = machine->wait(patience);
    const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - start;
    if (!outcome || outcome->kind != Outcome::Kind::guest_exit) {
        return fail(outcome && !outcome->text.empty() ? outcome->text : "the boot sector did not end the run");
    }
    return taken.count();
}

/// A disk whose boot sector does nothing, for as long as the object lives.
class EmptyDisk {
  public:
    EmptyDisk() {
        const int fd = mkstemp(path_.data());
        if (fd >= 0) close(fd);
        std::array<char, 512> sector{};
        sector[0] = '\xF4';  // hlt
        sector[510] = '\x55';
        sector[511] = '\xAA';
        std::ofstream(path_, std::ios::binary).write(sector.data(), sector.size());
        std::filesystem::resize_file(path_, 1 << 20);
    }
    ~EmptyDisk() { std::filesystem::remove(path_); }
    EmptyDisk(const EmptyDisk&) = delete;
    EmptyDisk& operator=(const EmptyDisk&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_ = std::filesystem::temp_directory_path() / "viv-boot-XXXXXX";
};

int count() {
    const EmptyDisk disk;
    constexpr std::array<std::pair<EngineKind, std::string_view>, 2> engines{
        {{EngineKind::kvm, "kvm"}, {EngineKind::soft, "soft"}}};
    int failures = 0;
    for (size_t i = 0; i < engines.size(); ++i) {
        const auto& [kind, name] = engines[i];
        if (kind == EngineKind::kvm && access("/dev/kvm", R_OK | W_OK) != 0) {
            fmt::print("ok {} - POST on kvm # SKIP this host has no /dev/kvm to use\n", i + 1);
            continue;
        }
        const auto instructions = count_instructions(kind, disk.path());
        if (!instructions) fmt::print("# {}\n", instructions.error().message);
        const bool good = instructions && *instructions > 0 && *instructions <= most_instructions;
        failures += !good;
        fmt::print("{}ok {} - POST on {} takes {} instructions, at most {}\n", good ? "" : "not ", i + 1, name,
                   instructions.value_or(0), most_instructions);
    }
    fmt::print("1..{}\n", engines.size());
    return failures ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view command = argc > 1 ? argv[1] : "";
    if (argc == 2 && command == "count") return count();
    if (argc == 4 && command == "time") {
        const EngineKind kind = std::string_view(argv[2]) == "soft" ? EngineKind::soft : EngineKind::kvm;
        const auto taken = microseconds_to_boot_sector(kind, argv[3]);
        if (!taken) {
            fmt::print(stderr, "bench boot: {}\n", taken.error().message);
            return 1;
        }
        fmt::print("{:.0f}\n", *taken);
        return 0;
    }
    fmt::print(stderr, "usage: bench_boot count | bench_boot time kvm|soft IMAGE\n");
    return 2;
}
