#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "devices/video/screen.hpp"

namespace viv {

/// A text screen as a stream of lines, for a pipe: each line once, when the cursor has gone below it or it scrolls out,
/// without colours or escape sequences. A screen that was cleared or painted over begins anew.
class PlainPrinter {
  public:
    /// What is new since the last call; nothing for a graphics mode.
    std::string update(const TextScreen& screen);
    /// The rest of the screen, finished or not.
    std::string finish(const TextScreen& screen);

  private:
    std::string update(const TextScreen& screen, size_t finished);

    std::vector<std::string> lines_;  // of the last screen
    size_t printed_ = 0;              // how many of them have been printed
};

}  // namespace viv
