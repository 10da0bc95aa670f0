// Models: hands that have several keyboards or pointers before them, and use the one that the guest listens to.
// Not modelled: nothing.
// Ignored bits: none.
// Reference: none; docs/devices/usb.md, "Who gets the input".
#include "devices/input/port_choice.hpp"

namespace viv {

KeyboardChoice::KeyboardChoice(KeyboardPort& keyboard, KeyboardPort& other) : keyboard_(keyboard), other_(other) {
    keyboard_.on_idle([this] { tell(); });
    other_.on_idle([this] { tell(); });
}

KeyboardChoice::~KeyboardChoice() {
    keyboard_.on_idle(nullptr);
    other_.on_idle(nullptr);
}

// The guest may have changed its mind since the key went down.
void KeyboardChoice::release(Key key) {
    keyboard_.release(key);
    other_.release(key);
}

void KeyboardChoice::tell() {
    if (on_idle_ && idle()) on_idle_();
}

void MouseChoice::release(MouseButton button) {
    mouse_.release(button);
    other_.release(button);
}

void TabletChoice::move_to(int x, int y) {
    tablet_.move_to(x, y);
    other_.move_to(x, y);
}

void TabletChoice::release(MouseButton button) {
    tablet_.release(button);
    other_.release(button);
}

}  // namespace viv
