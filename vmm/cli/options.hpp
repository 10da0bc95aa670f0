#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/result.hpp"
#include "vmm/engine/trace.hpp"

namespace viv::cli {

enum class EngineChoice { automatic, kvm, soft };
enum class DisplayChoice { automatic, terminal, none };

/// One step of a scripted run, in the order of the command line.
struct Step {
    enum class Kind { until, type, wait, click, move, insert, eject, grow, link, power_button };
    Kind kind = Kind::until;
    std::string text;  // of insert "DRIVE=FILE" or "FILE", of eject "DRIVE", of grow "disk0=20G", of link "nic0=down",
                       // of click "X,Y,BUTTON"
    bool operator==(const Step&) const = default;
};

/// What --net and the options beside it say.
struct NetworkOptions {
    std::vector<std::string> nics = {};       // LINK[,KEY=VALUE...] each
    std::vector<std::string> published = {};  // ports of the host
    std::vector<std::string> records = {};    // files for the frames of a NIC each, the first one's first
    bool ssh = false;                         // a free port of the host is published as the guest's 22
    bool by_default = false;                  // without any of these there is a NIC with a user link
};

/// Seconds as people write them: "60", "0.5". Nothing when `text` is none, not above 0, or more than a clock can count
/// (thirty years).
std::optional<double> parse_seconds(std::string_view text);

/// What describes the machine: `viv run` runs it, `viv board` prints it.
struct MachineOptions {
    std::vector<std::string> images;  // recognised by content
    std::vector<std::string> floppies;
    std::vector<std::string> disks;
    std::vector<std::string> cdroms;
    std::vector<std::string> serials;  // COM1 first
    std::vector<std::string> virtio;   // FUNCTION[,KEY=VALUE...]
    std::vector<std::string> usb;      // kinds of devices
    std::vector<std::string> shares;   // DIR[:TAG][,ro]
    std::optional<std::string> vsock;  // [cid=N,]socket=PATH
    NetworkOptions network;
    std::optional<std::string> board;
    std::optional<uint64_t> memory;  // bytes
    std::optional<uint32_t> cpus;
    std::optional<std::string> cpu_model;
    std::vector<std::string> boot;  // kinds or names of drives; "menu" asks for the boot menu
    std::optional<uint16_t> exit_port;
    std::vector<std::string> smbios;      // KEY=VALUE,...
    std::optional<std::string> firmware;  // in place of ours
    std::optional<std::string> firmware_variables;
    std::vector<std::string> option_roms;
    std::optional<std::string> kernel;  // booted instead of a drive
    std::vector<std::string> initrds;
    std::optional<uint32_t> load_address;  // of a kernel without a header
    std::optional<uint32_t> kernel_entry;  // bits
    std::optional<std::string> kernel_command_line;
    bool read_only = false;
    bool snapshot = false;
    bool test_device = false;
};

struct RunOptions {
    MachineOptions machine;
    EngineChoice engine = EngineChoice::automatic;
    bool virtual_time = false;  // --clock virtual
    uint64_t mips = 100;        // of virtual time
    DisplayChoice display = DisplayChoice::automatic;
    std::vector<Step> steps;
    std::optional<double> timeout;  // seconds
    std::optional<std::string> screenshot;
    bool no_reboot = false;
    bool json = false;
    bool digest = false;               // print a hash of RAM and state at the end
    std::optional<std::string> trace;  // the file
    TraceChoice trace_choice;
    bool stats = false;  // print the counters at the end
};

struct BoardOptions {
    MachineOptions machine;
};

struct Command {
    enum class Kind { run, board, help, version } kind = Kind::help;
    std::string text;  // of help and version
    RunOptions run;
    BoardOptions board;
};

/// Reads the command line. `viv IMAGE...` means `viv run IMAGE...`. Errors are of kind usage and name the option.
Result<Command> parse_command_line(const std::vector<std::string>& arguments);

/// "64M", "2G", "512K", "1048576": bytes.
Result<uint64_t> parse_size(const std::string& text);

}  // namespace viv::cli
