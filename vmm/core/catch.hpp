#pragma once
// Catch2 in version 2 (Debian 12: one header) or version 3 (Ubuntu 24.04), under one name for all unit tests.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

namespace viv::testing {

/// Records that the running test case cannot run on this host, and why. Use VIV_SKIP, which also leaves the test case.
void note_skip(std::string reason);

}  // namespace viv::testing

/// Leaves the test case and reports it as skipped; the reason says what the host lacks. (Catch2 v2 has no SKIP.)
#define VIV_SKIP(reason)                   \
    do {                                   \
        ::viv::testing::note_skip(reason); \
        return;                            \
    } while (false)
