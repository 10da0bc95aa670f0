#include "devices/video/screen.hpp"

#include "devices/video/code_page_437.hpp"

namespace viv {
namespace {
bool is_blank(const TextCell& cell) {
    return cell.character == ' ' || cell.character == 0 || cell.character == 0xFF;
}
}  // namespace

std::string TextScreen::line(unsigned row) const {
    std::string out;
    if (row >= rows) return out;
    unsigned length = columns;
    while (length > 0 && is_blank(at(length - 1, row))) --length;
    for (unsigned column = 0; column < length; ++column) {
        append_utf8(out, is_blank(at(column, row)) ? u' ' : code_page_437[at(column, row).character]);
    }
    return out;
}

std::string TextScreen::plain() const {
    std::string out;
    std::string blank_lines;
    for (unsigned row = 0; row < rows; ++row) {
        const std::string text = line(row);
        if (!text.empty()) {
            out += blank_lines;
            blank_lines.clear();
        }
        (text.empty() ? blank_lines : out) += text + "\n";
    }
    return out;
}

}  // namespace viv
