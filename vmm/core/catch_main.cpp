// The main program of every unit test. Beside Catch2's own report it writes one TAP line per test case to the file
// named by VIV_TAP, so that tools/check counts test cases and still knows which one ran when a program died.
#define CATCH_CONFIG_RUNNER
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "vmm/core/catch.hpp"

namespace {

std::string& skip_reason() {
    static std::string reason;
    return reason;
}

std::string tap_text(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '#' || c == '\\') out += '\\';
        out += c == '\n' ? ' ' : c;
    }
    return out;
}

// The two versions of Catch2 differ in the listener's base class and in how the stats hold the test's description.
#if defined(CATCH_VERSION_MAJOR) && CATCH_VERSION_MAJOR >= 3
using ListenerBase = Catch::EventListenerBase;
const std::string& name_of(const Catch::TestCaseStats& stats) {
    return stats.testInfo->name;
}
#else
using ListenerBase = Catch::TestEventListenerBase;
const std::string& name_of(const Catch::TestCaseStats& stats) {
    return stats.testInfo.name;
}
#endif

class TapFile : public ListenerBase {
  public:
    using ListenerBase::ListenerBase;

    void testRunStarting(const Catch::TestRunInfo& info) override {
        ListenerBase::testRunStarting(info);
        if (const char* path = std::getenv("VIV_TAP")) file_ = std::fopen(path, "w");
    }

    void testCaseStarting(const Catch::TestCaseInfo& info) override {
        ListenerBase::testCaseStarting(info);
        skip_reason().clear();
        if (!file_) return;
        std::fprintf(file_, "# running %s\n", tap_text(info.name).c_str());
        std::fflush(file_);
    }

    void testCaseEnded(const Catch::TestCaseStats& stats) override {
        const bool failed = stats.totals.testCases.failed != 0;
        ++count_;
        if (file_) {
            std::fprintf(file_, "%s %u - %s", failed ? "not ok" : "ok", count_, tap_text(name_of(stats)).c_str());
            if (!failed && !skip_reason().empty()) {
                std::fprintf(file_, " # SKIP %s", tap_text(skip_reason()).c_str());
            }
            std::fputc('\n', file_);
            std::fflush(file_);
        }
        ListenerBase::testCaseEnded(stats);
    }

    void testRunEnded(const Catch::TestRunStats& stats) override {
        if (file_) {
            std::fprintf(file_, "1..%u\n", count_);
            std::fclose(file_);
            file_ = nullptr;
        }
        ListenerBase::testRunEnded(stats);
    }

  private:
    std::FILE* file_ = nullptr;
    unsigned count_ = 0;
};

CATCH_REGISTER_LISTENER(TapFile)

}  // namespace

void viv::testing::note_skip(std::string reason) {
    skip_reason() = std::move(reason);
}

int main(int argc, char** argv) {
    return Catch::Session().run(argc, argv);
}
