#include "vmm/core/catch.hpp"

// The parts of the ROMs that are plain arithmetic and tables, and the shape of the built images.

#include <algorithm>
#include <cstring>
#include <numeric>

#include "bios/layout.hpp"
#include "bios/rom_images.hpp"
#include "bios/system/geometry.hpp"
#include "bios/system/keymap.hpp"
#include "bios/video/parameters.hpp"

using namespace viv::rom;

namespace {

template <class T>
T at_offset(std::span<const std::byte> image, size_t offset) {
    T value;
    REQUIRE(offset + sizeof value <= image.size());
    std::memcpy(&value, image.data() + offset, sizeof value);
    return value;
}

RomVector find_vector(std::span<const std::byte> image, uint16_t table, uint16_t count, uint16_t vector) {
    for (uint16_t i = 0; i < count; ++i) {
        const auto entry = at_offset<RomVector>(image, table + i * sizeof(RomVector));
        if (entry.vector == vector) return entry;
    }
    return {0xFFFF, 0};
}

}  // namespace

TEST_CASE("The system ROM has its header, its vectors and the fixed addresses of an AT") {
    const auto rom = system_bios();
    REQUIRE(rom.size() == system_rom_size);
    const auto header = at_offset<SystemRomHeader>(rom, system_header_offset);
    CHECK(header.magic == system_header_magic);
    CHECK(header.version == header_version);
    CHECK(at_offset<uint8_t>(rom, header.dummy_interrupt) == 0xCF);
    for (const int vector :
         {0x08, 0x09, 0x0E, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x19, 0x1A, 0x70, 0x74, 0x76}) {
        INFO("vector " << vector);
        CHECK(find_vector(rom, header.vector_table, header.vector_count, static_cast<uint16_t>(vector)).offset != 0);
    }
    // Below 80h only: int 80h and above do not work in real mode on some hosts.
    for (uint16_t i = 0; i < header.vector_count; ++i) {
        CHECK(at_offset<RomVector>(rom, header.vector_table + i * sizeof(RomVector)).vector < 0x80);
    }
    CHECK(find_vector(rom, header.vector_table, header.vector_count, 0x1E).offset == 0xEFC7);
    CHECK(at_offset<uint8_t>(rom, 0xFFF0) == 0xEA);
    CHECK(at_offset<uint16_t>(rom, 0xFFF3) == system_rom_segment);
    CHECK(at_offset<uint8_t>(rom, 0xFFFE) == 0xFC);
    CHECK(at_offset<uint8_t>(rom, 0xFF53) == 0xCF);
}

TEST_CASE("The system ROM has the 32-bit service directory and the interrupt routing table, with checksums") {
    const auto rom = system_bios();
    const auto find = [&](std::string_view signature) {
        for (size_t at = 0; at < rom.size(); at += 16) {
            if (std::memcmp(rom.data() + at, signature.data(), 4) == 0) return at;
        }
        FAIL("no " << signature);
        return size_t{0};
    };
    const auto sum = [&](size_t at, size_t size) {
        unsigned total = 0;
        for (const std::byte b : rom.subspan(at, size)) total += std::to_integer<unsigned>(b);
        return total % 256;
    };
    const size_t directory = find("_32_");
    CHECK(sum(directory, 16) == 0);
    CHECK(at_offset<uint32_t>(rom, directory + 4) > 0xF0000);
    CHECK(at_offset<uint32_t>(rom, directory + 4) < 0xFE000);
    const size_t routing = find("$PIR");
    const auto size = at_offset<uint16_t>(rom, routing + 6);
    CHECK(size == 32 + 31 * 16);
    CHECK(sum(routing, size) == 0);
    // Device 2: INTA# is PIRQB#, INTD# PIRQA#.
    CHECK(at_offset<uint8_t>(rom, routing + 32 + 16 + 1) == 2 << 3);
    CHECK(at_offset<uint8_t>(rom, routing + 32 + 16 + 2) == 0x61);
    CHECK(at_offset<uint8_t>(rom, routing + 32 + 16 + 11) == 0x60);
}

