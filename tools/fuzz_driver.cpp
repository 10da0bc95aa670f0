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
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Input = std::vector<std::uint8_t>;

const Input* current = nullptr;

// Leaves the input behind that was running when the target died; only system calls, for it runs in a signal handler.
void keep_input() {
    if (!current) return;
    const int file = open("fuzz-crash.bin", O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (file < 0 || write(file, current->data(), current->size()) < 0) return;
    constexpr std::string_view message = "fuzz: the input that failed is in fuzz-crash.bin\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, message.data(), message.size());
}

void on_signal(int signal_number) {
    keep_input();
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
}

// A sanitizer reports through its own signal handlers and tells us before it ends the program.
void watch_for_crashes() {
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(keep_input);
        return;
    }
    for (const int signal_number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal_number, on_signal);
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
    watch_for_crashes();

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
