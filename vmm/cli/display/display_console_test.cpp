#include "vmm/cli/display/display_console.hpp"

#include "vmm/cli/display/plain_printer.hpp"
#include "vmm/core/catch.hpp"

namespace viv {
namespace {
using namespace std::chrono_literals;

struct Sink final : DisplaySink {
    void stroke(const KeyStroke& stroke) override { strokes.push_back(stroke); }
    void type(const std::string& typing) override { typed += typing; }
    void command(MenuCommand command) override { commands.push_back(command); }
    void change(PlugChange change, const std::string& what) override { changes.emplace_back(change, what); }
    std::vector<KeyStroke> strokes;
    std::string typed;
    std::vector<MenuCommand> commands;
    std::vector<std::pair<PlugChange, std::string>> changes;
};

const KeyStroke menu{stroke_ctrl, {Key::right_bracket}};

struct Rig {
    Sink sink;
    DisplayConsole console{{ColourDepth::sixteen, false}, sink};
    DisplayConsole::Time now{};

    void menu_key(KeyStroke stroke) {
        console.input(menu, now);
        console.input(stroke, now);
    }
    std::string paint(TerminalSize size = {90, 25}) { return console.paint(size, now); }
};

TextScreen lines_screen(const std::vector<std::string>& lines, unsigned cursor_row, unsigned rows = 4) {
    TextScreen screen;
    screen.columns = 20;
    screen.rows = rows;
    screen.cells.resize(size_t{screen.columns} * rows);
    for (size_t row = 0; row < lines.size(); ++row) {
        for (size_t i = 0; i < lines[row].size(); ++i) {
            screen.cells[row * screen.columns + i].character = static_cast<uint8_t>(lines[row][i]);
        }
    }
    screen.cursor = {true, 0, cursor_row, 13, 14, 16};
    return screen;
}

TEST_CASE("keys are the guest's, but for the one after Ctrl-]") {
    Rig rig;
    rig.console.input(KeyStroke{0, {Key::q}}, rig.now);
    CHECK(rig.sink.strokes == std::vector<KeyStroke>{{0, {Key::q}}});
    rig.menu_key({0, {Key::q}});
    CHECK(rig.sink.strokes.size() == 1);
    CHECK(rig.sink.commands == std::vector{MenuCommand::quit});
    rig.console.input(KeyStroke{0, {Key::q}}, rig.now);
    CHECK(rig.sink.strokes.size() == 2);
}

TEST_CASE("the menu's keys") {
    Rig rig;
    for (const Key key : {Key::r, Key::b, Key::p, Key::s, Key::q}) rig.menu_key({0, {key}});
    CHECK(rig.sink.commands == std::vector{MenuCommand::reset, MenuCommand::power_button, MenuCommand::pause,
                                           MenuCommand::screenshot, MenuCommand::quit});
    rig.menu_key({0, {Key::c}});
    rig.menu_key({0, {Key::right_bracket}});
    rig.menu_key(menu);
    rig.menu_key({0, {Key::digit_1}});
    rig.menu_key({stroke_alt, {Key::digit_0}});
    rig.menu_key({0, {Key::minus}});
    rig.menu_key({0, {Key::equal}});
    rig.menu_key({0, {Key::escape}});
    rig.menu_key({0, {Key::z}});
    CHECK(rig.sink.strokes == std::vector<KeyStroke>{{stroke_ctrl | stroke_alt, {Key::del}},
                                                     menu,
                                                     menu,
                                                     {0, {Key::f1}},
                                                     {stroke_alt, {Key::f10}},
                                                     {0, {Key::f11}},
                                                     {0, {Key::f12}}});
}

TEST_CASE("a medium's name is typed at a prompt, which keeps the keys from the guest") {
    Rig rig;
    rig.console.show(lines_screen({"one"}, 0));
    rig.menu_key({0, {Key::i}});
    CHECK(rig.paint().find("Insert FILE or DRIVE=FILE") != std::string::npos);
    const auto enter = [&rig](std::string_view text) {
        for (const char character : text) rig.console.input(stroke_for(static_cast<char32_t>(character)), rig.now);
    };
    enter("floppy0=My Disk_2.imx");
    rig.console.input(KeyStroke{0, {Key::backspace}}, rig.now);
    rig.console.input(KeyStroke{0, {Key::up}}, rig.now);
    rig.console.input(PastedText{"g\nmore"}, rig.now);
    rig.console.forget();
    CHECK(rig.paint().find("My Disk_2.img_") != std::string::npos);
    rig.console.input(KeyStroke{0, {Key::enter}}, rig.now);
    rig.menu_key({0, {Key::o}});
    enter("cdrom0");
    rig.console.input(KeyStroke{0, {Key::enter}}, rig.now);
    CHECK(rig.sink.changes == std::vector<std::pair<PlugChange, std::string>>{
                                  {PlugChange::insert, "floppy0=My Disk_2.img"}, {PlugChange::eject, "cdrom0"}});
    rig.menu_key({0, {Key::g}});
    rig.console.forget();
    CHECK(rig.paint().find("Grow a disk") != std::string::npos);
    enter("disk0=+1G");
    rig.console.input(KeyStroke{0, {Key::enter}}, rig.now);
    CHECK(rig.sink.changes.back() == std::pair{PlugChange::grow, std::string("disk0=+1G")});
    rig.menu_key({0, {Key::l}});
    CHECK(rig.paint().find("Cable of a NIC") != std::string::npos);
    enter("nic0=down");
    rig.console.input(KeyStroke{0, {Key::enter}}, rig.now);
    CHECK(rig.sink.changes.back() == std::pair{PlugChange::cable, std::string("nic0=down")});
    CHECK(rig.sink.strokes.empty());
    CHECK(rig.sink.typed.empty());
    rig.menu_key({0, {Key::i}});
    enter("x");
    rig.console.input(KeyStroke{0, {Key::escape}}, rig.now);
    enter("y");
    CHECK(rig.sink.changes.size() == 4);
    CHECK(rig.sink.strokes.size() == 1);
}

TEST_CASE("a paste is typed, and its special characters are escaped") {
    Rig rig;
    rig.console.input(PastedText{"a<b\\c\n"}, rig.now);
    CHECK(rig.sink.typed == "a\\<b\\\\c\n");
    CHECK(rig.sink.strokes.empty());
}

TEST_CASE("the menu is the last line while it is open, and the guest's line comes back") {
    Rig rig;
    rig.console.show(lines_screen({"one", "two", "three", "four"}, 0));
    CHECK(rig.paint({20, 4}).find("four") != std::string::npos);
    rig.console.input(menu, rig.now);
    const std::string opened = rig.paint({20, 4});
    CHECK(opened.find("c C-A-Del") != std::string::npos);
    CHECK(opened.find("\x1B[4;1H") != std::string::npos);
    rig.console.input(KeyStroke{0, {Key::escape}}, rig.now);
    CHECK(rig.paint({20, 4}).find("four") != std::string::npos);
    CHECK(rig.sink.strokes.empty());
}

TEST_CASE("a notice goes after its time or with the next key") {
    Rig rig;
    rig.paint();
    rig.console.notify(" Saved x.png", rig.now);
    CHECK(rig.paint().find("Saved x.png") != std::string::npos);
    rig.now += DisplayConsole::notice_time - 1ms;
    CHECK(rig.paint().empty());
    rig.now += 1ms;
    CHECK_FALSE(rig.paint().empty());
    rig.console.notify("\x1B[31mred", rig.now);
    CHECK(rig.paint().find("?[31mred") != std::string::npos);
    rig.console.input(KeyStroke{0, {Key::a}}, rig.now);
    CHECK_FALSE(rig.paint().empty());
    CHECK(rig.paint().empty());
}

TEST_CASE("a paused machine says so, and a small terminal once what it shows") {
    Rig rig;
    rig.console.show(lines_screen({"one"}, 0));
    CHECK(rig.paint({30, 3}).find("The terminal is 30x3, the scr") != std::string::npos);
    rig.now += DisplayConsole::notice_time;
    CHECK_FALSE(rig.paint({30, 3}).empty());
    CHECK(rig.paint({30, 3}).empty());
    rig.console.set_paused(true);
    CHECK(rig.paint({30, 3}).find("Paused") != std::string::npos);
    rig.console.set_paused(false);
    CHECK_FALSE(rig.paint({30, 3}).empty());
}

TEST_CASE("a picture takes the place of the text until text comes back") {
    Rig rig;
    rig.console.show(lines_screen({"one"}, 0));
    rig.paint();
    rig.console.show(Image{2, 2, {{255, 0, 0}, {255, 0, 0}, {0, 255, 0}, {0, 255, 0}}});
    CHECK(rig.paint().find("\xE2\x96\x80") != std::string::npos);
    rig.console.show(lines_screen({"two"}, 0));
    CHECK(rig.paint().find("two") != std::string::npos);
}

TEST_CASE("a pipe gets each line once, when the cursor has left it") {
    PlainPrinter printer;
    CHECK(printer.update(lines_screen({"one", "tw"}, 1)) == "one\n");
    CHECK(printer.update(lines_screen({"one", "two"}, 1)).empty());
    CHECK(printer.update(lines_screen({"one", "two", "three"}, 2)) == "two\n");
    CHECK(printer.update(lines_screen({"one", "two", "three", "four"}, 3)) == "three\n");
    // Scrolled by one, then by two.
    CHECK(printer.update(lines_screen({"two", "three", "four", "fi"}, 3)) == "four\n");
    CHECK(printer.update(lines_screen({"four", "five", "six", "seven"}, 3)) == "five\nsix\n");
    CHECK(printer.finish(lines_screen({"four", "five", "six", "seven"}, 3)) == "seven\n");
}

TEST_CASE("a pipe gets a cleared or overwritten screen anew, without what stayed the same") {
    PlainPrinter printer;
    CHECK(printer.update(lines_screen({"title", "one", "two"}, 3)) == "title\none\ntwo\n");
    CHECK(printer.update(lines_screen({"title", "ONE", "two"}, 3)) == "ONE\ntwo\n");
    CHECK(printer.update(lines_screen({}, 0)).empty());
    CHECK(printer.update(lines_screen({"C:\\>"}, 0)).empty());
    CHECK(printer.finish(lines_screen({"C:\\>"}, 0)) == "C:\\>\n");
    TextScreen graphics;
    graphics.kind = ScreenKind::graphics;
    CHECK(printer.update(graphics).empty());
    CHECK(printer.finish(graphics).empty());
}

TEST_CASE("a terminal that can draws the picture itself, once, below a free bottom line") {
    using Kind = TerminalReport::Kind;
    const Kind kind = GENERATE(Kind::sixel, Kind::kitty);
    const std::string begins = kind == Kind::kitty ? "\x1B_Ga=T" : "\x1BP0;1q";
    Sink sink;
    DisplayConsole console({}, sink);
    const DisplayConsole::Time now{};
    console.show(Image{320, 200, std::vector<Rgb>(320 * 200, {1, 2, 3})});
    CHECK(console.paint({80, 25}, now).find(begins) == std::string::npos);
    console.input(TerminalReport{kind}, now);
    CHECK(console.paint({80, 25}, now).find(begins) != std::string::npos);
    CHECK(console.paint({80, 25}, now).empty());
    console.notify("a notice", now);
    CHECK(console.paint({80, 25}, now).find(begins) == std::string::npos);
    console.show(Image{320, 200, std::vector<Rgb>(320 * 200, {3, 2, 1})});
    CHECK(console.paint({80, 25}, now).find(begins) != std::string::npos);
    CHECK(console.paint({100, 30}, now).find(begins) != std::string::npos);
    console.show(TextScreen{});
    const std::string back = console.paint({100, 30}, now);
    CHECK(back.find("\x1B[2J") != std::string::npos);
    CHECK((back.find("\x1B_Ga=d") != std::string::npos) == (kind == Kind::kitty));
}

}  // namespace
}  // namespace viv
