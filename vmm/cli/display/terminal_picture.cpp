#include "vmm/cli/display/terminal_picture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <span>
#include <vector>

#include "vmm/cli/screenshot.hpp"

namespace viv {
namespace {

std::string base64(std::span<const std::byte> bytes) {
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t group = 0;
        for (size_t k = 0; k < 3; ++k)
            group = group << 8 | (i + k < bytes.size() ? std::to_integer<uint32_t>(bytes[i + k]) : 0);
        for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? digits[group >> (18 - 6 * k) & 0x3F] : '=';
    }
    return out;
}

std::string move_to(const PicturePlace& place) {
    return fmt::format("\x1B[{};{}H", place.row + 1, place.column + 1);
}

// At most 256 colours, and each pixel's.
struct Indexed {
    std::vector<Rgb> colours;
    std::vector<uint8_t> pixels;
};

constexpr uint32_t packed(Rgb colour) {
    return uint32_t{colour.red} << 16 | uint32_t{colour.green} << 8 | colour.blue;
}

Indexed index_colours(const std::vector<Rgb>& pixels) {
    Indexed indexed;
    indexed.pixels.reserve(pixels.size());
    std::map<uint32_t, uint8_t> known;
    for (const Rgb pixel : pixels) {
        auto at = known.find(packed(pixel));
        if (at == known.end()) {
            if (known.size() == 256) break;
            at = known.emplace(packed(pixel), static_cast<uint8_t>(known.size())).first;
            indexed.colours.push_back(pixel);
        }
        indexed.pixels.push_back(at->second);
    }
    if (indexed.pixels.size() == pixels.size()) return indexed;
    // Too many: six reds, seven greens, six blues.
    indexed = {};
    for (unsigned i = 0; i < 252; ++i) {
        indexed.colours.push_back({static_cast<uint8_t>(i / 42 * 51), static_cast<uint8_t>(i / 6 % 7 * 255 / 6),
                                   static_cast<uint8_t>(i % 6 * 51)});
    }
    for (const Rgb pixel : pixels) {
        const auto level = [](uint8_t value, unsigned steps) { return (value * steps + 127) / 255; };
        indexed.pixels.push_back(
            static_cast<uint8_t>(level(pixel.red, 5) * 42 + level(pixel.green, 6) * 6 + level(pixel.blue, 5)));
    }
    return indexed;
}

void append_run(std::string& out, char dots, size_t count) {
    if (count > 3) {
        fmt::format_to(std::back_inserter(out), "!{}{}", count, dots);
    } else {
        out.append(count, dots);
    }
}

}  // namespace

std::string graphics_questions() {
    return "\x1B_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1B\\\x1B[16t\x1B[c";
}

PicturePlace place_picture(const Image& picture, TerminalSize size, CellSize cell) {
    const auto [across, down] = shape_of(picture);
    const unsigned rows = size.rows > 1 ? size.rows - 1 : 1;
    const uint64_t width = std::min<uint64_t>(size.columns * cell.width, uint64_t{rows} * cell.height * across / down);
    PicturePlace place;
    place.columns = static_cast<unsigned>(std::clamp<uint64_t>(width / cell.width, 1, size.columns));
    place.rows = static_cast<unsigned>(std::clamp<uint64_t>(width * down / across / cell.height, 1, rows));
    place.column = (size.columns - place.columns) / 2;
    place.row = (rows - place.rows) / 2;
    return place;
}

std::string kitty_picture(const Image& picture, const PicturePlace& place) {
    const auto png = encode_png(picture);
    if (!png) return {};
    const std::string data = base64(*png);
    constexpr size_t piece = 4096;
    std::string out = move_to(place);
    for (size_t at = 0; at < data.size(); at += piece) {
        const bool more = at + piece < data.size();
        out += at == 0 ? fmt::format("\x1B_Ga=T,f=100,i=1,p=1,q=2,C=1,c={},r={},m={};", place.columns, place.rows,
                                     more ? 1 : 0)
                       : fmt::format("\x1B_Gm={};", more ? 1 : 0);
        out.append(data, at, piece);
        out += "\x1B\\";
    }
    return out;
}

std::string kitty_clear() {
    return "\x1B_Ga=d,d=A,q=2\x1B\\";
}

std::string sixel_picture(const Image& picture, const PicturePlace& place, CellSize cell) {
    const unsigned width = place.columns * cell.width, height = place.rows * cell.height;
    if (picture.width == 0 || picture.height == 0 || width == 0 || height == 0) return {};
    std::vector<Rgb> scaled(size_t{width} * height);
    for (unsigned y = 0; y < height; ++y) {
        for (unsigned x = 0; x < width; ++x) {
            scaled[size_t{y} * width + x] = picture.at(x * picture.width / width, y * picture.height / height);
        }
    }
    const Indexed indexed = index_colours(scaled);
    std::string out = move_to(place) + fmt::format("\x1BP0;1q\"1;1;{};{}", width, height);
    const auto percent = [](uint8_t level) { return (level * 100 + 127) / 255; };
    for (size_t i = 0; i < indexed.colours.size(); ++i) {
        const Rgb colour = indexed.colours[i];
        fmt::format_to(std::back_inserter(out), "#{};2;{};{};{}", i, percent(colour.red), percent(colour.green),
                       percent(colour.blue));
    }
    for (unsigned top = 0; top < height; top += 6) {
        // Six lines at a time, one colour after the other.
        std::array<std::vector<uint8_t>, 256> rows;
        const unsigned lines = std::min(6u, height - top);
        for (unsigned y = 0; y < lines; ++y) {
            for (unsigned x = 0; x < width; ++x) {
                auto& row = rows[indexed.pixels[size_t{top + y} * width + x]];
                if (row.empty()) row.resize(width);
                row[x] = static_cast<uint8_t>(row[x] | 1u << y);
            }
        }
        for (size_t colour = 0; colour < indexed.colours.size(); ++colour) {
            const auto& row = rows[colour];
            if (row.empty()) continue;
            fmt::format_to(std::back_inserter(out), "#{}", colour);
            for (size_t x = 0; x < row.size();) {
                size_t end = x;
                while (end < row.size() && row[end] == row[x]) ++end;
                // What is blank at the end need not be sent.
                if (end < row.size() || row[x] != 0) append_run(out, static_cast<char>('?' + row[x]), end - x);
                x = end;
            }
            out += '$';
        }
        out += '-';
    }
    return out + "\x1B\\";
}

}  // namespace viv
