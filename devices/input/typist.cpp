// Models: fingers on the keyboard that know when the guest has taken a key.
// Not modelled: the time a person holds a key; programs that poll for held keys may miss such a short one.
// Ignored bits: none.
// Reference: none; docs/devices/input.md, "Typing".
#include "devices/input/typist.hpp"

#include <utility>

namespace viv {
namespace {

/// How long a BIOS with a full buffer, or a keyboard that takes nothing, is left alone.
constexpr Duration retry_time = std::chrono::milliseconds(50);

}  // namespace

Typist::Typist(Clock& clock, KeyboardPort& keyboard)
    : keyboard_(keyboard), clock_(clock), retry_(clock, [this](VirtualTime) { proceed(); }) {
    keyboard_.on_idle([this] { proceed(); });
}

Typist::~Typist() {
    keyboard_.on_idle(nullptr);
}

Result<void> Typist::type(std::string_view text) {
    auto chords = TRY(parse_typing(text));
    chords_.insert(chords_.end(), std::make_move_iterator(chords.begin()), std::make_move_iterator(chords.end()));
    proceed();
    return {};
}

void Typist::stop() {
    if (chords_.empty()) return;
    const KeyChord chord = std::move(chords_.front());
    chords_.clear();
    retry_.cancel();
    step_ = Step::press;
    while (position_ > 0) keyboard_.release(chord[--position_]);
}

void Typist::on_key_dropped() {
    dropped_ = true;
}

void Typist::on_key_stored() {
    dropped_ = false;
}

// A BIOS reports what became of a key before it can take the key's break, so when the guest has taken all bytes of a
// chord, its fate is known.
void Typist::proceed() {
    if (std::exchange(proceeding_, true)) return;
    const bool was_done = chords_.empty();
    while (!chords_.empty() && !retry_.armed() && keyboard_.idle()) {
        const KeyChord& chord = chords_.front();
        if (step_ == Step::press) {
            if (position_ == 0) {
                discarded_ = keyboard_.discarded();
                dropped_ = false;
            }
            if (!keyboard_.press(chord[position_], KeyboardPort::Repeat::none)) {
                retry_.arm(clock_.now() + retry_time);
            } else if (++position_ == chord.size()) {
                step_ = Step::release;
            }
        } else if (step_ == Step::release) {
            keyboard_.release(chord[--position_]);
            if (position_ == 0) step_ = Step::settle;
        } else {
            step_ = Step::press;
            if (dropped_ || keyboard_.discarded() != discarded_) {
                retry_.arm(clock_.now() + retry_time);
            } else {
                chords_.pop_front();
            }
        }
    }
    proceeding_ = false;
    if (!was_done && chords_.empty() && on_done_) on_done_();
}

}  // namespace viv