TEST_CASE("The video ROM is an option ROM whose bytes add up to zero") {
    const auto rom = video_bios();
    REQUIRE(rom.size() == video_rom_size);
    CHECK(at_offset<uint16_t>(rom, 0) == 0xAA55);
    CHECK(at_offset<uint8_t>(rom, 2) * 512u == video_rom_size);
    CHECK(std::accumulate(rom.begin(), rom.end(), 0u,
                          [](unsigned sum, std::byte byte) { return sum + std::to_integer<unsigned>(byte); }) %
              256 ==
          0);
    CHECK(std::memcmp(rom.data() + 0x1E, "IBM", 3) == 0);
    const auto header = at_offset<VideoRomHeader>(rom, video_header_offset);
    CHECK(header.magic == video_header_magic);
    CHECK(find_vector(rom, header.vector_table, header.vector_count, 0x10).offset != 0);
    CHECK(find_vector(rom, header.vector_table, header.vector_count, 0x43).offset == header.font_8x16);
    const auto mode_3 = at_offset<VideoParameters>(rom, header.mode_3_parameters);
    CHECK(mode_3.columns == 80);
    CHECK(mode_3.rows_minus_one == 24);
    CHECK(mode_3.character_height == 16);
    CHECK(mode_3.miscellaneous == 0x67);
    // Colour 7 of the text palette is light grey through palette register 7.
    CHECK(at_offset<uint8_t>(rom, header.mode_3_palette + 7 * 3) == 0x2A);
}

TEST_CASE("Line drawing characters of every font reach the edges they point at") {
    const auto rom = video_bios();
    const uint16_t font = at_offset<VideoRomHeader>(rom, video_header_offset).font_8x16;
    const struct {
        uint16_t place;
        int height;
    } fonts[] = {{font, 16}, {static_cast<uint16_t>(font + 4096), 14}, {static_cast<uint16_t>(font + 4096 + 3584), 8}};
    for (const auto& [place, height] : fonts) {
        const auto row = [&](int code, int y) {
            return at_offset<uint8_t>(rom, static_cast<size_t>(place + code * height + y));
        };
        for (const int vertical : {0xB3, 0xBA, 0xC5, 0xCE, 0xDB}) {
            INFO("height " << height << " character " << vertical);
            CHECK(row(vertical, 0) == row(vertical, height - 1));
            CHECK(row(vertical, 0) != 0);
        }
        for (const int horizontal : {0xC4, 0xCD, 0xC5, 0xCE}) {
            int joined = 0;
            for (int y = 0; y < height; ++y) joined += (row(horizontal, y) & 0x81) == 0x81;
            INFO("height " << height << " character " << horizontal);
            CHECK(joined > 0);
        }
        // Both single corners meet the single line in the same rows.
        for (int y = 0; y < height; ++y) {
            CHECK((row(0xDA, y) & 0x01) == (row(0xC4, y) & 0x01));
            CHECK((row(0xBF, y) & 0x80) == (row(0xC4, y) & 0x80));
        }
    }
}

TEST_CASE("Cylinder, head and sector become a block number and back") {
    const Geometry floppy{80, 2, 18};
    CHECK(to_lba(floppy, {0, 0, 1}) == 0);
    CHECK(to_lba(floppy, {0, 1, 1}) == 18);
    CHECK(to_lba(floppy, {79, 1, 18}) == 2879);
    CHECK(contains(floppy, {79, 1, 18}));
    CHECK_FALSE(contains(floppy, {80, 0, 1}));
    CHECK_FALSE(contains(floppy, {0, 2, 1}));
    CHECK_FALSE(contains(floppy, {0, 0, 0}));
    CHECK_FALSE(contains(floppy, {0, 0, 19}));
    CHECK(to_lba({1024, 255, 63}, {1023, 254, 63}) == 1024u * 255 * 63 - 1);
    const Chs far = unpack_chs(pack_cx(1023, 63), 254);
    CHECK(far.cylinder == 1023);
    CHECK(far.sector == 63);
    CHECK(pack_cx(5000, 63) == pack_cx(1023, 63));
}

