#include "devices/video/glyphs.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>

namespace viv {
namespace {

constexpr unsigned cell_width = 8;
constexpr std::array<unsigned, 3> heights = {16, 14, 8};
constexpr uint8_t full_block = 0xDB, left_half = 0xDD;

// Whether the glyphs that begin at `base`, `stride` bytes apart, have the blocks and the space of a font.
bool is_font(std::span<const std::byte> bytes, size_t base, size_t stride, unsigned height) {
    if (base > bytes.size() || 256 * stride > bytes.size() - base) return false;
    const auto row = [&](unsigned character, unsigned y) {
        return std::to_integer<uint8_t>(bytes[base + character * stride + y]);
    };
    const auto all = [&](unsigned character, uint8_t value) {
        for (unsigned y = 0; y < height; ++y) {
            if (row(character, y) != value) return false;
        }
        return true;
    };
    // Half of it one value, half of it the other; where the middle is, fonts differ by a row.
    const auto halves = [&](unsigned character, uint8_t upper, uint8_t lower) {
        for (unsigned y = 0; y < height; ++y) {
            const bool in_middle = y + 1 >= height / 2 && y <= height / 2;
            const uint8_t value = row(character, y);
            if (in_middle ? value != upper && value != lower : value != (y < height / 2 ? upper : lower)) return false;
        }
        return true;
    };
    return all(' ', 0x00) && all(full_block, 0xFF) && halves(0xDC, 0x00, 0xFF) && all(left_half, 0xF0) &&
           all(0xDE, 0x0F) && halves(0xDF, 0xFF, 0x00);
}

GlyphFont read_font(std::span<const std::byte> bytes, size_t base, size_t stride, unsigned height) {
    GlyphFont font;
    font.height = height;
    for (unsigned character = 0; character < 256; ++character) {
        std::memcpy(font.rows[character].data(), &bytes[base + character * stride], height);
    }
    return font;
}

void add(std::vector<GlyphFont>& fonts, const GlyphFont& font) {
    if (std::ranges::find(fonts, font) == fonts.end()) fonts.push_back(font);
}

// The dots of a cell, as one bit each.
using Shape = std::array<uint64_t, 2>;
struct ShapeHash {
    size_t operator()(const Shape& shape) const {
        return static_cast<size_t>((shape[0] * 0x9E37'79B9'7F4A'7C15) ^ (shape[1] * 0xC2B2'AE3D'27D4'EB4F));
    }
};
using Alphabet = std::unordered_map<Shape, uint8_t, ShapeHash>;

Shape shape_of(const std::array<uint8_t, GlyphFont::tallest>& rows) {
    Shape shape;
    std::memcpy(shape.data(), rows.data(), sizeof shape);
    return shape;
}

Alphabet alphabet_of(const GlyphFont& font) {
    Alphabet alphabet;
    // Where two characters look the same, the one that people type.
    const auto put = [&](unsigned character) {
        alphabet.emplace(shape_of(font.rows[character]), static_cast<uint8_t>(character));
    };
    for (unsigned character = 0x20; character < 0x7F; ++character) put(character);
    for (unsigned character = 0x80; character < 0xFF; ++character) put(character);
    for (unsigned character = 0; character < 0x20; ++character) put(character);
    return alphabet;
}

// A picture without the doubling of its lines and dots.
class Dots {
  public:
    explicit Dots(const Image& picture)
        : picture_(picture), across_(doubled_across() ? 2 : 1), down_(doubled_down() ? 2 : 1) {}
    [[nodiscard]] unsigned width() const { return picture_.width / across_; }
    [[nodiscard]] unsigned height() const { return picture_.height / down_; }
    [[nodiscard]] Rgb at(unsigned x, unsigned y) const { return picture_.at(x * across_, y * down_); }

  private:
    [[nodiscard]] bool doubled_across() const {
        if (picture_.width % 2) return false;
        for (size_t i = 0; i < picture_.pixels.size(); i += 2) {
            if (picture_.pixels[i] != picture_.pixels[i + 1]) return false;
        }
        return true;
    }
    [[nodiscard]] bool doubled_down() const {
        if (picture_.height % 2) return false;
        for (unsigned y = 0; y < picture_.height; y += 2) {
            const auto line =
                std::span(picture_.pixels).subspan(size_t{y} * picture_.width, 2 * size_t{picture_.width});
            if (!std::ranges::equal(line.first(picture_.width), line.last(picture_.width))) return false;
        }
        return true;
    }

