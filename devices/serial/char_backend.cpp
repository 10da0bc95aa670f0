#include "devices/serial/char_backend.hpp"

#include <fmt/format.h>

#include "devices/serial/backend/backends.hpp"

namespace viv {
namespace {

/// A plug with nothing behind it.
class NullBackend final : public CharBackend {
  public:
    [[nodiscard]] bool write(uint8_t) override { return true; }
    void on_writable(std::move_only_function<void()>) override {}
    [[nodiscard]] bool readable() const override { return false; }
    [[nodiscard]] std::optional<uint8_t> read() override { return std::nullopt; }
    void on_readable(std::move_only_function<void()>) override {}
    [[nodiscard]] std::string description() const override { return {}; }
};

}  // namespace

Result<std::unique_ptr<CharBackend>> open_char_backend(std::string_view spec, EventLoop& loop) {
    const size_t colon = spec.find(':');
    const std::string_view kind = spec.substr(0, colon);
    const std::string_view rest = colon == std::string_view::npos ? std::string_view{} : spec.substr(colon + 1);
    if (spec == "null") return std::make_unique<NullBackend>();
    if (spec == "stdio") return open_stdio_backend(loop);
    if (spec == "pty") return open_pty_backend(loop);
    if (kind == "file" && !rest.empty()) return open_file_backend(rest, loop);
    if (kind == "unix" && !rest.empty()) return open_unix_backend(rest, loop);
    if (kind == "tcp" && !rest.empty()) return open_tcp_backend(rest, loop);
    return fail_usage(
        fmt::format("'{}' is no serial backend: use null, stdio, file:PATH, pty, unix:PATH[,server] or "
                    "tcp:HOST:PORT[,server]",
                    spec));
}

}  // namespace viv
