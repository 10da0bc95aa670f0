#include "vmm/cli/display/terminal_painter.hpp"

#include "vmm/cli/display/terminal_frame.hpp"
#include "vmm/core/catch.hpp"

namespace viv {
namespace {

constexpr Rgb black = {0, 0, 0};
constexpr Rgb grey = {0xAA, 0xAA, 0xAA};
constexpr Rgb blue = {0, 0, 0xAA};
constexpr TerminalAbilities true_colour = {ColourDepth::true_colour, false};

void put(TerminalFrame& frame, unsigned column, unsigned row, std::u16string_view text, Rgb foreground = grey,
         Rgb background = black) {
    for (const char16_t character : text) {
        frame.at(column++, row) = {character, false, false, foreground, background};
    }
}

TEST_CASE("the first frame is painted whole, the next one only where it differs") {
    TerminalPainter painter(true_colour);
    TerminalFrame frame({3, 2});
    put(frame, 0, 0, u"abc");
    put(frame, 0, 1, u"def");
    CHECK(painter.paint(frame) == "\x1B[?25l\x1B[0m\x1B[2J\x1B[1;1H\x1B[0;38;2;170;170;170;48;2;0;0;0mabc\x1B[2;1Hdef");
    CHECK(painter.paint(frame).empty());
    put(frame, 1, 1, u"E");
    CHECK(painter.paint(frame) == "\x1B[2;2HE");
    put(frame, 0, 0, u"A", grey, blue);
    put(frame, 2, 0, u"C", grey, blue);
    CHECK(painter.paint(frame) == "\x1B[1;1H\x1B[48;2;0;0;170mA\x1B[1;3HC");
    painter.forget();
    CHECK(painter.paint(frame) ==
          "\x1B[?25l\x1B[0m\x1B[2J\x1B[1;1H\x1B[0;38;2;170;170;170;48;2;0;0;170mA\x1B[48;2;0;0;0mb"
          "\x1B[48;2;0;0;170mC\x1B[2;1H\x1B[48;2;0;0;0mdEf");
}

TEST_CASE("the cursor is placed, shaped and hidden") {
    TerminalPainter painter(true_colour);
    TerminalFrame frame({2, 1});
    painter.paint(frame);
    frame.cursor = TerminalFrame::Cursor::underline;
    frame.cursor_column = 1;
    CHECK(painter.paint(frame) == "\x1B[1;2H\x1B[3 q\x1B[?25h");
    frame.cursor_column = 0;
    CHECK(painter.paint(frame) == "\x1B[?25l\x1B[1;1H\x1B[?25h");
    frame.cursor = TerminalFrame::Cursor::block;
    CHECK(painter.paint(frame) == "\x1B[?25l\x1B[1;1H\x1B[1 q\x1B[?25h");
    frame.cursor = TerminalFrame::Cursor::hidden;
    CHECK(painter.paint(frame) == "\x1B[?25l");
}

TEST_CASE("blinking and underlined cells are so, and only they") {
    TerminalPainter painter(true_colour);
    TerminalFrame frame({3, 1});
    painter.paint(frame);
    frame.at(0, 0) = {u'a', true, false, black, black};
    frame.at(1, 0) = {u'b', false, true, black, black};
    frame.at(2, 0) = {u'c', false, false, black, black};
    CHECK(painter.paint(frame) == "\x1B[1;1H\x1B[5ma\x1B[25;4mb\x1B[24mc");
}

TEST_CASE("a terminal of 256 colours gets the nearest of the cube and the greys") {
    TerminalPainter painter({ColourDepth::indexed_256, false});
    TerminalFrame frame({4, 1});
    put(frame, 0, 0, u"a", {0xFF, 0x55, 0x55}, {0, 0, 0xAA});
    put(frame, 1, 0, u"b", {0x80, 0x80, 0x80}, {0, 0, 0});
    put(frame, 2, 0, u"c", {0xFF, 0xFF, 0xFF}, {0xAA, 0xAA, 0xAA});
    put(frame, 3, 0, u"d", {0xFF, 0xFF, 0xFF}, {0xAA, 0xAA, 0xAB});
    CHECK(painter.paint(frame) ==
          "\x1B[?25l\x1B[0m\x1B[2J\x1B[1;1H\x1B[0;38;5;203;48;5;19ma\x1B[38;5;244;48;5;16mb\x1B[38;5;231;48;5;248mcd");
}

TEST_CASE("a terminal of 16 colours gets the PC's own") {
    TerminalPainter painter({ColourDepth::sixteen, false});
    TerminalFrame frame({2, 1});
    put(frame, 0, 0, u"a", {0xFF, 0x55, 0x55}, {0, 0, 0xAA});
    put(frame, 1, 0, u"b", {0xAA, 0x55, 0x00}, {0xF0, 0xF0, 0xF0});
    CHECK(painter.paint(frame) == "\x1B[?25l\x1B[0m\x1B[2J\x1B[1;1H\x1B[0;91;44ma\x1B[33;107mb");
}

TEST_CASE("after a symbol of doubtful width the next cell is placed anew") {
    TerminalPainter painter(true_colour);
    TerminalFrame frame({3, 1});
    painter.paint(frame);
    put(frame, 0, 0, u"\u263A\u2500x", black);
    CHECK(painter.paint(frame) == "\x1B[1;1H\xE2\x98\xBA\x1B[1;2H\xE2\x94\x80x");
}

TEST_CASE("entering and leaving undo each other") {
    const TerminalPainter xterm(true_colour);
    CHECK(xterm.begin() == "\x1B[?1049h\x1B[?7l\x1B[?25l\x1B[0m\x1B[2J\x1B[?2004h");
    CHECK(xterm.end() == "\x1B[0m\x1B[?2004l\x1B[0 q\x1B[?7h\x1B[?25h\x1B[?1049l");
    const TerminalPainter console({ColourDepth::sixteen, true});
    CHECK(console.begin() == "\x1B[?1049h\x1B[?7l\x1B[?25l\x1B[0m\x1B[2J");
    CHECK(console.end() == "\x1B[0m\x1B[2J\x1B[H\x1B[?0c\x1B[?7h\x1B[?25h\x1B[?1049l");
}

TEST_CASE("TERM and COLORTERM say what a terminal can do") {
    CHECK(terminal_abilities("xterm-256color", "truecolor") == TerminalAbilities{ColourDepth::true_colour, false});
    CHECK(terminal_abilities("tmux-256color", "") == TerminalAbilities{ColourDepth::indexed_256, false});
    CHECK(terminal_abilities("xterm-direct", "") == TerminalAbilities{ColourDepth::true_colour, false});
    CHECK(terminal_abilities("vt220", "") == TerminalAbilities{ColourDepth::sixteen, false});
    CHECK(terminal_abilities("linux", "") == TerminalAbilities{ColourDepth::sixteen, true});
    CHECK(terminal_abilities("", "") == TerminalAbilities{ColourDepth::sixteen, false});
}

TextScreen screen_of(unsigned columns, unsigned rows) {
    TextScreen screen;
    screen.columns = columns;
    screen.rows = rows;
    for (unsigned i = 0; i < columns * rows; ++i) {
        screen.cells.push_back({static_cast<uint8_t>('a' + i % columns), 7, false, false, grey, black});
    }
    screen.cursor = {true, 0, 0, 13, 14, 16};
    return screen;
}

TEST_CASE("a text screen is shown from the top left") {
    TextView view;
    const TextScreen screen = screen_of(3, 2);
    const TerminalFrame frame = frame_of(screen, {5, 4}, view);
    CHECK(frame.at(0, 0) == TerminalCell{u'a', false, false, grey, black});
    CHECK(frame.at(2, 1).character == u'c');
    CHECK(frame.at(3, 0) == TerminalCell{});
    CHECK(frame.at(0, 2) == TerminalCell{});
    CHECK(frame.cursor == TerminalFrame::Cursor::underline);
}

TEST_CASE("in a smaller terminal the view follows the cursor, no further than it must") {
    TextView view;
    TextScreen screen = screen_of(10, 10);
    CHECK(frame_of(screen, {4, 4}, view).at(0, 0).character == u'a');
    screen.cursor.column = 9;
    screen.cursor.row = 5;
    TerminalFrame frame = frame_of(screen, {4, 4}, view);
    CHECK(frame.at(3, 0).character == u'j');
    CHECK(frame.cursor_column == 3);
    CHECK(frame.cursor_row == 3);
    CHECK(view.row == 2);
    screen.cursor.row = 3;
    frame = frame_of(screen, {4, 4}, view);
    CHECK(view.row == 2);
    CHECK(frame.cursor_row == 1);
    screen.cursor.visible = false;
    frame = frame_of(screen, {20, 4}, view);
    CHECK(view.column == 0);
    CHECK(view.row == 2);
    CHECK(frame.cursor == TerminalFrame::Cursor::hidden);
    CHECK(frame_of(screen, {0, 0}, view).cells.empty());
}

TEST_CASE("a tall cursor is a block, and a blanked screen is black") {
    TextView view;
    TextScreen screen = screen_of(2, 2);
    screen.cursor.first_line = 0;
    screen.cursor.last_line = 15;
    CHECK(frame_of(screen, {2, 2}, view).cursor == TerminalFrame::Cursor::block);
    screen.blanked = true;
    CHECK(frame_of(screen, {2, 2}, view) == TerminalFrame({2, 2}));
}

TEST_CASE("no code of the guest's becomes a control character") {
    TextView view;
    TextScreen screen = screen_of(256, 1);
    for (unsigned i = 0; i < 256; ++i) screen.cells[i].character = static_cast<uint8_t>(i);
    const TerminalFrame frame = frame_of(screen, {256, 1}, view);
    for (const TerminalCell& cell : frame.cells) {
        CHECK(cell.character >= 0x20);
        CHECK((cell.character < 0x7F || cell.character > 0xA0));
    }
    CHECK(frame.at(0, 0).character == u' ');
    CHECK(frame.at(1, 0).character == u'\u263A');
    CHECK(frame.at(0xB3, 0).character == u'\u2502');
    CHECK(frame.at(0xE1, 0).character == u'\u00DF');
    CHECK(frame.at(0xFF, 0).character == u' ');
}

TEST_CASE("a picture is half blocks at 4:3 in the middle") {
    Image picture{8, 6, std::vector<Rgb>(48, blue)};
    for (unsigned x = 0; x < 8; ++x) picture.pixels[x] = grey;  // the top line
    const TerminalFrame frame = frame_of(picture, {10, 3});
    CHECK(frame.at(0, 0) == TerminalCell{});
    CHECK(frame.at(1, 0) == TerminalCell{u'\u2580', false, false, grey, blue});
    CHECK(frame.at(8, 2) == TerminalCell{u' ', false, false, black, blue});
    CHECK(frame.at(9, 0) == TerminalCell{});
    // Half the size: two lines become one.
    const TerminalFrame small = frame_of(picture, {4, 2});
    CHECK(small.at(0, 0).character == u'\u2580');
    CHECK(small.at(0, 0).background == blue);
    CHECK(frame_of(Image{}, {4, 2}) == TerminalFrame({4, 2}));
    CHECK(frame_of(picture, {1, 1}).cells.size() == 1);
}

}  // namespace
}  // namespace viv
