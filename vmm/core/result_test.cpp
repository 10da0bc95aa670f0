#include "vmm/core/result.hpp"

#include <cerrno>
#include <memory>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {
Result<std::unique_ptr<int>> make(bool good) {
    if (!good) return fail_usage("no");
    return std::make_unique<int>(7);
}
Result<void> check(bool good) {
    if (!good) return fail("bad");
    return {};
}
Result<int> both(bool first, bool second) {
    const auto value = TRY(make(first));
    TRY(check(second));
    return *value;
}
}  // namespace

TEST_CASE("TRY passes values on, also move-only ones, and returns errors with their kind") {
    CHECK(both(true, true).value() == 7);
    CHECK(both(false, true).error() == Error{"no", ErrorKind::usage});
    CHECK(both(true, false).error() == Error{"bad", ErrorKind::failure});
}

TEST_CASE("Errors say what, why and where") {
    CHECK(fail_errno("cannot open 'x'", ENOENT).error().message == "cannot open 'x': No such file or directory");
    const auto error = add_context(Error{"too long", ErrorKind::usage}, "/isa/serial@3f8").error();
    CHECK(error == Error{"/isa/serial@3f8: too long", ErrorKind::usage});
}
