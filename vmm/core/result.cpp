#include "vmm/core/result.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace viv {
namespace {
std::move_only_function<void()>& crash_report() {
    static std::move_only_function<void()> report;
    return report;
}
}  // namespace

std::unexpected<Error> fail(std::string message) {
    return std::unexpected(Error{std::move(message), ErrorKind::failure});
}

std::unexpected<Error> fail_usage(std::string message) {
    return std::unexpected(Error{std::move(message), ErrorKind::usage});
}

std::unexpected<Error> fail_errno(std::string_view what, int errno_value) {
    return fail(fmt::format("{}: {}", what, std::strerror(errno_value)));
}

std::unexpected<Error> add_context(Error error, std::string_view context) {
    error.message = fmt::format("{}: {}", context, error.message);
    return std::unexpected(std::move(error));
}

std::move_only_function<void()> set_crash_report(std::move_only_function<void()> report) {
    return std::exchange(crash_report(), std::move(report));
}

void panic(std::string_view message, std::source_location where) {
    std::fputs(fmt::format("viv: internal error: {} ({}:{})\n", message, where.file_name(), where.line()).c_str(),
               stderr);
    // A report that fails itself must not come back here.
    if (auto report = std::exchange(crash_report(), nullptr)) report();
    std::fflush(nullptr);
    std::abort();
}

}  // namespace viv
