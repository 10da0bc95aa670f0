#include "vmm/cli/display/terminal_frame.hpp"

#include <algorithm>

#include "devices/video/code_page_437.hpp"

namespace viv {
namespace {

constexpr char16_t upper_half_block = u'\u2580';

// The corner of a window of `shown` out of `total` that moves only as far as needed to hold `position`.
unsigned follow(unsigned corner, unsigned shown, unsigned total, std::optional<unsigned> position) {
    if (shown >= total) return 0;
    corner = std::min(corner, total - shown);
    if (!position) return corner;
    if (*position < corner) return *position;
    if (*position >= corner + shown) return *position - shown + 1;
    return corner;
}

// The mean colour of a part of the picture; the part has at least one pixel.
Rgb mean(const Image& picture, unsigned left, unsigned right, unsigned top, unsigned bottom) {
    right = std::max(right, left + 1);
    bottom = std::max(bottom, top + 1);
    uint64_t red = 0;
    uint64_t green = 0;
    uint64_t blue = 0;
    for (unsigned y = top; y < bottom; ++y) {
        for (unsigned x = left; x < right; ++x) {
            const Rgb pixel = picture.at(x, y);
            red += pixel.red;
            green += pixel.green;
            blue += pixel.blue;
        }
    }
    const uint64_t count = uint64_t{right - left} * (bottom - top);
    const auto level = [count](uint64_t sum) { return static_cast<uint8_t>((sum + count / 2) / count); };
    return {level(red), level(green), level(blue)};
}

}  // namespace

TerminalFrame frame_of(const TextScreen& screen, TerminalSize size, TextView& view) {
    TerminalFrame frame(size);
    const TextCursor& cursor = screen.cursor;
    const auto follow_cursor = [&](unsigned position) {
        return cursor.visible ? std::optional(position) : std::nullopt;
    };
    view.column = follow(view.column, size.columns, screen.columns, follow_cursor(cursor.column));
    view.row = follow(view.row, size.rows, screen.rows, follow_cursor(cursor.row));
    if (screen.blanked) return frame;
    const unsigned columns = std::min(size.columns, screen.columns - view.column);
    const unsigned rows = std::min(size.rows, screen.rows - view.row);
    for (unsigned row = 0; row < rows; ++row) {
        for (unsigned column = 0; column < columns; ++column) {
            const TextCell& cell = screen.at(view.column + column, view.row + row);
            // The last code of the page is a blank that some terminals treat as more than that.
            const char16_t character = cell.character == 0xFF ? u' ' : code_page_437[cell.character];
            frame.at(column, row) = {character, cell.blink, cell.underline, cell.foreground, cell.background};
        }
    }
    if (cursor.visible && cursor.column - view.column < columns && cursor.row - view.row < rows) {
        const unsigned lines = cursor.last_line - cursor.first_line + 1;
        frame.cursor = lines * 2 >= cursor.height ? TerminalFrame::Cursor::block : TerminalFrame::Cursor::underline;
        frame.cursor_column = cursor.column - view.column;
        frame.cursor_row = cursor.row - view.row;
    }
    return frame;
}

PictureShape shape_of(const Image& picture) {
    return picture.height <= 480 ? PictureShape{} : PictureShape{picture.width, picture.height};
}

TerminalFrame frame_of(const Image& picture, TerminalSize size) {
    TerminalFrame frame(size);
    if (picture.width == 0 || picture.height == 0 || size.columns == 0 || size.rows == 0) return frame;
    // Half a cell is about as high as it is wide.
    const PictureShape shape = shape_of(picture);
    const unsigned width =
        std::max(1u, std::min({size.columns, size.rows * 2 * shape.across / shape.down, picture.width}));
    const unsigned height = std::max(2u, std::min(size.rows * 2, width * shape.down / shape.across) & ~1u);
    const unsigned left = (size.columns - width) / 2;
    const unsigned top = (size.rows - height / 2) / 2;
    const auto pixel = [&](unsigned x, unsigned y) {
        return mean(picture, x * picture.width / width, (x + 1) * picture.width / width, y * picture.height / height,
                    (y + 1) * picture.height / height);
    };
    for (unsigned row = 0; row < height / 2; ++row) {
        for (unsigned column = 0; column < width; ++column) {
            TerminalCell& cell = frame.at(left + column, top + row);
            cell.foreground = pixel(column, row * 2);
            cell.background = pixel(column, row * 2 + 1);
            if (cell.foreground != cell.background) {
                cell.character = upper_half_block;
            } else {
                cell.foreground = {};
            }
        }
    }
    return frame;
}

void put_line(TerminalFrame& frame, std::string_view text) {
    if (frame.size.rows == 0) return;
    const unsigned row = frame.size.rows - 1;
    for (unsigned column = 0; column < frame.size.columns; ++column) {
        const char character = column < text.size() ? text[column] : ' ';
        frame.at(column, row) = {static_cast<char16_t>(character >= ' ' && character < 0x7F ? character : '?'),
                                 false,
                                 false,
                                 {0, 0, 0},
                                 {0xAA, 0xAA, 0xAA}};
    }
    if (frame.cursor_row == row) frame.cursor = TerminalFrame::Cursor::hidden;
}

}  // namespace viv
