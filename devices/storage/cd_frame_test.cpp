#include "devices/storage/cd_frame.hpp"

#include <vector>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

std::array<uint8_t, cd_block_size> pattern() {
    std::array<uint8_t, cd_block_size> data{};
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 7 + i / 256);
    return data;
}

/// In GF(2^8) over x^8 + x^4 + x^3 + x^2 + 1, by long multiplication.
uint8_t times(uint8_t a, uint8_t b) {
    unsigned product = 0;
    for (unsigned bit = 0; bit < 8; ++bit) {
        if ((b >> bit & 1) != 0) product ^= unsigned{a} << bit;
    }
    for (unsigned bit = 15; bit >= 8; --bit) {
        if ((product >> bit & 1) != 0) product ^= 0x11Du << (bit - 8);
    }
    return static_cast<uint8_t>(product);
}

}  // namespace

TEST_CASE("Blocks and times of a CD: block 0 is at 00:02:00") {
    CHECK(cd_time(0) == CdTime{0, 2, 0});
    CHECK(cd_time(74) == CdTime{0, 2, 74});
    CHECK(cd_time(333000 - 150) == CdTime{74, 0, 0});
    CHECK(cd_time(0xFFFFFFFF).minute == 255);
    for (const uint32_t block : {0u, 1u, 4499u, 300000u}) CHECK(cd_block(cd_time(block)) == block);
}

TEST_CASE("A mode 1 frame has sync, a BCD header, and the data") {
    const auto data = pattern();
    const auto frame = cd_mode1_frame(75 * 60 * 12 + 75 * 32 + 49, data);
    CHECK(frame[0] == 0x00);
    CHECK(frame[1] == 0xFF);
    CHECK(frame[10] == 0xFF);
    CHECK(frame[11] == 0x00);
    CHECK(frame[12] == 0x12);
    CHECK(frame[13] == 0x34);
    CHECK(frame[14] == 0x49);
    CHECK(frame[15] == 0x01);
    CHECK(std::equal(data.begin(), data.end(), frame.begin() + 16));
    for (size_t i = 2068; i < 2076; ++i) CHECK(frame[i] == 0);
}

TEST_CASE("The EDC divides the frame by its polynomial") {
    const auto frame = cd_mode1_frame(1234, pattern());
    // (x^16 + x^15 + x^2 + 1)(x^16 + x^2 + x + 1) = x^32 + x^31 + x^16 + x^15 + x^4 + x^3 + x + 1, bit by bit.
    uint32_t rest = 0;
    for (size_t i = 0; i < 2068; ++i) {
        for (unsigned bit = 0; bit < 8; ++bit) {
            const bool out = (rest >> 31) != 0;
            rest = rest << 1 | (frame[i] >> bit & 1u);
            if (out) rest ^= 0x8001801B;
        }
    }
    CHECK(rest == 0);
}

TEST_CASE("Every P and Q word of the ECC has zero syndromes") {
    const auto frame = cd_mode1_frame(777, pattern());
    const auto check_word = [&](size_t count, auto place) {
        uint8_t plain = 0, weighted = 0, weight = 1;
        for (size_t i = count; i-- > 0;) {
            const uint8_t symbol = frame[12 + place(i)];
            plain ^= symbol;
            weighted ^= times(symbol, weight);
            weight = times(weight, 2);
        }
        return plain == 0 && weighted == 0;
    };
    unsigned wrong = 0;
    for (size_t column = 0; column < 86; ++column) {
        wrong += check_word(26, [column](size_t i) { return column + 86 * i; }) ? 0 : 1;
    }
    for (size_t word = 0; word < 52; ++word) {
        // ECMA-130, annex A.2: the diagonals of the 26 x 43 words of 16 bits, then the parity behind them.
        wrong += check_word(45,
                            [word](size_t i) {
                                const size_t lane = word % 2, diagonal = word / 2;
                                if (i < 43) return 2 * ((44 * i + 43 * diagonal) % 1118) + lane;
                                return 2236 + (i - 43) * 52 + word;
                            })
                     ? 0
                     : 1;
    }
    CHECK(wrong == 0);
}

TEST_CASE("Parts of a frame are copied behind one another") {
    const auto frame = cd_mode1_frame(5, pattern());
    CHECK(cd_parts_size(0xF8) == 2352);
    CHECK(cd_parts_size(0x10) == 2048);
    CHECK(cd_parts_size(0x00) == 0);
    CHECK(cd_parts_size(cd_part_subheader) == 0);
    std::vector<uint8_t> out(cd_parts_size(cd_part_header | cd_part_check));
    REQUIRE(out.size() == 4 + 288);
    cd_copy_parts(frame, cd_part_header | cd_part_check, out);
    CHECK(std::equal(out.begin(), out.begin() + 4, frame.begin() + 12));
    CHECK(std::equal(out.begin() + 4, out.end(), frame.begin() + 2064));
}
