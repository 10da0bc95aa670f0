#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/video/screen.hpp"

namespace viv {

/// The shapes of 256 characters that are 8 dots wide, in the order of code page 437 at least for the line drawing.
struct GlyphFont {
    static constexpr unsigned tallest = 16;
    unsigned height = 0;  // 8, 14 or 16
    /// Rows from the top, the left dot in the highest bit; those below `height` are 0.
    std::array<std::array<uint8_t, tallest>, 256> rows{};
    bool operator==(const GlyphFont&) const = default;
};

/// Fonts of the usual heights in a piece of memory, whoever put them there and wherever they are: found by the blocks
/// DBh to DFh, which look alike in all of them. Glyphs follow each other without gaps.
std::vector<GlyphFont> find_fonts(std::span<const std::byte> bytes);

/// Fonts in map 2 of a VGA: at multiples of 2000h, 32 bytes a glyph.
std::vector<GlyphFont> find_text_fonts(std::span<const uint8_t> map);

/// Text that was drawn into a picture in cells of 8 dots by a font's height, beginning at a corner of the picture or of
/// an 80-column screen in its middle, or in line with that. A cell has two colours, or all dots of one colour make the
/// character. The font that explains most of the picture wins. What is no character is a blank. Without any text there
/// are no cells. Doubled lines and dots count once.
TextScreen recognise_text(const Image& picture, std::span<const GlyphFont> fonts);

}  // namespace viv