TEST_CASE("Keys give the words INT 16h is known for") {
    CHECK(key_words[0x1E].plain == 0x1E61);
    CHECK(key_words[0x1E].control == 0x1E01);
    CHECK(key_words[0x3B].alt == 0x6800);
    CHECK(key_words[0x58].plain == 0x8600);
    // Each word carries the scan code of its key where it has a character.
    for (uint8_t code = 1; code <= last_key; ++code) {
        const uint16_t plain = key_words[code].plain;
        if ((plain & 0xFF) != 0) CHECK(plain >> 8 == code);
    }
    CHECK(keypad_digit(0x52) == 0);
    CHECK(keypad_digit(0x4F) == 1);
    CHECK(keypad_digit(0x4C) == 5);
    CHECK(keypad_digit(0x49) == 9);
    CHECK(keypad_digit(0x4A) == 0xFF);
    CHECK(keypad_digit(0x53) == 0xFF);
}

TEST_CASE("The 84-key functions hide what an AT keyboard could not send") {
    CHECK(word_for_84_keys(0x1E61) == 0x1E61);
    CHECK(word_for_84_keys(0x48E0) == 0x4800);  // grey Up looks like the keypad's
    CHECK(word_for_84_keys(0xE00D) == 0x1C0D);
    CHECK(word_for_84_keys(0xE02F) == 0x352F);
    CHECK(word_for_84_keys(0x8500) == 0);       // F11
    CHECK(word_for_84_keys(0x01F0) == 0);       // Alt+Esc
    CHECK(word_for_84_keys(0x00F0) == 0x00F0);  // Alt + 240 on the keypad
    CHECK(word_for_101_keys(0x01F0) == 0x0100);
    CHECK(word_for_101_keys(0x48E0) == 0x48E0);
}

TEST_CASE("Mode parameters describe the resolutions they are for") {
    const auto entry = [](uint8_t mode, ScanLines lines) {
        return parameters::table.entry[parameter_index(mode, lines)];
    };
    const struct {
        uint8_t mode;
        ScanLines lines;
        int picture_lines;
    } modes[] = {{0x03, ScanLines::lines_400, 400}, {0x03, ScanLines::lines_350, 350},
                 {0x03, ScanLines::lines_200, 400}, {0x04, ScanLines::lines_400, 400},
                 {0x0D, ScanLines::lines_400, 400}, {0x10, ScanLines::lines_400, 350},
                 {0x12, ScanLines::lines_400, 480}, {0x13, ScanLines::lines_400, 400}};
    for (const auto& [mode, lines, picture_lines] : modes) {
        const VideoParameters p = entry(mode, lines);
        const int end = p.crtc[0x12] + ((p.crtc[7] & 2) << 7) + ((p.crtc[7] & 0x40) << 3) + 1;
        INFO("mode " << int{mode});
        CHECK(end == picture_lines);
        const int scanned = (p.crtc[9] & 0x80) ? end / 2 : end;
        if (mode == 3) CHECK((p.rows_minus_one + 1) * p.character_height == scanned);
    }
    for (int mode = 0; mode < 0x14; ++mode) {
        const bool standard = mode <= 7 || mode >= 0x0D;
        CHECK((parameter_index(static_cast<uint8_t>(mode), ScanLines::lines_400) != no_parameters) == standard);
    }
}

TEST_CASE("Colours of the DAC are the known ones") {
    const auto same = [](Rgb a, Rgb b) { return a.red == b.red && a.green == b.green && a.blue == b.blue; };
    CHECK(same(ega_color(0x14), {0x2A, 0x15, 0x00}));  // brown
    CHECK(same(ega_color(0x3F), {0x3F, 0x3F, 0x3F}));
    CHECK(same(cga_color(0x06), {0x2A, 0x15, 0x00}));
    CHECK(same(cga_color(0x16), {0x3F, 0x3F, 0x15}));
    CHECK(same(linear_color(15), {0x3F, 0x3F, 0x3F}));
    CHECK(same(linear_color(32), {0x00, 0x00, 0x3F}));
    CHECK(same(linear_color(40), {0x3F, 0x00, 0x00}));
    CHECK(same(linear_color(48), {0x00, 0x3F, 0x00}));
    CHECK(same(linear_color(255), {0, 0, 0}));
}
