#pragma once

#include <cstdint>
#include <vector>

#include "devices/video/glyphs.hpp"
#include "devices/video/screen.hpp"
#include "vmm/core/guest_memory.hpp"

namespace viv {

/// Reads a screen as a person does: characters in text modes, and in graphics modes what the shapes of the adapter's
/// ROM, of the adapter's own fonts and of any font in the guest's memory make of the picture. All calls are made under
/// the machine lock.
class ScreenReader {
  public:
    ScreenReader(const Screen& screen, const GuestMemory& memory) : screen_(screen), memory_(memory) {}

    /// What is on the screen now. In graphics modes the kind is graphics, and there are no cells without text; that
    /// takes milliseconds, unless nothing has changed since the last call.
    const TextScreen& read();
    /// Of the last read(); text before the first.
    [[nodiscard]] ScreenKind last_kind() const { return text_.kind; }

  private:
    void look_for_fonts();

    const Screen& screen_;
    const GuestMemory& memory_;
    std::vector<GlyphFont> fonts_;
    unsigned until_next_search_ = 0;
    bool read_ = false;
    uint64_t generation_ = 0;
    TextScreen text_;
};

}  // namespace viv
