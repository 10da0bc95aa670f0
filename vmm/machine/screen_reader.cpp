#include "vmm/machine/screen_reader.hpp"

#include <unistd.h>

#include <algorithm>

namespace viv {
namespace {

// Searching all of RAM takes some ten milliseconds; a guest that has brought its own font has done so long before it
// matters.
constexpr unsigned pictures_between_searches = 50;

// Looks at those parts of a region that have ever been touched: looking at others would make them take host memory.
void search_region(const GuestMemory& memory, const GuestMemory::Region& region, std::vector<GlyphFont>& fonts) {
    const int file = memory.file_descriptor(region);
    const auto begin = static_cast<off_t>(region.backing_offset), end = begin + static_cast<off_t>(region.size);
    off_t data = lseek(file, begin, SEEK_DATA);
    while (data >= 0 && data < end) {
        off_t hole = lseek(file, data, SEEK_HOLE);
        if (hole < 0 || hole > end) hole = end;
        const auto piece = std::span(region.host + (data - begin), static_cast<size_t>(hole - data));
        for (GlyphFont& font : find_fonts(piece)) {
            if (std::ranges::find(fonts, font) == fonts.end()) fonts.push_back(std::move(font));
        }
        data = lseek(file, hole, SEEK_DATA);
    }
}

}  // namespace

void ScreenReader::look_for_fonts() {
    fonts_ = find_text_fonts(screen_.font_memory());
    for (const GuestMemory::Region& region : memory_.regions()) search_region(memory_, region, fonts_);
    // A guest can put as many fonts into its memory as it likes, and each costs a look at the picture.
    constexpr size_t most = 16;
    if (fonts_.size() > most) fonts_.resize(most);
}

const TextScreen& ScreenReader::read() {
    const uint64_t generation = screen_.generation();
    if (read_ && generation == generation_) return text_;
    read_ = true;
    generation_ = generation;
    text_ = screen_.text();
    if (text_.kind == ScreenKind::text) {
        until_next_search_ = 0;
        return text_;
    }
    if (text_.blanked) return text_;
    const Image picture = screen_.pixels();
    if (until_next_search_-- == 0) {
        until_next_search_ = pictures_between_searches;
        look_for_fonts();
    }
    text_ = recognise_text(picture, fonts_);
    return text_;
}

}  // namespace viv
