#pragma once

#include <expected>
#include <functional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace viv {

/// Who has to act on an error: `usage` is a wrong command line or board (exit code 2), `failure` is the host (exit code
/// 1).
enum class ErrorKind { usage, failure };

/// A failure of the host or of the configuration, in words for the person at the keyboard: the thing, the reason, what
/// to do. What a guest does wrong is never an Error; what we do wrong is an assertion.
struct Error {
    std::string message;
    ErrorKind kind = ErrorKind::failure;
    bool operator==(const Error&) const = default;
};

template <class T = void>
using Result = std::expected<T, Error>;

/// An Error of kind `failure` as the unexpected side of a Result.
[[nodiscard]] std::unexpected<Error> fail(std::string message);
/// An Error of kind `usage` as the unexpected side of a Result.
[[nodiscard]] std::unexpected<Error> fail_usage(std::string message);
/// A failure of a system call: "<what>: <text of errno_value>".
[[nodiscard]] std::unexpected<Error> fail_errno(std::string_view what, int errno_value);
/// Puts "<context>: " before the message and keeps the kind.
[[nodiscard]] std::unexpected<Error> add_context(Error error, std::string_view context);

/// Registers what a failed assertion prints after its message (CPU state, last exits). Returns the previous hook.
std::move_only_function<void()> set_crash_report(std::move_only_function<void()> report);

/// Prints the message, the place and the crash report on stderr and aborts. For bugs of ours only.
[[noreturn]] void panic(std::string_view message, std::source_location where = std::source_location::current());

}  // namespace viv

/// The value of a Result, or a return of its error from the function around it.
#define TRY(expression)                                                           \
    __extension__({                                                               \
        auto try_result_ = (expression);                                          \
        if (!try_result_) return std::unexpected(std::move(try_result_).error()); \
        std::move(try_result_).operator*();                                       \
    })

/// Stays on in release builds: a false condition is a bug of ours, and going on would make it worse.
#define VIV_ASSERT(condition)                                            \
    do {                                                                 \
        if (!(condition)) ::viv::panic("assertion failed: " #condition); \
    } while (false)
