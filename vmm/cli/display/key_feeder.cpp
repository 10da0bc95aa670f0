#include "vmm/cli/display/key_feeder.hpp"

#include <algorithm>
#include <utility>

namespace viv {
namespace {
constexpr std::pair<uint8_t, Key> modifier_keys[] = {
    {stroke_ctrl, Key::left_ctrl},
    {stroke_alt, Key::left_alt},
    {stroke_shift, Key::left_shift},
    {stroke_gui, Key::left_gui},
};
}  // namespace

bool KeyFeeder::push(const KeyStroke& stroke) {
    if (strokes_ >= queue_limit || stroke.keys.empty()) return false;
    for (const auto& [bit, key] : modifier_keys) {
        if (stroke.modifiers & bit) steps_.push_back({Step::Kind::press, key});
    }
    for (size_t i = 0; i < stroke.keys.size(); ++i) {
        steps_.push_back({Step::Kind::press, stroke.keys[i]});
        if (i + 1 < stroke.keys.size()) steps_.push_back({Step::Kind::release, stroke.keys[i]});
    }
    steps_.push_back({Step::Kind::hold, stroke.keys.back()});
    ++strokes_;
    return true;
}

void KeyFeeder::run(Time now) {
    while (!steps_.empty() || hold_until_) {
        if (hold_until_) {
            // A waiting stroke ends the hold: a fast typist's keys follow each other at once.
            if (steps_.empty() && now < *hold_until_) return;
            hold_until_.reset();
            while (!held_.empty()) {
                keyboard_.release(held_.back());
                held_.pop_back();
            }
            continue;
        }
        const Step step = steps_.front();
        switch (step.kind) {
            case Step::Kind::press:
                if (!keyboard_.press(step.key, KeyboardPort::Repeat::none)) return;
                held_.push_back(step.key);
                break;
            case Step::Kind::release:
                keyboard_.release(step.key);
                std::erase(held_, step.key);
                break;
            case Step::Kind::hold:
                hold_until_ = now + hold_time;
                --strokes_;
                break;
        }
        steps_.pop_front();
    }
}

}  // namespace viv