    const Image& picture_;
    unsigned across_;
    unsigned down_;
};

struct SeenCell {
    Shape shape{};  // 1 where `other` is
    Rgb first;
    Rgb other;
    bool blank = true;  // one colour only
};

// Nothing when the cell has more than two colours.
std::optional<SeenCell> look_at(const Dots& dots, unsigned left, unsigned top, unsigned height) {
    SeenCell cell;
    cell.first = cell.other = dots.at(left, top);
    std::array<uint8_t, GlyphFont::tallest> rows{};
    for (unsigned y = 0; y < height; ++y) {
        for (unsigned x = 0; x < cell_width; ++x) {
            const Rgb dot = dots.at(left + x, top + y);
            if (dot == cell.first) continue;
            if (cell.blank) {
                cell.blank = false;
                cell.other = dot;
            } else if (dot != cell.other) {
                return std::nullopt;
            }
            rows[y] = static_cast<uint8_t>(rows[y] | 0x80u >> x);
        }
    }
    cell.shape = shape_of(rows);
    return cell;
}

Shape inverse(Shape shape, unsigned height) {
    std::array<uint8_t, GlyphFont::tallest> rows{};
    std::memcpy(rows.data(), shape.data(), sizeof shape);
    for (unsigned y = 0; y < height; ++y) rows[y] = static_cast<uint8_t>(~rows[y]);
    return shape_of(rows);
}

// How many rows have a dot.
unsigned rows_of(const Shape& shape) {
    std::array<uint8_t, GlyphFont::tallest> rows;
    std::memcpy(rows.data(), shape.data(), sizeof shape);
    return static_cast<unsigned>(rows.size() - static_cast<size_t>(std::ranges::count(rows, 0)));
}

// The dots of one colour in a cell of many: text that was written over a picture.
Shape shape_of_colour(const Dots& dots, unsigned left, unsigned top, unsigned height, Rgb colour) {
    std::array<uint8_t, GlyphFont::tallest> rows{};
    for (unsigned y = 0; y < height; ++y) {
        for (unsigned x = 0; x < cell_width; ++x) {
            if (dots.at(left + x, top + y) == colour) rows[y] = static_cast<uint8_t>(rows[y] | 0x80u >> x);
        }
    }
    return shape_of(rows);
}

constexpr unsigned least_dots = 6, most_dots = cell_width * GlyphFont::tallest;

// The character of this shape; one of few dots or lines may be anything, and lines and blocks are in any drawing.
std::optional<uint8_t> character_on_picture(const Shape& shape, const Alphabet& alphabet) {
    constexpr unsigned least_rows = 3;
    const auto found = alphabet.find(shape);
    if (found == alphabet.end() || (found->second >= 0xB0 && found->second <= 0xDF)) return std::nullopt;
    if (rows_of(shape) < least_rows) return std::nullopt;
    return found->second;
}

// What a dot counts for: its brightness, or one primary colour, for letters that are as bright as what is around them.
struct Weights {
    unsigned red, green, blue;
};
constexpr std::array<Weights, 4> all_weights{{{2, 5, 1}, {8, 0, 0}, {0, 0, 8}, {0, 8, 0}}};

// A character that stands out by what its dots count for, with whatever shades it and the background have: text that
// was blended into a picture, also with a shadow.
std::optional<TextCell> find_standing_out(const Dots& dots, unsigned left, unsigned top, unsigned height,
                                          const Alphabet& alphabet, Weights weights) {
    const size_t count = size_t{cell_width} * height;
    const auto dot = [&](size_t i) {
        return dots.at(left + static_cast<unsigned>(i % cell_width), top + static_cast<unsigned>(i / cell_width));
    };
    std::array<unsigned, most_dots> brightness, sorted;
    for (size_t i = 0; i < count; ++i) {
        const Rgb colour = dot(i);
        brightness[i] = weights.red * colour.red + weights.green * colour.green + weights.blue * colour.blue;
    }
    std::copy_n(brightness.begin(), count, sorted.begin());
    std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
    // Between the darkest and the brightest dots there is a step, or two where there is a shadow.
    constexpr unsigned least_step = 8 * 20, most_steps = 3;
    std::array<size_t, most_steps> steps;
    unsigned found_steps = 0;
    for (size_t i = least_dots; i + least_dots <= count && found_steps < most_steps; ++i) {
        if (sorted[i] - sorted[i - 1] >= least_step) steps[found_steps++] = i;
    }
    for (const size_t step : std::span(steps).first(found_steps)) {
        for (const bool bright : {true, false}) {
            if ((bright ? count - step : step) > count / 2) continue;
            std::array<uint8_t, GlyphFont::tallest> rows{};
            size_t first = count;
            for (size_t i = 0; i < count; ++i) {
                if ((brightness[i] >= sorted[step]) != bright) continue;
                first = std::min(first, i);
                rows[i / cell_width] = static_cast<uint8_t>(rows[i / cell_width] | 0x80u >> i % cell_width);
            }
            const auto character = character_on_picture(shape_of(rows), alphabet);
            if (!character) continue;
            TextCell cell;
            cell.character = *character;
            cell.foreground = dot(first);
            return cell;
        }
    }
    return std::nullopt;
}

// A character that all the dots of some colour make, or that stands out.
std::optional<TextCell> find_on_picture(const Dots& dots, unsigned left, unsigned top, unsigned height,
                                        const Alphabet& alphabet) {
    constexpr unsigned most_colours = most_dots;
    std::array<std::pair<Rgb, unsigned>, most_colours> counts;
    unsigned colours = 0;
    for (unsigned y = 0; y < height; ++y) {
        for (unsigned x = 0; x < cell_width; ++x) {
            const Rgb dot = dots.at(left + x, top + y);
            unsigned i = 0;
            while (i < colours && counts[i].first != dot) ++i;
            if (i == colours) counts[colours++] = {dot, 0};
            ++counts[i].second;
        }
    }
    for (unsigned i = 0; i < colours; ++i) {
        if (counts[i].second < least_dots || counts[i].second > cell_width * height / 2) continue;
        const Shape shape = shape_of_colour(dots, left, top, height, counts[i].first);
        const auto character = character_on_picture(shape, alphabet);
        if (!character) continue;
        TextCell cell;
        cell.character = *character;
        cell.foreground = counts[i].first;
        return cell;
    }
    for (const Weights& weights : all_weights) {
        if (const auto found = find_standing_out(dots, left, top, height, alphabet, weights)) return found;
    }
    return std::nullopt;
}

struct Grid {
    unsigned left = 0;
    unsigned top = 0;
    unsigned columns = 0;
    unsigned rows = 0;
    bool operator==(const Grid&) const = default;
};

std::vector<Grid> grids_of(const Dots& dots, unsigned height) {
    const unsigned columns = dots.width() / cell_width, rows = dots.height() / height;
    std::vector<Grid> grids;
    if (columns == 0 || rows == 0) return grids;
    grids.push_back({0, 0, columns, rows});
    for (const unsigned inner_rows : {25u, 30u}) {
        if (columns < 80 || rows < inner_rows || (columns == 80 && rows == inner_rows)) continue;
        // There may be text around that screen, in line with it.
        const unsigned left = (dots.width() - 80 * cell_width) / 2 % cell_width;
        const unsigned top = (dots.height() - inner_rows * height) / 2 % height;
        const Grid grid = {left, top, (dots.width() - left) / cell_width, (dots.height() - top) / height};
        if (std::ranges::find(grids, grid) == grids.end()) grids.push_back(grid);
    }
    return grids;
}

struct Reading {
    TextScreen screen;
    unsigned characters = 0;  // no lines or blocks, which any drawing has
    [[nodiscard]] uint64_t explained(unsigned height) const { return uint64_t{characters} * height; }
};

// Whether cells of more than two colours are looked at, too.
enum class Depth { plain, pictures };

Reading read_grid(const Dots& dots, const Grid& grid, const GlyphFont& font, const Alphabet& alphabet, Rgb background,
                  Depth depth) {
    Reading reading;
    reading.screen.kind = ScreenKind::graphics;
    reading.screen.columns = grid.columns;
    reading.screen.rows = grid.rows;
    reading.screen.cells.resize(size_t{grid.columns} * grid.rows);
    for (unsigned row = 0; row < grid.rows; ++row) {
        for (unsigned column = 0; column < grid.columns; ++column) {
            const unsigned left = grid.left + column * cell_width, top = grid.top + row * font.height;
            TextCell& cell = reading.screen.cells[size_t{row} * grid.columns + column];
            const auto seen = look_at(dots, left, top, font.height);
            if (!seen) {
                if (depth == Depth::plain) continue;
                if (const auto found = find_on_picture(dots, left, top, font.height, alphabet)) {
                    cell = *found;
                    ++reading.characters;
                }
                continue;
            }
            cell.foreground = seen->other;
            cell.background = seen->first;
            if (seen->blank) continue;
            const auto drawn = alphabet.find(seen->shape);
            const auto reversed = alphabet.find(inverse(seen->shape, font.height));
            // Both can be: a block's half is another block. Most of the screen is background.
            const bool reverse = reversed != alphabet.end() && (drawn == alphabet.end() || seen->other == background);
            if (!reverse && drawn == alphabet.end()) continue;
            if (reverse) std::swap(cell.foreground, cell.background);
            cell.character = (reverse ? reversed : drawn)->second;
            if (cell.character < 0xB0 || cell.character > 0xDF) ++reading.characters;
        }
    }
    return reading;
}

// The colour of most corners of cells.
Rgb background_of(const Dots& dots) {
    std::unordered_map<uint32_t, unsigned> counts;
    std::pair<unsigned, Rgb> best{0, {}};
    for (unsigned y = 0; y < dots.height(); y += 7) {
        for (unsigned x = 0; x < dots.width(); x += 7) {
            const Rgb dot = dots.at(x, y);
            const unsigned count = ++counts[uint32_t{dot.red} << 16 | uint32_t{dot.green} << 8 | dot.blue];
            if (count > best.first) best = {count, dot};
        }
    }
    return best.second;
}

}  // namespace

std::vector<GlyphFont> find_fonts(std::span<const std::byte> bytes) {
    std::vector<GlyphFont> fonts;
    // The left half block is the rarest pattern: so many F0h in a row, and then as many 0Fh.
    constexpr std::array<uint8_t, 8> needle = {0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0};
    const std::byte* const begin = bytes.data();
    const std::byte* const end = begin + bytes.size();
    const std::byte* at = begin;
    while (static_cast<size_t>(end - at) >= needle.size()) {
        at = static_cast<const std::byte*>(memmem(at, static_cast<size_t>(end - at), needle.data(), needle.size()));
        if (!at) break;
        const std::byte* const run_end = std::find_if(at, end, [](std::byte b) { return b != std::byte{0xF0}; });
        const auto height = static_cast<unsigned>(std::min<ptrdiff_t>(run_end - at, 64));
        const auto before = static_cast<size_t>(at - begin);
        const size_t distance = size_t{left_half} * height;
        if (std::ranges::find(heights, height) != heights.end() && before >= distance &&
            is_font(bytes, before - distance, height, height)) {
            add(fonts, read_font(bytes, before - distance, height, height));
        }
        at = run_end;
    }
    return fonts;
}

std::vector<GlyphFont> find_text_fonts(std::span<const uint8_t> map) {
    constexpr size_t stride = 32, font_size = 256 * stride;
    std::vector<GlyphFont> fonts;
    const auto bytes = std::as_bytes(map);
    for (size_t base = 0; base + font_size <= bytes.size(); base += font_size) {
        for (const unsigned height : heights) {
            // A taller font's blocks have more rows than this.
            if (!is_font(bytes, base, stride, height)) continue;
            add(fonts, read_font(bytes, base, stride, height));
            break;
        }
    }
    return fonts;
}

TextScreen recognise_text(const Image& picture, std::span<const GlyphFont> fonts) {
    Reading best;
    best.screen.kind = ScreenKind::graphics;
    if (picture.width < cell_width || picture.height < heights.back()) return best.screen;
    uint64_t most = 0;
    const Dots dots(picture);
    const Rgb background = background_of(dots);
    const GlyphFont* font_of_best = nullptr;
    Grid grid_of_best;
    const auto consider = [&](const GlyphFont& font, const Grid& grid, const Alphabet& alphabet, Depth depth) {
        Reading reading = read_grid(dots, grid, font, alphabet, background, depth);
        // One alone is as likely a part of a drawing.
        if (reading.characters < 2 || reading.explained(font.height) <= most) return;
        most = reading.explained(font.height);
        best = std::move(reading);
        font_of_best = &font;
        grid_of_best = grid;
    };
    for (const GlyphFont& font : fonts) {
        const Alphabet alphabet = alphabet_of(font);
        for (const Grid& grid : grids_of(dots, font.height)) consider(font, grid, alphabet, Depth::plain);
    }
    // Looking at pictures takes long: where there is text already, or everywhere when there is next to none.
    constexpr unsigned enough = 8;
    if (best.characters >= enough) {
        consider(*font_of_best, grid_of_best, alphabet_of(*font_of_best), Depth::pictures);
        return best.screen;
    }
    for (const GlyphFont& font : fonts) {
        const Alphabet alphabet = alphabet_of(font);
        for (const Grid& grid : grids_of(dots, font.height)) consider(font, grid, alphabet, Depth::pictures);
    }
    return best.screen;
}

}  // namespace viv
