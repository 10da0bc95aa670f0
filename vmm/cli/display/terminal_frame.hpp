#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/video/screen.hpp"

namespace viv {

struct TerminalSize {
    unsigned columns = 80;
    unsigned rows = 25;
    bool operator==(const TerminalSize&) const = default;
};

struct TerminalCell {
    char16_t character = u' ';
    bool blink = false;
    bool underline = false;
    Rgb foreground;
    Rgb background;
    bool operator==(const TerminalCell&) const = default;
};

/// What the whole terminal shall show.
struct TerminalFrame {
    enum class Cursor { hidden, block, underline };

    explicit TerminalFrame(TerminalSize frame_size = {0, 0})
        : size(frame_size), cells(size_t{size.columns} * size.rows) {}
    bool operator==(const TerminalFrame&) const = default;
    TerminalCell& at(unsigned column, unsigned row) { return cells[size_t{row} * size.columns + column]; }
    [[nodiscard]] const TerminalCell& at(unsigned column, unsigned row) const {
        return cells[size_t{row} * size.columns + column];
    }

    TerminalSize size;
    std::vector<TerminalCell> cells;
    Cursor cursor = Cursor::hidden;
    unsigned cursor_column = 0;
    unsigned cursor_row = 0;
};

/// The text screen from the top left. A terminal that is smaller shows the part around the cursor: `view_row` and
/// `view_column` are the part's corner, kept between calls so that it moves no more than it must.
struct TextView {
    unsigned column = 0;
    unsigned row = 0;
};
TerminalFrame frame_of(const TextScreen& screen, TerminalSize size, TextView& view);

/// The proportions in which a monitor shows a picture. Lines of up to 480 are a VGA's, which fill a screen of 4:3
/// whatever their number; larger pictures have square pixels.
struct PictureShape {
    unsigned across = 4;
    unsigned down = 3;
};
PictureShape shape_of(const Image& picture);

/// The picture as half blocks, two pixels a cell, as large as the terminal allows and in its middle.
TerminalFrame frame_of(const Image& picture, TerminalSize size);

/// Puts one line of text over the frame's last row.
void put_line(TerminalFrame& frame, std::string_view text);

}  // namespace viv
