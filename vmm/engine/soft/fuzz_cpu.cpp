// fuzz-cpu [--cases N] [--seed N] [--bits 32|64]: random instructions on the host's processor and on the software CPU;
// prints where they differ, one line a mnemonic, and fails when anything does.
#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "vmm/engine/soft/native_harness.hpp"

int main(int argc, char** argv) {
    uint64_t cases = 100'000, seed = 1;
    bool only32 = false, only64 = false;
    for (int n = 1; n + 1 < argc; n += 2) {
        const std::string_view option = argv[n];
        const uint64_t value = std::strtoull(argv[n + 1], nullptr, 10);
        if (option == "--cases") cases = value;
        if (option == "--seed") seed = value;
        if (option == "--bits") (value == 32 ? only32 : only64) = true;
    }
    using namespace viv::soft_test;
    Comparison comparison(seed);
    if (!comparison.available()) {
        fmt::print(stderr, "fuzz-cpu: this host does not let a child be traced\n");
        return 1;
    }
    struct Found {
        uint64_t count = 0;
        std::string example;
    };
    std::map<std::string, Found> found;
    uint64_t different = 0;
    for (uint64_t n = 0; n < cases; ++n) {
        const CodeSize size = only32 || (!only64 && n % 3 == 2) ? CodeSize::bits32 : CodeSize::bits64;
        const auto difference = comparison.next(size);
        if (!difference) continue;
        ++different;
        std::string bytes;
        for (const uint8_t byte : difference->code) bytes += fmt::format("{:02x}", byte);
        Found& entry = found[difference->instruction.substr(0, difference->instruction.find(' '))];
        if (entry.count++ == 0) {
            entry.example = fmt::format("{} [{}] {}-bit:{}", difference->instruction, bytes,
                                        difference->size == CodeSize::bits64 ? 64 : 32, difference->what);
        }
    }
    for (const auto& [mnemonic, entry] : found) fmt::print("{:>6}  {}\n", entry.count, entry.example);
    fmt::print("{} cases, {} differences in {} mnemonics\n", cases, different, found.size());
    return found.empty() ? 0 : 1;
}
