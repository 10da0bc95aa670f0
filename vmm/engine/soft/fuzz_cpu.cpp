// fuzz-cpu [--cases N] [--seed N] [--bits 32|64] [--only MNEMONIC] [--coverage]: random instructions on the host's
// processor and on the software CPU; prints where they differ, one line a mnemonic, and fails when anything does or
// when an instruction was never tried. Leaves with 77 where the host does not allow it.
#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "vmm/engine/soft/compare/comparison.hpp"

using namespace viv::soft_test;

namespace {

struct Options {
    uint64_t cases = 100'000, seed = 1;
    bool bits32 = true, bits64 = true, coverage = false;
    std::string only;
};

Options parse(int argc, char** argv) {
    Options options;
    for (int n = 1; n < argc; ++n) {
        const std::string_view option = argv[n];
        if (option == "--coverage") options.coverage = true;
        if (n + 1 == argc) break;
        const char* text = argv[n + 1];
        const uint64_t value = std::strtoull(text, nullptr, 10);
        if (option == "--cases") options.cases = value;
        if (option == "--seed") options.seed = value;
        if (option == "--bits") (value == 32 ? options.bits64 : options.bits32) = false;
        if (option == "--only") options.only = text;
    }
    return options;
}

struct Found {
    uint64_t count = 0;
    std::string example;
};

void note(std::map<std::string, Found>& found, const Difference& difference) {
    Found& entry = found[difference.mnemonic];
    if (entry.count++ != 0) return;
    std::string bytes;
    for (const uint8_t byte : difference.code) bytes += fmt::format("{:02x}", byte);
    entry.example = fmt::format("{} [{}] {}-bit:{}", difference.text, bytes,
                                difference.size == CodeSize::bits64 ? 64 : 32, difference.what);
}

/// How many mnemonics were tried, and which never; false when some were not.
bool print_coverage(const Comparison& comparison, CodeSize size, bool all) {
    const auto& counts = comparison.counts(size);
    size_t completed = 0;
    std::string faulted;
    for (const auto& [mnemonic, count] : counts) {
        if (count.completed != 0) {
            ++completed;
        } else {
            faulted += fmt::format(" {}", ZydisMnemonicGetString(mnemonic));
        }
        if (all) {
            fmt::print("{:>8} {:>8}  {}\n", count.cases, count.completed, ZydisMnemonicGetString(mnemonic));
        }
    }
    const auto uncovered = comparison.uncovered(size);
    fmt::print("{}-bit code: {} mnemonics tried, {} of them ran to their end\n", size == CodeSize::bits64 ? 64 : 32,
               counts.size(), completed);
    if (!faulted.empty()) fmt::print("  only ever refused:{}\n", faulted);
    for (const std::string& name : uncovered) fmt::print("  never tried: {}\n", name);
    return uncovered.empty();
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    Comparison comparison(options.seed);
    if (!comparison.unavailable().empty()) {
        fmt::print(stderr, "fuzz-cpu: {}\n", comparison.unavailable());
        return 77;
    }
    if (!options.only.empty()) comparison.restrict_to(options.only);
    std::map<std::string, Found> found;
    uint64_t different = 0;
    for (uint64_t n = 0; comparison.compared() < options.cases; ++n) {
        const CodeSize size = options.bits32 && (!options.bits64 || n % 3 == 2) ? CodeSize::bits32 : CodeSize::bits64;
        std::vector<Difference> differences;
        comparison.run_batch(size, differences);
        different += differences.size();
        for (const Difference& difference : differences) note(found, difference);
    }
    for (const auto& [mnemonic, entry] : found) fmt::print("{:>6}  {}\n", entry.count, entry.example);
    bool covered = true;
    if (options.only.empty()) {
        if (options.bits32) covered = print_coverage(comparison, CodeSize::bits32, options.coverage) && covered;
        if (options.bits64) covered = print_coverage(comparison, CodeSize::bits64, options.coverage) && covered;
    }
    const bool compiled = comparison.compiled() > 0 || !options.only.empty();
    if (!compiled) fmt::print("nothing was host code\n");
    fmt::print("{} cases, {} of them as host code, {} differences in {} mnemonics\n", comparison.compared(),
               comparison.compiled(), different, found.size());
    return found.empty() && covered && compiled ? 0 : 1;
}
