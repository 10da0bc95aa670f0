// save_acpi_tables BOARD FOLDER: powers the board on with our BIOS and writes every ACPI table that an operating system
// would find to FOLDER, as NUMBER-SIGNATURE.dat, in the order of the XSDT and with what the FADT leads to.

#include <fmt/format.h>

#include <cstddef>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vmm/boards/board.hpp"
#include "vmm/firmware/power_on.hpp"
#include "vmm/machine/engine_choice.hpp"
#include "vmm/machine/machine.hpp"

namespace {

using namespace viv;

class TableWriter {
  public:
    TableWriter(const GuestMemory& memory, std::string folder) : memory_(memory), folder_(std::move(folder)) {}
    Result<void> write(Gpa at) {
        std::vector<std::byte> table(memory_.load<uint32_t>(at + 4));
        memory_.read(at, table);
        const auto* bytes = reinterpret_cast<const char*>(table.data());
        const std::string path = fmt::format("{}/{:02}-{}.dat", folder_, written_++, std::string(bytes, 4));
        std::ofstream file(path, std::ios::binary);
        file.write(bytes, static_cast<std::streamsize>(table.size()));
        if (!file.flush()) return fail(fmt::format("cannot write '{}'", path));
        return {};
    }

  private:
    const GuestMemory& memory_;
    std::string folder_;
    unsigned written_ = 0;
};

Result<void> save(const std::string& board_path, const std::string& folder) {
    MachineConfig config;
    config.board = TRY(load_board(board_path));
    const Gpa rsdp = firmware::acpi_rsdp(config.board);
    if (rsdp.value == 0) return fail("this board has no ACPI");
    config.make_engine = [](const EngineConfig& engine, EngineClock clock) {
        return make_engine(EngineKind::soft, engine, clock);
    };
    const auto machine = TRY(Machine::create(std::move(config)));
    machine->start();
    machine->stop({});
    machine->finish();
    const std::lock_guard hold(machine->lock());
    const GuestMemory& memory = machine->memory();
    TableWriter writer(memory, folder);
    const Gpa xsdt{memory.load<uint64_t>(rsdp + 24)};
    constexpr uint64_t header = 36, facs_pointer = 36, dsdt_pointer = 40;
    for (uint64_t at = header; at < memory.load<uint32_t>(xsdt + 4); at += 8) {
        const Gpa table{memory.load<uint64_t>(xsdt + at)};
        TRY(writer.write(table));
        if (memory.load<uint32_t>(table) != 0x50434146) continue;  // "FACP"
        TRY(writer.write(Gpa{memory.load<uint32_t>(table + dsdt_pointer)}));
        TRY(writer.write(Gpa{memory.load<uint32_t>(table + facs_pointer)}));
    }
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        fmt::print(stderr, "usage: save_acpi_tables BOARD FOLDER\n");
        return 2;
    }
    const auto saved = save(argv[1], argv[2]);
    if (!saved) fmt::print(stderr, "save_acpi_tables: {}\n", saved.error().message);
    return saved ? 0 : 1;
}
