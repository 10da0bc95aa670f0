#pragma once

#include <string>

#include "devices/video/screen.hpp"
#include "vmm/cli/display/terminal_frame.hpp"

namespace viv {

/// How a terminal draws pictures of its own, best last.
enum class TerminalGraphics { none, sixel, kitty };

/// The size of a character cell in the terminal's pixels.
struct CellSize {
    unsigned width = 8;
    unsigned height = 16;
    bool operator==(const CellSize&) const = default;
};

/// Asks the terminal for its abilities: the kitty graphics protocol, the size of a cell, and its primary attributes,
/// which sixel is one of. It answers as if somebody typed (TerminalReport).
std::string graphics_questions();

/// Where in the terminal a picture goes: in its shape, in the middle, the bottom line left free.
struct PicturePlace {
    unsigned column = 0;
    unsigned row = 0;
    unsigned columns = 1;
    unsigned rows = 1;
    bool operator==(const PicturePlace&) const = default;
};
PicturePlace place_picture(const Image& picture, TerminalSize size, CellSize cell);

/// The sequences that draw the picture at its place, over what is there. Errors of encoding give no bytes.
std::string kitty_picture(const Image& picture, const PicturePlace& place);
/// Takes all of kitty's pictures away; sixels are painted over.
std::string kitty_clear();
/// Scaled to the place; all its colours when they are at most 256, else the nearest of 252.
std::string sixel_picture(const Image& picture, const PicturePlace& place, CellSize cell);

}  // namespace viv
