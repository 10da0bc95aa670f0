// Runs a fuzz target without libFuzzer: the inputs named on the command line (files, or folders of files), then
// pseudo-random ones from a fixed seed, so that a failure comes back on every run. `tools/fuzz` searches for real.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// The sanitizers read these: a finding ends in an abort, so that the input can be kept.
extern "C" const char* __asan_default_options() {
    return "abort_on_error=1";
}
extern "C" const char* __ubsan_default_options() {
    return "abort_on_error=1:print_stacktrace=1";
}

namespace {

using Input = std::vector<std::uint8_t>;

const Input* current = nullptr;
std::string crash_file;
std::string crash_note;

// Leaves the input behind that was running when the target died; only system calls, for this is a signal handler.
void keep_input(int signal_number) {
    if (current) {
        const int file = open(crash_file.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
        if (file >= 0 && write(file, current->data(), current->size()) >= 0) {
            [[maybe_unused]] const auto written = write(STDERR_FILENO, crash_note.data(), crash_note.size());
        }
    }
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
}

// A sanitizer has handlers of its own, which report and then abort.
void watch_for_crashes(const std::string& program) {
    crash_file = program.substr(program.rfind('/') + 1) + ".crash";
    crash_note = "fuzz: the input that failed is in " + crash_file + "\n";
    std::signal(SIGABRT, keep_input);
#ifndef __SANITIZE_ADDRESS__
    for (const int signal_number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal_number, keep_input);
#endif
}

class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    /// splitmix64: any seed is good, and the same on every host.
    std::uint64_t next() {
        state_ += 0x9E3779B97F4A7C15;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    std::size_t below(std::size_t limit) { return limit == 0 ? 0 : next() % limit; }

  private:
    std::uint64_t state_;
};

std::uint8_t interesting_byte(Random& random) {
    constexpr std::uint8_t edges[] = {0, 1, 2, 3, 4, 7, 8, 0x0F, 0x10, 0x20, 0x40, 0x7F, 0x80, 0xFE, 0xFF};
    switch (random.below(3)) {
        case 0: return edges[random.below(std::size(edges))];
        case 1: return static_cast<std::uint8_t>(random.below(16));
        default: return static_cast<std::uint8_t>(random.next());
    }
}

Input random_input(Random& random) {
    constexpr std::size_t limits[] = {8, 64, 512, 4096};
    Input input(random.below(limits[random.below(std::size(limits))]));
    for (auto& byte : input) byte = interesting_byte(random);
    return input;
}

// A seed with some bytes changed, a stretch repeated, or the end cut off.
Input mutated(const Input& seed, Random& random) {
    Input input = seed;
    for (std::size_t edits = 1 + random.below(8); edits > 0 && !input.empty(); --edits) {
        const std::size_t at = random.below(input.size());
        switch (random.below(8)) {
            case 0: input.resize(at); break;
            case 1: {
                const std::size_t length = random.below(std::min<std::size_t>(64, input.size() - at)) + 1;
                const Input part(input.begin() + static_cast<std::ptrdiff_t>(at),
                                 input.begin() + static_cast<std::ptrdiff_t>(std::min(at + length, input.size())));
                if (input.size() < 65536) input.insert(input.end(), part.begin(), part.end());
                break;
            }
            case 2: input[at] = static_cast<std::uint8_t>(input[at] ^ (1U << random.below(8))); break;
            default: input[at] = interesting_byte(random); break;
        }
    }
    return input;
}

void run(const Input& input) {
    current = &input;
    LLVMFuzzerTestOneInput(input.data(), input.size());
    current = nullptr;
}

void load(const std::filesystem::path& path, std::vector<Input>& seeds) {
    std::vector<std::filesystem::path> files;
    if (std::filesystem::is_directory(path)) {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
            if (entry.is_regular_file()) files.push_back(entry.path());
        }
        std::sort(files.begin(), files.end());
    } else {
        files.push_back(path);
    }
    for (const auto& file : files) {
        std::ifstream stream(file, std::ios::binary);
        if (!stream) {
            std::fprintf(stderr, "fuzz: cannot open input '%s': %s\n", file.c_str(), std::strerror(errno));
            std::exit(2);
        }
        seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t runs = 10000;
    double seconds = 10;
    std::uint64_t seed = 1;
    std::vector<Input> seeds;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const bool has_value = i + 1 < argc;
        if (word == "--runs" && has_value) {
            runs = std::strtoull(argv[++i], nullptr, 0);
        } else if (word == "--seconds" && has_value) {
            seconds = std::strtod(argv[++i], nullptr);
        } else if (word == "--seed" && has_value) {
            seed = std::strtoull(argv[++i], nullptr, 0);
        } else if (word.starts_with('-')) {
            std::fprintf(stderr, "usage: %s [--runs N] [--seconds S] [--seed N] [input or folder]...\n", argv[0]);
            return 2;
        } else {
            load(argv[i], seeds);
        }
    }
    watch_for_crashes(argv[0]);

    run({});
    for (const auto& input : seeds) run(input);

    Random random(seed);
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    std::uint64_t done = 0;
    for (; done < runs && std::chrono::steady_clock::now() < end; ++done) {
        run(seeds.empty() || random.below(4) == 0 ? random_input(random)
                                                  : mutated(seeds[random.below(seeds.size())], random));
    }
    std::printf("%llu random inputs and %zu files, no failure\n", static_cast<unsigned long long>(done), seeds.size());
    return 0;
}
