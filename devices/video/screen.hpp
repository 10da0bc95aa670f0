#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace viv {

struct Rgb {
    uint8_t red = 0;
    uint8_t green = 0;
    uint8_t blue = 0;
    bool operator==(const Rgb&) const = default;
};

/// A picture, row by row from the top left.
struct Image {
    unsigned width = 0;
    unsigned height = 0;
    std::vector<Rgb> pixels;  // width * height
    bool operator==(const Image&) const = default;
    [[nodiscard]] Rgb at(unsigned x, unsigned y) const { return pixels[size_t{y} * width + x]; }
};

/// One character of a text screen. The colours are what the monitor shows; a blinking cell is given in its "on" phase.
struct TextCell {
    uint8_t character = ' ';  // in the code page of the guest's font, usually 437
    uint8_t attribute = 0x07;
    bool blink = false;
    bool underline = false;
    Rgb foreground;
    Rgb background;
    bool operator==(const TextCell&) const = default;
};

struct TextCursor {
    bool visible = false;  // enabled, and on the screen; whether it is in its "on" phase does not matter
    unsigned column = 0;
    unsigned row = 0;
    // The scan lines of the cell that it covers, out of `height`.
    unsigned first_line = 0;
    unsigned last_line = 0;
    unsigned height = 0;
    bool operator==(const TextCursor&) const = default;
};

enum class ScreenKind { text, graphics };

/// The characters on the screen. In a graphics mode `kind` says so, and there are no cells unless they were recognised
/// (screen_reader.hpp).
struct TextScreen {
    ScreenKind kind = ScreenKind::text;
    bool blanked = false;  // the guest has turned the picture off; the cells are still what memory holds
    unsigned columns = 0;
    unsigned rows = 0;
    std::vector<TextCell> cells;  // columns * rows
    TextCursor cursor;
    bool operator==(const TextScreen&) const = default;
    [[nodiscard]] const TextCell& at(unsigned column, unsigned row) const {
        return cells[size_t{row} * columns + column];
    }
    /// A row as UTF-8 without the blanks at its end; empty for a row that is not there.
    [[nodiscard]] std::string line(unsigned row) const;
    /// All rows, each ended by a newline, without the empty ones at the end.
    [[nodiscard]] std::string plain() const;
};

/// What a display adapter shows. All calls are made under the machine lock.
class Screen {
  public:
    virtual ~Screen() = default;
    [[nodiscard]] virtual TextScreen text() const = 0;
    /// Copies what the picture is made of; calling the result makes the picture, and needs no lock. Dots are as the
    /// monitor draws them: a mode of doubled lines or dots gives doubled ones (mode 13h is 640x400).
    [[nodiscard]] virtual std::move_only_function<Image()> freeze() const = 0;
    /// The fonts that the guest has loaded for text modes, as they lie in map 2: at multiples of 2000h, 32 bytes a
    /// character. Empty for an adapter without.
    [[nodiscard]] virtual std::vector<uint8_t> font_memory() const { return {}; }
    /// A number that changes when the picture may have changed, except by blinking.
    [[nodiscard]] virtual uint64_t generation() const = 0;
    /// Calls `handler` each time the generation has moved on by `changes`, so that what scrolls by faster than anybody
    /// polls is not missed. It runs inside the guest's access and may only look. An empty handler ends it.
    virtual void on_changes(uint64_t changes, std::move_only_function<void()> handler) = 0;
    /// The exact picture at this moment, cursor and blinking included.
    [[nodiscard]] Image pixels() const { return freeze()(); }
};

}  // namespace viv
