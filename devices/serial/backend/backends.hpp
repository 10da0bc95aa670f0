#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "devices/serial/char_backend.hpp"

namespace viv {

// What open_char_backend chooses from; each takes the spec without its kind.

/// Both directions of the process's own standard input and output.
Result<std::unique_ptr<CharBackend>> open_stdio_backend(EventLoop& loop);
/// Output into a file, which is emptied first.
Result<std::unique_ptr<CharBackend>> open_file_backend(std::string_view path, EventLoop& loop);
/// A new pseudo-terminal; description() names its slave.
Result<std::unique_ptr<CharBackend>> open_pty_backend(EventLoop& loop);
/// "PATH" or "PATH,server".
Result<std::unique_ptr<CharBackend>> open_unix_backend(std::string_view spec, EventLoop& loop);
/// "HOST:PORT" or "HOST:PORT,server".
Result<std::unique_ptr<CharBackend>> open_tcp_backend(std::string_view spec, EventLoop& loop);

}  // namespace viv
