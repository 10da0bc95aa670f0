#include "vmm/cli/options.hpp"

#include <algorithm>
#include <string_view>

#include "vmm/cli/help.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::cli;

TEST_CASE("A bare image means run") {
    const auto command = parse_command_line({"dos.img"});
    REQUIRE(command);
    CHECK(command->kind == Command::Kind::run);
    CHECK(command->run.machine.images == std::vector<std::string>{"dos.img"});
    CHECK(command->run.engine == EngineChoice::automatic);
}

TEST_CASE("Machine options are read, repeated ones in order") {
    const auto command =
        parse_command_line({"run", "a.img", "--memory", "64M", "--cpus", "4", "--floppy", "f1", "--floppy", "f2",
                            "--boot", "disk,floppy", "--serial", "stdio", "--exit-port", "0x501", "--snapshot"});
    REQUIRE(command);
    const MachineOptions& machine = command->run.machine;
    CHECK(machine.images == std::vector<std::string>{"a.img"});
    CHECK(machine.memory == 64u << 20);
    CHECK(machine.cpus == 4u);
    CHECK(machine.floppies == std::vector<std::string>{"f1", "f2"});
    CHECK(machine.boot == std::vector<std::string>{"disk", "floppy"});
    CHECK(machine.serials == std::vector<std::string>{"stdio"});
    CHECK(machine.exit_port == 0x501);
    CHECK(machine.snapshot);
}

TEST_CASE("A step without a value keeps its place, also when it comes twice") {
    const auto command = parse_command_line({"run", "--power-button", "--until", "x", "--power-button", "x.img"});
    REQUIRE(command);
    CHECK(command->run.steps ==
          std::vector<Step>{{Step::Kind::power_button, ""}, {Step::Kind::until, "x"}, {Step::Kind::power_button, ""}});
    CHECK(command->run.machine.images == std::vector<std::string>{"x.img"});
}

TEST_CASE("Firmware, its variables and SMBIOS are read") {
    const auto command = parse_command_line({"run", "--firmware", "code.fd", "--firmware-vars", "vars.fd", "--smbios",
                                             "serial=1,sku=2", "--smbios", "asset=3"});
    REQUIRE(command);
    CHECK(command->run.machine.firmware == "code.fd");
    CHECK(command->run.machine.firmware_variables == "vars.fd");
    CHECK(command->run.machine.smbios == std::vector<std::string>{"serial=1,sku=2", "asset=3"});
}

TEST_CASE("Steps keep the order of the command line") {
    const auto command = parse_command_line({"run", "--until", "login:", "--type", "root\\n", "x.img", "--until", "#"});
    REQUIRE(command);
    CHECK(command->run.steps ==
          std::vector<Step>{{Step::Kind::until, "login:"}, {Step::Kind::type, "root\\n"}, {Step::Kind::until, "#"}});
    CHECK(command->run.machine.images == std::vector<std::string>{"x.img"});
}

TEST_CASE("A typed text may begin with a dash when it is joined by an equals sign") {
    const auto command = parse_command_line({"run", "x.img", "--type=-v\\n"});
    REQUIRE(command);
    CHECK(command->run.steps == std::vector<Step>{{Step::Kind::type, "-v\\n"}});
}

TEST_CASE("Wrong options are usage errors that name the option") {
    const auto refused = [](std::vector<std::string> words, std::string_view part) {
        const auto command = parse_command_line(words);
        REQUIRE_FALSE(command);
        CHECK(command.error().kind == ErrorKind::usage);
        INFO(command.error().message);
        CHECK(command.error().message.find(part) != std::string::npos);
    };
    refused({"run", "--memroy", "64M"}, "unknown option --memroy (did you mean --memory?)");
    refused({"run", "--memory=64M", "--mem=64M"}, "unknown option --mem (did you mean --memory?)");
    refused({"run", "--verbose"}, "unknown option --verbose; see viv run --help");
    refused({"board", "--timeout", "5"}, "see viv board --help");
    refused({"bord"}, "did you mean board?");
    refused({"run", "--memory", "lots"}, "'lots' is not a size");
    refused({"run", "--engine", "tcg"}, "--engine: there is no 'tcg'; use auto, kvm");
    refused({"run", "--display", "gtk"}, "--display: there is no 'gtk'; use auto, none, terminal");
    refused({"run", "--cpus", "two"}, "--cpus: 'two' is not a number");
    refused({"run", "--exit-port", "0x12345"}, "--exit-port");
    refused({"run", "--kernel", "a", "--load-address", "low"}, "'low' is not an address");
    refused({"run", "--kernel", "a", "--kernel-entry", "8"}, "'8': Linux is entered in 16, 32 or 64 bits");
    refused({"run", "--timeout", "0"}, "--timeout");
    refused({"run", "--timeout", "1e99"}, "--timeout");
    refused({"run", "--timeout", "5s"}, "'5s' is not a time in seconds");
    refused({"run", "--cpus"}, "--cpus needs a value");
    refused({"run", "--cpus="}, "--cpus needs a value");
    refused({"run", "--memory", "1M", "--memory", "2M"}, "--memory is given more than once");
    refused({"run", "a", "--read-only", "--snapshot"}, "exclude");
}

TEST_CASE("Sizes have binary units and bounds") {
    CHECK(parse_size("64M") == 64u << 20);
    CHECK(parse_size("2G") == uint64_t{2} << 30);
    CHECK(parse_size("512k") == 512u << 10);
    CHECK(parse_size("4096") == 4096u);
    CHECK_FALSE(parse_size(""));
    CHECK_FALSE(parse_size("M"));
    CHECK_FALSE(parse_size("10Q"));
    CHECK_FALSE(parse_size("99999999T"));
}

TEST_CASE("Every help text fits a screen of 80 by 24") {
    for (std::string_view text : {main_help, run_help, board_help}) {
        CHECK(std::ranges::count(text, '\n') <= 24);
        while (!text.empty()) {
            const auto line = text.substr(0, text.find('\n'));
            CHECK(line.size() <= 80);
            text.remove_prefix(std::min(text.size(), line.size() + 1));
        }
    }
    CHECK(parse_command_line({}).value().kind == Command::Kind::help);
    CHECK(parse_command_line({"run", "--help"}).value().text == run_help);
    CHECK(parse_command_line({"board", "-h"}).value().text == board_help);
}
